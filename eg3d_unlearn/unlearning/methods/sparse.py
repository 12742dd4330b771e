"""An L1 penalty on the weights: sparse models forget better.

Source: Model Sparsity Can Simplify Machine Unlearning (arXiv 2304.04934, l1-sparse MU, Eq. 5).
"""
from __future__ import annotations

import torch
from torch import nn


class Sparsity:
    """Adds the gradient of γ ||θ||_1."""

    def __init__(self, parameters: dict[str, nn.Parameter], lambda_l1: float):
        self.parameters, self.lambda_l1 = list(parameters.values()), lambda_l1

    @torch.no_grad()
    def __call__(self) -> None:
        for parameter in self.parameters:
            penalty = self.lambda_l1 * parameter.sign()
            parameter.grad = penalty if parameter.grad is None else parameter.grad + penalty
