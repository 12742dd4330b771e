"""`'tuple' object is not callable`, missing `output_mask` or `grid_sampler_2d_backward is not implemented` in training.

Cause: `grid_sample_gradfix`, which augmentation needs for second gradients (R1), looks the backward operation up in a
way that PyTorch 1.11 and 1.12 changed; StyleGAN2-ADA switches itself off on every newer PyTorch.
Fix: where a second gradient fails, `grid_sample` is done by a pair of functions that use `torch.ops.aten`.
Report: https://github.com/NVlabs/stylegan3/issues/145, /188;
https://github.com/NVlabs/stylegan2-ada-pytorch/issues/195, /223
"""

from __future__ import annotations

import functools
import warnings
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional as F


def needed() -> bool:
    """Tell whether the old look-up of the operation fails."""
    return not callable(torch._C._jit_get_operation('aten::grid_sampler_2d_backward'))


def concerns(module: ModuleType) -> bool:
    has_op = hasattr(module, 'grid_sample') and hasattr(module, '_GridSample2dBackward')
    return has_op and not _has_second_gradients(module)


def apply(module: ModuleType) -> None:
    original = module.grid_sample

    @functools.wraps(original)
    def grid_sample_if_enabled(
        input: Tensor,  # [N, C, H, W] float
        grid: Tensor,   # [N, H', W', 2] float, in [-1, 1]
    ) -> Tensor:        # [N, C, H', W']
        return Sample.apply(input, grid) if module.enabled else original(input, grid)

    module.grid_sample = grid_sample_if_enabled


def _has_second_gradients(module: ModuleType) -> bool:
    """Try the module's `grid_sample`, enabled, on 2 x 2 pixels."""
    before, module.enabled = module.enabled, True
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter('ignore')
            image = torch.ones([1, 1, 2, 2], requires_grad=True)
            grid = torch.zeros([1, 2, 2, 2])
            gradient, = torch.autograd.grad(module.grid_sample(image, grid).square().sum(), image, create_graph=True)
            gradient.sum().backward()
        return True
    except (RuntimeError, TypeError, AttributeError, IndexError):
        return False
    finally:
        module.enabled = before


class Sample(torch.autograd.Function):
    """Bilinear sampling, zero outside: linear in the image, so its adjoint is all that its gradient needs."""

    @staticmethod
    def forward(ctx, image: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(image, grid)
        return F.grid_sample(image, grid, mode='bilinear', padding_mode='zeros', align_corners=False)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return Adjoint.apply(gradient, *ctx.saved_tensors)


class Adjoint(torch.autograd.Function):
    """The gradients of `Sample` for image and grid.  Can be derived again for the gradient that it is given."""

    @staticmethod
    def forward(ctx, gradient: Tensor, image: Tensor, grid: Tensor) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(grid)
        wanted = (True, ctx.needs_input_grad[2])
        # 0, 0, False: bilinear, zero padding, corners not aligned.
        return torch.ops.aten.grid_sampler_2d_backward(gradient, image, grid, 0, 0, False, wanted)

    @staticmethod
    def backward(ctx, image_part: Tensor, grid_part: Tensor | None) -> tuple[Tensor, None, None]:
        if ctx.needs_input_grad[2]:
            raise RuntimeError('second gradients of grid_sample are known for the image only, not for the grid')
        return Sample.apply(image_part, *ctx.saved_tensors), None, None
