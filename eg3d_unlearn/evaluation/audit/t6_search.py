"""T6: random search: of many random people the one who looks most like the photo."""
from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.audit.context import Audit, Side
from eg3d_unlearn.evaluation.audit.sentences import usual
from eg3d_unlearn.evaluation.audit.tier import Findings, Shown, Tier, curve_of


def attack(audit: Audit, budget: SimpleNamespace) -> Findings:
    """Of many samples the one that is most like the photo."""
    count = budget.samples
    ws = audit.evidence.g_s.sample(count, torch.Generator().manual_seed(3 * audit.seed + 2))
    pools = {side.name: seen(audit, side, ws) for side in audit.sides}
    at = [step for step in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000) if step < count] + [count]
    nearest: dict[str, list[list[Tensor]]] = {side.name: [] for side in audit.sides}

    def one(side, index, step):
        step()
        subject = audit.subjects[index]
        likeness = pools[side.name] @ audit.attacked_photo(subject)
        # The best of the first 1, 3, 10 ... samples.
        best = [likeness[:number].argmax() for number in at]
        nearest[side.name].append([ws[index, None] for index in best])
        return [Shown(audit.views(side.generator, ws[best[-1], None]), used=subject.attacked)]

    findings = audit.on_everybody(one, 'T6')
    findings.curve = curve_of(at, [[audit.likeness_at(audit.sides[1].generator, index, found, audit.subjects[index].attacked) for found in row]
                                   for index, row in enumerate(nearest['after'])])
    findings.details = {'samples': count}
    return findings


def seen(audit: Audit, side: Side, ws: Tensor) -> Tensor:  # [N, num_ws, w_dim] -> [N, D]
    """Random people from the front, as the attacker's recogniser sees them."""
    batches = audit.in_batches(ws, f'T6 samples {side.name}')
    return torch.cat([audit.seen_by_attacker(audit.frontal(side.light, some)) for some in batches])


TIER = Tier('T6', 'random search', 'has the network and one photo, and draws samples', attack,
            lambda result: usual(result, f'The nearest of {result["details"]["samples"]} random samples'),
            plain='drawing random faces until one fits',
            budgets={'quick': {'samples': 128}, 'standard': {'samples': 2000}, 'thorough': {'samples': 10000}}, spends='{samples} samples')
