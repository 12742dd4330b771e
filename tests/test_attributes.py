"""What a pickle says about modules beside arguments and tensors: followed, refused, or said.  No code of NVIDIA's is needed."""

from __future__ import annotations

import copy
import functools
import hashlib

import pickle_stand_ins as stand_ins
import pytest
import torch
from small import SMALL

from eg3d_unlearn.generators.build import build, build_network
from eg3d_unlearn.generators.networks import attributes
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle, save_network_pickle

CORRECTED_AXES = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 0, 1], [0, 1, 0], [1, 0, 0]]])
BY_REFERENCE = {'TriplaneDecoder': 'OSGDecoder', 'ImportanceRenderer': 'ImportanceRenderer'}
OURS = {'signal', 'source', 'result', 'up', 'down', 'init_kwargs'}  # attributes that upstream's StyleGAN3 has under other names
RENDERER, TRIPLANE = 'training.volumetric_rendering.renderer', 'training.triplane'


@functools.cache
def small_network(family):
    torch.manual_seed(0)
    return build_network(*SMALL[family]).requires_grad_(False)


def as_upstream(module: torch.nn.Module, init_kwargs: dict) -> torch.nn.Module:
    """The same module as upstream's code would pickle it: class names, attributes, tensors and submodules."""
    name = type(module).__name__
    if type(module).__module__.startswith('torch.'):
        made = type(module)()
    elif name in BY_REFERENCE:
        made = getattr(stand_ins.MODULES[RENDERER if name == 'ImportanceRenderer' else TRIPLANE], BY_REFERENCE[name])()
    else:
        made = stand_ins.Persistent('Generator' if name == 'AdaGenerator' else name, **init_kwargs)
    plain = (bool, int, float, str, list, tuple, dict, torch.Tensor, type(None))
    for key, value in vars(module).items():
        if not key.startswith('_') and key not in OURS and isinstance(value, plain):
            setattr(made, key, value)
    made._parameters, made._buffers = dict(module._parameters), dict(module._buffers)
    for key, child in module.named_children():
        made.add_module(key, as_upstream(child, {}))
    return made


@pytest.fixture
def known(monkeypatch):
    """The stand-ins' source counts as NVIDIA's."""
    monkeypatch.setattr(attributes, 'KNOWN_SOURCES', {hashlib.sha256(stand_ins.NEWER_SOURCE.rstrip().encode()).hexdigest()})


def written(tmp_path, family, change=lambda network: None):
    """The record of a network's pickle, after a ``change`` of what is pickled."""
    network = as_upstream(small_network(family), SMALL[family][1])
    if family == 'stylegan2':        # StyleGAN2-ADA's: its arguments are nested
        assert 'synthesis_kwargs' in network._init_kwargs
    change(network)
    path = tmp_path / 'network.pkl'
    path.write_bytes(stand_ins.dump(dict(G=None, D=None, G_ema=network, training_set_kwargs=None, augment_pipe=None)))
    return read_network_pickle(path).records['G_ema']


def setting(place, value):
    path, _, name = place.rpartition('.')
    return lambda network: vars(network.get_submodule(path)).__setitem__(name, value)


@torch.no_grad()
def picture(network):
    ws = network.mapping(torch.ones(1, network.z_dim), torch.zeros(1, network.c_dim))
    if not hasattr(network, 'backbone'):
        return network.synthesis(ws, noise_mode='const')
    camera = torch.tensor([[1.0, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]])
    return network.synthesis(ws, camera, 16, noise_mode='const', jitter='fixed', superresolve=False)['image_raw']


@pytest.mark.parametrize('family', [family for family in SMALL if family != 'mobilestylegan'])   # no code of NVIDIA's wrote one
def test_an_unchanged_network_is_as_it_was(family, tmp_path, known):
    network = build(written(tmp_path, family))
    assert network.notes == []
    assert torch.equal(picture(network), picture(small_network(family)))


FOLLOWED = [
    ('eg3d', 'renderer.plane_axes', CORRECTED_AXES), ('eg3d', 'backbone.synthesis.b256.conv1.conv_clamp', 0.1),
    ('eg3d', 'decoder.net.2.weight_gain', 0.5), ('eg3d', 'rendering_kwargs', {**SMALL['eg3d'][1]['rendering_kwargs'], 'ray_end': 3.0}),
    ('stylegan2', 'synthesis.b8.conv0.act_gain', 1.0), ('stylegan2', 'synthesis.b16.torgb.weight_gain', 0.7),
    ('stylegan2', 'mapping.fc0.bias_gain', 3.0), ('stylegan3', 'synthesis.output_scale', 0.5),
    ('stylegan3', 'synthesis.L0_36_8.conv_clamp', 0.1),
]


@pytest.mark.parametrize('family, place, value', FOLLOWED, ids=[place for _, place, _ in FOLLOWED])
def test_attributes_that_are_followed(family, place, value, tmp_path, known):
    network, expected = build(written(tmp_path, family, setting(place, value))), copy.deepcopy(small_network(family))
    if place.endswith('bias_gain'):
        network.mapping.fc0.bias.fill_(1)
        expected.mapping.fc0.bias.fill_(1)
    before = picture(expected)
    setting(place, value)(expected)
    assert torch.equal(picture(network), picture(expected)) and not torch.equal(before, picture(expected))


@pytest.mark.parametrize('place, value', [('w_avg_beta', 0.5), ('fc0.in_features', 16), ('fc0.weight_gain', 0.01 / 4 + 1e-12)])
def test_attributes_without_a_part_in_pictures(place, value, tmp_path, known):
    network = build(written(tmp_path, 'stylegan2', setting(f'mapping.{place}', value)))
    assert network.notes == [] and torch.equal(picture(network), picture(small_network('stylegan2')))


