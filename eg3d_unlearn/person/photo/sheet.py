"""A contact sheet of prepared photos: each photo with its crop, landmarks and axes of the head drawn in."""
from __future__ import annotations

import math

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from eg3d_unlearn.person.photo.detect import from_left
from eg3d_unlearn.person.photo.pose import MEAN_FACE, project
from eg3d_unlearn.person.photo.prepare import Prepared

TILE, LABEL, GAP = 256, 38, 8        # pixels
COLUMNS = 3                          # photos in a row, each with its crop
AXIS = 0.12                          # length of a drawn axis [world units]
AXES = (((1, 0, 0), (230, 60, 60)), ((0, 1, 0), (60, 200, 60)), ((0, 0, 1), (70, 120, 255)))  # x, y up, z out of the face
DOT, CROP_LINE, OTHER_LINE = (255, 220, 0), (0, 220, 220), (255, 255, 255)
WIDTH, HEIGHT = 2 * TILE + GAP, TILE + LABEL  # of an entry


def contact_sheet(entries: list[PIL.Image.Image]) -> PIL.Image.Image:
    """All entries in rows."""
    columns = min(COLUMNS, len(entries))
    rows = math.ceil(len(entries) / columns)
    sheet = PIL.Image.new('RGB', (columns * (WIDTH + GAP) + GAP, rows * (HEIGHT + GAP) + GAP), 'white')
    for index, tile in enumerate(entries):
        sheet.paste(tile, (GAP + index % columns * (WIDTH + GAP), GAP + index // columns * (HEIGHT + GAP)))
    return sheet


def entry(name: str, photo: PIL.Image.Image, prepared: Prepared) -> PIL.Image.Image:
    """A photo beside its crop, with a caption."""
    tile = PIL.Image.new('RGB', (WIDTH, HEIGHT), 'white')
    tile.paste(photo_tile(photo, prepared), (0, 0))
    tile.paste(crop_tile(prepared), (TILE + GAP, 0))
    font = PIL.ImageFont.load_default(12)
    PIL.ImageDraw.Draw(tile).multiline_text((0, TILE + 4), f'{name[:80]}\n{caption(prepared)}', fill='black', font=font)
    return tile


def caption(prepared: Prepared) -> str:
    pose = prepared.pose
    kind = f'{prepared.kind}, as it is' if prepared.aligned else prepared.kind
    return kind if pose is None else f'{kind}; {pose.angles()}'


def photo_tile(photo: PIL.Image.Image, prepared: Prepared) -> PIL.Image.Image:
    """The photo, small, with the crop's square and all faces."""
    scale = TILE / max(photo.size)
    small = photo.resize(tuple(max(1, round(length * scale)) for length in photo.size), PIL.Image.Resampling.BICUBIC, reducing_gap=3.0)
    tile = PIL.Image.new('RGB', (TILE, TILE), (235, 235, 235))
    offset = np.array([(TILE - small.width) // 2, (TILE - small.height) // 2])
    tile.paste(small, tuple(offset.tolist()))
    draw = PIL.ImageDraw.Draw(tile)
    if prepared.others:              # the numbers that --face takes
        for number, face in enumerate(from_left([prepared.face, *prepared.others]), 1):
            box = (np.array(face.box).reshape(2, 2) * scale + offset).ravel().tolist()
            draw.rectangle(box, outline=OTHER_LINE)
            draw.text((box[0] + 3, box[1] + 1), str(number), fill='white', stroke_width=2, stroke_fill='black',
                      font=PIL.ImageFont.load_default(14))
    corners = prepared.square.corners() * scale + offset
    draw.line([tuple(point) for point in np.concatenate([corners, corners[:1]]).tolist()], fill=CROP_LINE, width=2)
    return tile


def crop_tile(prepared: Prepared) -> PIL.Image.Image:
    """The crop with its landmarks, and the axes of the head where the pose is known."""
    tile = prepared.image.resize((TILE, TILE), PIL.Image.Resampling.LANCZOS)
    draw = PIL.ImageDraw.Draw(tile)
    if prepared.pose is not None:
        matrix = prepared.pose.label[0, :16].reshape(4, 4).double().numpy()
        origin = np.array([0.0, 0.0, MEAN_FACE[2, 2]])
        ends = project(np.stack([origin, *(origin + AXIS * np.array(axis) for axis, _ in AXES)]), matrix[:3, :3], matrix[:3, 3]) * TILE
        for end, (_, colour) in zip(ends[1:], AXES, strict=True):
            draw.line([tuple(ends[0]), tuple(end)], fill=colour, width=3)
    if prepared.landmarks is not None:
        for x, y in prepared.landmarks * TILE:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), outline='black', fill=DOT)
    return tile
