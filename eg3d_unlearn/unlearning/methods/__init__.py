"""What methods other than GUIDE do beyond their presets: a rule for the gradient, or a target of their own.

Everything that re-weights GUIDE's terms or chooses another target is a preset (`presets.PRESETS`); a rule acts between the
gradient and the optimiser's step.
"""
from __future__ import annotations

from typing import Callable

from torch import nn

from eg3d_unlearn.config import TrainingOptions
from eg3d_unlearn.unlearning.loss import UnlearningLoss
from eg3d_unlearn.unlearning.methods.ewc import ElasticWeights
from eg3d_unlearn.unlearning.methods.prune import Pruning
from eg3d_unlearn.unlearning.methods.saliency import Saliency
from eg3d_unlearn.unlearning.methods.sparse import Sparsity

Rule = Callable[[], None]


def make_rule(
    options: TrainingOptions,
    loss: UnlearningLoss,            # before its first step: G_u is still G_s
    parameters: dict[str, nn.Parameter],  # what learns, by name
    log: Callable[[str], None] = lambda message: None,
) -> Rule:
    """What is done to the gradients after each step's are there; nothing for GUIDE."""
    rules: list[Rule] = []
    if options.lambda_l1:
        rules.append(Sparsity(parameters, options.lambda_l1))
    if options.lambda_ewc:
        rules.append(ElasticWeights(parameters, options.lambda_ewc, loss))
    # Masks come last: what they hold still no other rule moves.
    if options.saliency < 1:
        rules.append(Saliency(parameters, options.saliency, loss, log))
    if options.prune:
        rules.append(Pruning(parameters, options.prune))

    def apply() -> None:
        for rule in rules:
            rule()
    return apply
