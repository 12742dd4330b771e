"""Only the weights that matter for forgetting learn.

Source: SalUn, Empowering Machine Unlearning via Gradient-based Weight Saliency (arXiv 2310.12508, Eq. 3): the mask is where the
forgetting loss's gradient at the source network is largest.
"""
from __future__ import annotations

from typing import Callable

import torch
from torch import nn

from eg3d_unlearn.unlearning.loss import UnlearningLoss
from eg3d_unlearn.unlearning.training_loop import that_fits

PASSES = 4                           # gradients that the mask is made from
FIRST = 1_000_000                    # their steps' numbers, which no training reaches


class Saliency:
    """Masks the gradient of all weights but the ``share`` of most salient ones."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        share: float,                # of all weights together, 0 to 1
        loss: UnlearningLoss,        # while G_u equals G_s its global term has no gradient: what is left is the forgetting
        log: Callable[[str], None] = lambda message: None,
    ):
        def clear() -> None:
            for parameter in parameters.values():
                parameter.grad = None

        def gather() -> None:
            for number in range(PASSES):
                loss.accumulate_gradients(FIRST + number)
        # A resumed run has its parameters back only after this, so that its mask is the same.
        that_fits(gather, loss, clear, log)
        gradients = {parameter: parameter.grad for parameter in parameters.values() if parameter.grad is not None}
        bar = threshold([gradient for gradient in gradients.values()], share)
        self.masks = {parameter: gradient.abs() >= bar for parameter, gradient in gradients.items()}
        clear()

    def __call__(self) -> None:
        for parameter, mask in self.masks.items():
            if parameter.grad is not None:
                parameter.grad.mul_(mask)


def threshold(gradients: list[torch.Tensor], share: float) -> float:
    """The magnitude that the ``share`` of largest entries reaches."""
    sizes = torch.cat([gradient.abs().flatten() for gradient in gradients])
    count = max(1, int(share * len(sizes)))
    return sizes.kthvalue(len(sizes) - count + 1).values.item()
