"""The network's utility: what became of people whom nobody asked to forget.

The state follows Wilson's interval of the share of random and control people whom the recogniser still takes for
themselves, G_s against G_u at the same latent: all of it below a half, the network is ruined; below nine tenths, damaged.
Kept is who was recognised in nine tenths in fact; where only the interval reaches so far, it is left open.
"""
from __future__ import annotations

import torch
from torch import Tensor

from eg3d_unlearn.evaluation import estimate
from eg3d_unlearn.evaluation.audit.context import Audit, faces
from eg3d_unlearn.evaluation.audit.sentences import interval, number
from eg3d_unlearn.evaluation.detection import found_in
from eg3d_unlearn.evaluation.likeness import cosines, lpips
from eg3d_unlearn.judges.judges import alignment_of
from eg3d_unlearn.judges.verification import FALSE_ACCEPTS, pairs_of

RUINED, DAMAGED = 0.5, 0.9           # shares of people who are still recognised
OPENINGS = {
    'ruined': 'THE NETWORK WAS RUINED: forgetting was bought with everybody, and the tiers below say little about the person; only',
    'damaged': 'Other people were damaged:',
    'open': 'Other people were not shown to be kept, nor to be damaged:',
    'kept': 'Other people were kept:',
}


@torch.no_grad()
def measure_utility(audit: Audit) -> dict:
    """The entry ``ruin`` of audit.json."""
    g_s, (_, embed) = audit.evidence.g_s, audit.evidence.measuring
    drawn = g_s.sample(audit.budget.random_people, torch.Generator().manual_seed(13 * audit.seed + 6))
    ws = torch.cat([drawn, *(subject.ws[:1] for subject in audit.subjects[1:])])
    shown = [audit.frontal(side.generator, ws, f'other people {side.name}').nan_to_num(0.0) for side in audit.sides]
    people = [faces(images, embed) for images in shown]
    alike = cosines(*people).nan_to_num(0.0)
    recognised = estimate.fraction(alike >= audit.threshold, audit.seed)
    result = {
        'state': state_of(recognised),
        'people': {'random': len(drawn), 'controls': len(ws) - len(drawn), 'controls_are': audit.kind_of_controls},
        'recognised': recognised.to_json(),
        'identity': estimate.mean(alike, audit.seed, estimate.COSINE).to_json(),
        'identity_controls': estimate.mean(alike[len(drawn):], audit.seed, estimate.COSINE).to_json(),
        'lpips': estimate.mean(lpips(audit.perceptual, *shown), audit.seed, estimate.DISTANCE).to_json(),
        'different_people': dict(zip(('before', 'after'), (round(between(part), 4) for part in people), strict=True)),
        'detected': detected(audit, shown),
        'threshold': round(audit.threshold, 4),
    }
    return {**result, 'destroyed': result['state'] == 'ruined', 'verdict': say(result)}


def state_of(recognised: estimate.Estimate) -> str:
    return 'ruined' if recognised.high < RUINED else 'damaged' if recognised.high < DAMAGED else 'open' if recognised.value < DAMAGED else 'kept'


def between(people: Tensor) -> float:                  # [N, D]
    """What two different people have in common; near 1, all of them became one face, or noise."""
    return pairs_of(people @ people.T).nan_to_num(0.0).mean().item()


def detected(audit: Audit, shown: list[Tensor]) -> dict | None:
    """The share of pictures in which a face is found, before and after; None where pictures show no human faces."""
    config = audit.evidence.config
    if audit.evidence.made_up_world is not None or config.aligned or alignment_of(config, audit.evidence.g_s) == 'full':
        return None
    found = (found_in(part.clamp(-1, 1)) for part in shown)
    return {name: estimate.fraction(part, audit.seed).to_json() for name, part in zip(('before', 'after'), found, strict=True)}


def say(result: dict) -> str:
    """One plain sentence; it comes first in the verdict."""
    share, people, different = result['recognised'], result['people'], result['different_people']
    sentence = (
        f'{OPENINGS[result["state"]]} {round(share["value"] * share["samples"])} of {share["samples"]} people whom nobody asked to forget '
        f'({people["random"]} random, {people["controls"]} {people["controls_are"]}) are still recognised at {100 * FALSE_ACCEPTS:g} % false '
        f'accepts; identity cosine before against after {interval(result["identity"])}, LPIPS {result["lpips"]["value"]:.3f}; two different '
        f'people have {number(different["after"])} in common ({number(different["before"])} before)')
    if found := result['detected']:
        sentence += f'; a face is found in {100 * found["after"]["value"]:.0f} % of pictures ({100 * found["before"]["value"]:.0f} % before)'
    return sentence + '.'
