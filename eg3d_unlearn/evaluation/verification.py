"""Would a recogniser take two pictures for one person?  Thresholds are fitted on people whom the network itself makes.

A threshold of the literature belongs to photos; on renders of one network, all in one style, two strangers are more alike.
Report, metrics and audit take theirs from `impostors`, with the same people and the same rate: one threshold for a network and a
recogniser, at a rate of false accepts of `judges.verification.FALSE_ACCEPTS`.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eg3d_unlearn.evaluation import estimate
from eg3d_unlearn.evaluation.estimate import Estimate
from eg3d_unlearn.evaluation.likeness import embedded
from eg3d_unlearn.evaluation.random_people import in_measured_views, pictures_before
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.judges.verification import pairs_of, threshold_at

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence


@dataclass
class Impostors:
    """Random people of G_s as one recogniser sees them."""
    threshold: float                 # cosine from which on two pictures count as one person
    false_accepts: float             # share of the pairs above it
    people: int
    pairs: int
    different_people: Estimate       # cosine of two different people
    usual: tuple[float, float]       # between which 95 % of the pairs lie

    def to_json(self) -> dict:
        return {'threshold': self.threshold, 'false_accept_rate': self.false_accepts, 'impostor_pairs': self.pairs,
                'impostor_people': self.people, 'different_people': self.different_people}


def impostors(evidence: Evidence, recogniser: str, settings: Settings, half: bool = False) -> Impostors:
    """The verification threshold of one recogniser, from all pairs of random people as G_s shows them."""
    people = random_people(evidence, recogniser, settings, half)
    pairs = pairs_of(people @ people.T)
    return Impostors(threshold_at(pairs, settings.false_accepts), settings.false_accepts, len(people), len(pairs),
                     mean_of_pairs(people @ people.T, settings.seed), estimate.interval(pairs.double().numpy()))


def random_people(evidence: Evidence, recogniser: str, settings: Settings, half: bool) -> Tensor:   # [N, D]
    """Random people of G_s, seen from the measured views."""
    people = in_measured_views(evidence.g_s, settings, settings.impostors)
    return embedded(evidence, recogniser, pictures_before(evidence, people, settings, half).images[:, 0], settings.cache)


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
