"""Deltas: the edit that erases people from a network, as a file of kilobytes instead of a whole network.

A delta is a safetensors file. It holds what `closed_form.edit_of` makes the edit of, person by person, so that people can be joined
and withdrawn: the weights are the same as if those who are in it had been erased together. Tensors are float64:

    w_avg               [num_ws, w_dim]            mean latent
    person.K.photos     [photos, num_ws, w_dim]    of each person, K counted from 0; see `closed_form.Erasure`
    person.K.reach      [photos, num_ws, w_dim]
    person.K.move       [num_ws, w_dim]

Where all layers have the same numbers (latents of W), one layer is stored. What else there is to know is in the metadata.
"""
from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

import eg3d_unlearn
from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.unlearning.closed_form import Erasure, LatentEdit, edit_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import parse_json, read_bytes, shown

FORMAT, VERSION, METHOD = 'eg3d_unlearn.delta', '1', 'closed-form'
REVEALS = ('This file holds the latents of the people whom it erases. Whoever has the source network can show their faces with it. It is '
           'personal data: keep it as you keep photos of these people.')
MAX_BYTES = 64 << 20                 # of a file
MAX_HEADER = 1 << 20                 # bytes of its header, which are enough for 3,000 people
MAX_NUMBERS = 1 << 27                # of all tensors, with every layer counted
LARGEST = 1e12                       # a number beyond is no latent's
SAME = 1e-5                          # two photos that differ by less than this share of their distance from the mean are one
PARTS = ('photos', 'reach', 'move')  # of an `Erasure`
METADATA = {                         # what is in the metadata besides format and warning, and what it must look like
    'method': re.escape(METHOD), 'library_version': r'[0-9A-Za-z.+-]{1,40}', 'source_sha256': '[0-9a-f]{64}', 'num_ws': '[1-9][0-9]{0,3}',
    'people': '[1-9][0-9]{0,5}', 'ranks': r'[0-9]{1,6}(,[0-9]{1,6}){0,9999}', 'content_sha256': '[0-9a-f]{64}',
}


@dataclass(frozen=True)
class Delta:
    """The people who are erased from one network."""
    source_sha256: str               # of the file of the network that they are erased from
    w_avg: Tensor                    # [num_ws, w_dim] float64: its mean latent
    people: tuple[Erasure, ...]
    library_version: str = eg3d_unlearn.__version__

    def edit(self) -> LatentEdit:
        """The edit that erases all of them.  Raises InputError as `edit_of`."""
        return edit_of(self.people, self.w_avg)

    def ranks(self) -> list[int]:
        """Rank of the change that each layer's weights get; a single number where it is the same for all."""
        moves = torch.stack([one.move for one in self.people], dim=1)
        ranks = torch.linalg.matrix_rank(moves).tolist()
        return ranks[:1] if len(set(ranks)) == 1 else ranks

    def counted(self) -> str:
        return f'{len(self.people)} {"person" if len(self.people) == 1 else "people"}'

    def about(self) -> dict:
        """What it says of itself: never the latents."""
        people = [{'person': number, 'photos': len(one.photos), 'latents': 'W' if one.photos.eq(one.photos[:, :1]).all() else 'W+'}
                  for number, one in enumerate(self.people, 1)]
        return {'format': FORMAT, 'format_version': VERSION, 'library_version': self.library_version, 'method': METHOD,
                'source_sha256': self.source_sha256, 'people': people, 'ranks': self.ranks(), 'num_ws': self.w_avg.shape[0],
                'w_dim': self.w_avg.shape[1], 'reveals': REVEALS}


