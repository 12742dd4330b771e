"""Writes the unlearned pickle: the input file, byte for byte, with the numbers of G and G_ema replaced."""

from __future__ import annotations

import bisect
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from torch_utils_ext.atomic_file import replacing
from torch_utils_ext.errors import InputError
from torch_utils_ext.pickle_tensors import Storage, TensorRecord
from torch_utils_ext.safe_pickle import Span, reachable
from torch_utils_ext.user_files import shown

if TYPE_CHECKING:
    from torch_utils_ext.network_pickle import NetworkPickle, NetworkRecord

CACHES = ('_last_planes',)  # attributes in which upstream keeps what the network made last: it could show the person
_CHUNK = 1 << 20


def write_unlearned_pickle(
    source: NetworkPickle,
    out_path: str | Path,
    tensors: dict[str, torch.Tensor],  # the whole state dict of the unlearned network
) -> list[str]:
    """Write `source` to `out_path` with every tensor of G and of G_ema replaced; all other bytes stay as they are.

    Values are converted to the dtype that the file has.  Cached pictures on the networks (`_last_planes`) become zeros.
    The file appears whole or not at all; the same input gives the same bytes.

    Returns one sentence for each thing done beyond replacing the tensors.

    Raises InputError: as `check_writable`, `source` changed in between, disk full or not writable.
    """
    records = generators(source)
    check_writable(source, tensors)
    caches = _caches([record.value for record in records])
    with source.open() as original, replacing(Path(out_path)) as copy:
        _copy(original, copy)
        source.check_unchanged(original)
        for record in records:
            for name, place in record.tensors.items():
                _replace(copy, name, place, tensors[name])
        for place in caches:
            _replace(copy, CACHES[0], place, torch.zeros(place.shape))
        for record in records:
            for name, place in record.tensors.items():
                _verify(copy, name, place, tensors[name])
    return [f"{len(caches)} cached tensors ({', '.join(CACHES)}) were set to zero."] if caches else []


def check_writable(
    source: NetworkPickle,
    tensors: dict[str, torch.Tensor],  # the whole state dict, as it is now
    will_change: Collection[str] = (),  # names of tensors whose values are still to change
) -> None:
    """What stands in the way of writing `tensors` back, before and after training.

    Raises InputError: names or shapes that do not fit, a number that the file's dtype cannot hold, numbers that D or
    another part of the file shares with the networks, or that two tensors share of which one changes without the other.
    """
    records = generators(source)
    for key in ('G', 'G_ema'):
        if key in source.records:
            _check_fit(key, source.records[key].tensors, tensors)
    changed = []
    with source.open() as file:
        for record in records:
            for name, place in record.tensors.items():
                after = _converted(name, tensors[name], place.dtype)
                if name in will_change or not _same_bytes(place.read(file), after):
                    changed.append((place.offset, place.offset + place.length))
    caches = _caches([record.value for record in records])
    changed += [(place.offset, place.offset + place.length) for place in caches]
    _check_not_shared(source, changed)
    places = [item for record in records for item in record.tensors.items()] + [(CACHES[0], place) for place in caches]
    _check_not_tied([item for item in places if item[1].numel], {*will_change, *CACHES})


def generators(source: NetworkPickle) -> list[NetworkRecord]:
    """The networks that are replaced."""
    return [source.records[key] for key in ('G', 'G_ema') if key in source.records]


def _check_fit(key: str, places: dict[str, TensorRecord], tensors: dict[str, torch.Tensor]) -> None:
    missing, unexpected = sorted(places.keys() - tensors.keys()), sorted(tensors.keys() - places.keys())
    if missing or unexpected:
        raise InputError(
            f"The unlearned network does not fit {key} of the pickle: "
            f"{len(missing)} tensors missing ({shown(', '.join(missing[:3]) or 'none')}), "
            f"{len(unexpected)} unexpected ({shown(', '.join(unexpected[:3]) or 'none')})."
        )
    for name, place in places.items():
        if tuple(tensors[name].shape) != place.shape:
            raise InputError(f'{shown(name)} has shape {list(tensors[name].shape)}, expected {list(place.shape)} as in {key}.')


def _caches(roots: list[Any]) -> list[TensorRecord]:
    found = []
    for value in reachable(roots):
        if isinstance(value, dict):
            found += [value[name] for name in CACHES if isinstance(value.get(name), TensorRecord)]
    return found


