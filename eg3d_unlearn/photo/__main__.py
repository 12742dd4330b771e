"""Crops and camera labels for a folder of photos.

    python -m eg3d_unlearn.photo FILES... --outdir=DIR
"""
from __future__ import annotations

import json
from pathlib import Path

import click

from eg3d_unlearn.config import PICTURES, pictures_at
from eg3d_unlearn.console import PATH, command
from torch_utils_ext.atomic_file import replacing
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm

LABELS, SHEET = 'dataset.json', 'contact-sheet.png'
SHOWN = 60                           # photos on the contact sheet


@command()
@click.argument('files', nargs=-1, required=True, type=PATH, metavar='FILES...')
@click.option('--outdir', help='Folder for the crops (NAME.png), dataset.json and contact-sheet.png.', type=PATH, metavar='DIR', required=True)
@click.option('--crop', help="Which crop: EG3D's (512 pixels, with camera labels), FFHQ's for StyleGAN (1024), or ArcFace's template (112).", type=click.Choice(['eg3d', 'ffhq', 'arcface']), default='eg3d', show_default=True)
@click.option('--face', help='Which face of a photo, counted from the left from 1.  [default: the largest]', type=click.IntRange(min=1), metavar='INT')
@click.option('--aligned', help='The pictures are crops already: take them as they are.', is_flag=True)
def main(files: tuple[str, ...], outdir: str, crop: str, face: int | None, aligned: bool) -> None:
    """Find the face in each photo, cut it out as the networks were trained to see it, and solve its camera.

    FILES are pictures or folders of pictures. A file that fails gets a line that says why; the others go on. Nothing that
    is there already is overwritten. The exit code is 1 when every file failed.

    \b
    Examples:
      python -m eg3d_unlearn.photo holiday.jpg --outdir=crops
      python -m eg3d_unlearn.photo photos/ --outdir=crops --crop=ffhq
      python -m eg3d_unlearn.photo group.jpg --face=3 --outdir=crops
    """
    paths, folder = pictures_of(files), Path(outdir)
    check_free(paths, folder)
    done = prepare_all(paths, folder, crop, face, aligned)
    click.echo(f'{done} of {len(paths)} photos are ready{f" in {folder}" if done else ""}.')
    if done > SHOWN:
        click.echo(f'{SHEET} shows the first {SHOWN} of them.')
    if not done:
        raise SystemExit(1)


def pictures_of(files: tuple[str, ...]) -> list[Path]:
    """The pictures that ``files`` names, those of folders in the order of their names."""
    paths: list[Path] = []
    for file in map(Path, files):
        inside = pictures_at(file)
        if not inside:
            raise InputError(f'The folder {file} holds no picture ({", ".join(PICTURES)}).')
        paths += [path for path in inside if path not in paths]
    return paths


def check_free(paths: list[Path], folder: Path) -> None:
    """Refuse two photos with one name, and anything that would be overwritten, before any work."""
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f'Several photos are called {", ".join(twice)}; their crops would be too. Rename them, or use several folders.')
    if folder.exists() and not folder.is_dir():
        raise InputError(f'--outdir={folder} is a file, expected a folder.')
    taken = [name for name in (*(f'{name}.png' for name in names), LABELS, SHEET) if (folder / name).exists()]
    if taken:
        raise InputError(f'{folder / taken[0]} is there already{f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""} and is not '
                         'overwritten. Choose another --outdir.')


def prepare_all(paths: list[Path], folder: Path, crop: str, face: int | None, aligned: bool) -> int:
    """Crops, labels and sheet; how many photos went well."""
    # Heavy imports only when there is work to do.
    from eg3d_unlearn.photo import read_image
    from eg3d_unlearn.photo.prepare import prepare
    from eg3d_unlearn.photo.sheet import contact_sheet, entry
    labels, entries, done = [], [], 0
    bar = tqdm(paths, desc='photos', unit='photo', dynamic_ncols=True)
    for path in bar:
        try:
            photo = read_image(path)
            prepared = prepare(photo, crop, face, aligned)
        except InputError as error:
            bar.write(f'FAILED {error}' if str(path) in str(error) else f'FAILED {path}: {error}')
            continue
        done += 1
        bar.write(f'{path}: {"; ".join(prepared.notes)}.')
        folder.mkdir(parents=True, exist_ok=True)
        name = f'{path.stem}.png'
        write_picture(folder / name, prepared.image)
        if prepared.camera is not None:
            labels.append([name, [round(number, 6) for number in prepared.camera[0].tolist()]])
        if len(entries) < SHOWN:
            entries.append(entry(path.name, photo, prepared))
    if labels:
        # EG3D's own format; readers look a label up by name, so a photo that failed shifts nothing.
        with replacing(folder / LABELS) as file:
            file.write(json.dumps({'labels': labels}).encode())
    if entries:
        write_picture(folder / SHEET, contact_sheet(entries))
    return done


def write_picture(path: Path, image) -> None:
    with replacing(path) as file:
        image.save(file, format='png')


if __name__ == '__main__':
    main()
