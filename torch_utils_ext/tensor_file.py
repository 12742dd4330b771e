"""Files of ``torch.save`` and ``numpy.save`` as plain values: tensors, arrays, numbers and text in dicts, lists and tuples.

Their pickles are read by our own interpreter (`safe_pickle`), which calls nothing, and not by ``torch.load`` or numpy:
``weights_only=True`` had holes before torch 2.6 (CVE-2025-32434) and 2.10 (CVE-2026-24747).  Nothing takes more memory than
the file is long, but for what numpy compressed, which has a bound of its own.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_utils_ext.errors import InputError
from torch_utils_ext.pickle_tensors import FORMAT_VERSION, MAGIC, STORAGE_DTYPES, TENSOR_REDUCERS, UNTYPED, Storage, TensorRecord, rebuild_tensor
from torch_utils_ext.pickle_values import ALLOWED, MODULE_CLASSES, NUMPY_TYPES, Plain, mapping, network_policy, numpy_array, numpy_type
from torch_utils_ext.safe_pickle import DICT_CLASSES, Budget, Call, Global, Machine, PickleError, Policy, Span, Window
from torch_utils_ext.user_files import read_bytes, shown

MAX_ARRAY_BYTES = 256 << 20  # of an array that numpy compressed
ARRAY_TYPES = NUMPY_TYPES | {np.dtype(kind).str[1:] for kind in (np.longdouble, np.complex64, np.complex128)}
MAX_HEADER = 10_000  # bytes of the text that describes an array
ZIP, NUMPY, LEGACY = b'PK\x03\x04', b'\x93NUMPY', b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_PAGE = 'a web page about the file: open its address in a browser, download the file itself and try again'
KINDS = {
    b'<!doctype': _PAGE,
    b'<html': _PAGE,
    b'<?xml': _PAGE,
    b'version https://git-lfs': 'the pointer of a Git LFS file: fetch the file itself with git lfs pull',
}
_BROKEN = (
    ValueError, LookupError, ArithmeticError, EOFError, struct.error, NotImplementedError, RuntimeError,
    SyntaxError, MemoryError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # what zipfile and numpy raise for foreign bytes


def read_tensors(
    path: str | Path,
    what: str = 'file',  # what it should be, for the error: 'latent file', 'encoder'
    prefer: tuple[str, ...] = (),  # of a .npz that holds one of these names, this one alone is read
    at_most: int = 4 << 30,  # bytes; a longer file is refused unread
) -> Any:
    """What a file of ``torch.save``, ``numpy.save`` or ``numpy.savez`` holds; of a .npz the arrays by name.

    Raises InputError: no such file, another kind of file, a damaged one, or one that holds more than plain values.
    """
    content = read_bytes(path, what, at_most)
    name = f'The {what} {shown(path, 300)}'
    for start, kind in KINDS.items():
        if content[:512].lstrip().lower().startswith(start):
            raise InputError(f'{name} is {kind}.')
    try:
        if content.startswith(NUMPY):
            return _array(content)
        if content.startswith(ZIP):
            return _zipped(content, prefer)
        if content.startswith(LEGACY):
            return _legacy(content)
    except PickleError as error:
        raise InputError(f'{name} cannot be used: {error}.') from None
    except _BROKEN as error:
        raise InputError(f'{name} is damaged ({type(error).__name__}).') from None
    raise InputError(f'{name} was not written by torch.save, numpy.save or numpy.savez.')


def read_pickled_arrays(
    content: bytes,
    name: str,  # what it is, to begin the sentence of an error
) -> Any:
    """What ``pickle.dump`` wrote of numpy arrays in dicts, lists and tuples.  Raises InputError."""
    try:
        reader = _Reader(content, _no_storage)
        return reader.plain(reader.run())
    except PickleError as error:
        raise InputError(f'{name} cannot be used: {error}.') from None
    except _BROKEN as error:
        raise InputError(f'{name} is damaged ({type(error).__name__}).') from None


# Files of torch.save


def _zipped(content: bytes, prefer: tuple[str, ...]) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if any('/code/' in name for name in entries):
            raise PickleError('it is a TorchScript file, which is a program, and tensors are expected. Save module.state_dict()')
        main = [name for name in entries if name.endswith('/data.pkl')]
        if not main:
            return _arrays(archive, entries, prefer)
        folder = main[0].removesuffix('data.pkl')
        order = entries.get(f'{folder}byteorder')
        if order is not None and _stored(content, order).tobytes() != b'little':
            raise PickleError('it was written by a machine of another byte order')

        def storage(dtype: torch.dtype | None, key: str, length: int) -> Storage:
            entry = entries.get(f'{folder}data/{key}')
            found = b'' if entry is None else _stored(content, entry)
            if entry is None or len(found) < length:
                raise PickleError(f'a tensor in it announces {length:,} bytes and holds {len(found):,}')
            return Storage(dtype, entry.header_offset + _head(content, entry), length)

        reader = _Reader(content, storage)
        return reader.plain(reader.run(_stored(content, entries[main[0]]).tobytes()))


def _stored(content: bytes, entry: zipfile.ZipInfo) -> memoryview:
    """The bytes of an entry, in the file itself."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise PickleError('it is compressed or encrypted, which torch.save never does')
    start = entry.header_offset + _head(content, entry)
    found = memoryview(content)[start:start + entry.file_size]
    if len(found) != entry.file_size:
        raise PickleError('it ends in the middle: the file is incomplete or damaged')
    return found


