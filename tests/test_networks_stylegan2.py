"""StyleGAN2: modulated convolution by its definition, batches, classes, features, generators, building, upstream."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from checkouts import checkout_of

from eg3d_unlearn.generators.build import build_network as build
from eg3d_unlearn.generators.families import adapters
from eg3d_unlearn.generators.networks import layers, stylegan2
from torch_utils_ext import ops
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import CLASSES

ADA, FLAT = 'training.networks.Generator', 'training.networks_stylegan2.Generator'
SIZES = {'z_dim': 16, 'c_dim': 0, 'w_dim': 12, 'img_resolution': 16, 'img_channels': 3, 'mapping_kwargs': {'num_layers': 2}}
CHANNELS = {'channel_base': 128, 'channel_max': 16}


def tiny(class_name=FLAT, seed=0, **changes):
    """A network whose noise and biases are on."""
    torch.manual_seed(seed)
    own = {'synthesis_kwargs': CHANNELS} if class_name == ADA else CHANNELS
    net = build(class_name, {**SIZES, **own, **changes})
    for name, value in net.state_dict().items():
        if name.split('.')[-1] in ('noise_strength', 'bias'):
            value.add_(0.2 * torch.randn(value.shape))
    return net


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- layers ----

def modulated_by_definition(x, weight, styles, demodulate):
    """SG2 equations 1 to 3, one sample after the other."""
    out = []
    for sample, style in zip(x, styles, strict=True):
        w = weight * style[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        out.append(F.conv2d(sample[None], w, padding=weight.shape[-1] // 2))
    return torch.cat(out)


@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('demodulate', [True, False])
@pytest.mark.parametrize('fused', [True, False, None])
def test_modulated_convolution(n, demodulate, fused):
    x, weight, styles = numbers(n, 4, 8, 8), numbers(5, 4, 3, 3, seed=1), numbers(n, 4, seed=2)
    y = layers.modulated_conv2d(x, weight, styles, padding=1, demodulate=demodulate, fused=fused)
    torch.testing.assert_close(y, modulated_by_definition(x, weight, styles, demodulate), rtol=1e-4, atol=1e-4)
    f = ops.setup_filter([1, 3, 3, 1])
    up = [layers.modulated_conv2d(x, weight, styles, 2, 1, f, demodulate, fused=way) for way in (fused, False)]
    assert up[0].shape == (n, 5, 16, 16)
    torch.testing.assert_close(*up, rtol=1e-4, atol=1e-4)


def test_half_precision_does_not_overflow():
    x, weight, styles = numbers(1, 4, 8, 8), 300 * numbers(5, 4, 3, 3, seed=1), 300 * numbers(1, 4, seed=2)
    expected = layers.modulated_conv2d(x, weight, styles, padding=1)
    half = layers.modulated_conv2d(x.half(), weight, styles, padding=1, fused=False).float()
    assert (half - expected).abs().max() < 0.02 * expected.std()


@pytest.mark.parametrize('clamp', [None, 0.5])
@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('colours', [3, stylegan2.CHANNELS_LAST_FROM])
def test_colours_are_the_modulated_convolution(clamp, channels_last, colours):
    """The matrix product of the CPU against the convolution, value and gradients, with and without a picture."""
    torch.manual_seed(0)
    layer = stylegan2.ToRGBLayer(6, colours, 12, conv_clamp=clamp, channels_last=channels_last)
    x, w, img = numbers(2, 6, 8, 8), numbers(2, 12, seed=1), numbers(2, colours, 8, 8, seed=2)
    for picture in (None, img):
        before = None if picture is None else picture.clone()
        y = layer(x.contiguous(memory_format=torch.channels_last), w, picture)
        styles = layer.affine(w) * layer.weight_gain
        expected = modulated_by_definition(x, layer.weight, styles, False) + layer.bias[:, None, None]
        expected = expected if clamp is None else expected.clamp(-clamp, clamp)
        expected = expected if picture is None else expected + picture
        torch.testing.assert_close(y, expected)
        gradients = [torch.autograd.grad(z.square().sum(), list(layer.parameters())) for z in (y, expected)]
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert picture is None or torch.equal(picture, before)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, w, img.clone(), overwrite=True), expected)


def test_mapping_by_hand():
    mapping = layers.MappingNetwork(2, 0, 2, num_ws=3, num_layers=1, lr_multiplier=0.5)
    with torch.no_grad():
        mapping.fc0.weight.copy_(torch.tensor([[2.0, 0], [0, -2]]))
        mapping.fc0.bias.copy_(torch.tensor([1.0, 0]))
        mapping.w_avg.copy_(torch.tensor([1.0, 1]))
    # z / rms(z) = (1, 1); gain 0.5 / sqrt(2); bias gain 0.5; leaky ReLU of slope 0.2, gain sqrt(2)
    w = torch.tensor([(2 * 0.5 / 2**0.5 + 0.5) * 2**0.5, -2 * 0.5 / 2**0.5 * 0.2 * 2**0.5])
    z = torch.tensor([[3.0, 3.0]])
    torch.testing.assert_close(mapping(z, None), w.expand(1, 3, 2))
    half = (w + 1) / 2
    torch.testing.assert_close(mapping(z, None, truncation_psi=0.5)[0], half.expand(3, 2))
    torch.testing.assert_close(mapping(z, None, truncation_psi=0.5, truncation_cutoff=1)[0], torch.stack([half, w, w]))


# ---- networks ----

@pytest.mark.parametrize('class_name', [ADA, FLAT])
@pytest.mark.parametrize('architecture', ['orig', 'skip', 'resnet'])
def test_samples_do_not_see_each_other(class_name, architecture):
    change = {'architecture': architecture}
    change = {'synthesis_kwargs': {**CHANNELS, **change}} if class_name == ADA else change
    net = tiny(class_name, **change)
    ws = numbers(3, net.num_ws, 12)
    together = net.synthesis(ws, noise_mode='const')
    assert together.shape == (3, 3, 16, 16) and together.dtype == torch.float32
    apart = torch.cat([net.synthesis(w[None], noise_mode='const') for w in ws])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_the_two_classes_are_one_network():
    ada, flat = tiny(ADA), tiny(FLAT, conv_clamp=None, num_fp16_res=0)
    flat.load_state_dict(ada.state_dict())
    z = numbers(2, 16)
    torch.testing.assert_close(ada(z, None, noise_mode='const'), flat(z, None, noise_mode='const'))


def test_features():
    net = tiny()
    ws = numbers(2, net.num_ws, 12)
    image, features = net.synthesis(ws, noise_mode='const', return_features=True)
    assert torch.equal(image, net.synthesis(ws, noise_mode='const'))
    assert [tuple(f.shape) for f in features] == [(2, 16, 4, 4), (2, 16, 8, 8), (2, 8, 16, 16)]
    assert all(f.dtype == torch.float32 for f in features)


def test_noise_comes_from_the_generator():
    net = tiny()
    ws = numbers(1, net.num_ws, 12)

    def draw(seed):
        return net.synthesis(ws, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert not torch.equal(net.synthesis(ws, noise_mode='const'), net.synthesis(ws, noise_mode='none'))
    state = torch.get_rng_state()
    draw(1)
    assert torch.equal(torch.get_rng_state(), state), 'the global generator must stay as it is'
    with pytest.raises(InputError, match="noise_mode is 'loud'"):
        net.synthesis(ws, noise_mode='loud')


def test_classes():
    net = tiny(c_dim=4)
    z = numbers(1, 16)
    one, other = (net.mapping(z, F.one_hot(torch.tensor([i]), 4).float()) for i in (0, 3))
    assert not torch.allclose(one, other)


def test_upstream_keywords():
    net = tiny(num_fp16_res=3, fp16_channels_last=True, conv_clamp=256, fused_modconv_default='inference_only')
    ws = numbers(2, net.num_ws, 12)
    image = net.synthesis(ws, noise_mode='const', force_fp32=True)
    torch.testing.assert_close(image, net.synthesis(ws, noise_mode='const'), rtol=1e-4, atol=1e-4)


def test_every_parameter_learns_in_place_and_not():
    net = tiny()
    ws = numbers(2, net.num_ws, 12)
    with torch.no_grad():
        frozen = net.synthesis(ws, noise_mode='const')
    image = net.synthesis(ws, noise_mode='const')
    torch.testing.assert_close(image, frozen, rtol=1e-5, atol=1e-5)
    image.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.synthesis.parameters())


def test_gradient_is_the_slope():
    net = tiny()
    ws = numbers(2, net.num_ws, 12)

    def loss():
        return net.synthesis(ws, noise_mode='const').square().mean()

    loss().backward()
    for parameter in (net.synthesis.b8.conv0.weight, net.synthesis.b16.torgb.weight, net.synthesis.b16.conv1.affine.weight):
        step = 1e-2 * parameter.grad / parameter.grad.norm()
        with torch.no_grad():
            parameter += step
            high = loss()
            parameter -= 2 * step
            low = loss()
            parameter += step
        assert (high - low).item() / 2e-2 == pytest.approx(parameter.grad.norm().item(), rel=2e-2)


def test_bfloat16_autocast():
    net = tiny()
    ws = numbers(1, net.num_ws, 12)
    exact = net.synthesis(ws, noise_mode='const')
    with torch.autocast('cpu', torch.bfloat16):
        z = net.mapping(numbers(1, 16), None, truncation_psi=0.5)
        image = net.synthesis(ws, noise_mode='const')
    assert z.dtype == image.dtype == torch.float32
    assert (image - exact).abs().max() < 0.1 * exact.std()


# ---- building ----

def test_build():
    net = build(ADA, SIZES)
    assert net.init_kwargs == SIZES and net.class_name == ADA and not net.training
    assert all(p.requires_grad for p in net.parameters())
    assert {name for kind in adapters().values() for name in kind.classes} >= set(CLASSES)


@pytest.mark.parametrize('class_name, change, sentence', [
    ('training.networks.Discriminator', {}, "'training.networks.Discriminator' is known; known are training.triplane"),
    (FLAT, {'chanel_base': 1}, 'unknown arguments: chanel_base'),
    (FLAT, {'use_fp16': True}, 'unknown arguments: use_fp16'),
    (FLAT, {'mapping_kwargs': {'layers': 1}}, 'mapping_kwargs has unknown arguments: layers'),
    (ADA, {'channel_base': 1}, 'unknown arguments: channel_base'),
    (ADA, {'synthesis_kwargs': {'fused_modconv_default': True}}, 'synthesis_kwargs has unknown arguments: fused_modconv'),
    (FLAT, {'architecture': 'dense'}, "architecture is 'dense'; expected one of orig, skip, resnet"),
    (FLAT, {'img_resolution': 48}, 'img_resolution is 48; expected a power of two'),
])
def test_build_errors(class_name, change, sentence):
    with pytest.raises(InputError, match=sentence):
        build(class_name, {**SIZES, **change})


def test_build_names_what_is_missing():
    with pytest.raises(InputError, match='lacks the arguments c_dim, w_dim'):
        build(FLAT, {'z_dim': 1, 'img_resolution': 8, 'img_channels': 3})
    with pytest.raises(InputError, match=r'ws has the shape \(1, 2, 12\); expected \[N, 6, 12\]'):
        tiny().synthesis(numbers(1, 2, 12))


# ---- upstream's code beside ours ----

UPSTREAM_RUN = """
import importlib, sys, torch
sys.path.insert(0, sys.argv[1])
from torch_utils_ext.upstream import importing
class_name, kwargs, state, ws, z, c, path = torch.load(sys.argv[3])
from pathlib import Path
with importing(Path(sys.argv[2])):
    module, name = class_name.rsplit(".", 1)
    net = getattr(importlib.import_module(module), name)(**kwargs).eval()
    net.load_state_dict(state)
    image = net.synthesis(ws, noise_mode="const", force_fp32=True)
    image.square().mean().backward()
    grads = {n: p.grad for n, p in net.synthesis.named_parameters()}
    torch.save(([(n, v.shape) for n, v in net.state_dict().items()], image.detach(), grads,
                net.mapping(z, c, truncation_psi=0.5, truncation_cutoff=2).detach()), path)
