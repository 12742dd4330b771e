"""Reading network pickles: what is found in them, and that numbers come out as they went in."""

from __future__ import annotations

import collections
import hashlib
import os
import random
import tracemalloc

import pickle_stand_ins as stand_ins
import pytest
import torch

from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle
from torch_utils_ext.pickle_values import Unread

CLASSES = {
    'eg3d': 'training.triplane.TriPlaneGenerator',
    'stylegan2': 'training.networks_stylegan2.Generator',
    'stylegan2-ada': 'training.networks.Generator',
    'stylegan3': 'training.networks_stylegan3.Generator',
}


@pytest.mark.parametrize('protocol', [3, 4, 5])
@pytest.mark.parametrize('kind', CLASSES)
def test_every_family_and_protocol(tmp_path, kind, protocol):
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'net.pkl', kind, protocol))
    assert list(source.records) == ['G', 'D', 'G_ema']
    assert source.training_set_kwargs == {
        'class_name': 'training.dataset.ImageFolderDataset',
        'path': '/data',
        'max_size': None,
    }
    assert source.notes == []
    for key, seed in (('G', 1), ('G_ema', 2)):
        record = source.records[key]
        assert record.upstream_class == CLASSES[kind]
        expected = stand_ins.generator(kind, seed).state_dict()
        found = record.state_dict()
        assert list(found) == list(expected)  # names in torch's order, non-persistent buffers left out
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_settings_become_plain_python(tmp_path):
    record = read_network_pickle(stand_ins.write_pickle(tmp_path / 'net.pkl', 'eg3d')).records['G_ema']
    assert record.init_args == ()
    assert record.init_kwargs['rendering_kwargs'] == {'ray_start': 2.25, 'avg_camera_pivot': [0, 0, 0.2]}
    assert type(record.init_kwargs['rendering_kwargs']) is dict
    assert record.attributes['neural_rendering_resolution'] == 64
    assert record.attributes['rendering_kwargs']['ray_start'] == 2.25
    ada = read_network_pickle(stand_ins.write_pickle(tmp_path / 'ada.pkl', 'stylegan2-ada')).records['G_ema']
    assert type(ada.init_kwargs['synthesis_kwargs']['channel_base']) is int
    sg3 = read_network_pickle(stand_ins.write_pickle(tmp_path / 'sg3.pkl', 'stylegan3', 5)).records['G_ema']
    assert sg3.attributes['size'] == [8, 8]
    assert sg3.module_src == stand_ins.NEWER_SOURCE


def test_attributes_of_every_submodule(tmp_path):
    net = stand_ins.generator('eg3d')
    net.decoder.odd = [torch.nn.Softplus()]
    record = read_network_pickle(stand_ins.write_pickle(tmp_path / 'net.pkl', 'eg3d', G_ema=net)).records['G_ema']
    assert list(record.modules) == [name for name, _ in net.named_modules()]
    axes = record.modules['renderer'].attributes['plane_axes']
    assert axes.shape == (3, 3, 3) and 'renderer.plane_axes' not in record.tensors
    assert record.modules['renderer'].class_name == 'training.volumetric_rendering.renderer.ImportanceRenderer'
    assert record.modules['renderer'].module_src is None
    layer = record.modules['decoder.net.0']
    assert (layer.class_name, layer.module_src) == ('FullyConnectedLayer', stand_ins.NEWER_SOURCE)
    assert layer.attributes == {'weight_gain': 0.5}
    assert isinstance(record.modules['decoder'].attributes['odd'], Unread)
    assert record.modules['backbone.synthesis.b4.conv1'].attributes['scratch'].shape == (2,)  # a non-persistent buffer
    assert record.modules[''].attributes.keys() == record.attributes.keys()


@pytest.mark.parametrize(
    'dtype',
    [
        torch.float16,
        torch.float32,
        torch.float64,
        torch.bfloat16,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.bool,
    ],
)
def test_dtypes_views_and_strides(tmp_path, dtype):
    net = stand_ins.generator()
    base = torch.arange(24).to(dtype)
    tensors = {
        'plain': base.clone(),
        'empty': base[:0].clone(),
        'scalar': base[3].clone(),
        'view': base.view(2, 3, 4)[1, :, 1:3],
        'transposed': base.view(4, 6).t(),
        'last': base.view(1, 2, 3, 4).to(memory_format=torch.channels_last),
    }
    for name, tensor in tensors.items():
        net.register_buffer(name, tensor)
    found = read_network_pickle(stand_ins.write_pickle(tmp_path / 'net.pkl', G_ema=net)).records['G_ema'].state_dict()
    for name, tensor in tensors.items():
        assert found[name].dtype == dtype and found[name].is_contiguous()
        assert torch.equal(found[name], tensor)