def _head(content: bytes, entry: zipfile.ZipInfo) -> int:
    """Bytes from an entry's header to its content."""
    header = content[entry.header_offset:entry.header_offset + 30]
    if len(header) < 30 or not header.startswith(ZIP):
        raise PickleError('an entry in it is not where it should be: the file is damaged')
    return 30 + int.from_bytes(header[26:28], 'little') + int.from_bytes(header[28:30], 'little')


def _legacy(content: bytes) -> Any:
    """The format of before PyTorch 1.6: pickles of facts, of the value and of the storages' names, then the storages."""
    reader = _Reader(content, lambda dtype, key, length: Storage(dtype, 0, length))
    magic, version, system, value, keys = (reader.run() for _ in range(5))
    if magic != MAGIC or version != FORMAT_VERSION or not isinstance(system, dict) or system.get('little_endian') is not True:
        raise PickleError("it is of an unknown version of PyTorch's format, or of a machine of another byte order")
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(reader.storages):
        raise PickleError('the tensors that it names are not those that it holds')
    at = reader.position
    for key in keys:
        place = reader.storages[key]
        size = (place.dtype or torch.uint8).itemsize
        if at + 8 + place.length > len(content) or int.from_bytes(content[at:at + 8], 'little') * size != place.length:
            raise PickleError('it ends in the middle: the file is incomplete or damaged')
        place.offset, at = at + 8, at + 8 + place.length
    return reader.plain(value)


class _Machine(Machine):
    """Knows the text of Python 2 as well, in which many published weights are written."""


_Machine.actions = Machine.actions | {b'U': Machine.actions[b'\x8c'], b'T': Machine.actions[b'X']}


