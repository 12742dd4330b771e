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
    f,  # None (identity), a number, [taps] (made square unless `separable`) or [height, width]
    device: torch.device | str | None = None,  # None: torch's default device
    normalize: bool = True,  # scale to sum 1
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,  # None: keep one dimension from 8 taps on
) -> Tensor:
    """Filter for :func:`upfirdn2d`: [height, width] or, separable, [taps], float32."""
    # On the CPU: the few taps cost nothing there, while torch's meta device would import a compiler for them, a second of work.
    f = torch.as_tensor(1 if f is None else f, dtype=torch.float32, device='cpu')
    if f.ndim > 2 or f.numel() == 0:
        raise ValueError(f'a filter has 0 to 2 dimensions and at least one tap, got the shape {tuple(f.shape)}')
    f = f.reshape(1) if f.ndim == 0 else f
    if separable is None:
        separable = f.ndim == 1 and f.numel() >= 8
    if separable and f.ndim == 2:
        raise ValueError('a separable filter is given as one row of taps')
    if f.ndim == 1 and not separable:
        f = torch.outer(f, f)
    if normalize:
        f = f / f.sum()
    if flip_filter:
        f = f.flip(tuple(range(f.ndim)))
    return (f * gain ** (f.ndim / 2)).to(torch.get_default_device() if device is None else device)


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


def filter2d(x: Tensor, f: Tensor | None, padding=0, flip_filter: bool = False, gain: float = 1) -> Tensor:
    """Filter at the same resolution; ``padding`` is added to what keeps the size."""
    return upfirdn2d(x, f, padding=around(f, padding), flip_filter=flip_filter, gain=gain)


def upsample2d(x: Tensor, f: Tensor | None, up=2, padding=0, flip_filter: bool = False, gain: float = 1) -> Tensor:
    """[N, C, H, W] -> [N, C, H * up, W * up], brightness kept."""
    up = pair(up)
    gain = gain * up[0] * up[1]
    return upfirdn2d(x, f, up=up, padding=around(f, padding, up=up), flip_filter=flip_filter, gain=gain)


def downsample2d(x: Tensor, f: Tensor | None, down=2, padding=0, flip_filter: bool = False, gain: float = 1) -> Tensor:
    """[N, C, H, W] -> [N, C, H / down, W / down]."""
    down = pair(down)
    padding = around(f, padding, down=down)
    return upfirdn2d(x, f, down=down, padding=padding, flip_filter=flip_filter, gain=gain)


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


def around(f: Tensor | None, padding=0, up=(1, 1), down=(1, 1)) -> tuple[int, int, int, int]:
    """``padding`` plus what centres the filter on the picture when it is resampled by ``up`` or by ``down``."""
    width, height = (1, 1) if f is None else (f.shape[-1], f.shape[0])
    x0, x1, y0, y1 = sides(padding)
    for size, factor_up, factor_down, axis in ((width, up[0], down[0], 0), (height, up[1], down[1], 1)):
        before, after = (size + factor_up - 1) // 2, (size - factor_up) // 2
        if factor_up == 1:
            before, after = (size - factor_down + 1) // 2, (size - factor_down) // 2
        if axis == 0:
            x0, x1 = x0 + before, x1 + after
        else:
            y0, y1 = y0 + before, y1 + after
    return x0, x1, y0, y1


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