def _copy(original: BinaryIO, copy: BinaryIO) -> None:
    while chunk := original.read(_CHUNK):
        copy.write(chunk)


def _converted(name: str, values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`values` on the CPU in the file's dtype; what the dtype cannot hold is an error."""
    values = values.detach().cpu()
    if values.is_floating_point() != dtype.is_floating_point:
        raise InputError(f'{shown(name)} is {values.dtype}, expected {dtype} as in the pickle.')
    if not bool(values.isfinite().all()):
        raise InputError(f'{shown(name)} holds numbers that are NaN or infinite, which no usable network has.')
    converted = values.to(dtype)
    if not bool(converted.isfinite().all()):
        raise InputError(f'{shown(name)} has numbers that are too large for {dtype}, the type that the pickle keeps them in.')
    return converted


def _replace(copy: BinaryIO, name: str, place: TensorRecord, values: torch.Tensor) -> None:
    before, after = place.read(copy), _converted(name, values, place.dtype)
    if not _same_bytes(before, after):
        place.write(copy, after)


def _verify(copy: BinaryIO, name: str, place: TensorRecord, values: torch.Tensor) -> None:
    """Two tensors that share numbers (views of one storage) can only be written if their values agree."""
    if not _same_bytes(place.read(copy), _converted(name, values, place.dtype)):
        raise InputError(f'{shown(name)} shares its numbers with another tensor of the pickle, and the two should now differ.')


def _check_not_tied(places: list[tuple[str, TensorRecord]], will_change: Collection[str]) -> None:
    """No tensor that changes may share numbers with one of another name, whose values would change along."""
    places = sorted(places, key=lambda item: item[1].offset)
    first = 0
    while first < len(places):
        last, end = first, places[first][1].offset
        while last < len(places) and (last == first or places[last][1].offset < end):
            end = max(end, places[last][1].offset + places[last][1].length)
            last += 1
        if last - first > 1:
            _check_group(places[first:last], end, will_change)
        first = last


def _check_group(places: list[tuple[str, TensorRecord]], end: int, will_change: Collection[str]) -> None:
    """The same for tensors whose bytes overlap in the file, perhaps without a number in common."""
    names = list({name: None for name, _ in places})
    index = {name: number for number, name in enumerate(names)}
    if len(names) == 1 or not any(name in will_change for name in names):
        return
    start, width = places[0][1].offset, places[0][1].dtype.itemsize
    owners = torch.full([(end - start) // width], -1, dtype=torch.int32)  # of each number, as an index of `names`
    for name, place in places:
        if place.dtype.itemsize != width or (place.offset - start) % width:
            raise InputError(f'{shown(name)} and {shown(places[0][0])} share their bytes in the file as numbers of different types.')
        mine = owners.as_strided(place.shape, place.stride, (place.offset - start) // width)
        for other in mine.unique().tolist():
            if other >= 0 and names[other] != name and (name in will_change or names[other] in will_change):
                raise InputError(
                    f'{shown(name)} and {shown(names[other])} share their numbers in the file, so that one cannot change without the other.'
                )
        mine.fill_(index[name])


def _same_bytes(left: torch.Tensor, right: torch.Tensor) -> bool:
    # Bytes, not numbers: NaN is unequal to itself, and 0 equals -0.
    return torch.equal(
        left.contiguous().reshape(-1).view(torch.uint8), right.contiguous().reshape(-1).view(torch.uint8)
    )


def _check_not_shared(source: NetworkPickle, changed: list[tuple[int, int]]) -> None:
    """Nothing but G and G_ema may hold numbers that were changed."""
    inside = {id(source.records[key].value) for key in ('G', 'G_ema') if key in source.records}
    outside = [value for value in source.contents.values() if id(value) not in inside]
    ranges = _merged(changed)
    starts = [first for first, _ in ranges]
    for value in reachable(outside):
        if isinstance(value, (TensorRecord, Storage, Span)):
            nearest = bisect.bisect_left(starts, value.offset + value.length) - 1
            if nearest >= 0 and ranges[nearest][1] > value.offset:
                raise InputError(
                    f'{shown(source.path, 300)} keeps numbers of its generator in another part of the file as well, '
                    'so the generator alone cannot be replaced.'
                )


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes as sorted ranges that do not overlap."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
