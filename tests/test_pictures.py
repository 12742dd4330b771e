"""Pictures of a comparison: maps in colour, overlays, sizes."""
from __future__ import annotations

import base64
import io

import numpy as np
import PIL.Image
import torch

from eg3d_unlearn.evaluation import pictures


def test_maps_in_colour():
    values = torch.tensor([[0.0, 0.5], [1.0, 2.0]])
    low, high = (np.asarray(decoded(pictures.heat(values, 0, 1)))[at] for at in ((0, 0), (1, 1)))
    assert tuple(low) == pictures.RAMP[0] and tuple(high) == pictures.RAMP[-1]
    assert pictures.heat(values, 0, 1, size=16).width == 16
    before, after = torch.full([3, 4, 4], -1.0), torch.full([3, 4, 4], 1.0)
    assert torch.equal(pictures.difference(before, after), torch.ones(4, 4)) and pictures.difference(before, before).max() == 0


def test_the_ramp_reads_without_colours():
    """Lightness rises along it, so that grey printers and colour-blind eyes see the same order."""
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in pictures.RAMP]
    assert all(b - a > 25 for a, b in zip(lightness, lightness[1:], strict=False))


def decoded(picture):
    return PIL.Image.open(io.BytesIO(base64.b64decode(picture.uri.split(',', 1)[1])))


def test_large_pictures_are_made_smaller():
    picture = pictures.photograph(torch.rand(3, 700, 700) * 2 - 1)
    assert (picture.width, picture.height) == (512, 512) and picture.uri.startswith('data:image/jpeg;base64,')
