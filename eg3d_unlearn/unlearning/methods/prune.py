"""Prune first, then unlearn: the smallest weights of each layer are set to zero and stay there.

Source: Model Sparsity Can Simplify Machine Unlearning (arXiv 2304.04934, "prune first, then unlearn", by magnitude).
"""
from __future__ import annotations

import torch
from torch import Tensor, nn


class Pruning:
    """Zeroes a share of each weight tensor at once; its gradient is masked from then on, so that Adam leaves it at zero."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        share: float,                # of each layer's weights, 0 to 1
    ):
        # Biases and single numbers are not pruned: they are few, and a network without them is not a sparse one.
        self.masks = {parameter: kept(parameter, share) for parameter in parameters.values() if parameter.dim() >= 2}
        with torch.no_grad():
            for parameter, mask in self.masks.items():
                parameter.mul_(mask)

    def __call__(self) -> None:
        for parameter, mask in self.masks.items():
            if parameter.grad is not None:
                parameter.grad.mul_(mask)


@torch.no_grad()
def kept(weight: Tensor, share: float) -> Tensor:     # [...] -> [...] bool
    """Which weights stay: all but the ``share`` of smallest magnitude."""
    count = int(share * weight.numel())
    if count == 0:
        return torch.ones_like(weight, dtype=torch.bool)
    return weight.abs() > weight.abs().flatten().kthvalue(count).values
