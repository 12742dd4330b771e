"""Writes the unlearned pickle: the input file, byte for byte, with the numbers of G and G_ema replaced."""

from __future__ import annotations

import bisect
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from torch_utils_ext.atomic_file import replacing
from torch_utils_ext.errors import InputError
from torch_utils_ext.pickle_tensors import Storage, TensorRecord
from torch_utils_ext.safe_pickle import Span, reachable

if TYPE_CHECKING:
    from torch_utils_ext.network_pickle import NetworkPickle

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

    Raises InputError: names or shapes that do not fit, a number that the file's dtype cannot hold, numbers that D or
    another part of the file shares with the networks, `source` changed in between, disk full or not writable.
    """
    out_path = Path(out_path)
    records = [source.records[key] for key in ('G', 'G_ema') if key in source.records]
    for key, record in source.records.items():
        if key != 'D':
            _check_fit(key, record.tensors, tensors)
    caches = _caches([record.value for record in records])
    with source.open() as original, replacing(out_path) as copy:
        _copy(original, copy)
        changed: list[tuple[int, int]] = []
        for record in records:
            for name, place in record.tensors.items():
                _replace(copy, name, place, tensors[name], changed)
        for place in caches:
            _replace(copy, CACHES[0], place, torch.zeros(place.shape), changed)
        for record in records:
            for name, place in record.tensors.items():
                _verify(copy, name, place, tensors[name])
        _check_not_shared(source, changed)
    return [f"{len(caches)} cached tensors ({', '.join(CACHES)}) were set to zero."] if caches else []


def _check_fit(key: str, places: dict[str, TensorRecord], tensors: dict[str, torch.Tensor]) -> None:
    missing, unexpected = sorted(places.keys() - tensors.keys()), sorted(tensors.keys() - places.keys())
    if missing or unexpected:
        raise InputError(
            f"The unlearned network does not fit {key} of the pickle: "
            f"{len(missing)} tensors missing ({', '.join(missing[:3]) or 'none'}), "
            f"{len(unexpected)} unexpected ({', '.join(unexpected[:3]) or 'none'})."
        )
    for name, place in places.items():
        if tuple(tensors[name].shape) != place.shape:
            raise InputError(f'{name} has shape {list(tensors[name].shape)}, expected {list(place.shape)} as in {key}.')


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
        raise InputError(f'{name} is {values.dtype}, expected {dtype} as in the pickle.')
    converted = values.to(dtype)
    if dtype.is_floating_point and bool((values.isfinite() & ~converted.isfinite()).any()):
        raise InputError(f'{name} has numbers that are too large for {dtype}, the type that the pickle keeps them in.')
    return converted


def _replace(
    copy: BinaryIO, name: str, place: TensorRecord, values: torch.Tensor, changed: list[tuple[int, int]]
) -> None:
    """Write one tensor; where that changes bytes, add (first, behind the last) to `changed`."""
    before = place.read(copy)
    after = _converted(name, values, place.dtype)
    if not _same_bytes(before, after):
        place.write(copy, after)
        changed.append((place.offset, place.offset + place.length))


def _verify(copy: BinaryIO, name: str, place: TensorRecord, values: torch.Tensor) -> None:
    """Two tensors that share numbers (views of one storage) can only be written if their values agree."""
    if not _same_bytes(place.read(copy), _converted(name, values, place.dtype)):
        raise InputError(f'{name} shares its numbers with another tensor of the pickle, and the two should now differ.')


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
                    f'{source.path} keeps numbers of its generator in another part of the file as well, '
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
