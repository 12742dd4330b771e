"""A sheet of people of the demo world, seen from several sides.  Under each held-out person stands what ``--image`` calls them: demo:7.

    python -m eg3d_unlearn.worlds.demo.sheet --range=held-out --people=24 --views=3 --outfile=people.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import click
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch
from torch import Tensor

from eg3d_unlearn.console import PATH, command, refuse_existing
from eg3d_unlearn.person.photo import to_image, write_sheet
from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.worlds.demo import scene
from eg3d_unlearn.worlds.demo.people import RANGES, nuisances, people
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm

GAP = 2                               # between pictures [pixels]
ACROSS = 8                            # people side by side in a sheet
FONT_SIZES = range(11, 6, -1)         # of titles, the largest that fits is taken [pixels]
TITLE = 15                            # height of a line with titles [pixels]


def grid(
    images: Tensor,                   # [R, C, 3, H, W], -1 to 1
    row_titles: Sequence[str] | None = None,       # R of them, to the left of the rows
    column_titles: Sequence[str] | None = None,    # C of them, above the columns
) -> PIL.Image.Image:
    """Pictures in R rows and C columns on white, with small titles."""
    if images.ndim != 5 or images.shape[2] != 3:
        raise ValueError(f'images have shape {list(images.shape)}, expected [R, C, 3, H, W]')
    rows, columns, _, height, width = images.shape
    for titles, count in ((row_titles, rows), (column_titles, columns)):
        if titles is not None and len(titles) != count:
            raise ValueError(f'{len(titles)} titles for {count} rows or columns')
    font = PIL.ImageFont.load_default(FONT_SIZES[0])
    left = 0 if row_titles is None else round(max(font.getlength(title) for title in row_titles)) + 8
    top = 0 if column_titles is None else TITLE
    paper = PIL.Image.new('RGB', (left + columns * (width + GAP) - GAP, top + rows * (height + GAP) - GAP), 'white')
    draw = PIL.ImageDraw.Draw(paper)
    for row, title in enumerate(row_titles or ()):
        draw.text((left - 6, top + row * (height + GAP) + height / 2), title, fill='black', font=font, anchor='rm')
    for column, title in enumerate(column_titles or ()):
        title, fitted = _fitted(title, width)
        draw.text((left + column * (width + GAP) + width / 2, TITLE / 2), title, fill='black', font=fitted, anchor='mm')
    for row in range(rows):
        for column in range(columns):
            paper.paste(to_image(images[row, column]), (left + column * (width + GAP), top + row * (height + GAP)))
    return paper


def _fitted(title: str, width: int) -> tuple[str, PIL.ImageFont.FreeTypeFont]:
    """The title in the largest font in which it is at most ``width`` pixels wide, cut where even the smallest is too wide."""
    for size in FONT_SIZES:
        font = PIL.ImageFont.load_default(size)
        if font.getlength(title) <= width:
            return title, font
    while title and font.getlength(title + '...') > width:
        title = title[:-1]
    return title + '...', font


def stack(pages: Sequence[PIL.Image.Image]) -> PIL.Image.Image:
    """Pictures below each other on white, left-aligned."""
    gap = 3 * GAP
    paper = PIL.Image.new('RGB', (max(page.width for page in pages), sum(page.height + gap for page in pages) - gap), 'white')
    top = 0
    for page in pages:
        paper.paste(page, (0, top))
        top += page.height + gap
    return paper


def cameras_around(views: int) -> Tensor:
    """Camera labels [views, 25]: from one end of the yaws of photos to the other, now from above and now from below."""
    if views == 1:
        return scene.camera_at(0.0, 0.0)
    yaws = torch.linspace(-scene.MAX_YAW, scene.MAX_YAW, views).tolist()
    return torch.cat([scene.camera_at(yaw, scene.MAX_PITCH * (0, -1, 0, 1)[view % 4]) for view, yaw in enumerate(yaws)])


def sheet(
    kind: str,                        # one of `people.RANGES`
    count: int = 24,                  # people
    views: int = 3,                   # pictures of each, below each other
    first: int = 0,                   # number of the first one, as in ``--image=demo:7``
    resolution: int = 128,            # of a picture [pixels]
) -> PIL.Image.Image:
    """People of one range, `ACROSS` side by side, each from several sides and with another expression and light in each view."""
    cameras = cameras_around(views)
    images = torch.empty(views, count, 3, resolution, resolution)
    with tqdm(total=views * count, desc=kind, unit='picture', dynamic_ncols=True) as bar:
        for person in range(count):
            who, faces = people(kind, 1, seed=first + person), nuisances(views, seed=first + person)
            for view in range(views):
                posed = who.posing(faces[view : view + 1])
                images[view, person] = scene.render(posed, cameras[view : view + 1], resolution).image[0]
                bar.update()
    name = 'demo:' if kind == 'held-out' else f'{kind} '
    titles = [f'{name}{first + person}' for person in range(count)]
    blocks = range(0, count, ACROSS)
    return stack([grid(images[:, i : i + ACROSS], column_titles=titles[i : i + ACROSS]) for i in blocks])


@command()
@click.option('--range', 'kind', help='Whom to show.', type=click.Choice(RANGES), default='held-out', show_default=True)
@click.option('--people', 'count', help='How many people.', metavar='INT', type=click.IntRange(1, 1000), default=24, show_default=True)
@click.option('--views', help='Pictures of each.', metavar='INT', type=click.IntRange(1, 20), default=3, show_default=True)
@click.option('--first', help='Number of the first person; of held-out people that of --image=demo:7 of unlearn.py.', metavar='INT',
              type=click.IntRange(0, 999_999), default=0, show_default=True)
@click.option('--resolution', help='Side of a picture [pixels].', metavar='INT', type=click.IntRange(16, 1024), default=128, show_default=True)
@click.option('--outfile', help='The sheet, a png; an existing file is not overwritten.', type=PATH, metavar='FILE', required=True)
def main(kind: str, count: int, views: int, first: int, resolution: int, outfile: str) -> None:
    """Draw people of the demo world, each from several sides and with several expressions.

    \b
    Example:
      python -m eg3d_unlearn.worlds.demo.sheet --range=out-of-domain --people=16 --outfile=people.png
    """
    path = Path(outfile)
    if path.suffix.lower() != '.png':
        raise InputError(f'--outfile={outfile} does not end in .png. Name a png file.')
    refuse_existing(outfile)
    if not path.parent.is_dir():
        raise InputError(f'The folder of --outfile={outfile} is not there. Make it, or name another file.')
    paper = sheet(kind, count, views, first, resolution)
    write_whole(path, lambda file: write_sheet(file, paper))
    click.echo(f'Wrote {outfile} ({paper.width} x {paper.height} pixels).')


if __name__ == '__main__':
    main()
