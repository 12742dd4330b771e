"""Convolution that doubles or halves the resolution on the way, with a low-pass filter against aliasing."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from torch_utils_ext.ops.upfirdn2d import around, sides, upfirdn2d


def conv2d_resample(
    x: Tensor,  # [N, C_in, H, W]
    w: Tensor,  # [C_out, C_in / groups, height, width], dtype of x
    f: Tensor | None = None,  # low-pass filter from setup_filter
    up: int = 1,
    down: int = 1,
    padding=0,  # of the picture after `up`: a number, (x, y) or (x0, x1, y0, y1)
    groups: int = 1,
    flip_weight: bool = True,  # True: correlation, as torch's conv2d; False: convolution
    flip_filter: bool = False,
) -> Tensor:  # [N, C_out, H * up / down, W * up / down] for the usual paddings
    """Correlate with ``w``; ``up`` resamples before it and ``down`` after it, both filtered with ``f``.

    The cheapest order with the same result is taken: 1x1 kernels work at the lower resolution, and zeros of the
    upsampling are never multiplied (transposed convolution).
    """
    if up > 1 and down > 1:
        padding = around(f, padding, down=(down, down))
        x = conv2d_resample(x, w, f, up, 1, padding, groups, flip_weight, flip_filter)
        return upfirdn2d(x, f, down=down, flip_filter=flip_filter)
    # A transposed convolution spreads its kernel as it is: what the others need turned, it needs as stored.
    turned = up > 1 and w.shape[2:] != (1, 1)
    if flip_weight == turned:
        w = w.flip((2, 3))
    if up > 1:
        return _upsampling(x, w, f, up, around(f, padding, up=(up, up)), groups, flip_filter)
    if down > 1:
        return _downsampling(x, w, f, down, around(f, padding, down=(down, down)), groups, flip_filter)
    x0, x1, y0, y1 = sides(padding)
    if x0 == x1 >= 0 and y0 == y1 >= 0:
        return F.conv2d(x, w, padding=(y0, x0), groups=groups)
    return F.conv2d(F.pad(x, (x0, x1, y0, y1)), w, groups=groups)


def _upsampling(x, w, f, up, padding, groups, flip_filter) -> Tensor:
    height, width = w.shape[2:]
    if height == width == 1:
        x = F.conv2d(x, w, groups=groups)
        return upfirdn2d(x, f, up=up, padding=padding, flip_filter=flip_filter, gain=up * up)
    x = F.conv_transpose2d(x, _transposed(w, groups), stride=up, groups=groups)
    x0, x1, y0, y1 = padding
    rest = (x0 - (width - 1), x1 - (width - up), y0 - (height - 1), y1 - (height - up))
    return upfirdn2d(x, f, padding=rest, flip_filter=flip_filter, gain=up * up)


def _downsampling(x, w, f, down, padding, groups, flip_filter) -> Tensor:
    if w.shape[2] == w.shape[3] == 1:
        return F.conv2d(upfirdn2d(x, f, down=down, padding=padding, flip_filter=flip_filter), w, groups=groups)
    return F.conv2d(upfirdn2d(x, f, padding=padding, flip_filter=flip_filter), w, stride=down, groups=groups)


def _transposed(w: Tensor, groups: int) -> Tensor:
    """[C_out, C_in / groups, h, w] -> [C_in, C_out / groups, h, w], the order of conv_transpose2d."""
    c_out, c_in = w.shape[:2]
    if groups == 1:
        return w.transpose(0, 1)
    w = w.unflatten(0, (groups, c_out // groups)).transpose(1, 2)
    return w.reshape(groups * c_in, c_out // groups, *w.shape[3:])
