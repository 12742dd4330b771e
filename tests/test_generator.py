"""The contract of the adapters, the same for every family."""
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small import SMALL, small_generator

from eg3d_unlearn.command import main
from eg3d_unlearn.generators import families
from eg3d_unlearn.generators.build import build_network, wrap
from eg3d_unlearn.generators.generator import W_AVG_SAMPLES
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle
from torch_utils_ext.network_save import save_network_pickle

FAMILIES = list(SMALL)


@pytest.fixture(scope='module', params=FAMILIES)
def generator(request):
    return small_generator(request.param)


def ws_of(generator, count):
    return generator.sample(count, torch.Generator().manual_seed(1))


def test_sizes(generator):
    ws = ws_of(generator, 2)
    assert ws.shape == (2, generator.num_ws, generator.w_dim) and ws.dtype == torch.float32
    assert generator.w_avg.shape == (generator.num_ws, generator.w_dim)
    output = generator.synthesize(ws)
    assert output.image.shape == (2, 3, generator.img_resolution, generator.img_resolution)
    assert all(feature.shape[0] == 2 and feature.dtype == torch.float32 for feature in output.features)


@torch.no_grad()
def test_three_at_once_equal_one_by_one(generator):
    ws = ws_of(generator, 3)
    together = generator.synthesize(ws)
    for row in range(3):
        alone = generator.synthesize(ws[row:row + 1])
        torch.testing.assert_close(alone.image, together.image[row:row + 1], atol=1e-4, rtol=1e-4)
        for a, b in zip(alone.features, together.features, strict=True):
            torch.testing.assert_close(a, b[row:row + 1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_same_draws_give_the_same_picture(generator):
    ws = ws_of(generator, 1)
    pictures = [generator.synthesize(ws, rng=torch.Generator().manual_seed(seed)).image for seed in (3, 3, 4)]
    assert torch.equal(pictures[0], pictures[1])
    if generator.is_3d:              # 2D pictures draw nothing
        assert not torch.equal(pictures[0], pictures[2])


@torch.no_grad()
def test_one_backbone_pass_serves_features_and_picture(generator):
    ws = ws_of(generator, 2)
    backbone = generator.backbone(ws)
    assert torch.equal(generator.render(backbone).image, generator.synthesize(ws).image)
    torch.testing.assert_close(generator.render(backbone[1:2]).image, generator.render(backbone).image[1:2], atol=1e-4, rtol=1e-4)


def test_seeds_are_nvidias(generator):
    z = torch.from_numpy(np.random.RandomState(7).randn(1, generator.z_dim)).float()
    expected = generator.network.mapping(z, generator.condition(1))
    torch.testing.assert_close(generator.map_seed(7), expected)


def test_an_untracked_mean_latent_is_estimated(generator):
    assert str(W_AVG_SAMPLES) in generator.w_avg_source
    # A fresh estimate from other samples agrees to the error of such a mean.
    again = ws_of(generator, 2000)[:, 0]
    error = (again.mean(0) - generator.w_avg[0]).abs().max()
    assert error < 6 * again.std(0).max() / 2000 ** 0.5


def test_the_twin_shares_what_is_frozen_and_nothing_else(generator):
    learning = generator.freeze_except([generator.trainable])
    twin = generator.twin()
    theirs = dict(twin.network.named_parameters())
    for name, parameter in generator.network.named_parameters():
        assert (theirs[name] is parameter) == (name not in learning)
        assert torch.equal(theirs[name], parameter)
    generator.network.requires_grad_(False)


def test_trainable_prefixes(generator):
    names = generator.freeze_except([generator.trainable])
    assert names and all(name.startswith(generator.trainable + '.') for name in names)
    everything = generator.freeze_except(['all'])
    assert len(everything) == len(list(generator.network.parameters()))
    generator.network.requires_grad_(False)
    with pytest.raises(InputError, match='Its parts: .*synthesis'):
        generator.freeze_except(['synthesiss'])


def test_eg3d_raw_and_depth():
    generator = small_generator('eg3d')
    output = generator.synthesize(ws_of(generator, 1), raw=True)
    assert output.image.shape == (1, 3, 16, 16) and output.depth.shape == (1, 1, 16, 16)


def test_half_the_rays_give_the_whole_picture():
    generator = small_generator('eg3d')
    ws = ws_of(generator, 1)
    with torch.no_grad():
        before = generator.synthesize(ws)
        half = generator.render(generator.backbone(ws), half=True)
        assert half.image.shape == before.image.shape and half.depth.shape == (1, 1, 8, 8)
        # What was asked for once is not kept.
        assert torch.equal(generator.synthesize(ws).image, before.image)


@pytest.mark.parametrize('how', ['raw', 'half'])
def test_other_pictures_of_2d_networks_are_refused(how):
    generator = small_generator('stylegan2')
    with pytest.raises(InputError, match='loss-resolution=full'):
        generator.render(generator.backbone(ws_of(generator, 1)), **{how: True})


def test_eg3d_sees_other_sides_from_other_cameras():
    generator = small_generator('eg3d')
    ws = ws_of(generator, 1)
    left, right = (generator.synthesize(ws, generator.camera(yaw)).image for yaw in (-0.3, 0.3))
    assert (left - right).abs().mean() > 1e-4


def test_class_conditional_networks_need_a_class():
    from eg3d_unlearn.generators.build import build_network
    network = build_network('training.networks.Generator', {**SMALL['stylegan2'][1], 'c_dim': 3})
    with pytest.raises(InputError, match='--class=0 to 2'):
        wrap(network, 'stylegan2')
    with pytest.raises(InputError, match='outside'):
        wrap(network, 'stylegan2', class_label=3)
    labels = wrap(network, 'stylegan2', class_label=1).condition(2)
    assert labels.tolist() == [[0, 1, 0], [0, 1, 0]]
    with pytest.raises(InputError, match='no classes'):
        small_generator('stylegan2', class_label=0)


TOY = '''
from torch import nn
from eg3d_unlearn.generators.generator import Backbone, Generator, NetworkClass
from eg3d_unlearn.generators.networks.arguments import SIZES, Table
from eg3d_unlearn.generators.networks.layers import FullyConnectedLayer, MappingNetwork

class Network(nn.Module):
    def __init__(self, z_dim, c_dim, w_dim, img_resolution, img_channels):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.img_resolution, self.img_channels = z_dim, c_dim, w_dim, img_resolution, img_channels
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, num_ws=2, num_layers=1)
        self.affine = FullyConnectedLayer(w_dim, 8)
        self.colours = nn.Linear(8, 3 * img_resolution ** 2)

class Toy(Generator):
    family = 'toy'
    classes = {'somebody.Network': NetworkClass('toy', Network, Table(SIZES, required=tuple(SIZES)))}
    trainable = 'colours'

    def backbone(self, ws):
        style = self.network.affine(ws[:, 0]).tanh()
        return Backbone(ws, [style], self.network.colours(style).view(len(ws), 3, self.img_resolution, self.img_resolution).tanh())
'''


def test_a_family_is_one_file(tmp_path, monkeypatch):
    """Nothing else names it: its networks, put into a pickle, are recognised, erased from and written like all others."""
    (tmp_path / 'toy.py').write_text(TOY)
    monkeypatch.setattr(families, '__path__', [*families.__path__, str(tmp_path)])
    families.adapters.cache_clear()
    try:
        sizes = dict(z_dim=8, c_dim=0, w_dim=16, img_resolution=32, img_channels=3)
        before, words = tmp_path / 'toy.pkl', ['--latent-seed=3', '--report=brief', '--id-network=none', '--lpips-net=none', '--device=cpu']
        network = build_network('somebody.Network', sizes)
        save_network_pickle(before, 'somebody.Network', sizes, network.state_dict())
        result = CliRunner().invoke(main, [f'--network={before}', f'--outdir={tmp_path / "out"}', *words])
        assert result.exit_code == 0 and ', toy, 32 px;' in result.output, result.output
        record = read_network_pickle(tmp_path / 'out' / 'network-unlearned.pkl').records['G_ema']
        assert record.upstream_class == 'somebody.Network' and families.family_of(record.upstream_class) == 'toy'
        changed = {name for name, tensor in record.state_dict().items() if not torch.equal(tensor, network.state_dict()[name])}
        assert changed == {'affine.weight', 'affine.bias'}
    finally:
        monkeypatch.undo()
        families.adapters.cache_clear()
        sys.modules.pop('eg3d_unlearn.generators.families.toy', None)
    result = CliRunner().invoke(main, [f'--network={before}', f'--outdir={tmp_path / "no"}', *words])
    assert result.exit_code == 1 and "no network of the class 'somebody.Network' is known; known are training" in result.output