def merge(
    deltas: Sequence[Delta],
    names: Sequence[str] | None = None,  # what they are called in an error; None: by their number
) -> Delta:
    """All people of ``deltas``, in this order.

    Raises:
        InputError: deltas of different networks, somebody who is in them twice, or people who cannot be told apart.
    """
    names = [f'delta {number}' for number in range(1, len(deltas) + 1)] if names is None else names
    first = deltas[0]
    for delta, name in zip(deltas[1:], names[1:], strict=True):
        if delta.source_sha256 != first.source_sha256:
            raise InputError(f'{names[0]} and {name} are for different networks (SHA-256 {first.source_sha256[:16]}… and '
                             f'{delta.source_sha256[:16]}…). Deltas can be merged where all people were erased from the same source network.')
        if delta.w_avg.shape != first.w_avg.shape or not torch.allclose(delta.w_avg, first.w_avg, rtol=1e-5, atol=1e-5):
            raise InputError(f'{names[0]} and {name} have different mean latents, so they do not belong to one network. Make one of them again.')
    whole = [(f'person {number} of {name}', one)
             for delta, name in zip(deltas, names, strict=True) for number, one in enumerate(delta.people, 1)]
    for index, (mine, one) in enumerate(whole):
        for theirs, other in whole[:index]:
            if shares_a_photo(one, other):
                raise InputError(f'{theirs[0].upper()}{theirs[1:]} and {mine} share a photo: they are the same person. Leave one of them out, '
                                 'or withdraw that person from one of the files first.')
    merged = Delta(first.source_sha256, first.w_avg, tuple(one for _, one in whole))
    merged.edit()                    # nothing is joined that cannot be applied
    return merged


def shares_a_photo(one: Erasure, other: Erasure) -> bool:
    """Whether two people have a photo in common, by its latent."""
    mine, theirs = one.photos.flatten(1), other.photos.flatten(1)
    return bool((torch.cdist(mine, theirs, compute_mode='donot_use_mm_for_euclid_dist') <= SAME * mine.norm(dim=1, keepdim=True)).any())


def withdraw(delta: Delta, numbers: Collection[int]) -> Delta:
    """The delta without some of its people, who are counted from 1.

    Raises:
        InputError: nobody has this number, or nobody would be left.
    """
    for number in numbers:
        if not 1 <= number <= len(delta.people):
            raise InputError(f'There is no person {number}: the delta has {delta.counted()}, counted from 1.')
    left = tuple(one for number, one in enumerate(delta.people, 1) if number not in numbers)
    if not left:
        raise InputError('Nobody would be left in the delta. A network from which nobody is erased is the source network: use that instead.')
    return Delta(delta.source_sha256, delta.w_avg, left)


# ---- the file ----

def write_delta(path: str | Path, delta: Delta) -> None:
    """Write ``delta``, whole or not at all, readable by its owner only; the same delta gives the same bytes."""
    content = to_bytes(delta)
    write_whole(Path(path), lambda file: file.write(content), private=True)


def read_delta(path: str | Path) -> Delta:
    """The delta in a file.

    Raises:
        InputError: no such file, no delta, a damaged one, or one of another version.
    """
    content = read_bytes(path, 'delta', MAX_BYTES)
    try:
        return from_bytes(content)
    except InputError as error:
        raise InputError(f'The delta {shown(path, 300)} cannot be used: {error}') from None


def to_bytes(delta: Delta) -> bytes:
    """What a file of ``delta`` holds."""
    tensors = {'w_avg': one_layer(delta.w_avg, 0)}
    for number, one in enumerate(delta.people):
        tensors |= {f'person.{number}.{part}': one_layer(getattr(one, part), -2) for part in PARTS}
    metadata = {
        'format': FORMAT, 'format_version': VERSION, 'method': METHOD, 'library_version': delta.library_version,
        'source_sha256': delta.source_sha256, 'num_ws': str(len(delta.w_avg)), 'people': str(len(delta.people)),
        'ranks': ','.join(map(str, delta.ranks())), 'warning': REVEALS}
    metadata['content_sha256'] = checksum(metadata, tensors)
    content = safetensors.torch.save(tensors, metadata)
    # The library writes metadata in any order.
    size = int.from_bytes(content[:8], 'little')
    header = json.loads(content[8:8 + size])
    header['__metadata__'] = metadata
    return content[:8] + json.dumps(header, separators=(',', ':')).encode().ljust(size) + content[8 + size:]


def from_bytes(content: bytes) -> Delta:
    """The delta that a file holds; errors say what is wrong with 'it'."""
    metadata = metadata_of(content)
    check_metadata(metadata)
    people, num_ws = int(metadata['people']), int(metadata['num_ws'])
    try:
        tensors = safetensors.torch.load(content)
    except (SafetensorError, ValueError, OverflowError):
        raise InputError('it is no valid safetensors file. The file is damaged or incomplete.') from None
    check_tensors(tensors, people, num_ws)
    if checksum(metadata, tensors) != metadata['content_sha256']:
        raise InputError('its checksum is wrong. The file is damaged.')
    whole = {name: value.expand(*value.shape[:-2], num_ws, -1).contiguous() for name, value in tensors.items()}
    erased = tuple(Erasure(**{part: whole[f'person.{number}.{part}'] for part in PARTS}) for number in range(people))
    return Delta(metadata['source_sha256'], whole['w_avg'], erased, metadata['library_version'])


