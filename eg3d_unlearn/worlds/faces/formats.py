"""Networks in the formats of dlib and of TensorFlow Lite as tensors, layer by layer: read, never run."""
from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

BROKEN = (struct.error, IndexError, ValueError, OverflowError, UnicodeDecodeError)   # what damaged bytes make the readers raise


@dataclass
class Layer:
    """A convolution or a matrix."""
    weight: Tensor                   # [out, in, rows, columns] or [out, in] float32
    bias: Tensor | None              # [out] float32


# dlib: https://dlib.net/dlib/serialize.h.html


def dlib_layers(content: bytes, name: str) -> list[Layer]:
    """Convolutions and matrices of a network that ``dlib::serialize`` wrote, from the picture on; 'affine_' layers are merged into them.

    ``name`` begins the sentence of an error.  Raises InputError: no such network.
    """
    layers: list[Layer] = []
    try:
        # dlib writes the inmost layer first. A text is its length, itself an integer of one byte, and its letters.
        for found in re.finditer(rb'\x01\x05con_4|\x01\x07affine_|\x01\x04fc_2', content):
            kind = found[0][2:]
            if kind == b'fc_2':
                (count, inputs), at = _dlib_integers(content, found.end(), 2)
                layers.append(Layer(_dlib_tensor(content, at)[0].reshape(inputs, count).T.contiguous(), None))
                continue
            numbers, at = _dlib_tensor(content, found.end())
            if kind == b'con_4':
                count, rows, columns = _dlib_integers(content, at, 3)[0]
                weight, bias = numbers[:-count], numbers[-count:]
                layers.append(Layer(weight.reshape(count, -1, rows, columns), bias))
            else:
                scale, shift = numbers.reshape(2, -1)
                before = layers[-1]
                before.weight, before.bias = before.weight * scale.view(-1, 1, 1, 1), before.bias * scale + shift
    except (*BROKEN, RuntimeError, TypeError) as error:
        raise InputError(f'{name} is damaged ({type(error).__name__}: {shown(error)}).') from None
    if not layers:
        raise InputError(f'{name} is no network that dlib wrote.')
    return layers


def _dlib_integers(content: bytes, at: int, count: int) -> tuple[list[int], int]:
    """``count`` integers from ``at`` on, and where they end: a byte with the number of bytes and the sign, then the bytes."""
    values = []
    for _ in range(count):
        length = content[at] & 0x0f
        value = int.from_bytes(content[at + 1:at + 1 + length], 'little')
        values.append(-value if content[at] & 0x80 else value)
        at += 1 + length
    return values, at


def _dlib_tensor(content: bytes, at: int) -> tuple[Tensor, int]:
    """The numbers of a tensor [N], and where it ends: a version, four lengths, the numbers."""
    (version, *lengths), at = _dlib_integers(content, at, 5)
    if version != 2 or min(lengths) < 0:
        raise ValueError(f'version {version} of a tensor of {lengths}')
    count = math.prod(lengths)
    return torch.from_numpy(np.frombuffer(content, '<f4', count, at).astype(np.float32)), at + 4 * count


# TensorFlow Lite: tensorflow/lite/schema/schema.fbs, a schema of flatbuffers

CONVOLUTION, MATRIX = 3, 9           # operators of the schema
NUMBERS = {0: '<f4', 2: '<i4', 3: 'u1'}  # types of tensors: float32, int32, uint8


def tflite_layers(content: bytes, name: str) -> list[Layer]:
    """Convolutions and matrices of a TensorFlow Lite model, in the order in which it runs them; 8-bit weights as what they stand for.

    ``name`` begins the sentence of an error.  Raises InputError: no such model.
    """
    if content[4:8] != b'TFL3':
        raise InputError(f'{name} is no model of TensorFlow Lite.')
    try:
        model = _Table.at(content, 0)
        codes = [code.number(0, 'b') for code in model.tables(1)]
        graph, buffers = model.tables(2)[0], model.tables(4)
        tensors, layers = graph.tables(0), []
        for operator in graph.tables(3):
            kind = codes[operator.number(0, 'I')]
            if kind in (CONVOLUTION, MATRIX):
                _, weight, bias = (tensors[index] for index in operator.vector(1, '<i4'))
                values = _values(weight, buffers)
                layers.append(Layer(values.permute(0, 3, 1, 2).contiguous() if kind == CONVOLUTION else values, _values(bias, buffers)))
    except (*BROKEN, LookupError, RuntimeError) as error:
        raise InputError(f'{name} is damaged ({type(error).__name__}: {shown(error)}).') from None
    return layers


class _Table:
    """A table of flatbuffers: fields by number, of which those with their default value may be missing."""

    def __init__(self, content: bytes, place: int) -> None:
        self.content, self.place = content, place
        self.fields = place - struct.unpack_from('<i', content, place)[0]
        self.size = struct.unpack_from('<H', content, self.fields)[0]

    @classmethod
    def at(cls, content: bytes, pointer: int) -> _Table:
        """The table that the pointer at this place means."""
        return cls(content, pointer + struct.unpack_from('<I', content, pointer)[0])

    def field(self, number: int) -> int | None:
        entry = 4 + 2 * number
        offset = struct.unpack_from('<H', self.content, self.fields + entry)[0] if entry < self.size else 0
        return self.place + offset if offset else None

    def number(self, number: int, kind: str) -> int:
        place = self.field(number)
        return 0 if place is None else struct.unpack_from(f'<{kind}', self.content, place)[0]

    def vector(self, number: int, dtype: str) -> np.ndarray:
        place = self.field(number)
        if place is None:
            return np.empty(0, dtype)
        place += struct.unpack_from('<I', self.content, place)[0]
        return np.frombuffer(self.content, dtype, struct.unpack_from('<I', self.content, place)[0], place + 4)

    def tables(self, number: int) -> list[_Table]:
        place = self.field(number)
        if place is None:
            return []
        place += struct.unpack_from('<I', self.content, place)[0]
        return [_Table.at(self.content, place + 4 * (1 + index)) for index in range(struct.unpack_from('<I', self.content, place)[0])]

    def table(self, number: int) -> _Table | None:
        place = self.field(number)
        return None if place is None else _Table.at(self.content, place)


def _values(tensor: _Table, buffers: list[_Table]) -> Tensor:
    """A constant's values, float32: scale * (stored - zero point) where it is quantised."""
    stored = buffers[tensor.number(2, 'I')].vector(0, 'u1').view(NUMBERS[tensor.number(1, 'b')])
    quantised = tensor.table(4)
    scale, zero = (quantised.vector(2, '<f4'), quantised.vector(3, '<i8')) if quantised else ((), ())
    if len(scale) > 1:
        raise ValueError('a scale for each channel')
    values = (stored.astype(np.float64) - zero[0]) * scale[0] if len(scale) else stored
    return torch.from_numpy(values.astype(np.float32)).reshape(tensor.vector(0, '<i4').tolist())
