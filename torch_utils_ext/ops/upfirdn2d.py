"""Resampling of pictures: insert zeros, pad, filter with a small kernel, keep every n-th pixel.

Same arguments and results as the operation of this name in NVIDIA's code.  In plain PyTorch the filter is a depthwise
convolution, and inserting zeros before it is a depthwise transposed convolution: measured on a CPU, both are several
times faster than the same thing with explicit zeros, shifted sums or bilinear interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils_ext import upstream
from torch_utils_ext.ops.autocast import without_autocast


def setup_filter(
    f,  # None (identity), a number, [taps] or [height, width]
) -> Tensor:
    """Filter for :func:`upfirdn2d`, scaled to sum 1: [height, width] or, from 8 taps on, one row [taps] for both axes; float32."""
    # On the CPU: the few taps cost nothing there, while torch's meta device would import a compiler for them, a second of work.
    f = torch.as_tensor(1 if f is None else f, dtype=torch.float32, device='cpu')
    if f.ndim > 2 or f.numel() == 0:
        raise ValueError(f'a filter has 0 to 2 dimensions and at least one tap, got the shape {tuple(f.shape)}')
    f = f.reshape(1) if f.ndim == 0 else f
    if f.ndim == 1 and f.numel() < 8:
        f = torch.outer(f, f)
    return (f / f.sum()).to(torch.get_default_device())


def upfirdn2d(
    x: Tensor,  # [N, C, H, W] floating point
    f: Tensor | None,  # from setup_filter
    up: int | Sequence[int] = 1,  # one number, or (x, y)
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,  # after inserting zeros: one number, (x, y) or (x0, x1, y0, y1); negative crops
    flip_filter: bool = False,  # False: convolution; True: correlation
    gain: float = 1,
) -> Tensor:  # [N, C, (H * up + y0 + y1 - height) // down + 1, same for W], dtype of x
    """Insert ``up - 1`` zeros after each pixel, pad, filter, keep every ``down``-th pixel."""
    kernel = upstream.kernel('upfirdn2d', x)
    if kernel is not None:
        return kernel(x, f, up=up, down=down, padding=padding, flip_filter=flip_filter, gain=gain)
    (up_x, up_y), (down_x, down_y), (x0, x1, y0, y1) = pair(up), pair(down), sides(padding)
    if f is None:
        f = torch.ones([1, 1], device=x.device)
    f = f * gain ** (f.ndim / 2)
    if f.ndim == 2:
        return _filter(x, f, (up_y, up_x), (down_y, down_x), (x0, x1, y0, y1), flip_filter)
    x = _filter(x, f[None, :], (1, up_x), (1, down_x), (x0, x1, 0, 0), flip_filter)
    return _filter(x, f[:, None], (up_y, 1), (down_y, 1), (0, 0, y0, y1), flip_filter)


def upsample2d(x: Tensor, f: Tensor, up: int = 2) -> Tensor:
    """[N, C, H, W] -> [N, C, H * up, W * up], brightness kept."""
    return upfirdn2d(x, f, up=up, padding=around(f, up), gain=up * up)


def around(
    f: Tensor | None,  # from setup_filter
    up: int,
    padding: int = 0,
) -> tuple[int, int, int, int]:  # (x0, x1, y0, y1)
    """``padding`` plus what centres the filter on the picture when it is upsampled."""
    sizes = (1, 1) if f is None else (f.shape[-1], f.shape[0])
    x0, x1, y0, y1 = (padding + cut for size in sizes for cut in ((size + up - 1) // 2, (size - up) // 2))
    return x0, x1, y0, y1


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """(x, y) of a number or of a pair."""
    x, y = (value, value) if isinstance(value, int) else value
    return int(x), int(y)


def sides(padding: int | Sequence[int]) -> tuple[int, int, int, int]:
    """(x0, x1, y0, y1) of a number, (x, y) or four numbers."""
    if isinstance(padding, int):
        return (padding,) * 4
    if len(padding) == 2:
        x, y = padding
        return int(x), int(x), int(y), int(y)
    x0, x1, y0, y1 = padding
    return int(x0), int(x1), int(y0), int(y1)


def _filter(
    x: Tensor,  # [N, C, H, W]
    f: Tensor,  # [height, width]
    up: tuple[int, int],  # (y, x), the order of PyTorch's convolutions from here on
    down: tuple[int, int],
    padding: tuple[int, int, int, int],  # (x0, x1, y0, y1)
    flip_filter: bool,
) -> Tensor:
    channels = x.shape[1]
    zeros_inserted = up != (1, 1)
    if flip_filter == zeros_inserted:  # conv2d correlates; conv_transpose2d spreads each pixel with the filter as it is
        f = f.flip((0, 1))
    if f.numel() == 1 and not zeros_inserted:
        return F.pad(x, padding)[:, :, :: down[0], :: down[1]] * f.to(x.dtype)
    f = f.to(x.dtype)[None, None].repeat(channels, 1, 1, 1)
    with without_autocast(x):  # the filter keeps the precision of its input
        if not zeros_inserted:
            padding, inside = _symmetric_part(padding)
            return F.conv2d(_pad(x, padding), f, stride=down, padding=inside, groups=channels)
        # The transposed convolution gives every pixel that the zero-filled picture can reach; what lies beyond is cut.
        x0, x1, y0, y1 = padding
        height, width = f.shape[2:]
        cut = (width - 1 - x0, width - up[1] - x1, height - 1 - y0, height - up[0] - y1)
        cut, inside = _symmetric_part(cut)
        y = F.conv_transpose2d(x, f, stride=up, padding=inside, groups=channels)
        return _pad(y, tuple(-n for n in cut))[:, :, :: down[0], :: down[1]]


def _symmetric_part(padding: tuple[int, int, int, int]) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Split (x0, x1, y0, y1) into the rest and the (y, x) that a convolution does itself, without a copy."""
    x0, x1, y0, y1 = padding
    x, y = max(min(x0, x1), 0), max(min(y0, y1), 0)
    return (x0 - x, x1 - x, y0 - y, y1 - y), (y, x)


def _pad(x: Tensor, padding: tuple[int, ...]) -> Tensor:
    return F.pad(x, padding) if any(padding) else x
