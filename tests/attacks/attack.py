"""What an attack is, and the pieces that several of them are made of."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pickle_stand_ins as stand_ins


@dataclass(frozen=True)
class Attack:
    """`build(sentinel)` gives the file's bytes; its payload, when it runs, creates the file `sentinel`."""

    name: str
    build: Callable[[Path], bytes]
    message: str  # regular expression for what the reader says
    runs: bool = False  # Python's own unpickler runs the payload (shown by a control test)


def fixed(data: bytes) -> Callable[[Path], bytes]:
    """The builder of a file that needs no sentinel."""
    return lambda _: data


def whole(value: bytes) -> bytes:
    """A pickle of one value."""
    return b'\x80\x04' + value + b'.'


def text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value.encode())) + value.encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return f'c{module}\n{name}\n'.encode() + b'(' + b''.join(arguments) + b'tR'


def inside_network(value: bytes) -> bytes:
    """A good network pickle, with `value` as its training_set_kwargs."""
    good = stand_ins.dump(stand_ins.network_contents() | {'training_set_kwargs': 'PLACE'})
    before, after = good.split(b'\x8c\x05PLACE\x94')
    # A frame would announce the wrong length; the pickle is as good without frames.
    return unframed(before) + value + b'0N\x94' + after


def unframed(pickled: bytes) -> bytes:
    """The beginning of a pickle, without FRAME operations."""
    places = [place for _, _, place in pickletools.genops(pickled + b'.')]
    pieces = [pickled[first:last] for first, last in zip(places, [*places[1:], len(pickled)], strict=True)]
    return b''.join(piece for piece in pieces if piece[:1] != b'\x95')
