"""The second pickle, inside a tensor that looks good from outside, and tensors that claim too much."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import torch
from attacks.attack import Attack, call, inside_network, text


def attacks() -> list[Attack]:
    return [
        Attack('call in place of the storage', _hostile_storage, 'a tensor in it asks for os.system', runs=True),
        Attack('call in place of the magic number', _hostile_magic, 'a tensor in it asks for os.system', runs=True),
        Attack(
            "storage in the format of today's torch.save",
            lambda _: tensor(_zip_storage()),
            'does not start as a pickle',
        ),
        Attack('storage in the storage', _nested_twice, 'a tensor in it asks for torch.storage._load_from_bytes'),
        Attack(
            'class as a persistent id',
            lambda _: tensor(legacy(b'(' + text('module') + b'ctorch\nFloatStorage\nNNtQ')),
            'its storage',
        ),
        Attack(
            'storage longer than the bytes',
            lambda _: tensor(legacy(storage(1 << 40), 1 << 40)),
            'announces .* bytes and holds',
        ),
        Attack('negative number of elements', lambda _: tensor(legacy(storage(-1), -1)), 'a tensor in it'),
        Attack('two numbers of elements', lambda _: tensor(legacy(storage(4), 3)), 'two different numbers of elements'),
        Attack(
            'view of another storage',
            lambda _: tensor(legacy(storage(4, view=b'(X\x01\0\0\0aK\0K\x04t'), 4)),
            'a part of another',
        ),
        Attack('big-endian', lambda _: tensor(legacy(storage(4), 4, little=b'\x89')), 'little-endian'),
        Attack(
            'same number a billion times',
            lambda _: tensor(legacy(storage(4), 4), shape(1 << 30), shape(0)),
            'more elements than its storage',
        ),
        Attack(
            'same number twice',
            lambda _: tensor(legacy(storage(4), 4), shape(2, 2), shape(1, 1)),
            'uses the same number twice',
        ),
        Attack('negative stride', lambda _: tensor(legacy(storage(4), 4), shape(4), shape(-1)), 'no valid shape'),
        Attack('negative offset', lambda _: tensor(legacy(storage(4), 4), shape(1), shape(1), -3), 'no valid shape'),
        Attack(
            'offset behind the end',
            lambda _: tensor(legacy(storage(4), 4), shape(1), shape(1), 4),
            'reaches beyond its storage',
        ),
        Attack(
            'stride behind the end',
            lambda _: tensor(legacy(storage(4), 4), shape(2), shape(1 << 40), 0),
            'reaches beyond its storage',
        ),
        Attack(
            'thousand dimensions',
            lambda _: tensor(legacy(storage(4), 4), shape(*[1] * 1000), shape(*[1] * 1000)),
            'no valid shape',
        ),
        Attack('object array', _object_array, 'numpy type that is no plain number'),
    ]


def number(value: int) -> bytes:
    raw = value.to_bytes(16, 'little', signed=True)
    return b'\x8a\x10' + raw


def shape(*sizes: int) -> bytes:
    return b'(' + b''.join(number(size) for size in sizes) + b't'


def storage(numel: int, view: bytes = b'N') -> bytes:
    return b'(' + text('storage') + b'ctorch\nFloatStorage\n' + text('0') + text('cpu') + number(numel) + view + b'tQ'


def legacy(middle: bytes, numel: int = 4, little: bytes = b'\x88') -> bytes:
    """A file of the old torch.save, with `middle` where the storage is described, and four zeros."""
    parts = [
        b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19',
        b'M\xe9\x03',
        b'}' + text('little_endian') + little + b's',
        middle,
        b'](' + text('0') + b'e',
    ]
    return b''.join(b'\x80\x02' + part + b'.' for part in parts) + struct.pack('<q', numel) + bytes(16)


def tensor(raw: bytes, size: bytes = shape(4), stride: bytes = shape(1), offset: int = 0) -> bytes:
    """A good network pickle with one more tensor, made from `raw`."""
    loaded = call('torch.storage', '_load_from_bytes', b'B' + struct.pack('<I', len(raw)) + raw)
    hooks = call('collections', 'OrderedDict')
    return inside_network(
        call('torch._utils', '_rebuild_tensor_v2', loaded, number(offset), size, stride, b'\x89', hooks)
    )


def _touch(sentinel: Path) -> bytes:
    return call('os', 'system', text(f"touch '{sentinel}'"))


def _hostile_storage(sentinel: Path) -> bytes:
    return tensor(legacy(_touch(sentinel) + b'0' + storage(4)))


def _hostile_magic(sentinel: Path) -> bytes:
    return tensor(b'\x80\x02' + _touch(sentinel) + b'.' + legacy(storage(4)))


def _nested_twice(_: Path) -> bytes:
    return tensor(legacy(call('torch.storage', '_load_from_bytes', b'C\x01a') + b'0' + storage(4)))


def _zip_storage() -> bytes:
    out = io.BytesIO()
    torch.save(torch.zeros(4), out)
    return out.getvalue()


def _object_array(_: Path) -> bytes:
    kind = call('numpy', 'dtype', text('O8'), b'\x89', b'\x88')
    return inside_network(call('numpy.core.multiarray', 'scalar', kind, b'C\x08abcdefgh'))
