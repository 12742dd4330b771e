"""Which names a network pickle may mention, and plain Python values out of the inert ones."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from torch_utils_ext.pickle_tensors import DTYPES, STORAGE_DTYPES, TENSOR_REDUCERS
from torch_utils_ext.safe_pickle import DICT_CLASSES, Call, Global, Machine, PickleError, Policy, Span
from torch_utils_ext.user_files import shown

MAX_PLAIN_VALUES = 100_000  # in one set of init arguments, every mention of a shared value counted
MAX_PLAIN_DEPTH = 50
MAX_PLAIN_BYTES = 1 << 20

PERSISTENT = Global('torch_utils.persistence', '_reconstruct_persistent_obj')
PERSISTENCE_VERSION = 6

# Classes of EG3D that are not persistent: pickles mention them by name and hold only their attributes.
_EG3D_CLASSES = {
    'training.triplane': {'OSGDecoder'},
    'training.volumetric_rendering.renderer': {'ImportanceRenderer'},
    'training.volumetric_rendering.ray_marcher': {'MipRayMarcher2'},
    'training.volumetric_rendering.ray_sampler': {'RaySampler'},
}
_TORCH_MODULES = {
    'torch.nn.modules.activation': {'ELU', 'GELU', 'LeakyReLU', 'PReLU', 'ReLU', 'SiLU', 'Sigmoid', 'Softplus', 'Tanh'},
    'torch.nn.modules.batchnorm': {'BatchNorm1d', 'BatchNorm2d', 'BatchNorm3d', 'SyncBatchNorm'},
    'torch.nn.modules.container': {'ModuleDict', 'ModuleList', 'ParameterDict', 'ParameterList', 'Sequential'},
    'torch.nn.modules.conv': {'Conv1d', 'Conv2d', 'Conv3d', 'ConvTranspose2d', 'ConvTranspose3d'},
    'torch.nn.modules.dropout': {'Dropout', 'Dropout2d'},
    'torch.nn.modules.flatten': {'Flatten', 'Unflatten'},
    'torch.nn.modules.instancenorm': {'InstanceNorm2d'},
    'torch.nn.modules.linear': {'Bilinear', 'Identity', 'Linear'},
    'torch.nn.modules.normalization': {'GroupNorm', 'LayerNorm'},
    'torch.nn.modules.padding': {'ReflectionPad2d', 'ReplicationPad2d', 'ZeroPad2d'},
    'torch.nn.modules.pixelshuffle': {'PixelShuffle', 'PixelUnshuffle'},
    'torch.nn.modules.pooling': {'AdaptiveAvgPool2d', 'AvgPool2d', 'MaxPool2d'},
    'torch.nn.modules.upsampling': {'Upsample', 'UpsamplingBilinear2d'},
}
_PLAIN_NAMES = {
    'builtins': {'set', 'frozenset'},
    '__builtin__': {'set', 'frozenset'},
    'collections': {'OrderedDict'},
    'dnnlib': {'EasyDict'},
    'dnnlib.util': {'EasyDict'},
    'numpy': {'dtype', 'ndarray'},
    'numpy._core.multiarray': {'_reconstruct', 'scalar'},
    'numpy.core.multiarray': {'_reconstruct', 'scalar'},
    'numpy._core.numeric': {'_frombuffer'},
    'numpy.core.numeric': {'_frombuffer'},
    'torch': {'Size', 'device', *DTYPES},
    'torch_utils.persistence': {'_reconstruct_persistent_obj'},
}
MODULE_CLASSES = frozenset(Global(module, name) for module, names in (_EG3D_CLASSES | _TORCH_MODULES).items() for name in names)
ALLOWED = MODULE_CLASSES | {Global(module, name) for module, names in _PLAIN_NAMES.items() for name in names} | TENSOR_REDUCERS.keys()

NUMPY_TYPES = frozenset({'b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8'})
TRUST = "if you trust the file, --trust-pickle --upstream=DIR hands it to upstream's own loader, which runs the file's code"
_PYTHON_MODULES = sys.stdlib_module_names | {'__builtin__', '__main__', 'nt', 'posix', 'copy_reg', 'commands'}


def network_policy(allow_unknown: bool) -> Policy:
    """The policy for the outer pickle.  With `allow_unknown` other names are let through, still never called."""

    def permits(name: Global) -> bool:
        if name in ALLOWED or allow_unknown:
            return True
        raise PickleError(_refusal(name))

    return Policy(permits, {**TENSOR_REDUCERS, **_VALUE_REDUCERS})


def _refusal(name: Global) -> str:
    top = name.module.split('.')[0]
    if name.module.startswith('dnnlib.tflib'):
        return (
            "it is from the TensorFlow code of StyleGAN; upstream's legacy.py converts it: "
            "python legacy.py --source=OLD.pkl --dest=NEW.pkl"
        )
    if name == Global('_codecs', 'encode'):
        return "it is of pickle protocol 2 or older; load it with upstream's code and save it with protocol 4"
    if name.module == 'torch.storage' or name.name in STORAGE_DTYPES or name.name.endswith('Storage'):
        return f'it holds a bare tensor storage ({name}), which no network pickle does'
    if top in _PYTHON_MODULES or top in ('torch', 'numpy'):
        return f'it asks for {name}, which no network needs: it is broken or hostile, and nothing in it was run'
    return f"its class {name} is not one of NVIDIA's EG3D or StyleGAN networks, so nothing was run; {TRUST}"


def mapping(value: Any) -> dict | None:
    """The entries of a dict, an OrderedDict or an EasyDict; None for anything else."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Call) and value.function in DICT_CLASSES and value.args == ():
        return value.items if isinstance(value.items, dict) else {}
    return None


