"""Figures of a page: how alike people are before and after, by every recogniser, against what is usual between two people."""
from __future__ import annotations

import dataclasses
from itertools import combinations

import torch
from torch import Tensor

from eg3d_unlearn.evaluation import estimate
from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.evaluation.likeness import embedded, likeness, lpips
from eg3d_unlearn.evaluation.rendering import Pair
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.evaluation.verification import Impostors, impostors

SAMPLES = 5                          # independent ones from which on an interval means something
DIRECTIONS = 3                       # random people towards whom neighbours lie
ERASED = ('same_photo', 'other_photos', 'neighbours')    # groups that are to change
KEPT = ('strangers', 'other_people')                      # groups that are to stay


@torch.no_grad()
def figures_of(
    evidence: Evidence,
    groups: dict[str, Pair],         # 'same_photo' (one latent, all views) and those of `ERASED` and `KEPT` that there are
    photographed: Pair | None,       # the erased latent from the photo's own camera
    protocol: dict,                  # how the pictures were made
    settings: Settings,              # how the verification threshold is fitted
) -> dict:
    """What ``report.json`` gains: likeness by each recogniser, LPIPS, how far the change reaches."""
    result: dict = {'measured_by': None, 'trained_with': evidence.trained_with, 'protocol': {
        **protocol, 'interval_from': SAMPLES, 'false_accept_rate': settings.false_accepts, 'other_photos': count(groups, 'other_photos'),
        'strangers': count(groups, 'strangers')}}
    if evidence.judges.perceptual is not None:
        apart = {name: lpips(evidence.judges.perceptual, pair.before, pair.after, evidence.device) for name, pair in groups.items()}
        result['lpips'] = {name: mean_of(values, name, settings.seed).to_json() for name, values in apart.items()}
    if not evidence.recognisers:
        return result
    result['measured_by'] = evidence.measuring[0]
    # The one that decides comes first.
    names = sorted(evidence.recognisers, key=lambda name: name != result['measured_by'])
    result['likeness'] = {name: likenesses({group: likeness(evidence, name, pair, settings.cache) for group, pair in groups.items()},
                                           impostors(evidence, name, settings), settings.seed) for name in names}
    deciding = result['likeness'][result['measured_by']]
    # Exact distances to people whom a seed gives would tell where the erased latent lies.
    result['reach'] = {name: [list(point) for point in estimate.coarse(pair.distance, torch.tensor(deciding[name]['values']))]
                       for name, pair in groups.items()}
    if photographed is not None:
        seen = torch.cat([evidence.person.images[:1].cpu(), photographed.before, photographed.after])
        for name in names:
            photo, before, after = embedded(evidence, name, seen, settings.cache)
            result['likeness'][name]['photo'] = {'before': round((photo @ before).item(), 5), 'after': round((photo @ after).item(), 5)}
    if len(evidence.recognisers) > 1:
        result['agreement'] = agreement(result['likeness'])
    return result


def count(groups: dict[str, Pair], name: str) -> int:
    return len(groups[name].before) if name in groups else 0


def likenesses(
    cosines: dict[str, Tensor],      # [N] of each group, before against after
    others: Impostors,               # what two different people have
    seed: int,
) -> dict:
    """Cosines before against after, of each group, and what two different people have."""
    threshold, (low, high) = round(others.threshold, 5), others.usual
    result: dict = {'different_people': {'mean': round(others.different_people.value, 5), 'low': round(low, 5), 'high': round(high, 5),
                                         'pairs': others.pairs, 'people': others.people, 'threshold': threshold}}
    for group, values in cosines.items():
        recognised = values >= threshold
        result[group] = {**mean_of(values, group, seed).to_json(), 'lowest': round(values.min().item(), 5),
                         'highest': round(values.max().item(), 5), 'recognised': int(recognised.sum()), 'of': len(values),
                         'values': [round(value, 5) for value in values.tolist()]}
        if group == 'other_people':
            result[group]['share_recognised'] = estimate.fraction(recognised, seed).to_json()
    return result


def mean_of(values: Tensor, group: str, seed: int) -> estimate.Estimate:   # values [N]
    """The mean of a group; views of one latent are one sample.  Few samples know nothing of their spread: no interval."""
    samples = {'same_photo': 1, 'neighbours': DIRECTIONS}.get(group, len(values))
    found = estimate.mean(values.unflatten(0, (samples, -1)), seed)
    return found if samples >= SAMPLES else dataclasses.replace(found, low=found.value, high=found.value)


def agreement(likenesses: dict[str, dict]) -> list[dict]:
    """How far each two recognisers agree: share of pictures with the same verdict, each at its own threshold; correlation."""
    groups = [group for group in ERASED + KEPT if all(group in found for found in likenesses.values())]
    columns = {name: torch.tensor([value for group in groups for value in found[group]['values']]) for name, found in likenesses.items()}
    verdicts = {name: values >= likenesses[name]['different_people']['threshold'] for name, values in columns.items()}
    return [{'recognisers': [a, b], 'pictures': len(columns[a]), 'same_verdict': int((verdicts[a] == verdicts[b]).sum()),
             'correlation': round(torch.corrcoef(torch.stack([columns[a], columns[b]]))[0, 1].item(), 4)}
            for a, b in combinations(likenesses, 2)]
