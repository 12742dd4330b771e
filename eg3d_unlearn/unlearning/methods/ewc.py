"""Elastic weight consolidation: weights that other people's pictures depend on are held where they were.

Source: Overcoming Catastrophic Forgetting (arXiv 1612.00796, Eq. 3), as SUGAR uses it (arXiv 2512.06562):
λ Σ_i F_i (θ_i - θ0_i)².
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from eg3d_unlearn.unlearning.loss import UnlearningLoss

SAMPLES = 16                         # random people that the Fisher information is averaged over
STREAM = -2                          # of their draws


class ElasticWeights:
    """Adds the gradient of the penalty; F is scaled to a mean of 1, so that λ means the same for every network."""

    def __init__(self, parameters: dict[str, nn.Parameter], lambda_ewc: float, loss: UnlearningLoss):
        self.parameters, self.lambda_ewc = list(parameters.values()), lambda_ewc
        self.start = [parameter.detach().clone() for parameter in self.parameters]
        self.fisher = fisher_information(self.parameters, loss)

    @torch.no_grad()
    def __call__(self) -> None:
        for parameter, start, fisher in zip(self.parameters, self.start, self.fisher, strict=True):
            penalty = 2 * self.lambda_ewc * fisher * (parameter - start)
            parameter.grad = penalty if parameter.grad is None else parameter.grad + penalty


def fisher_information(parameters: list[nn.Parameter], loss: UnlearningLoss) -> list[Tensor]:
    """The diagonal of F at the source network, for pictures with Gaussian noise: E[(∂(r·x)/∂θ)²] with r ~ N(0, I).

    While it is summed up no weight moves: it is G_s's, not that of a network on its way.
    """
    fisher = [torch.zeros_like(parameter) for parameter in parameters]
    generator = loss.g_u
    for number in range(SAMPLES):
        rng = loss.rng(number, STREAM)
        backbone = generator.backbone(generator.sample(1, rng))
        # In 3D all that a camera sees of a person passes through the tri-planes.
        seen = backbone.features[0] if backbone.image is None else backbone.image
        noise = torch.randn(seen.shape, generator=rng, device=rng.device).to(seen)
        gradients = torch.autograd.grad((seen * noise).sum(), parameters, allow_unused=True)
        for total, gradient in zip(fisher, gradients, strict=True):
            if gradient is not None:
                total += gradient.square()
    mean = sum(total.sum() for total in fisher) / sum(total.numel() for total in fisher)
    return [total / mean for total in fisher]