def metadata_of(content: bytes) -> object:
    """The metadata of a safetensors file, which the library does not hand out; the library should not read a header of any size."""
    size = int.from_bytes(content[:8], 'little')
    if len(content) < 8 or content[8:9] != b'{' or size > len(content) - 8:
        raise InputError('it is no safetensors file, or a part of it is missing.')
    if size > MAX_HEADER:
        raise InputError(f'its header has {size:,} bytes, far more than a delta needs (at most {MAX_HEADER:,}).')
    return parse_json(content[8:8 + size], 'its header', dict).get('__metadata__', {})


def check_metadata(metadata: object) -> None:
    """Refuse files of another kind or version, and facts that cannot be."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()) or metadata.get('format') != FORMAT:
        raise InputError(f'it is a safetensors file, but no delta of this library: its metadata does not say format={FORMAT}.')
    if metadata.get('format_version') != VERSION:
        raise InputError(f'its format has the version {shown(metadata.get("format_version"), 20)}, and this library (eg3d_unlearn '
                         f'{eg3d_unlearn.__version__}) reads version {VERSION}. Update the library.')
    for name, pattern in METADATA.items():
        if not re.fullmatch(pattern, metadata.get(name, '')):
            raise InputError(f'its metadata gives {name} as {shown(metadata.get(name), 80)}, which cannot be. The file is damaged.')


def check_tensors(tensors: dict[str, Tensor], people: int, num_ws: int) -> None:
    """Refuse shapes that do not fit each other, and numbers that no network's latents have."""
    if len(tensors) != 1 + len(PARTS) * people:
        raise InputError(f'it has {len(tensors)} tensors; {1 + len(PARTS) * people} were expected for {people} people. The file is damaged.')
    names = ['w_avg', *(f'person.{number}.{part}' for number in range(people) for part in PARTS)]
    for name in names:
        if name not in tensors:
            raise InputError(f'the tensor {name} is missing. The file is damaged.')
        if tensors[name].dtype != torch.float64:
            raise InputError(f'the tensor {name} does not consist of 64-bit floating-point numbers. The file is damaged.')
    w_dim = tensors['w_avg'].shape[-1] if tensors['w_avg'].dim() else 0
    expected: dict[str, tuple[int, ...]] = {'w_avg': ()}
    for number in range(people):
        photos = tensors[f'person.{number}.photos'].shape[:1]
        expected |= {f'person.{number}.{part}': () if part == 'move' else tuple(photos) for part in PARTS}
    for name, rows in expected.items():
        shape = tuple(tensors[name].shape)
        if shape not in ((*rows, 1, w_dim), (*rows, num_ws, w_dim)) or 0 in shape:
            raise InputError(f'the tensor {name} has the shape {list(shape)}, which does not fit the others and {num_ws} layers. The file is '
                             'damaged.')
    if sum(tensor.numel() // tensor.shape[-2] * num_ws for tensor in tensors.values()) > MAX_NUMBERS:
        raise InputError(f'its tensors have far more numbers than a delta needs (at most {MAX_NUMBERS:,}).')
    for name in names:
        if not (tensors[name].abs() < LARGEST).all():
            raise InputError(f'the tensor {name} holds numbers that are NaN, infinite or too large for a latent. The file is damaged.')


def one_layer(values: Tensor, axis: int) -> Tensor:   # [..., num_ws, w_dim] -> the same, or [..., 1, w_dim]
    """``values`` as they are stored: where all layers are the same, the first alone."""
    values = values.detach().cpu().double()
    first = values.narrow(axis, 0, 1)
    return (first if torch.equal(values, first.expand_as(values)) else values).contiguous().clone()


def checksum(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Hexadecimal SHA-256 of all that a file says, the checksum itself left out."""
    said = {name: value for name, value in metadata.items() if name != 'content_sha256'}
    digest = hashlib.sha256(json.dumps([said, {name: list(tensor.shape) for name, tensor in tensors.items()}], sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
