"""StyleGAN3: filters, geometry, batches, classes, truncation, and the upstream code beside ours where it is at hand."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkouts import checkout_of
from scipy import signal, special

from eg3d_unlearn.generators.build import build_network as build
from eg3d_unlearn.generators.networks.stylegan3 import design_lowpass
from torch_utils_ext.ops.filtered_lrelu import filtered_lrelu

sys.path.insert(0, str(Path(__file__).resolve().parent))
import golden_reference as golden  # noqa: E402  the folder is no package

CLASS_NAME = 'training.networks_stylegan3.Generator'
TINY = dict(z_dim=16, c_dim=0, w_dim=16, img_resolution=32, img_channels=3, channel_base=256, channel_max=16, num_layers=6)
RADIAL = dict(conv_kernel=1, use_radial_filters=True)


def build_by_rule(**changes):
    network = build(CLASS_NAME, {**TINY, **changes})
    golden.set_weights(network, golden.generator_value, golden.CONSTRUCTED, {})
    return network


def latents(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randn(batch, TINY['z_dim'])).float()


def one_hot(*classes: int, c_dim: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), c_dim).float()


# ---- filters ----

@pytest.mark.parametrize('taps, cutoff, width, rate', [
    (12, 2, 4.6, 32), (24, 3.1, 20, 128), (12, 16, 32, 64), (13, 5, 9, 40), (36, 30, 3, 256), (6, 400, 100, 1024)])
def test_lowpass_equals_firwin(taps, cutoff, width, rate):
    expected = signal.firwin(taps, cutoff, width=width, fs=rate)
    ours = design_lowpass(taps, cutoff, width, rate).double().numpy()
    assert np.abs(ours - expected).max() < 1e-7 * np.abs(expected).max()


@pytest.mark.parametrize('taps, cutoff, width, rate', [(12, 2, 4.6, 32), (12, 5, 3, 40), (18, 30, 60, 256)])
def test_radial_lowpass_equals_jinc(taps, cutoff, width, rate):
    radius = np.pi * np.hypot(*np.meshgrid(*[(np.arange(taps) - (taps - 1) / 2) / rate] * 2))
    window = np.kaiser(taps, signal.kaiser_beta(signal.kaiser_atten(taps, 2 * width / rate)))
    expected = special.j1(2 * cutoff * radius) / radius * np.outer(window, window)
    expected /= expected.sum()
    ours = design_lowpass(taps, cutoff, width, rate, radial=True).double().numpy()
    assert np.abs(ours - expected).max() < 1e-7 * np.abs(expected).max()


def test_lowpass_hand_values():
    # A transition band of no width leaves a rectangular window: sinc(-1/4), sinc(1/4) are equal, so half each.
    assert torch.allclose(design_lowpass(2, 4, 0, 16), torch.tensor([0.5, 0.5]))
    assert design_lowpass(1, 4, 2, 16) is None
    # The middle of an odd radial filter is the limit of the jinc, not 0 / 0.
    assert design_lowpass(7, 4, 2, 32, radial=True).isfinite().all()


def test_filtered_lrelu_hand_values():
    x = torch.tensor([[[[1.0, -2.0]]]])
    box = torch.tensor([0.5, 0.5])
    # Doubled by repetition, slope 0.5, gain 2, clamp at 1.5, then averaged in pairs.
    ours = filtered_lrelu(x, box, box, up=2, down=2, padding=[1, 0, 1, 0], gain=2, slope=0.5, clamp=1.5)
    assert torch.allclose(ours, torch.tensor([[[[1.5, -1.5]]]]))
    # Without filters only the bias and the activation are left.
    ours = filtered_lrelu(x, b=torch.tensor([0.5]), gain=1, slope=0.2)
    assert torch.allclose(ours, torch.tensor([[[[1.5, -0.3]]]]))


def test_filtered_lrelu_separable_equals_full_filter():
    x = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fu, fd = design_lowpass(12, 4, 3, 32).double(), design_lowpass(6, 3, 3, 32).double()
    settings = dict(up=2, down=4, padding=[7, 5, 3, 9], clamp=0.7)
    separable = filtered_lrelu(x, fu, fd, **settings)
    full = filtered_lrelu(x, torch.outer(fu, fu), torch.outer(fd, fd), **settings)
    assert separable.shape == (2, 3, 4, 5)
    assert torch.allclose(separable, full, atol=1e-12)


# ---- networks ----

@pytest.mark.parametrize('changes', [{}, RADIAL], ids=['T', 'R'])
def test_samples_do_not_depend_on_the_batch(changes):
    network = build_by_rule(**changes)
    with torch.no_grad():
        ws = network.mapping(latents(3), None)
        together = network.synthesis(ws)
        alone = torch.cat([network.synthesis(w.unsqueeze(0)) for w in ws])
    assert torch.allclose(together, alone, atol=1e-5 * alone.std())
    assert not torch.allclose(alone[0], alone[1], atol=0.1 * alone.std())


def test_features():
    network = build_by_rule()
    with torch.no_grad():
        ws = network.mapping(latents(2), None)
        image, features = network.synthesis(ws, return_features=True, noise_mode='const', generator=None)
        plain = network(latents(2), None, force_fp32=True)
    assert torch.equal(image, plain) and image.shape == (2, 3, 32, 32)
    expected = [(2, int(name.split('_')[2]), int(name.split('_')[1])) for name in network.synthesis.layer_names[:-1]]
    assert [(len(f), f.shape[1], f.shape[2]) for f in features] == expected
    assert all(f.dtype == torch.float32 for f in features)


def test_gradients_reach_all_synthesis_parameters():
    network = build_by_rule(**RADIAL)
    image, features = network.synthesis(network.mapping(latents(1), None), return_features=True)
    (image.square().mean() + sum(f.mean() for f in features)).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_class_labels_change_the_latent():
    network = build_by_rule(c_dim=4)
    z = latents(1).repeat(2, 1)
    ws = network.mapping(z, one_hot(0, 3, c_dim=4))
    assert ws.shape == (2, network.num_ws, 16)
    assert not torch.allclose(ws[0], ws[1], atol=0.1)


def test_truncation():
    network = build_by_rule()
    ws = network.mapping(latents(2), None)
    truncated = network.mapping(latents(2), None, truncation_psi=0.25, truncation_cutoff=3)
    w_avg = network.mapping.w_avg
    assert torch.allclose(truncated[:, :3], w_avg + 0.25 * (ws[:, :3] - w_avg), atol=1e-5)
    assert torch.equal(truncated[:, 3:], ws[:, 3:])
    assert torch.allclose(network.mapping(latents(2), None, truncation_psi=0), w_avg.expand_as(ws), atol=1e-6)


def test_user_transform_rotates_the_picture():
    network = build_by_rule(**RADIAL)
    ws = network.mapping(latents(1), None)
    with torch.no_grad():
        upright = network.synthesis.input(ws[:, 0])
        network.synthesis.input.transform.copy_(torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))
        turned = network.synthesis.input(ws[:, 0])
    assert torch.allclose(turned, upright.rot90(1, dims=[2, 3]), atol=1e-4 * upright.std())


# ---- beside upstream ----

# Runs in upstream's own process: sys.argv = checkout, tests folder, init_kwargs, output file.
UPSTREAM_SCRIPT = """
import json, sys, types
import numpy as np, torch
checkout, tests, settings, output = sys.argv[1:]
stand_in = types.ModuleType('pkg_resources')        # setuptools 82 dropped it; upstream compares versions with it
stand_in.parse_version = lambda text: tuple(int(part) for part in text.split('+')[0].split('a')[0].split('.')[:2])
sys.modules['pkg_resources'] = stand_in
sys.path[:0] = [checkout, tests]
import golden_reference as golden
from training.networks_stylegan3 import Generator
torch.manual_seed(0)        # of the frequencies
network = Generator(**json.loads(settings)).eval()
golden.set_weights(network, golden.generator_value, golden.CONSTRUCTED, {})
z = torch.from_numpy(np.random.RandomState(0).randn(1, network.z_dim)).float()
c = torch.nn.functional.one_hot(torch.tensor([1]), network.c_dim).float() if network.c_dim else torch.zeros(1, 0)
arrays = {'state:' + name: tensor.numpy().copy() for name, tensor in network.state_dict().items()
          if name.split('.')[-1] in golden.CONSTRUCTED}