"""


@pytest.mark.upstream
@pytest.mark.parametrize('variable, class_name', [('STYLEGAN2_ADA_DIR', ADA), ('EG3D_DIR', FLAT), ('STYLEGAN3_DIR', FLAT)])
@pytest.mark.parametrize('options', [
    {'architecture': 'orig'}, {'architecture': 'skip', 'conv_clamp': 2}, {'architecture': 'resnet'},
    {'resample_filter': [1, 2, 1], 'use_noise': False, 'activation': 'swish'}])
def test_equals_upstream(variable, class_name, options, tmp_path):
    folder = checkout_of(variable)
    options = {**CHANNELS, **options}
    change = {'synthesis_kwargs': options} if class_name == ADA else options
    net = tiny(class_name, c_dim=5, **change)
    ws, z, c = numbers(1, net.num_ws, 12), numbers(2, 16), torch.eye(5)[:2]
    image = net.synthesis(ws, noise_mode='const')
    image.square().mean().backward()
    out = tmp_path / 'out.pt'
    torch.save((class_name, net.init_kwargs, net.state_dict(), ws, z, c, str(out)), tmp_path / 'in.pt')
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, '-c', UPSTREAM_RUN, str(root), str(folder), str(tmp_path / 'in.pt')]
    subprocess.run(command, check=True, capture_output=True)
    names, theirs, grads, mapped = torch.load(out)
    assert names == [(n, v.shape) for n, v in net.state_dict().items()]
    assert (image - theirs).abs().max() < 1e-4 * theirs.std()
    torch.testing.assert_close(net.mapping(z, c, truncation_psi=0.5, truncation_cutoff=2), mapped, rtol=1e-4, atol=1e-5)
    for name, parameter in net.synthesis.named_parameters():
        if grads[name] is not None:
            assert (parameter.grad - grads[name]).norm() <= 1e-3 * grads[name].norm() + 1e-7, name
