"""``before-after.png`` of a run: the person and some other people, before and after."""
from __future__ import annotations

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch
from torch import Tensor

from eg3d_unlearn.evaluation.summary import OTHERS_DRAWN, Views
from eg3d_unlearn.person.photo import to_image

Block = list[tuple[str, list[Tensor]]]  # rows of pictures with their titles
LABEL = 22                           # height of a title [pixels]


def draw_sheet(before: Views, after: Views, photos: Tensor | None = None, warning: str | None = None) -> PIL.Image.Image:
    """The person before, the target if there is one, the person after; beside them other photos of the person; below them
    some of the other people.

    ``photos`` [1 + K, 3, H, W]: the photos themselves, the erased one first, where they may be shown.  ``warning`` stands
    above all.
    """
    person: Block = [(title, row) for title, row in (('before', before.source), ('the target', before.target), ('after', after.source)) if row]
    if photos is not None:
        blank = torch.ones_like(photos[:1])
        person = [(title, [photos[:1] if index == 0 else blank, *row]) for index, (title, row) in enumerate(person)]
        person[0] = ('the photo; before', person[0][1])
    beside: Block = []
    if before.other_photos:
        beside = [('the same person, before', before.other_photos), ('after', after.other_photos)]
        if photos is not None:
            beside.insert(0, ('other photos of the person', list(photos[1:].split(1))))
    others: Block = [(title, shown.others[:OTHERS_DRAWN]) for title, shown in (('other people, before', before), ('after', after))]
    size = max(96, min(256, before.source[0].shape[-1]))
    top, gap = [person, beside], size // 4
    widths = [max((len(row) for _, row in block), default=0) * size for block in top]
    width = max(sum(widths) + gap * bool(beside), len(others[0][1]) * size, 3 * size)
    height, head = size + LABEL, LABEL * bool(warning)
    paper = PIL.Image.new('RGB', (width, head + (max(map(len, top)) + len(others)) * height), 'white')
    if warning:
        PIL.ImageDraw.Draw(paper).text((6, 3), warning, fill='#b00000', font=PIL.ImageFont.load_default(12))
    left = 0
    for block, block_width in zip(top, widths, strict=True):
        paste(paper, block, left, head, size)
        left += block_width + gap
    paste(paper, others, 0, head + max(map(len, top)) * height, size)
    return paper


def paste(paper: PIL.Image.Image, block: Block, left: int, top: int, size: int) -> None:
    """Draw rows of pictures, ``size`` pixels each, with their titles above them."""
    draw, font = PIL.ImageDraw.Draw(paper), PIL.ImageFont.load_default(14)
    for row, (title, images) in enumerate(block):
        y = top + row * (size + LABEL)
        draw.text((left + 6, y + 3), title, fill='black', font=font)
        for column, image in enumerate(images):
            tile = to_image(image[0]).resize((size, size), PIL.Image.Resampling.LANCZOS)
            paper.paste(tile, (left + column * size, y + LABEL))