arrays['list'] = np.array(json.dumps(golden.state_dict_list(network)))
arrays['fp16'] = np.array([getattr(network.synthesis, name).use_fp16 for name in network.synthesis.layer_names])
arrays['ws'] = network.mapping(z, c, truncation_psi=0.5, truncation_cutoff=5).detach().numpy()
image = network.synthesis(torch.from_numpy(arrays['ws']))
(image * torch.linspace(-1, 1, image.numel()).reshape(image.shape)).mean().backward()
arrays['image'] = image.detach().numpy()
for name, parameter in network.synthesis.named_parameters():
    arrays['grad:' + name] = parameter.grad.numpy()
np.savez(output, **arrays)
"""


@pytest.mark.upstream
@pytest.mark.parametrize('settings', [
    dict(num_layers=9, num_critical=1, c_dim=5, num_fp16_res=2, filter_size=4, margin_size=6),
    dict(num_layers=5, num_critical=0, first_cutoff=1.5, first_stopband=4, num_fp16_res=0, conv_clamp=None),
    dict(**RADIAL, conv_clamp=1, output_scale=1, mapping_kwargs={'num_layers': 4, 'lr_multiplier': 0.02}),
    dict(use_radial_filters=True, lrelu_upsampling=4, c_dim=3, last_stopband_rel=1.4, magnitude_ema_beta=0.5),
    dict(img_resolution=128, num_layers=14, channel_max=8),
], ids=['classes', 'first-band', 'R-clamp', 'R-3x3', 'deep'])
def test_equals_upstream(settings, tmp_path):
    folder = checkout_of('stylegan3')
    settings = {**TINY, **settings}
    output = tmp_path / 'upstream.npz'
    done = subprocess.run([sys.executable, '-c', UPSTREAM_SCRIPT, str(folder), str(Path(golden.__file__).parent), json.dumps(settings),
                           str(output)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = golden.Golden('upstream', {'state_dict': []}, dict(np.load(output)))

    network = build(CLASS_NAME, settings)
    assert golden.state_dict_list(network) == json.loads(str(theirs.arrays['list']))
    layers = [getattr(network.synthesis, name) for name in network.synthesis.layer_names]
    assert [layer.use_fp16 for layer in layers] == theirs.arrays['fp16'].tolist()
    stored = {key.removeprefix('state:'): theirs.tensor(key) for key in theirs.arrays if key.startswith('state:')}
    for name, tensor in network.state_dict().items():
        if name.split('.')[-1] in ('up_filter', 'down_filter'):
            assert torch.allclose(tensor, stored[name], atol=1e-7), name
    golden.set_weights(network, golden.generator_value, golden.CONSTRUCTED, stored)

    z = latents(1)
    c = one_hot(1, c_dim=settings['c_dim']) if settings['c_dim'] else None
    ws = network.mapping(z, c, truncation_psi=0.5, truncation_cutoff=5)
    image = network.synthesis(ws.detach())
    (image * torch.linspace(-1, 1, image.numel()).reshape(image.shape)).mean().backward()
    rows = [golden.compare('ws', ws, theirs.tensor('ws'), 1e-4), golden.compare('image', image, theirs.tensor('image'), 1e-4)]
    # Rounding decides on which side of a leaky ReLU's bend a pixel near zero lies: in networks as small as these, one
    # such pixel changes gradients by up to 2e-3 of their standard deviation, and pictures not at all.
    rows += [golden.compare(name, parameter.grad, theirs.tensor(f'grad:{name}'), 5e-3)
             for name, parameter in network.synthesis.named_parameters()]
    print(golden.table(str(settings), rows))
    assert all(row.ok for row in rows), golden.table('beside upstream', rows)