class _Reader:
    """The pickles of one file, and the values that they describe."""

    def __init__(self, content: bytes, storage) -> None:
        self.content, self.storage = content, storage
        self.position = 0
        self.budget = Budget(len(content))
        self.left = len(content)  # bytes of storages: entries of a zip may overlap
        self.storages: dict[str, Storage] = {}  # by the key that the file gives them
        self.loaded: dict[int, Tensor] = {}
        rebuild = dict.fromkeys((Global('torch._utils', f'_rebuild_tensor{version}') for version in ('', '_v2', '_v3')), _rebuild)
        values = network_policy(allow_unknown=False).reducers
        self.policy = Policy(_permits, {**values, **TENSOR_REDUCERS, **rebuild, _ENCODE: _encoded}, self._persistent)

    def run(self, data: bytes | None = None) -> Any:
        """The next pickle of the file; of ``data`` where it has an entry of its own."""
        content = self.content if data is None else data
        machine = _Machine(Window.of(content), 0 if data else self.position, len(content), self.policy, self.budget)
        value = machine.run()
        self.position, self.pickled = machine.position, machine.data
        return value

    def plain(self, value: Any) -> Any:
        return _Values(self.pickled, self.tensor)(value)

    def _persistent(self, identity: Any) -> Storage:
        if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6 or identity[0] != 'storage' or identity[5:] not in ((), (None,)):
            raise PickleError('it holds a whole pickled network or parts of storages, and plain tensors are expected. Save '
                              'module.state_dict()')
        kind, key, _, count = identity[1:5]
        if not isinstance(kind, Global) or not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 48:
            raise PickleError('a tensor in it does not describe its storage')
        dtype = STORAGE_DTYPES.get(kind.name)
        length = count * (dtype or torch.uint8).itemsize
        if key not in self.storages:
            self.storages[key] = self.storage(dtype, key, length)
        found = self.storages[key]
        if (found.dtype, found.length) != (dtype, length):
            raise PickleError('two tensors in it disagree about what they share')
        return found

    def tensor(self, record: TensorRecord) -> Tensor:
        """A tensor as torch would have it: those of one storage share it."""
        storage, size = record.storage, record.dtype.itemsize
        if not storage.length or not record.numel:
            return torch.empty(record.shape, dtype=record.dtype)
        if id(storage) not in self.loaded:
            self.left -= storage.length
            if self.left < 0:
                raise PickleError('its tensors would take more memory than the file is long')
            self.loaded[id(storage)] = torch.frombuffer(bytearray(memoryview(self.content)[storage.offset:][:storage.length]), dtype=torch.uint8)
        whole = self.loaded[id(storage)]
        return whole[:len(whole) // size * size].view(record.dtype).as_strided(record.shape, record.stride, record.storage_offset)


@dataclass(slots=True, eq=False)  # no tuple: these mean something in a pickle
class _Expanded:
    """A tensor that repeats its numbers along some axes, as ``Tensor.expand`` makes it."""

    record: TensorRecord
    shape: tuple[int, ...]


def _rebuild(args: tuple, machine: Machine) -> TensorRecord | _Expanded:
    """``torch._utils._rebuild_tensor``, also of old files (four arguments); what repeats is paid for."""
    args = (*args, False, None) if len(args) == 4 else args
    if any(mapping(part) for part in args[6:]):
        raise PickleError('a tensor in it is a conjugate or negative view of its numbers. Save tensor.clone()')
    shape, stride = (part.args[0] if isinstance(part, Call) and part.args else part for part in args[2:4]) if len(args) > 3 else ((), ())
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or 0 not in stride:
        return rebuild_tensor(args, machine)
    once = tuple(1 if step == 0 else size for size, step in zip(shape, stride, strict=False))
    record = rebuild_tensor((*args[:2], once, *args[3:]), machine)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise PickleError('a tensor in it has no valid shape')
    machine.budget.pay(math.prod(shape) * record.dtype.itemsize)
    return _Expanded(record, shape)


def _encoded(args: tuple, machine: Machine) -> bytes:
    """``_codecs.encode(text, 'latin1')``: how pickle protocol 2, which torch.save writes, puts the bytes of an array."""
    if len(args) != 2 or not isinstance(args[0], str) or args[1] not in ('latin1', 'latin-1') or any(char > '\xff' for char in args[0]):
        raise PickleError('it holds bytes that are not as torch.save writes them')
    machine.budget.pay(len(args[0]))
    return args[0].encode('latin-1')


_ENCODE = Global('_codecs', 'encode')
_STORAGES = frozenset(Global(module, name) for module in ('torch', 'torch.cuda', 'torch.storage') for name in (*STORAGE_DTYPES, UNTYPED))
_PLAIN = (ALLOWED - MODULE_CLASSES - {Global('torch_utils.persistence', '_reconstruct_persistent_obj')}) | _STORAGES | {
    Global('torch._utils', '_rebuild_tensor'), _ENCODE}
_NOT_PLAIN = {'_rebuild_sparse_tensor': 'a sparse tensor', '_rebuild_qtensor': 'a quantised tensor',
              '_rebuild_meta_tensor_no_storage': 'a tensor without values'}


def _permits(name: Global) -> bool:
    if name in _PLAIN:
        return True
    if name.module in ('torch', 'torch._utils') and (name.name in _NOT_PLAIN or name.name.endswith('Storage')):
        raise PickleError(f'it holds {_NOT_PLAIN.get(name.name, f"numbers of the type {name}")}; plain tensors are expected')
    raise PickleError(f'it asks for {name}, which plain tensors do not need; nothing in it was run. Save tensors by name, '
                      'torch.save(module.state_dict(), FILE)')


class _Values(Plain):
    """Plain values in which tensors and arrays stay what they are."""

    def __init__(self, data: Any, tensor=None) -> None:
        super().__init__(data)
        self.tensor = tensor

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, bytes):
            return value
        if isinstance(value, _Expanded):
            return self(value.record, depth).expand(value.shape)
        if isinstance(value, TensorRecord):
            self.left -= 1
            return self.tensor(value) if self.left > 0 else super().__call__(None, depth)
        if isinstance(value, Call) and value.function in DICT_CLASSES and len(value.args) == 1:  # of Python 2: a list of pairs
            return dict(self(value.args[0], depth + 1))
        return super().__call__(value, depth)

    def _array(self, place: Any, dtype: Any, shape: Any, order: Any, depth: int) -> Any:
        if isinstance(place, list):  # an array of objects
            sizes = self(shape, depth + 1)
            parts = [self(part, depth + 1) for part in place]
            return parts[0] if sizes == () and len(parts) == 1 else parts
        if isinstance(place, Span):
            place = self.data[place.offset:place.offset + place.length]
        if not isinstance(place, bytes):
            raise PickleError('an array in it is damaged')
        return numpy_array(place, numpy_type(dtype, ARRAY_TYPES), self(shape, depth + 1), order)


