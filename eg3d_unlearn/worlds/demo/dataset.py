"""A data set of photos of demo people in NVIDIA's format, with the truth about them beside it.

    python -m eg3d_unlearn.worlds.demo.dataset --people=100 --photos=4 --range=training --outfile=photos.zip

`dataset.json` holds the cameras, where EG3D and StyleGAN look for labels; `people.json` tells who is on which photo and how
that person is made, which they ignore.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Iterable, Sequence

import click
import numpy as np
import torch

import eg3d_unlearn
from eg3d_unlearn.console import PATH, command
from eg3d_unlearn.person.photo import to_image
from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.worlds.demo import scene
from eg3d_unlearn.worlds.demo.people import ATTRIBUTES, IDENTITY, NUISANCE, ODDITIES, RANGES, nuisances, people
from torch_utils_ext.atomic_file import replacing
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm

LABELS, TRUTH = 'dataset.json', 'people.json'
PER_FOLDER = 1000                     # photos in each folder within the data set


class Photos:
    """Photos to be taken: each is a function of the options and its index alone."""

    def __init__(
        self,
        kind: str,                    # one of `people.RANGES`
        count: int,                   # people
        per_person: int,              # photos of each, which follow each other
        seed: int = 0,                # of people, cameras, expressions and lights
        resolution: int = 128,        # of a photo [pixels]
        max_yaw: float = scene.MAX_YAW,  # of the cameras, to either side [radians]
    ):
        self.options = {
            'range': kind, 'people': count, 'photos': per_person, 'seed': seed, 'resolution': resolution, 'max_yaw': max_yaw,
            'version': eg3d_unlearn.__version__,
        }
        # Draws of their own for cameras and faces: torch gives the same numbers for the same seed.
        faces, cameras = np.random.SeedSequence((RANGES.index(kind), seed)).generate_state(2).tolist()
        self.residents = people(kind, count, seed)
        self.person = torch.arange(count).repeat_interleave(per_person)
        self.people = self.residents[self.person].posing(nuisances(len(self.person), faces))
        self.cameras = scene.cameras_at_random(len(self.person), cameras, max_yaw)
        self.resolution = resolution

    def __len__(self) -> int:
        return len(self.person)

    def name(self, index: int) -> str:
        """Where NVIDIA's tools put the photo within the data set."""
        return f'{index // PER_FOLDER:05d}/img{index:08d}.png'

    def png(self, index: int) -> bytes:
        """The photo as an uncompressed png, which training reads fastest."""
        picture = scene.render(self.people[index : index + 1], self.cameras[index : index + 1], self.resolution)
        file = io.BytesIO()
        to_image(picture.image[0]).save(file, format='png', compress_level=0, optimize=False)
        return file.getvalue()

    def labels(self) -> bytes:
        """`dataset.json`: the camera of each photo, 25 numbers."""
        return as_json({'labels': [[self.name(i), camera] for i, camera in enumerate(self.cameras.tolist())]})

    def truth(self) -> bytes:
        """`people.json`: the options, the people by index, and who shows which face on each photo."""
        who, worn = self.residents.attributes[:, : len(IDENTITY)].tolist(), self.residents.oddities
        residents = [{'attributes': dict(zip(IDENTITY, values, strict=True))} for values in who]
        for resident, values in zip(residents, [] if worn is None else worn.tolist(), strict=worn is not None):
            resident['oddities'] = dict(zip(ODDITIES, values, strict=True))
        faces = self.people.attributes[:, len(IDENTITY) : len(ATTRIBUTES)].tolist()
        photos = [
            {'photo': self.name(i), 'person': person, **dict(zip(NUISANCE, face, strict=True))}
            for i, (person, face) in enumerate(zip(self.person.tolist(), faces, strict=True))
        ]
        return as_json({'options': self.options, 'people': residents, 'photos': photos})


def progress(missing: Sequence[int], photos: Photos) -> Iterable[int]:
    """The indices of the photos still to be taken, with a bar."""
    total = len(photos)
    return tqdm(missing, photos.options['range'], total, initial=total - len(missing), unit='photo', dynamic_ncols=True)


def as_json(content: dict) -> bytes:
    """One line for each entry of the lists, so that the files can be read by people as well."""
    parts = []
    for name, value in content.items():
        text = '[\n' + ',\n'.join(map(json.dumps, value)) + '\n]' if isinstance(value, list) else json.dumps(value)
        parts.append(f'{json.dumps(name)}: {text}')
    return ('{\n' + ',\n'.join(parts) + '\n}\n').encode()


