"""Crops and camera labels for a folder of photos.

    python -m eg3d_unlearn.person.photo FILES... --outdir=DIR
"""
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click

from eg3d_unlearn.config import borrow
from eg3d_unlearn.console import PATH, command
from eg3d_unlearn.person.photo.camera_labels import LABELS
from eg3d_unlearn.person.photo.files import SHEETS
from eg3d_unlearn.person.photo.folders import no_photo, pictures_at, sheets_at
from torch_utils_ext.atomic_file import replacing
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm
from torch_utils_ext.user_files import shown

SHOWN = 60                           # names in one sentence


@command()
@click.argument('files', nargs=-1, required=True, type=PATH, metavar='FILES...')
@click.option('--outdir', help='Folder for the crops (NAME.png), and dataset.json.', type=PATH, metavar='DIR', required=True)
@click.option('--crop', help="Which crop: EG3D's (512 pixels, with camera labels), or FFHQ's for StyleGAN (1024).", type=click.Choice(['eg3d', 'ffhq']), default='eg3d', show_default=True)
@borrow('face')
@borrow('aligned', help='The pictures are crops already: take them as they are.')
def main(files: tuple[str, ...], outdir: str, crop: str, face: int | None, aligned: bool) -> None:
    """Find the face in each photo, cut it out as the networks were trained to see it, and solve its camera.

    FILES are pictures or folders of pictures; hidden files and sheets that eg3d_unlearn made are no photos. A file that
    fails gets a line that says why; the others go on, and the exit code is 1 at the end. Nothing that is there already is
    overwritten.

    \b
    Examples:
      python -m eg3d_unlearn.person.photo holiday.jpg --outdir=crops
      python -m eg3d_unlearn.person.photo photos/ --outdir=crops --crop=ffhq
      python -m eg3d_unlearn.person.photo group.jpg --face=3 --outdir=crops
    """
    paths, folder = pictures_of(files), Path(outdir)
    check_free(paths, folder)
    failed = prepare_all(paths, folder, crop, face, aligned)
    done = len(paths) - len(failed)
    click.echo(f'{done} of {len(paths)} photos are ready{f" in {shown(folder, 300)}" if done else ""}.')
    if failed:
        more = f' and {len(failed) - SHOWN} more' if len(failed) > SHOWN else ''
        raise click.ClickException(f'{len(failed)} failed, for the reasons above: {", ".join(shown(path.name) for path in failed[:SHOWN])}{more}.')


def pictures_of(files: tuple[str, ...]) -> list[Path]:
    """The pictures that ``files`` names, those of folders in the order of their names."""
    paths: dict[Path, None] = {}
    for file in map(Path, files):
        if not (inside := pictures_at(file)):
            raise no_photo(file)
        if sheets := sheets_at(file):
            click.echo(f'Left out, since eg3d_unlearn made them of several pictures: {", ".join(sheets[:SHOWN])}.')
        paths |= dict.fromkeys(inside)
    return list(paths)


def check_free(paths: list[Path], folder: Path) -> None:
    """Refuse two photos with one name, and anything that would be overwritten, before any work."""
    names = [path.stem for path in paths]
    counts = Counter(map(str.casefold, names))           # file systems of Windows and macOS know no case
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise InputError(f'Several photos are called {", ".join(map(shown, twice[:10]))}; their crops would be too. Rename them, or use '
                         'several folders.')
    if ours := [name for name in names if f'{name}.png'.lower() in SHEETS]:
        raise InputError(f'A photo is called {ours[0]}, as a sheet that eg3d_unlearn makes. Rename it.')
    if folder.exists() and not folder.is_dir():
        raise InputError(f'--outdir={shown(folder, 300)} is a file, expected a folder.')
    taken = [name for name in (*(f'{name}.png' for name in names), LABELS) if (folder / name).exists()]
    if taken:
        raise InputError(f'{shown(folder / taken[0], 300)} is there already{f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""} and is not '
                         'overwritten. Choose another --outdir.')


def prepare_all(paths: list[Path], folder: Path, crop: str, face: int | None, aligned: bool) -> list[Path]:
    """Crops and labels; the photos that failed."""
    from eg3d_unlearn.person.photo.prepare import prepare_file  # heavy imports only when there is work to do
    labels, failed = [], []
    bar = tqdm(paths, desc='photos', unit='photo', dynamic_ncols=True)
    for path in bar:
        try:
            prepared = prepare_file(path, crop, face, aligned)
        except InputError as error:
            failed.append(path)
            bar.write(f'FAILED {error}')
            continue
        except Exception as error:   # a fault of ours that one photo brings out; the others are not to suffer
            failed.append(path)
            bar.write(f'FAILED {shown(path, 300)}: unexpected {type(error).__name__} ({shown(error)}). Please report it.')
            continue
        bar.write(f'{shown(path, 300)}: {"; ".join(prepared.notes)}.')
        folder.mkdir(parents=True, exist_ok=True)
        name = f'{path.stem}.png'
        with replacing(folder / name) as file:
            prepared.image.save(file, format='png')
        if prepared.camera is not None:
            labels.append([name, [round(number, 6) for number in prepared.camera[0].tolist()]])
    if labels:
        # EG3D's own format; readers look a label up by name, so a photo that failed shifts nothing.
        with replacing(folder / LABELS) as file:
            file.write(json.dumps({'labels': labels}).encode())
    return failed


if __name__ == '__main__':
    main()
