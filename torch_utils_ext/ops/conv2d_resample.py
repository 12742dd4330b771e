"""Convolution that may raise the resolution on the way, with a low-pass filter against aliasing."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from torch_utils_ext.ops.upfirdn2d import around, upfirdn2d


def conv2d_resample(
    x: Tensor,  # [N, C_in, H, W]
    w: Tensor,  # [C_out, C_in / groups, height, width], dtype of x
    f: Tensor | None = None,  # low-pass filter from setup_filter; read where ``up`` is above 1
    up: int = 1,
    padding: int = 0,  # of the picture after `up`
    groups: int = 1,
    flip_weight: bool = True,  # True: correlation, as torch's conv2d; False: convolution
) -> Tensor:  # [N, C_out, H * up, W * up] for the usual paddings
    """Upsample, filter with ``f``, correlate with ``w``.

    The cheapest order with the same result is taken: 1x1 kernels work at the lower resolution, and zeros of the
    upsampling are never multiplied (transposed convolution).
    """
    height, width = w.shape[2:]
    # A transposed convolution spreads its kernel as it is: what the others need turned, it needs as stored.
    turned = up > 1 and (height, width) != (1, 1)
    if flip_weight == turned:
        w = w.flip((2, 3))
    if up == 1:
        return F.conv2d(x, w, padding=padding, groups=groups)
    x0, x1, y0, y1 = around(f, up, padding)
    if not turned:
        return upfirdn2d(F.conv2d(x, w, groups=groups), f, up=up, padding=(x0, x1, y0, y1), gain=up * up)
    x = F.conv_transpose2d(x, _transposed(w, groups), stride=up, groups=groups)
    rest = (x0 - (width - 1), x1 - (width - up), y0 - (height - 1), y1 - (height - up))
    return upfirdn2d(x, f, padding=rest, gain=up * up)


def _transposed(w: Tensor, groups: int) -> Tensor:
    """[C_out, C_in / groups, h, w] -> [C_in, C_out / groups, h, w], the order of conv_transpose2d."""
    c_out, c_in = w.shape[:2]
    if groups == 1:
        return w.transpose(0, 1)
    w = w.unflatten(0, (groups, c_out // groups)).transpose(1, 2)
    return w.reshape(groups * c_in, c_out // groups, *w.shape[3:])