# Files of numpy.save


def _arrays(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], prefer: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of a .npz by name."""
    found = {name.removesuffix('.npy'): entry for name, entry in entries.items() if name.endswith('.npy')}
    if not found:
        raise PickleError('it is a zip without arrays in it')
    wanted = next(((name,) for name in prefer if name in found), tuple(found))
    return {name: _array(b''.join(_unpacked(archive, found[name]))) for name in wanted}


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
        raise PickleError('it is compressed in a way that numpy does not use, or encrypted')
    if entry.file_size > MAX_ARRAY_BYTES:
        raise PickleError(f'an array in it takes {entry.file_size:,} bytes, at most {MAX_ARRAY_BYTES:,} are expected')
    with archive.open(entry) as stream:  # which ends at the size that the entry claims
        while chunk := stream.read(1 << 20):
            yield chunk


def _array(content: bytes) -> Any:
    """One .npy: an array of numbers, or the one plain value of an array of objects."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise PickleError(f'it is of version {version} of numpy.save, and 1.0 to 3.0 are known')
    length = int.from_bytes(content[8:10 if version == (1, 0) else 12], 'little')
    if length > MAX_HEADER:
        raise PickleError(f'the text that describes an array in it has {length:,} bytes')
    shape, fortran, dtype = read(stream, max_header_size=MAX_HEADER)
    start = stream.tell()
    if not dtype.hasobject:
        return numpy_array(memoryview(content)[start:], dtype, shape, 'F' if fortran else 'C')
    reader = _Reader(content, _no_storage)
    reader.position = start
    return reader.plain(reader.run())


def _no_storage(dtype: torch.dtype | None, key: str, length: int) -> Storage:
    raise PickleError('it holds a tensor in an array')