def check_folder(path: Path, photos: Photos) -> None:
    """Refuse a folder that is finished, begun with other options, or used for something else; nothing is written."""
    if path.exists() and not path.is_dir():
        raise InputError(f'--outfile={path} is a file. Name a folder, or a file that ends in .zip.')
    if (path / LABELS).exists():
        raise InputError(f'--outfile={path} holds a finished data set, which is not overwritten. Choose another folder, or delete this one.')
    if not (path / TRUTH).exists():
        # Hidden files: what a kill left of the first one.
        if path.is_dir() and any(not entry.name.startswith('.') for entry in path.iterdir()):
            raise InputError(f'--outfile={path} is a folder with other things in it. Choose another folder.')
        return
    try:
        content = (path / TRUTH).read_bytes()
        before = json.loads(content)['options']
        changed = [f'{name}: {before.get(name)!r} then, {now!r} now' for name, now in photos.options.items() if before.get(name) != now]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise InputError(f'{path / TRUTH} cannot be read. Choose another --outfile.') from None
    if changed or content != photos.truth():
        reason = f'other options ({", ".join(changed)})' if changed else 'another version of this program'
        raise InputError(f'--outfile={path} was begun with {reason}. Run the same command to go on, or choose another folder.')


def make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'The folder {folder} cannot be made: {error.strerror}. Choose another --outfile.') from None


def write_folder(path: Path, photos: Photos) -> None:
    """The data set as a folder; photos that are there already are not taken again.  The labels come last and mark the end."""
    check_folder(path, photos)
    make(path)
    # First of all: what comes after it is ours, see `check_folder`.
    write_whole(path / TRUTH, lambda file: file.write(photos.truth()))
    for index in range(0, len(photos), PER_FOLDER):
        make((path / photos.name(index)).parent)
    for index in progress([i for i in range(len(photos)) if not (path / photos.name(i)).exists()], photos):
        png = photos.png(index)
        write_whole(path / photos.name(index), lambda file, png=png: file.write(png))
    write_whole(path / LABELS, lambda file: file.write(photos.labels()))


def write_zip(path: Path, photos: Photos) -> None:
    """The data set as an uncompressed zip, which appears whole or not at all; the same options give the same bytes."""
    if path.exists():
        raise InputError(f'--outfile={path} exists and is not overwritten. Delete it, or name another file.')
    make(path.parent)
    with replacing(path) as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
        def add(name: str, content: bytes) -> None:
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16    # without it unpacked files could not be read
            archive.writestr(entry, content)

        for index in progress(range(len(photos)), photos):
            add(photos.name(index), photos.png(index))
        add(TRUTH, photos.truth())
        add(LABELS, photos.labels())


def write(path: Path, photos: Photos) -> None:
    """Write the data set: as a zip where the name ends in .zip, else as a folder."""
    (write_zip if path.suffix.lower() == '.zip' else write_folder)(path, photos)


@command(stopped='Run the same command again to go on with a folder; a zip appears whole or not at all.')
@click.option('--people', 'count', help='How many people.', metavar='INT', type=click.IntRange(1, 10**6), required=True)
@click.option('--photos', 'per_person', help='Photos of each.', metavar='INT', type=click.IntRange(1, 10**4), default=1, show_default=True)
@click.option('--range', 'kind', help='Who they are.', type=click.Choice(RANGES), default='training', show_default=True)
# Ranges begin 10^9 apart, so that no seed of one range leads into another.
@click.option('--seed', help='Seed of every random draw.', metavar='INT', type=click.IntRange(0, 10**9), default=0, show_default=True)
@click.option('--resolution', help='Side of a photo [pixels]: 16, 32, ... 1024.', metavar='INT', type=int, default=128, show_default=True)
@click.option('--max-yaw', help='Largest yaw of the cameras, to either side [radians]; demo-stylegan2 has seen 0.4.', metavar='FLOAT', type=click.FloatRange(0, scene.MAX_YAW), default=scene.MAX_YAW, show_default=True)
@click.option('--outfile', help='Folder, or a zip. The same command on an unfinished folder goes on.', type=PATH, metavar='DIR|FILE.zip', required=True)
def main(count: int, per_person: int, kind: str, seed: int, resolution: int, max_yaw: float, outfile: str) -> None:
    """Take photos of people of the demo world, as a data set for NVIDIA's training scripts.

    Cameras, expressions and lights are random and uniform. The data set gets dataset.json with the cameras as EG3D's labels,
    and people.json with who is on which photo. A photo takes about a quarter of a second.

    \b
    Example:
      python -m eg3d_unlearn.worlds.demo.dataset --people=1000 --photos=2 --outfile=training.zip
    """
    if resolution not in (2**i for i in range(4, 11)):
        raise InputError(f"--resolution={resolution} is not a power of two from 16 to 1024, which NVIDIA's training scripts expect.")
    write(Path(outfile), Photos(kind, count, per_person, seed, resolution, max_yaw))
    click.echo(f'Wrote {count * per_person} photos of {count} people to {outfile}.')


if __name__ == '__main__':
    main()
