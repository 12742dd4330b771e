"""Leaky ReLU at a raised sampling rate: upsample, activate, low-pass, downsample.

Source: StyleGAN3 (arXiv 2106.12423), section 3.1 and figure 4b.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

from torch_utils_ext import upstream
from torch_utils_ext.ops.bias_act import bias_act
from torch_utils_ext.ops.upfirdn2d import upfirdn2d

AT_ONCE = 1 << 22                    # numbers of the upsampled picture, where no gradient is asked for: what a CPU's cache and memory like


def filtered_lrelu(
    x: Tensor,                       # [N, C, H, W] float32, float16 or float64
    fu: Tensor | None = None,        # upsampling filter, float32: [taps] along both axes, [taps, taps], None = none
    fd: Tensor | None = None,        # downsampling filter, likewise
    b: Tensor | None = None,         # [C] bias, dtype of x
    up: int = 1,
    down: int = 1,
    padding: int | list[int] = 0,    # samples of the upsampled picture: one for all, [x, y] or [left, right, top, bottom]
    gain: float = math.sqrt(2),
    slope: float = 0.2,              # of negative values; 1 = linear
    clamp: float | None = None,      # largest magnitude after the activation; None = no bound
    flip_filter: bool = False,       # False = convolution, True = correlation
) -> Tensor:                         # [N, C, H', W'], dtype of x
    """``down(fd * clamp(gain * lrelu(fu * up(x + b))))``.

    Negative padding crops.  The filters keep only what lies wholly inside:
    ``H' = ceil((H * up + top + bottom - (len(fu) - 1) - (len(fd) - 1)) / down)``.
    """
    kernel = upstream.kernel('filtered_lrelu', x)
    if kernel is not None:
        return kernel(x, fu, fd, b, up=up, down=down, padding=padding, gain=gain, slope=slope, clamp=clamp, flip_filter=flip_filter)
    channels = max(1, AT_ONCE // max(1, x[:, 0].numel() * up ** 2))
    if channels < x.shape[1] and not torch.is_grad_enabled() and x.device.type == 'cpu':
        # Channels have nothing to do with each other, and upsampled all at once they take gigabytes.
        biases = [None] * x.shape[1] if b is None else b.split(channels)
        return torch.cat([filtered_lrelu(part, fu, fd, bias, up, down, padding, gain, slope, clamp, flip_filter)
                          for part, bias in zip(x.split(channels, dim=1), biases, strict=False)], dim=1)
    x = bias_act(x, b)
    # Upsampling spreads each sample's energy over up * up cells, which the gain gives back.
    x = upfirdn2d(x, fu, up=up, padding=padding, flip_filter=flip_filter, gain=up ** 2)
    x = bias_act(x, act='lrelu', alpha=slope, gain=gain, clamp=clamp)
    return upfirdn2d(x, fd, down=down, flip_filter=flip_filter)
