"""Finds what else in a network pickle is, or holds, a generator: patching G and G_ema leaves it as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from torch_utils_ext.network_patch import generators
from torch_utils_ext.pickle_tensors import TensorRecord
from torch_utils_ext.pickle_values import mapping, module_state
from torch_utils_ext.safe_pickle import Call, Global, Span
from torch_utils_ext.user_files import shown

if TYPE_CHECKING:
    from torch_utils_ext.network_pickle import NetworkPickle

SMALLEST = 16  # numbers: shorter tensors are equal by chance
_PARTS = ({'mapping', 'synthesis'}, {'backbone'})  # modules that make a generator
_WRAPPING = {'state', '_modules', '_parameters', '_buffers'}  # names that a place in the file is not told by
_TOLD = 'It is not changed and can still show the person: remove it before you give the file away.'


def copies_elsewhere(
    source: NetworkPickle,
    trained: Collection[str],  # names of the tensors that are trained
) -> list[str]:
    """One sentence about each other generator in the file, and one about tensors that are copies of trained ones."""
    said, loose = [], []
    for place, value, kind in _parts(source, trained):
        if kind is None:
            loose.append((place, value))
        else:
            said.append(f'Beside G and G_ema the file holds {kind} under {place}. {_TOLD}')
    equal = _equal_to_trained(source, trained, loose)
    if equal:
        places = ', '.join(equal[:3]) + (', ...' if len(equal) > 3 else '')
        said.append(f'Copies of trained weights lie elsewhere in the file, {len(equal)} in all ({places}). {_TOLD}')
    return said


def _parts(source: NetworkPickle, trained: Collection[str]) -> Iterator[tuple[str, Any, str | None]]:
    """Other generators, and tensors and byte strings that are no tensors of G and G_ema: place, value, and what a generator is."""
    records = generators(source)
    inside = {id(record.value) for record in records}
    replaced = {place.offset for record in records for place in record.tensors.values()}
    # What G and G_ema are made of is not told as generators of its own (EG3D has a StyleGAN2 inside).
    waiting = [((key,), record.value.args, False) for key, record in source.records.items() if id(record.value) in inside]
    waiting += [((key,), value, True) for key, value in source.contents.items() if id(value) not in inside]
    seen: set[int] = set()
    while waiting:
        place, value, outside = waiting.pop()
        if value is None or isinstance(value, (bool, int, float, str, Global)) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (TensorRecord, Span)):
            if value.offset not in replaced:
                yield _in_words(place), value, None
        elif outside and (kind := _kind_of(value, trained)):
            yield _in_words(place), value, kind
        else:
            waiting.extend((where, part, outside) for where, part in _named_parts(place, value))


def _kind_of(value: Any, trained: Collection[str]) -> str | None:
    state = module_state(value)
    if state is not None:
        children = mapping(state.get('_modules')) or {}
        is_generator = any(parts <= children.keys() for parts in _PARTS) or '_bridge_version' in state
        return 'another generator' if is_generator else None
    entries = mapping(value) or {}
    shared = sum(isinstance(entries.get(name), TensorRecord) for name in trained) if entries else 0
    return 'the weights of another generator' if shared and 2 * shared >= len(trained) else None


def _named_parts(place: tuple, value: Any) -> Iterator[tuple[tuple, Any]]:
    """The parts of a container; a place is a key and the place of what holds it, innermost first."""
    if isinstance(value, dict):
        yield from (((key, place), part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from (((index, place), part) for index, part in enumerate(value))
    elif isinstance(value, Call):
        yield from ((place, part) for part in (*value.args, value.items, value.state))


def _in_words(place: tuple) -> str:
    names: list[str] = []
    while place and len(names) < 20:
        if place[0] not in _WRAPPING:
            names.append(shown(place[0], 40))
        place = place[1] if len(place) > 1 else ()
    return shown('.'.join(reversed(names)))


def _equal_to_trained(source: NetworkPickle, trained: Collection[str], loose: list[tuple[str, TensorRecord | Span]]) -> list[str]:
    """The places whose numbers are, byte by byte, those of a trained tensor."""
    ours = [record.tensors[name] for record in generators(source) for name in trained if name in record.tensors]
    ours = [place for place in ours if place.numel >= SMALLEST]
    lengths = {_length(place) for place in ours} & {_length(value) for _, value in loose}
    if not lengths:
        return []
    with source.open() as file:
        known = {_digest(file, place) for place in ours if _length(place) in lengths} - {None}
        return [place for place, value in loose if _length(value) in lengths and _digest(file, value) in known]


def _length(value: TensorRecord | Span) -> int:
    return value.length if isinstance(value, Span) else value.numel * value.dtype.itemsize


def _digest(file: BinaryIO, value: TensorRecord | Span) -> bytes | None:
    """Of the bytes; None where all numbers are the same, as in fresh biases, which tell of nobody."""
    if isinstance(value, Span):
        file.seek(value.offset)
        return hashlib.blake2b(file.read(value.length), digest_size=16).digest()
    numbers = value.read(file)
    if bool((numbers == numbers.flatten()[0]).all()):
        return None
    return hashlib.blake2b(numbers.flatten().view(torch.uint8).numpy().data, digest_size=16).digest()
