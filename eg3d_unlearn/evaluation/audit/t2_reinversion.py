"""T2: inverting again against the network itself: W from three starts, then W+ from the best of them and from latents of W+."""
from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.audit.context import Audit, Side
from eg3d_unlearn.evaluation.audit.sentences import usual
from eg3d_unlearn.evaluation.audit.subjects import Subject
from eg3d_unlearn.evaluation.audit.tier import Findings, Shown, Tier
from eg3d_unlearn.person.inversion.inverter import Inversion, reconstruction
from eg3d_unlearn.person.inversion.optimise import Optimisation
from eg3d_unlearn.unlearning.presets import FROM_ENCODER, FROM_MEAN
from torch_utils_ext.errors import InputError


def attack(audit: Audit, budget: SimpleNamespace) -> Findings:
    """One photo, inverted against the attacked network itself; the best of all starts counts."""
    won, failed, distances = Counter(), [0], {}

    def invert(side: Side, subject: Subject, space: str, start, steps: int, lr: float, step) -> Inversion:
        image, camera = subject.photo(subject.attacked)
        try:
            return Optimisation(space, steps=steps, lr=lr, seed=audit.seed)(
                side.light, image, camera, audit.perceptual, lambda *_: step(), start=start)
        except InputError:           # the optimisation diverged: the attacker is left with the start
            failed[0] += 1
            return Inversion(start, *reconstruction(side.light, start, image, camera, audit.perceptual))

    def one(side, index, step):
        subject = audit.subjects[index]
        starts = {'mean': audit.evidence.g_s.w_avg[None], 'w_source': subject.ws[:1], 'w_target': audit.target(subject.ws[:1])}
        ends = {name: invert(side, subject, 'w', start, budget.w_steps, FROM_MEAN['inversion_lr'], step) for name, start in starts.items()}
        if index == 0:
            distances[side.name] = {name: kept(distance(end)) for name, end in ends.items()}
        first = min(ends, key=lambda name: distance(ends[name]))
        # A latent whose layers differ is another face once it is brought into W: it is a start in W+ of its own.
        begins = {first: ends[first].ws, **{f'{name} in W+': start for name, start in starts.items() if layered(start)}}
        refined = {name: invert(side, subject, 'w+', start, budget.w_plus_steps, FROM_ENCODER['inversion_lr'], step)
                   for name, start in begins.items()}
        found = {f'{first}, w': ends[first], **{f'{name}, w+': end for name, end in refined.items()}}
        best = min(found, key=lambda name: distance(found[name]))
        won[f'{side.name}: {best}'] += 1
        return [Shown(audit.views(side.generator, found[best].ws), used=subject.attacked)]

    in_w_plus = sum(layered(subject.ws[:1]) for subject in audit.subjects[:1]) * 2
    findings = audit.on_everybody(one, 'T2', 3 * budget.w_steps + (1 + in_w_plus) * budget.w_plus_steps)
    findings.details = {'steps': {'w': budget.w_steps, 'w+': budget.w_plus_steps}, 'starts': ['mean', 'w_source', 'w_target'],
                        'starts_in_w+': 1 + in_w_plus,
                        'won': dict(won), 'failed': failed[0], 'lpips_in_w': distances}
    return findings


def layered(ws: Tensor) -> bool:       # [1, num_ws, w_dim]
    """Whether a latent lies outside W."""
    return not torch.allclose(ws, ws[:, :1].expand_as(ws), atol=1e-4)


def distance(found: Inversion) -> float:
    """What an attacker goes by: LPIPS to the photo; an end that is no picture is the worst."""
    return found.lpips.nan_to_num(torch.inf).item()


def kept(distance: float) -> float | None:
    """As audit.json holds it, which knows no infinity: None where the end is no picture."""
    return round(distance, 4) if math.isfinite(distance) else None


def say(result: dict) -> str:
    steps, starts = result['details']['steps'], result['details']['starts_in_w+']
    in_w_plus = f'{steps["w+"]} in W+' if starts == 1 else f'{starts} of {steps["w+"]} in W+'
    return usual(result, f'Inverting one photo against the network itself (3 starts of {steps["w"]} steps in W, {in_w_plus})')


TIER = Tier('T2', 're-inversion in W and W+', 'has the network, one photo, and knows what the method does (mean, w_source, w_target as '
            'starts)', attack, say, plain='letting the computer search the changed file for the face of a photo', telling=True,
            budgets={'quick': {'w_steps': 5, 'w_plus_steps': 8}, 'standard': {'w_steps': 50, 'w_plus_steps': 100},
                     'thorough': {'w_steps': 200, 'w_plus_steps': 400}},
            spends='3 x {w_steps} + {w_plus_steps} steps')