REFUSED = [
    ('eg3d', 'renderer.plane_axes', torch.zeros(3, 3, 3)), ('eg3d', 'renderer.plane_axes', CORRECTED_AXES[:2]),
    ('eg3d', 'renderer.plane_axes', CORRECTED_AXES * float('nan')), ('eg3d', 'renderer.plane_axes', [1, 2]),
    ('eg3d', 'decoder.net.1.beta', 2.0), ('eg3d', 'superresolution.input_resolution', 32),
    ('eg3d', 'neural_rendering_resolution', '64'), ('eg3d', 'neural_rendering_resolution', torch.tensor(64)),
    ('eg3d', 'rendering_kwargs', {'ray_start': 1}), ('eg3d', 'rendering_kwargs', {'extra': torch.nn.Softplus()}),
    ('eg3d', 'backbone.synthesis.b8.architecture', 'resnet'), ('eg3d', 'img_resolution', 256),
    ('stylegan2', 'synthesis.b8.conv0.up', 1), ('stylegan2', 'synthesis.b8.conv0.padding', 0),
    ('stylegan2', 'synthesis.b8.conv0.out_channels', 1),
    ('stylegan2', 'synthesis.b8.conv0.activation', 'relu'), ('stylegan2', 'synthesis.b8.conv0.use_noise', False),
    ('stylegan2', 'synthesis.b8.conv0.act_gain', float('nan')), ('stylegan2', 'synthesis.b8.conv0.conv_clamp', -1.0),
    ('stylegan2', 'synthesis.b8.conv0.conv_clamp', 10 ** 400), ('stylegan2', 'synthesis.b8.conv0.w_dim', None),
    ('stylegan2', 'synthesis.b8.num_torgb', 0), ('stylegan2', 'synthesis.block_resolutions', [4, 8]), ('stylegan2', 'mapping.num_layers', 1),
    ('stylegan2', 'mapping.num_ws', torch.tensor(3)), ('stylegan2', 'synthesis.b8.use_fp16', 'yes'), ('stylegan2', 'z_dim', 8),
    ('stylegan2', 'synthesis.b8.forward', torch.float32),
    ('stylegan3', 'synthesis.input.sampling_rate', 32.0), ('stylegan3', 'synthesis.input.bandwidth', 1.0),
    ('stylegan3', 'synthesis.input.size', [36, 40]), ('stylegan3', 'synthesis.L0_36_8.up_factor', 4),
    ('stylegan3', 'synthesis.L0_36_8.padding', [8, 9, 8, 9]), ('stylegan3', 'synthesis.L0_36_8.is_torgb', True),
    ('stylegan3', 'synthesis.layer_names', ['L0_36_8']), ('stylegan3', 'synthesis.num_layers', 5),
]


@pytest.mark.parametrize('family, place, value', REFUSED, ids=[place for _, place, _ in REFUSED])
def test_attributes_that_cannot_be_followed_are_refused(family, place, value, tmp_path):
    record = written(tmp_path, family, setting(place, value))
    with pytest.raises(InputError, match='rendering_kwargs lacks' if value == {'ray_start': 1} else place.rpartition('.')[2]) as caught:
        build(record)
    assert len(str(caught.value)) < 600


def other_class(network):
    network.decoder.net[1] = torch.nn.ReLU()


def another_layer(network):
    network.decoder.net.add_module('3', torch.nn.Tanh())


def no_activation(network):
    del network.decoder.net[1]
    network.decoder.net = torch.nn.Sequential()
    for name in ('0', '2'):
        network.decoder.net.add_module(name, as_upstream(getattr(small_network('eg3d').decoder.net, name), {}))


@pytest.mark.parametrize('change, sentence', [(other_class, 'decoder.net.1 is of the class ReLU in the file; its arguments give Softplus'),
                                              (another_layer, 'a layer decoder.net.3'), (no_activation, 'no decoder.net.1 in the file')])
def test_other_modules_are_refused(change, sentence, tmp_path):
    with pytest.raises(InputError, match=f'{sentence}.*runs the file.s code'):
        build(written(tmp_path, 'eg3d', change))


def test_a_source_that_is_not_nvidias_is_said(tmp_path):
    def change(network):
        network.mapping.strength = 2.0
    network = build(written(tmp_path, 'stylegan3', change))
    assert 'its own version of FullyConnectedLayer, Generator, MappingNetwork, SynthesisInput, SynthesisLayer and 1 more' in network.notes[0]
    assert "not honoured" in network.notes[0] and "runs the file's code" in network.notes[0]
    assert 'not used: mapping.strength' in network.notes[1] and len(network.notes) == 2


def test_nvidias_own_source_knows_nothing_of_other_attributes(tmp_path, known):
    assert build(written(tmp_path, 'stylegan3', setting('mapping.strength', 2.0))).notes == []


@pytest.mark.parametrize('attributes_', [{'img_resolution': 64}, {'neural_rendering_resolution': -1}, {'rendering_kwargs': [1]}])
def test_networks_of_our_own_are_looked_at_as_well(attributes_, tmp_path):
    save_network_pickle(tmp_path / 'own.pkl', *SMALL['eg3d'], small_network('eg3d').state_dict(), attributes_)
    with pytest.raises(InputError, match=next(iter(attributes_))):
        build(read_network_pickle(tmp_path / 'own.pkl').records['G_ema'])
