"""What methods other than GUIDE do to the gradients, between a step's loss and the optimiser; nothing for GUIDE.

Everything that re-weights GUIDE's terms or chooses another target is a preset (`presets.PRESETS`).
"""
from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor, nn

from eg3d_unlearn.config import TrainingOptions
from eg3d_unlearn.unlearning.loss import UnlearningLoss
from eg3d_unlearn.unlearning.training_loop import that_fits

Parameters = dict[str, nn.Parameter]  # what learns, by name
Masks = dict[nn.Parameter, Tensor]   # [...] bool, of each weight tensor

SAMPLES, STREAM = 16, -2             # random people that the Fisher information is averaged over, and the stream of their draws
PASSES, FIRST = 4, 1_000_000         # gradients that saliency is told from, and their steps' numbers, which no training reaches


def make_rule(
    options: TrainingOptions,
    loss: UnlearningLoss,            # before its first step: G_u is still G_s
    parameters: Parameters,
    log: Callable[[str], None] = lambda message: None,
) -> Callable[[], None]:
    """What is done to the gradients after each step's are there.  A resumed run has its weights back only after this, so that it is the same."""
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()} if options.lambda_ewc else {}
    fisher = fisher_information(parameters, loss) if options.lambda_ewc else {}
    salient = salient_weights(parameters, options.saliency, loss, log) if options.saliency < 1 else {}
    pruned = prune(parameters, options.prune) if options.prune else {}

    @torch.no_grad()
    def rule() -> None:
        for name, parameter in parameters.items():
            if options.lambda_l1:
                add(parameter, l1_gradient(parameter, options.lambda_l1))
            if options.lambda_ewc:
                add(parameter, elastic_gradient(parameter, start[name], fisher[name], options.lambda_ewc))
            # Masks come last: what they hold still nothing else moves.
            for masks in (salient, pruned):
                if parameter in masks and parameter.grad is not None:
                    parameter.grad.mul_(masks[parameter])
    return rule


def add(parameter: nn.Parameter, gradient: Tensor) -> None:
    """Also where the losses do not reach the weight."""
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def l1_gradient(weight: Tensor, lambda_l1: float) -> Tensor:   # [...] -> [...]
    """Of γ ||θ||_1: Model Sparsity Can Simplify Machine Unlearning (arXiv 2304.04934, l1-sparse MU, Eq. 5)."""
    return lambda_l1 * weight.sign()


def elastic_gradient(weight: Tensor, start: Tensor, fisher: Tensor, lambda_ewc: float) -> Tensor:   # each [...] -> [...]
    """Of λ Σ_i F_i (θ_i - θ0_i)²: weights that other people's pictures depend on are held where they were.

    Source: Overcoming Catastrophic Forgetting (arXiv 1612.00796, Eq. 3), as SUGAR uses it (arXiv 2512.06562).
    """
    return 2 * lambda_ewc * fisher * (weight - start)


def fisher_information(parameters: Parameters, loss: UnlearningLoss) -> dict[str, Tensor]:
    """The diagonal of F at the source network, for pictures with Gaussian noise: E[(∂(r·x)/∂θ)²] with r ~ N(0, I).

    It is scaled to a mean of 1, so that λ means the same for every network.
    """
    fisher = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    generator = loss.g_u
    for number in range(SAMPLES):
        rng = loss.rng(number, STREAM)
        backbone = generator.backbone(generator.sample(1, rng))
        # In 3D all that a camera sees of a person passes through the tri-planes.
        seen = backbone.features[0] if backbone.image is None else backbone.image
        noise = torch.randn(seen.shape, generator=rng, device=rng.device).to(seen)
        gradients = torch.autograd.grad((seen * noise).sum(), list(parameters.values()), allow_unused=True)
        for total, gradient in zip(fisher.values(), gradients, strict=True):
            if gradient is not None:
                total += gradient.square()
    mean = sum(total.sum() for total in fisher.values()) / sum(total.numel() for total in fisher.values())
    return {name: total / mean for name, total in fisher.items()}


def salient_weights(
    parameters: Parameters,
    share: float,                    # of all weights together, 0 to 1
    loss: UnlearningLoss,            # while G_u equals G_s its global term has no gradient: what is left is the forgetting
    log: Callable[[str], None] = lambda message: None,
) -> Masks:
    """The weights that matter for forgetting, where its gradient at the source network is largest: only they learn.

    Source: SalUn, Empowering Machine Unlearning via Gradient-based Weight Saliency (arXiv 2310.12508, Eq. 3).
    """
    def clear() -> None:
        for parameter in parameters.values():
            parameter.grad = None

    def gather() -> None:
        for number in range(PASSES):
            loss.accumulate_gradients(FIRST + number)
    that_fits(gather, loss, clear, log)
    sizes = {parameter: parameter.grad.abs() for parameter in parameters.values() if parameter.grad is not None}
    clear()
    least = threshold(list(sizes.values()), share)
    return {parameter: size >= least for parameter, size in sizes.items()}


def threshold(sizes: list[Tensor], share: float) -> float:
    """The number that the ``share`` of largest entries reaches."""
    every = torch.cat([size.flatten() for size in sizes])
    return every.kthvalue(len(every) - max(1, int(share * len(every))) + 1).values.item()


@torch.no_grad()
def prune(parameters: Parameters, share: float) -> Masks:
    """Set the ``share`` of smallest weights of each layer to zero; where the masks hold their gradients, Adam leaves them there.

    Source: arXiv 2304.04934, "prune first, then unlearn", by magnitude. Biases and single numbers stay: they are few, and a network
    without them is not a sparse one.
    """
    masks = {parameter: kept(parameter, share) for parameter in parameters.values() if parameter.dim() >= 2}
    for parameter, mask in masks.items():
        parameter.mul_(mask)
    return masks


def kept(weight: Tensor, share: float) -> Tensor:     # [...] -> [...] bool
    """Which weights stay: all but the ``share`` of smallest magnitude."""
    count = int(share * weight.numel())
    if count == 0:
        return torch.ones_like(weight, dtype=torch.bool)
    return weight.abs() > weight.abs().flatten().kthvalue(count).values
