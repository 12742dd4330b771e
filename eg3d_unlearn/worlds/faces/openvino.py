"""Networks in OpenVINO's intermediate representation (an .xml and a .bin) as arrays and edges: read, never run."""
from __future__ import annotations

import math
from dataclasses import dataclass, field
from xml.etree import ElementTree

import numpy as np

from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

MAX_XML = 16 << 20                   # bytes
TYPES = {'f16': np.float16, 'f32': np.float32, 'i32': np.int32, 'i64': np.int64}


@dataclass
class Layer:
    """A node of the graph; ``value`` is what a constant holds."""
    kind: str                        # OpenVINO's type: 'MatMul', 'Const' ...
    name: str
    value: np.ndarray | None = None
    inputs: list[Layer] = field(default_factory=list, repr=False)
    users: list[Layer] = field(default_factory=list, repr=False)

    def constant(self) -> np.ndarray:
        """The one constant among its inputs."""
        found = [layer.value for layer in self.inputs if layer.value is not None]
        if len(found) != 1:
            raise InputError(f'The layer {shown(self.name)} has {len(found)} constant inputs, expected 1.')
        return found[0]


def read_graph(xml: bytes, weights: bytes, name: str) -> list[Layer]:
    """The layers of a network in the order of the file; ``name`` begins the sentence of an error.

    Raises InputError: no such network, or one whose numbers are not in ``weights``.
    """
    # Entities, which could be expanded without end, need a declaration.
    if len(xml) > MAX_XML or b'<!' in xml:
        raise InputError(f'{name} is no network of OpenVINO: too long, or with declarations.')
    try:
        root = ElementTree.fromstring(xml)
        layers = {entry.attrib['id']: Layer(entry.attrib['type'], entry.attrib['name'], _value(entry, weights)) for entry in root.iter('layer')}
        edges = sorted((int(edge.attrib['to-port']), edge.attrib['from-layer'], edge.attrib['to-layer']) for edge in root.iter('edge'))
        for _, start, end in edges:
            layers[end].inputs.append(layers[start])
            layers[start].users.append(layers[end])
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise InputError(f'{name} is no network of OpenVINO, or damaged ({type(error).__name__}: {shown(error)}).') from None
    return list(layers.values())


def _value(entry: ElementTree.Element, weights: bytes) -> np.ndarray | None:
    """What a constant holds; its place is checked against the file."""
    data = entry.find('data')
    if entry.attrib['type'] != 'Const' or data is None:
        return None
    dtype, offset, size = np.dtype(TYPES[data.attrib['element_type']]), int(data.attrib['offset']), int(data.attrib['size'])
    shape = [int(part) for part in data.attrib.get('shape', '').split(',') if part.strip()]
    if offset < 0 or min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != size or offset + size > len(weights):
        raise ValueError(f'the numbers of {entry.attrib["name"]} are not in the file')
    return np.frombuffer(weights, dtype, math.prod(shape), offset).reshape(shape)