class ByUntypedStorage:
    """A tensor as torch pickles its newer dtypes: bytes without a type, and the type apart."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self):
        place = (self.tensor.untyped_storage(), 0, tuple(self.tensor.shape), self.tensor.stride())
        return torch._utils._rebuild_tensor_v3, (*place, False, collections.OrderedDict(), self.tensor.dtype)


def test_newer_ways_to_pickle_a_tensor(tmp_path):
    net = stand_ins.generator()
    net.mapping.fc0.weight.remark = 'a parameter with an attribute'
    net.register_buffer('untyped', torch.arange(3.0))
    expected = net.state_dict()
    net._buffers['untyped'] = ByUntypedStorage(net._buffers['untyped'])
    found = read_network_pickle(stand_ins.write_pickle(tmp_path / 'net.pkl', G_ema=net)).records['G_ema'].state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_only_g_ema_is_accepted_with_a_note(tmp_path):
    path = tmp_path / 'guide.pkl'
    path.write_bytes(stand_ins.dump(dict(G_ema=stand_ins.generator('eg3d'))))
    source = read_network_pickle(path)
    assert list(source.records) == ['G_ema'] and source.training_set_kwargs is None
    assert "only 'G_ema'" in source.notes[0]


def test_class_conditional_network_is_readable(tmp_path):
    net = stand_ins.generator()
    net._init_kwargs['c_dim'] = 10
    record = read_network_pickle(stand_ins.write_pickle(tmp_path / 'net.pkl', G_ema=net)).records['G_ema']
    assert record.init_kwargs['c_dim'] == 10


def test_unknown_class_needs_permission(tmp_path):
    net = stand_ins.Persistent('PoissonGenerator', z_dim=4)
    net.weight = stand_ins.parameter(3)
    path = stand_ins.write_pickle(tmp_path / 'net.pkl', G_ema=net)
    with pytest.raises(InputError, match='PoissonGenerator is not a generator.*--trust-pickle --upstream=DIR'):
        read_network_pickle(path)
    record = read_network_pickle(path, allow_unknown=True).records['G_ema']
    assert (record.class_name, record.upstream_class) == ('PoissonGenerator', None)
    assert torch.equal(record.state_dict()['weight'], net.weight)


def test_odd_discriminator_stands_in_nobodys_way(tmp_path):
    odd = stand_ins.discriminator()
    odd._parameters['fc'] = 'not a tensor'
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'net.pkl', D=odd))
    assert list(source.records) == ['G', 'G_ema']


def test_unknown_persistence_version(tmp_path):
    path = stand_ins.write_pickle(tmp_path / 'net.pkl', G=stand_ins.Persistent('Generator', version=7))
    with pytest.raises(InputError, match='persistence version 7, expected 6'):
        read_network_pickle(path)


def test_file_that_changes_in_between(tmp_path):
    path = stand_ins.write_pickle(tmp_path / 'net.pkl')
    source = read_network_pickle(path)
    assert source.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match='was changed while it was in use'):
        source.records['G'].state_dict()
    path.unlink()
    with pytest.raises(InputError, match='No such file'):
        source.sha256()


def test_reading_takes_little_memory(tmp_path):
    net = stand_ins.generator()
    net.register_buffer('large', torch.zeros(10_000_000))
    path = stand_ins.write_pickle(tmp_path / 'net.pkl', G=net)
    tracemalloc.start()
    read_network_pickle(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 10


def test_self_containing_settings_end(tmp_path):
    for kind in (list, dict):
        loop = kind()
        loop.append(loop) if kind is list else loop.update(again=loop)
        net = stand_ins.generator()
        net._init_kwargs['loop'] = loop
        path = stand_ins.write_pickle(tmp_path / 'net.pkl', G_ema=net)
        with pytest.raises(InputError, match='nested or repeated without end'):
            read_network_pickle(path)


def test_random_damage_gives_nothing_but_input_errors(tmp_path):
    """Seeded bytes flipped, deleted and repeated; each file is read, or refused with one sentence."""
    whole = stand_ins.dump(stand_ins.network_contents('eg3d'))
    path = tmp_path / 'net.pkl'
    dice = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(dice.choice([1, 1, 2, 8])):
            place = dice.randrange(len(damaged))
            action = dice.randrange(4)
            if action == 0:
                damaged[place] = dice.randrange(256)
            elif action == 1:
                damaged[place] ^= 1 << dice.randrange(8)
            elif action == 2:
                del damaged[place : place + dice.randrange(1, 9)]
            else:
                damaged[place:place] = damaged[dice.randrange(len(damaged)) :][:16]
        path.write_bytes(damaged)
        try:
            source = read_network_pickle(path, allow_unknown=dice.random() < 0.5)
            source.records['G_ema'].state_dict()
        except InputError as error:
            refused += 1
            assert '\n' not in str(error) and len(str(error)) < 500
    assert refused > 50


def test_control_pickle_of_stand_ins_is_a_pickle(tmp_path):
    """Python's own unpickler sees the same tensors, so the stand-ins are no private format."""
    path = stand_ins.write_pickle(tmp_path / 'net.pkl', 'eg3d')
    expected = stand_ins.inert_state_dict(stand_ins.load_inert(path)['G'])
    found = read_network_pickle(path).records['G'].state_dict()
    assert list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in found)
