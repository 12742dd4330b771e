"""Network pickles in NVIDIA's format, made without NVIDIA's code: Python's own pickler does the writing.

Pickling needs `torch_utils.persistence` and `dnnlib` to be importable under these names, so empty stand-ins are put
there while a pickle is written.
"""

from __future__ import annotations

import collections
import io
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

NEWER_SOURCE = '# stand-in for training/networks_stylegan2.py, which knows fused_modconv_default\n'
OLDER_SOURCE = '# stand-in for training/networks.py\n'


def _module(name: str, **contents: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(contents)
    for value in contents.values():
        value.__module__ = name
    return module


def _reconstruct_persistent_obj(meta: dict) -> dict:
    """As harmful as upstream's: it runs the source text.  Only control tests call it."""
    exec(meta['module_src'], {'__name__': 'pickled'})
    return meta


class EasyDict(dict):
    pass


def _named_class(module: str, name: str) -> type:
    return type(name, (torch.nn.Module,), {'__module__': module})


EG3D_CLASSES = {
    'training.triplane': ['OSGDecoder'],
    'training.volumetric_rendering.renderer': ['ImportanceRenderer'],
    'training.volumetric_rendering.ray_sampler': ['RaySampler'],
}
MODULES = {
    'torch_utils': _module('torch_utils'),
    'torch_utils.persistence': _module(
        'torch_utils.persistence', _reconstruct_persistent_obj=_reconstruct_persistent_obj
    ),
    'dnnlib': _module('dnnlib'),
    'dnnlib.util': _module('dnnlib.util', EasyDict=EasyDict),
    'training': _module('training'),
    'training.volumetric_rendering': _module('training.volumetric_rendering'),
    **{
        name: _module(name, **{cls: _named_class(name, cls) for cls in classes})
        for name, classes in EG3D_CLASSES.items()
    },
}


@contextmanager
def upstream_stand_ins() -> Iterator[None]:
    before = {name: sys.modules.get(name) for name in MODULES}
    sys.modules.update(MODULES)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Persistent(torch.nn.Module):
    """Pickled as torch_utils.persistence pickles a class that it knows."""

    def __init__(self, class_name: str, module_src: str = NEWER_SOURCE, version: int = 6, **init_kwargs: Any) -> None:
        super().__init__()
        self._meta = (class_name, module_src, version)
        self._init_args = ()
        self._init_kwargs = init_kwargs

    def __reduce__(self):
        class_name, module_src, version = self._meta
        state = {name: value for name, value in self.__dict__.items() if name != '_meta'}
        meta = dict(type='class', version=version, module_src=module_src, class_name=class_name, state=state)
        return (_reconstruct_persistent_obj, (meta,), None)


def parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(shape), requires_grad=False)


def generator(kind: str = 'stylegan2', seed: int = 0) -> Persistent:
    """A generator of few tensors, named as in `kind`: eg3d, stylegan2, stylegan2-ada or stylegan3."""
    torch.manual_seed(seed)
    sizes = dict(z_dim=8, c_dim=0, w_dim=8, img_resolution=8, img_channels=3)
    if kind == 'eg3d':
        net = Persistent(
            'TriPlaneGenerator', **sizes, rendering_kwargs=EasyDict(ray_start=2.25, avg_camera_pivot=[0, 0, 0.2])
        )
        net.backbone = _stylegan2(Persistent('Generator'))
        net.renderer = MODULES['training.volumetric_rendering.renderer'].ImportanceRenderer()
        net.renderer.plane_axes = torch.eye(3).repeat(3, 1, 1)
        net.decoder = MODULES['training.triplane'].OSGDecoder()
        net.decoder.net = torch.nn.Sequential(_layer(), torch.nn.Softplus(), _layer())
        net.neural_rendering_resolution = 64
        net.rendering_kwargs = net._init_kwargs['rendering_kwargs']
        net._last_planes = None
        return net
    if kind == 'stylegan3':
        net = _stylegan2(Persistent('Generator', **sizes))
        net.synthesis.input = Persistent('SynthesisInput')
        net.synthesis.input.register_buffer('freqs', torch.randn(4, 2))
        net.size = np.asarray([8, 8])
        return net
    if kind == 'stylegan2-ada':
        return _stylegan2(
            Persistent('Generator', OLDER_SOURCE, **sizes, synthesis_kwargs=EasyDict(channel_base=np.int64(64)))
        )
    return _stylegan2(Persistent('Generator', **sizes, channel_base=64))


def _layer() -> Persistent:
    layer = Persistent('FullyConnectedLayer')
    layer.weight, layer.bias = parameter(4, 4), parameter(4)
    layer.weight_gain = np.float64(0.5)
    return layer


def _stylegan2(net: Persistent) -> Persistent:
    net.mapping = Persistent('MappingNetwork')
    net.mapping.fc0 = _layer()
    net.mapping.register_buffer('w_avg', torch.randn(8))
    net.synthesis = Persistent('SynthesisNetwork')
    net.synthesis.b4 = Persistent('SynthesisBlock')
    net.synthesis.b4.const = parameter(4, 4, 4)
    net.synthesis.b4.conv1 = Persistent('SynthesisLayer')
    net.synthesis.b4.conv1.weight = torch.nn.Parameter(
        torch.randn(4, 4, 3, 3).to(memory_format=torch.channels_last), False
    )
    net.synthesis.b4.conv1.noise_strength = parameter()
    net.synthesis.b4.conv1.register_buffer('resample_filter', torch.randn(4, 4))
    net.synthesis.b4.conv1.register_buffer('scratch', torch.zeros(2), persistent=False)
    return net


def discriminator() -> Persistent:
    net = Persistent('Discriminator', c_dim=0)
    net.fc = _layer()
    return net


def network_contents(kind: str = 'stylegan2') -> dict[str, Any]:
    return dict(
        G=generator(kind, seed=1),
        D=discriminator(),
        G_ema=generator(kind, seed=2),
        training_set_kwargs=dict(
            EasyDict(class_name='training.dataset.ImageFolderDataset', path='/data', max_size=None)
        ),
        augment_pipe=None,
    )


def dump(contents: Any, protocol: int = 4) -> bytes:
    with upstream_stand_ins():
        return pickle.dumps(contents, protocol)


def write_pickle(path: Path, kind: str = 'stylegan2', protocol: int = 4, **changes: Any) -> Path:
    path.write_bytes(dump(network_contents(kind) | changes, protocol))
    return path


class _Inert:
    """What a class becomes in `load_inert`."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


def load_inert(path: Path) -> Any:
    """Python's own unpickler on one of our stand-in pickles, with persistent objects left as their meta dicts."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if name == '_reconstruct_persistent_obj':
                return lambda meta: meta
            if name == 'EasyDict':
                return EasyDict
            if module.startswith('training'):
                return type(name, (_Inert,), {})
            return super().find_class(module, name)

    return Unpickler(io.BytesIO(path.read_bytes())).load()


def inert_state_dict(value: Any, prefix: str = '') -> dict[str, torch.Tensor]:
    """The tensors of a network from `load_inert`, by name."""
    state = value['state'] if isinstance(value, dict) else value.__dict__.get('state', value.__dict__)
    found = collections.OrderedDict()
    for group in ('_parameters', '_buffers'):
        for name, tensor in state[group].items():
            if tensor is not None and name not in state['_non_persistent_buffers_set']:
                found[prefix + name] = tensor.detach()
    for name, child in state['_modules'].items():
        found.update(inert_state_dict(child, f'{prefix}{name}.'))
    return found
