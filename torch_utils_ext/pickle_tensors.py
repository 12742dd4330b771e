"""Tensors in a pickle, found but not read: the second pickle inside each of them, and where its numbers lie.

``pickle.dump`` writes a tensor as ``_rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, hooks)``,
and its storage as ``torch.storage._load_from_bytes(b)``, where b is a whole file of ``torch.save`` in the format of
before PyTorch 1.6: pickles of a magic number, the format's version, facts about the machine, a storage as a persistent
id, and a list of keys; then the number of elements as int64, and the elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import BinaryIO

import torch

from torch_utils_ext.safe_pickle import Call, Global, Machine, PickleError, Policy, Span

MAGIC = 0x1950A86A20F9469CFC6C
FORMAT_VERSION = 1001
MAX_DIMENSIONS = 16

STORAGE_DTYPES = {
    'HalfStorage': torch.float16,
    'FloatStorage': torch.float32,
    'DoubleStorage': torch.float64,
    'BFloat16Storage': torch.bfloat16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'ShortStorage': torch.int16,
    'IntStorage': torch.int32,
    'LongStorage': torch.int64,
    'BoolStorage': torch.bool,
}
DTYPES = {str(dtype).removeprefix('torch.'): dtype for dtype in STORAGE_DTYPES.values()}
UNTYPED = 'UntypedStorage'


@dataclass(slots=True, eq=False)
class Storage:
    """The elements behind one or more tensors: `length` bytes from byte `offset` of the file, little-endian."""

    dtype: torch.dtype | None  # None where the tensor says it
    offset: int
    length: int


@dataclass(slots=True, eq=False)
class TensorRecord:
    """A tensor in the file: dtype, shape, and where its elements lie.  `read` and `write` reach them."""

    storage: Storage
    dtype: torch.dtype
    storage_offset: int  # elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # elements
    is_parameter: bool = False

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def offset(self) -> int:
        """The byte of the file at which the first element lies."""
        return self.storage.offset + self.storage_offset * self.dtype.itemsize

    @property
    def length(self) -> int:
        """Bytes from the first element to behind the last, elements of other tensors in between included."""
        if self.numel == 0:
            return 0
        last = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        return (last + 1) * self.dtype.itemsize

    def read(self, file: BinaryIO) -> torch.Tensor:  # shape and dtype of the record, contiguous
        """A fresh copy of the elements."""
        if self.numel == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        return self._view(self._region(file)).clone(memory_format=torch.contiguous_format)

    def write(self, file: BinaryIO, values: torch.Tensor) -> None:
        """Put `values` (shape of the record; converted to its dtype) in place of the elements, and nothing else."""
        if self.numel == 0:
            return
        region = self._region(file)
        self._view(region).copy_(values)
        file.seek(self.offset)
        file.write(region)

    def _region(self, file: BinaryIO) -> bytearray:
        file.seek(self.offset)
        region = bytearray(file.read(self.length))
        if len(region) != self.length:
            raise PickleError('it has become shorter since it was opened')
        return region

    def _view(self, region: bytearray) -> torch.Tensor:
        return torch.frombuffer(region, dtype=self.dtype).as_strided(self.shape, self.stride)


def load_from_bytes(args: tuple, machine: Machine) -> Storage:
    """``torch.storage._load_from_bytes(b)``: the storage that the nested file b describes."""
    if len(args) != 1 or not isinstance(args[0], Span):
        raise PickleError('a tensor in it has no bytes to load from')
    place: Span = args[0]
    inner = Machine(machine.data, place.offset, place.offset + place.length, _NESTED, machine.budget)
    if inner.run() != MAGIC:
        raise PickleError("a tensor in it is not in PyTorch's legacy format")
    if _next(inner) != FORMAT_VERSION:
        raise PickleError("a tensor in it is in an unknown version of PyTorch's legacy format")
    system = _next(inner)
    if not isinstance(system, dict) or system.get('little_endian') is not True:
        raise PickleError('a tensor in it was not written by a little-endian machine')
    claim, keys = _next(inner), _next(inner)
    if not isinstance(claim, _StorageClaim) or not isinstance(keys, list) or keys != [claim.key]:
        raise PickleError('a tensor in it does not hold exactly one storage')
    if inner.number('<q') != claim.numel:
        raise PickleError('a tensor in it gives two different numbers of elements')
    length = claim.numel * (claim.dtype or torch.uint8).itemsize
    if length != inner.end - inner.position:
        raise PickleError(f'a tensor in it announces {length:,} bytes and holds {inner.end - inner.position:,}')
    return Storage(claim.dtype, inner.position, length)


def rebuild_tensor(args: tuple, machine: Machine) -> TensorRecord:
    """``torch._utils._rebuild_tensor_v2`` (and ``_v3``, whose seventh argument is the dtype)."""
    machine.budget.pay(256)
    if not 6 <= len(args) <= 8 or not isinstance(args[0], Storage):
        raise PickleError('a tensor in it has no storage')
    storage, storage_offset, shape, stride = args[:4]
    dtype = storage.dtype
    if dtype is None:
        dtype = DTYPES.get(args[6].name) if len(args) > 6 and isinstance(args[6], Global) else None
        if dtype is None:
            raise PickleError('a tensor in it is of an unknown type')
    shape, stride = _sizes(shape), _sizes(stride)
    if len(shape) != len(stride) or not _is_size(storage_offset):
        raise PickleError('a tensor in it has no valid shape')
    record = TensorRecord(storage, dtype, storage_offset, shape, stride)
    _check_layout(record)
    return record


def rebuild_parameter(args: tuple, machine: Machine) -> TensorRecord:
    """``torch._utils._rebuild_parameter(data, requires_grad, hooks)``, also ``_with_state``."""
    machine.budget.pay(256)
    if not 3 <= len(args) <= 4 or not isinstance(args[0], TensorRecord):
        raise PickleError('a parameter in it is no tensor')
    return replace(args[0], is_parameter=True)


def _check_layout(record: TensorRecord) -> None:
    """Every element inside the storage and none of them twice (an expanded tensor could claim any size)."""
    if record.numel * record.dtype.itemsize > record.storage.length:
        raise PickleError(f'a tensor of shape {list(record.shape)} in it has more elements than its storage')
    if record.offset + record.length > record.storage.offset + record.storage.length:
        raise PickleError(f'a tensor of shape {list(record.shape)} in it reaches beyond its storage')
    reach = 1
    for step, size in sorted(zip(record.stride, record.shape, strict=True)):
        if size > 1:
            if step < reach:
                raise PickleError(f'a tensor of shape {list(record.shape)} in it uses the same number twice')
            reach += step * (size - 1)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _sizes(value: object) -> tuple[int, ...]:
    if isinstance(value, Call) and value.function == SIZE and len(value.args) == 1:
        value = value.args[0]
    if not isinstance(value, tuple) or len(value) > MAX_DIMENSIONS or not all(_is_size(size) for size in value):
        raise PickleError('a tensor in it has no valid shape')
    return value


@dataclass(slots=True, eq=False)  # no tuple: these mean something in a pickle
class _StorageClaim:
    """What the nested pickle says about its storage, before the file is seen to hold it."""

    dtype: torch.dtype | None
    key: str
    numel: int


def _persistent_storage(identity: object) -> _StorageClaim:
    if not isinstance(identity, tuple) or len(identity) != 6:
        raise PickleError('a tensor in it does not describe its storage')
    tag, kind, key, location, numel, view = identity
    if tag != 'storage' or not isinstance(kind, Global) or not isinstance(key, str) or not isinstance(location, str):
        raise PickleError('a tensor in it does not describe its storage')
    if not _is_size(numel) or view is not None:
        raise PickleError('a tensor in it describes its storage as a part of another')
    return _StorageClaim(STORAGE_DTYPES.get(kind.name), key, numel)


def _permits_storage(name: Global) -> bool:
    if name.module in ('torch', 'torch.storage') and (name.name in STORAGE_DTYPES or name.name == UNTYPED):
        return True
    raise PickleError(f'a tensor in it asks for {name}, which no tensor needs: the file is broken or hostile')


def _next(machine: Machine) -> object:
    """The value of the pickle that follows the last one."""
    following = Machine(machine.data, machine.position, machine.end, machine.policy, machine.budget)
    value = following.run()
    machine.position = following.position
    return value


SIZE = Global('torch', 'Size')
_NESTED = Policy(permits=_permits_storage, persistent=_persistent_storage)
TENSOR_REDUCERS = {
    Global('torch.storage', '_load_from_bytes'): load_from_bytes,
    Global('torch._utils', '_rebuild_tensor_v2'): rebuild_tensor,
    Global('torch._utils', '_rebuild_tensor_v3'): rebuild_tensor,
    Global('torch._utils', '_rebuild_parameter'): rebuild_parameter,
    Global('torch._utils', '_rebuild_parameter_with_state'): rebuild_parameter,
}
