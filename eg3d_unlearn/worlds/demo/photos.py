"""Sets of photos of people of the demo world, each rendered once and kept on disk."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.worlds.demo import heads, scene
from eg3d_unlearn.worlds.demo import people as population
from eg3d_unlearn.worlds.demo.people import IDENTITY, RANGES, People, nuisances
from torch_utils_ext.progress import tqdm

CHUNK = 20                            # people whose photos are one file
WORTH_COMPILING = 500                 # pictures; for fewer, compiling takes longer than it saves


class PhotoSet(NamedTuple):
    """P people, K photos of each, every one with its own camera, expression and light."""

    images: Tensor                    # [P, K, 3, H, H] uint8
    attributes: Tensor                # [P, len(IDENTITY)] float32, -1 to 1
    nuisance: Tensor                  # [P, K, len(NUISANCE)] float32, -1 to 1
    cameras: Tensor                   # [P, K, 25] float32, EG3D camera labels


def to_bytes(images: Tensor) -> Tensor:
    """Pictures in -1 to 1 as uint8."""
    return ((images + 1) * 127.5).round().clamp(0, 255).byte()


def to_floats(images: Tensor) -> Tensor:
    """uint8 pictures as float32 in -1 to 1."""
    return images.float() / 127.5 - 1


def photo_set(
    kind: str,                        # of the `RANGES`
    people: int,                      # P
    photos: int,                      # K, of each person
    seed: int,                        # of the people and of how they are photographed
    resolution: int = 64,             # pixels along each side
    cache: str | Path = '.',          # folder; the set becomes a folder in it
) -> PhotoSet:
    """Render the photos that the cache does not hold yet; a killed run goes on after the last whole file."""
    who = population.people(kind, people, seed)
    folder = Path(cache) / f'{kind}-{seed}-{people}x{photos}-{resolution}px-{look()}'
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob('.*.part'):
        left.unlink()
    nuisance, cameras, images = [], [], []
    starts = range(0, people, CHUNK)
    missing = [start for start in starts if not _path(folder, start).exists()]
    if len(missing) * CHUNK * photos >= WORTH_COMPILING:
        compile_if_possible()
    with tqdm(total=min(len(missing) * CHUNK, people) * photos, unit='photo', desc=folder.name, dynamic_ncols=True,
              disable=not missing) as bar:
        for start in starts:
            count = min(CHUNK, people - start) * photos
            # The two draws must not share a seed: both are uniform numbers.
            number = RANGES.index(kind) * 1_000_000_000 + seed * 1_000_000 + 2 * start
            nuisance.append(nuisances(count, number).unflatten(0, (-1, photos)))
            cameras.append(scene.cameras_at_random(count, number + 1).unflatten(0, (-1, photos)))
            if start in missing:
                shown = _render(who[start : start + CHUNK], nuisance[-1], cameras[-1], resolution, bar)
                write_whole(_path(folder, start), lambda file, shown=shown: np.save(file, shown.numpy()))
            images.append(torch.from_numpy(np.load(_path(folder, start))))
    return PhotoSet(torch.cat(images), who.attributes[:, : len(IDENTITY)], torch.cat(nuisance), torch.cat(cameras))


@functools.cache
def look() -> str:
    """Checksum of the code that photos come from: those of an earlier look must not be taken for new ones."""
    sources = [Path(module.__file__).read_bytes() for module in (population, heads, scene)]
    return hashlib.sha256(b''.join(sources)).hexdigest()[:8]


def compile_if_possible() -> None:
    """`scene.compile_people` where a C++ compiler is found; without one, pictures take four times as long."""
    compiled = scene._distance is not heads.distance
    if not compiled and any(shutil.which(name) for name in (os.environ.get('CXX', ''), 'g++', 'clang++') if name):
        scene.compile_people()


def _path(folder: Path, start: int) -> Path:
    return folder / f'people-{start:05d}.npy'


def _render(
    who: People,                      # P of them
    nuisance: Tensor,                 # [P, K, len(NUISANCE)]
    cameras: Tensor,                  # [P, K, 25]
    resolution: int,
    bar: tqdm,                        # moved on by one a photo
) -> Tensor:                          # [P, K, 3, H, H] uint8
    images = []
    for i in range(len(who)):
        for k in range(nuisance.shape[1]):
            person = who[i : i + 1].posing(nuisance[i, k : k + 1])
            images.append(to_bytes(scene.render(person, cameras[i, k : k + 1], resolution).image[0]))
            bar.update()
    return torch.stack(images).unflatten(0, nuisance.shape[:2])