def elements(value: Any) -> list | tuple | None:
    """The elements of a set or frozenset, in the file's order; None for anything else."""
    if isinstance(value, Call) and value.function.name in ('set', 'frozenset') and len(value.args) <= 1:
        inner = value.args[0] if value.args else value.items or []
        return inner if isinstance(inner, (list, tuple)) else None
    return None


def is_persistent(value: Any) -> bool:
    """Whether it is an object of torch_utils.persistence."""
    return isinstance(value, Call) and value.function == PERSISTENT


def persistent_meta(value: Call) -> dict:
    """What such an object says of itself: type, version, module_src, class_name and state."""
    meta = mapping(value.args[0])
    if meta is None or mapping(meta.get('state')) is None:
        raise PickleError('an object in it does not say what it is')
    return meta


def module_state(value: Any) -> dict | None:
    """The attributes of a torch.nn.Module in the pickle, persistent or by reference; None for anything else."""
    if is_persistent(value):
        return mapping(persistent_meta(value)['state'])
    if isinstance(value, Call) and (value.function in MODULE_CLASSES or isinstance(mapping(value.state), dict)):
        return mapping(value.state)
    return None


class Unread:
    """A value that is not plain data, as it stands in the pickle."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Plain:
    """Turns inert values into plain Python ones; shared values are written out, so that what comes out is a tree."""

    def __init__(self, data: Any) -> None:
        self.data = data  # the file, for byte strings and arrays
        self.left = MAX_PLAIN_VALUES

    def __call__(self, value: Any, depth: int = 0) -> Any:
        """`value` as scalars, strings, bytes, lists, tuples, sets and dicts.  Raises PickleError for anything else."""
        self.left -= 1
        if depth > MAX_PLAIN_DEPTH or self.left < 0:
            raise PickleError('its settings are nested or repeated without end')
        if isinstance(value, str):
            self.left -= len(value) // 64
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (list, tuple)):
            return type(value)(self(part, depth + 1) for part in value)
        entries = mapping(value)
        if entries is not None:
            return {key: self(part, depth + 1) for key, part in entries.items()}
        members = elements(value)
        if members is not None:
            return self._set(members)
        if isinstance(value, Span):
            return self._bytes(value)
        if isinstance(value, Global) and value.module == 'torch':
            return str(value)
        if isinstance(value, Call):
            return self._call(value, depth)
        raise PickleError('one of its settings is not plain data')

    def or_unread(self, value: Any) -> Any:
        """`value` as plain Python, `Unread` where it is not plain data.  Raises PickleError only when there is too much of it."""
        try:
            return self(value)
        except PickleError:
            if self.left < 0:
                raise
            return Unread(value)

    def _set(self, members: list | tuple) -> set:
        self.left -= len(members)
        if self.left < 0 or not all(isinstance(member, str) for member in members):
            raise PickleError('one of its settings is a set of other things than text')
        return set(members)

    def _bytes(self, place: Span) -> bytes:
        if place.length > MAX_PLAIN_BYTES:
            raise PickleError(f'one of its settings is {place.length:,} bytes long')
        self.left -= place.length // 64
        return self.data[place.offset : place.offset + place.length]

    def _call(self, value: Call, depth: int) -> Any:
        if value.function in (_DEVICE, _SIZE) and 1 <= len(value.args) <= 2:
            parts = self(value.args, depth + 1)
            return ':'.join(str(part) for part in parts) if value.function == _DEVICE else parts[0]
        if value.function.name == '_reconstruct' and isinstance(value.state, tuple) and len(value.state) == 5:
            _, shape, dtype, fortran, place = value.state
            return self._array(place, dtype, shape, 'F' if fortran is True else 'C', depth)
        if value.function.name == '_frombuffer' and len(value.args) == 4:
            place, dtype, shape, order = value.args
            return self._array(place, dtype, shape, order, depth)
        raise PickleError(f'one of its settings is a {value.function}')

    def _array(self, place: Any, dtype: Any, shape: Any, order: Any, depth: int) -> list:
        """A numpy array as nested lists."""
        raw = self._bytes(place) if isinstance(place, Span) else None
        if raw is None:
            raise PickleError('an array in its settings is damaged')
        array = numpy_array(raw, numpy_type(dtype), self(shape, depth + 1), order) if raw else np.empty(0)
        self.left -= array.size
        if self.left < 0:
            raise PickleError(f'an array in its settings has {array.size:,} elements')
        return array.tolist()


def numpy_type(value: Any, known: frozenset[str] = NUMPY_TYPES) -> np.dtype:
    """The type that ``numpy.dtype('f8', False, True)`` with its state describes, one of ``known``."""
    name = value.args[0] if isinstance(value, Call) and value.function == _DTYPE and value.args else None
    order = value.state[1] if name and isinstance(value.state, tuple) and len(value.state) > 1 else '<'
    if not isinstance(name, str) or name not in known or order not in ('<', '>', '|', '='):
        raise PickleError('an array or a number in it is of a numpy type that is no plain number')
    return np.dtype(f'{order}{name}')


def numpy_array(raw: memoryview | bytes, dtype: np.dtype, shape: Any, order: Any) -> np.ndarray:
    """The array of a file, whose claims about it are held against its bytes."""
    if not isinstance(shape, tuple) or len(shape) > 16 or not all(type(size) is int and size >= 0 for size in shape):
        raise PickleError('an array in it has no valid shape')
    size = math.prod(shape) * dtype.itemsize
    if size > len(raw):
        raise PickleError(f'an array of shape {shown(list(shape))} in it announces {size:,} bytes and holds {len(raw):,}')
    return np.frombuffer(raw[:size], dtype).reshape(shape, order='F' if order == 'F' else 'C') if size else np.empty(shape, dtype)


def _numpy_scalar(args: tuple, machine: Machine) -> bool | int | float:
    """``numpy.core.multiarray.scalar(dtype, bytes)`` as a Python number."""
    if len(args) != 2 or not isinstance(args[1], Span):
        raise PickleError('a numpy number in it is damaged')
    kind, place = numpy_type(args[0]), args[1]
    if place.length != kind.itemsize:
        raise PickleError('a numpy number in it is damaged')
    return np.frombuffer(machine.data[place.offset : place.offset + place.length], kind)[0].item()


def _persistent_object(args: tuple, machine: Machine) -> Call:
    """``_reconstruct_persistent_obj(meta)``: kept as a call once `meta` is seen to be what persistence writes."""
    meta = mapping(args[0]) if len(args) == 1 else None
    if meta is None or mapping(meta.get('state')) is None:
        raise PickleError('a persistent object in it is not as torch_utils.persistence writes them')
    if meta.get('type') != 'class' or meta.get('version') != PERSISTENCE_VERSION:
        version = meta.get('version')
        got = version if isinstance(version, int) and abs(version) < 1_000_000 else 'unknown'
        raise PickleError(f'its objects are of torch_utils.persistence version {got}, expected {PERSISTENCE_VERSION}')
    if not isinstance(meta.get('module_src'), str) or not isinstance(meta.get('class_name'), str):
        raise PickleError('a persistent object in it is not as torch_utils.persistence writes them')
    return Call(PERSISTENT, args)


_DTYPE = Global('numpy', 'dtype')
_DEVICE = Global('torch', 'device')
_SIZE = Global('torch', 'Size')
_VALUE_REDUCERS = {
    PERSISTENT: _persistent_object,
    Global('numpy._core.multiarray', 'scalar'): _numpy_scalar,
    Global('numpy.core.multiarray', 'scalar'): _numpy_scalar,
}
