"""Cutting a box out of pictures and bringing it to a size: differentiable, antialiased, to a fraction of a pixel."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Box(NamedTuple):
    """A rectangle in a picture, in fractions of its width and height; may reach beyond the picture."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0


FULL = Box()


def resample(
    images: Tensor,   # [N, C, H, W] float
    size: int,        # pixels, height = width of the result
    box: Box = FULL,  # part of the pictures that fills the result
) -> Tensor:          # [N, C, size, size] float32, same range
    """Bilinear resampling of ``box``, the triangle widened where pixels are lost, so that nothing aliases.

    Bilinear weights are the same for every row, so that the whole is two matrix products: exact at any fraction of a
    pixel, quick, and with a deterministic gradient on every device.  On the full box it equals
    ``F.interpolate(mode='bilinear', antialias=True)``.  Beyond its edge a picture goes on with its outermost pixels.
    """
    height, width = images.shape[2:]
    if box == FULL and height == width == size:
        return images.float()
    rows = _weights(height, size, box.top, box.bottom, images.device)
    columns = _weights(width, size, box.left, box.right, images.device)
    # Half precision would make the weights' sums differ from 1 by half a grey level.
    with torch.autocast(images.device.type, enabled=False):
        return rows @ (images.float() @ columns.T)


@lru_cache(maxsize=64)
def _weights(
    pixels: int,   # length of the input axis
    size: int,     # length of the output axis
    start: float,  # the interval that the output covers, in fractions of the input axis
    end: float,
    device: torch.device,
) -> Tensor:       # [size, pixels] float32, rows sum to 1
    with torch.inference_mode(False), torch.no_grad():
        step = (end - start) * pixels / size  # input pixels for one output pixel
        centres = start * pixels + (torch.arange(size, dtype=torch.float64) + 0.5) * step
        centres = centres.clamp(0.5, pixels - 0.5)
        taps = torch.arange(pixels, dtype=torch.float64) + 0.5
        weights = (1 - (taps - centres[:, None]).abs() / max(step, 1.0)).clamp(min=0)
        return (weights / weights.sum(1, keepdim=True)).float().to(device)
