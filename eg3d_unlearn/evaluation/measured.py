"""Figures of a page: how alike people are before and after, by every recogniser, against what is usual between two people."""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from eg3d_unlearn.evaluation import estimate
from eg3d_unlearn.evaluation.evidence import Embed, Evidence
from eg3d_unlearn.evaluation.metrics.settings import Settings
from eg3d_unlearn.evaluation.metrics.verification import Impostors, impostors

SAMPLES = 5                          # independent ones from which on an interval means something
DIRECTIONS = 3                       # random people towards whom neighbours lie
ERASED = ('same_photo', 'other_photos', 'neighbours')    # groups that are to change
KEPT = ('strangers', 'other_people')                      # groups that are to stay


@dataclass
class Pair:
    """The same latents, from the same cameras, by both networks."""
    before: Tensor                   # [N, 3, H, W] in -1 to 1
    after: Tensor                    # [N, 3, H, W]
    depth_before: Tensor | None      # [N, 1, h, w] world units, 3D networks
    depth_after: Tensor | None
    distance: Tensor                 # [N] of the latent from the erased one, units of W+

    @staticmethod
    def join(pairs: list[Pair]) -> Pair:
        """One pair of all."""
        depths = [None if pairs[0].depth_before is None else torch.cat(part) for part in
                  ([pair.depth_before for pair in pairs], [pair.depth_after for pair in pairs])]
        return Pair(torch.cat([pair.before for pair in pairs]), torch.cat([pair.after for pair in pairs]), *depths,
                    distance=torch.cat([pair.distance for pair in pairs]))


@torch.no_grad()
def figures_of(
    evidence: Evidence,
    groups: dict[str, Pair | None],  # 'same_photo' (one latent, all views) and those of `ERASED` and `KEPT` that there are
    photographed: Pair | None,       # the erased latent from the photo's own camera
    protocol: dict,                  # how the pictures were made
    settings: Settings,              # how the verification threshold is fitted
) -> dict:
    """What ``report.json`` gains: likeness by each recogniser, LPIPS, how far the change reaches."""
    groups = {name: pair for name, pair in groups.items() if pair is not None}
    result: dict = {'measured_by': None, 'trained_with': evidence.trained_with, 'protocol': {
        **protocol, 'interval_from': SAMPLES, 'false_accept_rate': settings.false_accepts, 'other_photos': count(groups, 'other_photos'),
        'strangers': count(groups, 'strangers')}}
    if evidence.judges.perceptual is not None:
        result['lpips'] = {name: apart(evidence, pair, name, protocol['seed']) for name, pair in groups.items()}
    if not evidence.recognisers:
        return result
    result['measured_by'] = evidence.measuring[0]
    embedded = {name: {group: tuple(embed_all(embed, images, evidence.device) for images in (pair.before, pair.after))
                       for group, pair in groups.items()} for name, embed in evidence.recognisers.items()}
    # The one that decides comes first.
    names = sorted(evidence.recognisers, key=lambda name: name != result['measured_by'])
    result['likeness'] = {name: likeness(embedded[name], impostors(evidence, name, settings, half=False), protocol['seed']) for name in names}
    deciding = result['likeness'][result['measured_by']]
    # Exact distances to people whom a seed gives would tell where the erased latent lies.
    result['reach'] = {name: [list(point) for point in estimate.coarse(pair.distance, torch.tensor(deciding[name]['values']))]
                       for name, pair in groups.items()}
    if photographed is not None:
        photo = evidence.person.images[:1]
        for name, embed in evidence.recognisers.items():
            seen = embed_all(embed, torch.cat([photo.cpu(), photographed.before, photographed.after]), evidence.device)
            result['likeness'][name]['photo'] = {'before': round((seen[0] @ seen[1]).item(), 5), 'after': round((seen[0] @ seen[2]).item(), 5)}
    if len(evidence.recognisers) > 1:
        result['agreement'] = agreement(result['likeness'])
    return result


def count(groups: dict[str, Pair], name: str) -> int:
    return len(groups[name].before) if name in groups else 0


def rounded(values: Tensor, digits: int = 5) -> list[float]:
    return [round(value, digits) for value in values.tolist()]


def embed_all(embed: Embed, images: Tensor, device: torch.device, batch: int = 32) -> Tensor:   # [N, 3, H, W] -> [N, D]
    return torch.cat([embed(part.to(device)).float().cpu() for part in images.split(batch)])


def likeness(
    embedded: dict[str, tuple[Tensor, Tensor]],  # of each group the unit vectors [N, D] before and after
    others: Impostors,               # what two different people have
    seed: int,
) -> dict:
    """Cosines before against after, of each group, and what two different people have."""
    threshold, (low, high) = round(others.threshold, 5), others.usual
    result: dict = {'different_people': {'mean': round(others.different_people.value, 5), 'low': round(low, 5), 'high': round(high, 5),
                                         'pairs': others.pairs, 'people': others.people, 'threshold': threshold}}
    for group, (before, after) in embedded.items():
        values = (before * after).sum(1)
        recognised = values >= threshold
        result[group] = {**mean_of(values, group, seed).to_json(), 'lowest': round(values.min().item(), 5),
                         'highest': round(values.max().item(), 5), 'recognised': int(recognised.sum()), 'of': len(values),
                         'values': rounded(values)}
        if group == 'other_people':
            result[group]['share_recognised'] = estimate.fraction(recognised, seed).to_json()
    return result


def mean_of(values: Tensor, group: str, seed: int) -> estimate.Estimate:
    """The mean of a group; views of one latent are one sample.  Few samples know nothing of their spread: no interval."""
    samples = {'same_photo': 1, 'neighbours': DIRECTIONS}.get(group, len(values))
    found = estimate.mean(values.unflatten(0, (samples, -1)), seed)
    return found if samples >= SAMPLES else dataclasses.replace(found, low=found.value, high=found.value)


@torch.no_grad()
def apart(evidence: Evidence, pair: Pair, group: str, seed: int) -> dict:
    """LPIPS before against after."""
    perceptual, values = evidence.judges.perceptual, []
    for before, after in zip(pair.before.split(8), pair.after.split(8), strict=True):
        features = [perceptual.features(part.to(evidence.device)) for part in (before, after)]
        values.append(perceptual.compare(*features).float().cpu())
    return mean_of(torch.cat(values), group, seed).to_json()


def agreement(likenesses: dict[str, dict]) -> list[dict]:
    """How far each two recognisers agree: share of pictures with the same verdict, each at its own threshold; correlation."""
    groups = [group for group in ERASED + KEPT if all(group in found for found in likenesses.values())]
    columns = {name: torch.tensor([value for group in groups for value in found[group]['values']]) for name, found in likenesses.items()}
    verdicts = {name: values >= likenesses[name]['different_people']['threshold'] for name, values in columns.items()}
    return [{'recognisers': [a, b], 'pictures': len(columns[a]), 'same_verdict': int((verdicts[a] == verdicts[b]).sum()),
             'correlation': round(torch.corrcoef(torch.stack([columns[a], columns[b]]))[0, 1].item(), 4)}
            for a, b in combinations(likenesses, 2)]
