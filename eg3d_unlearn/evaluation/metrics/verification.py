"""Would a recogniser take two pictures for one person?  Thresholds are fitted on people whom the network itself makes.

A threshold of the literature belongs to photos; on renders of one network, all in one style, two strangers are more alike.
Report, metrics and audit take theirs from `impostors`, with the same people and the same rate: one threshold for a network and a
recogniser, at a false-accept rate of `settings.FALSE_ACCEPTS`.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eg3d_unlearn.evaluation import estimate
from eg3d_unlearn.evaluation.estimate import Estimate
from eg3d_unlearn.evaluation.metrics.crowd import album, in_measured_views
from eg3d_unlearn.evaluation.metrics.looking import embedded
from eg3d_unlearn.evaluation.metrics.settings import Settings

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence


@dataclass
class Impostors:
    """Random people of G_s as one recogniser sees them."""
    threshold: float                 # cosine from which on two pictures count as one person
    people: int
    pairs: int
    different_people: Estimate         # cosine of two different people
    usual: tuple[float, float]       # between which 95 % of the pairs lie

    def to_json(self, false_accepts: float) -> dict:
        return {'threshold': self.threshold, 'false_accept_rate': false_accepts, 'impostor_pairs': self.pairs,
                'impostor_people': self.people, 'different_people': self.different_people}


def impostors(evidence: Evidence, recogniser: str, settings: Settings, half: bool) -> Impostors:
    """The verification threshold of one recogniser, from all pairs of random people as G_s shows them."""
    people = crowd_embeddings(evidence, recogniser, settings, settings.impostors, half)
    cosines = upper(people @ people.T)
    threshold = estimate.threshold_at(cosines, settings.false_accepts)
    usual = estimate.interval(cosines.double().numpy())
    return Impostors(threshold, len(people), len(cosines), mean_of_pairs(people @ people.T, settings.seed), usual)


def crowd_embeddings(evidence: Evidence, recogniser: str, settings: Settings, count: int, half: bool) -> Tensor:   # [N, D]
    """Random people of G_s, seen from the measured views."""
    crowd = in_measured_views(evidence.g_s, settings, count)
    pictures = album(evidence.g_s, crowd, settings, half, f'{count} random people: before')['pictures']
    return embedded(evidence, recogniser, pictures, settings)


def upper(cosines: Tensor) -> Tensor:                  # [N, N] -> [N (N - 1) / 2]
    """Each pair of different people once."""
    rows, columns = torch.triu_indices(len(cosines), len(cosines), offset=1)
    return cosines[rows, columns]


def mean_of_pairs(
    cosines: Tensor,                 # [N, N] of all pairs, symmetric
    seed: int = 0,
) -> Estimate:
    """The mean over pairs of different people; people are resampled, not pairs, and nobody is paired with themselves.

    Two people make one pair, of whose spread nothing is known: that is one sample, as of `estimate.mean`.
    """
    cosines, count = cosines.double(), len(cosines)
    rng = torch.Generator().manual_seed(seed)
    # How often each person was drawn: a pair counts as often as both of its people together.
    drawn = torch.randint(count, (estimate.RESAMPLES, count), generator=rng)
    times = torch.zeros(estimate.RESAMPLES, count).scatter_add_(1, drawn, torch.ones(drawn.shape)).double()
    off = cosines - torch.diag(cosines.diagonal())
    sums = torch.einsum('ri,ij,rj->r', times, off, times)
    weights = times.sum(1).square() - times.square().sum(1)
    usable = weights > 0             # a draw of one and the same person has no pair
    low, high = estimate.interval((sums[usable] / weights[usable]).numpy())
    return Estimate(float(off.sum() / (count * (count - 1))), low, high, count if count > 2 else 1, seed)
