"""Pairwise identity of several erased people: do they collapse onto one face?  Then that face says: somebody was erased here."""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eg3d_unlearn.evaluation import estimate
from eg3d_unlearn.evaluation.cache import fingerprint
from eg3d_unlearn.evaluation.likeness import embedded
from eg3d_unlearn.evaluation.metrics.identity import views_of
from eg3d_unlearn.evaluation.metrics.registry import Name, metric
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.evaluation.verification import impostors
from eg3d_unlearn.judges.verification import pairs_of
from torch_utils_ext.errors import InputError

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence


def check_people(evidence: Evidence, name: Name, settings: Settings) -> None:
    """Refuse one person alone, and people of different networks."""
    if not settings.others:
        raise InputError('targets_apart compares the faces that several erased people became, and one person is given; it needs two. Name '
                         'the others with --apart FILE PERSON.')
    if any(other.person is None for other in settings.others):
        raise InputError('targets_apart needs the erased person of every network; one of them has none.')
    if len({fingerprint(one.g_s) for one in (evidence, *settings.others)}) > 1:
        raise InputError('targets_apart compares people who were erased from one network, but the networks before differ.')


@metric('targets_apart', title='likeness between the faces that several erased people became', heading='targets apart', better='low',
        needs_person=True, needs_recogniser=True, check=check_people)
def targets_apart(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """Identity cosine between the faces that several erased people became, against that between the people before."""
    everybody = (evidence, *settings.others)
    before = torch.cat([views_of(one.g_s, one.ws_mine[:1], settings, name.half, f'{name}: before') for one in everybody])
    after = torch.cat([views_of(one.g_u, one.ws_mine[:1], settings, name.half, f'{name}: after') for one in everybody])
    by = {}
    for recogniser in evidence.recognisers:
        was, became = (alike(embedded(evidence, recogniser, side, settings.cache)) for side in (before, after))
        fitted, pairs = impostors(evidence, recogniser, settings, name.half), pairs_of(became)
        by[recogniser] = {'in_loss': recogniser == evidence.trained_with, 'after': mean_of_pairs(became, settings.seed),
                          'before': mean_of_pairs(was, settings.seed), 'excess': mean_of_pairs(became - was, settings.seed),
                          'closest': pairs.max().item(), 'pairs_taken_for_one': int((pairs >= fitted.threshold).sum()), **fitted.to_json()}
    protocol = {'people': len(everybody), 'pairs': len(everybody) * (len(everybody) - 1) // 2, 'views': before.shape[1],
                'pairs_are': 'of erased people at the same view, in the mean over views',
                'samples': 'people; two are one pair, and count as one sample, of whose spread nothing is known'}
    return {'value': by[evidence.measuring[0]]['after'], 'by': by, 'protocol': protocol}


def alike(embeddings: Tensor) -> Tensor:               # [K, V, D] -> [K, K]
    """Cosines of all pairs of people at the same view, in the mean over views."""
    return torch.einsum('ivd,jvd->ij', embeddings, embeddings) / embeddings.shape[1]


def mean_of_pairs(
    cosines: Tensor,                 # [K, K] of all pairs, symmetric
    seed: int = 0,
) -> estimate.Estimate:
    """The mean over pairs of different people; people are resampled, not pairs, and nobody is paired with themselves.

    Two people make one pair, of whose spread nothing is known: that is one sample, as of `estimate.mean`.
    """
    count, off = len(cosines), (cosines - torch.diag(cosines.diagonal())).double().cpu()
    # How often each person was drawn: a pair counts as often as both of its people together.
    drawn = torch.randint(count, (estimate.RESAMPLES, count), generator=torch.Generator().manual_seed(seed))
    times = torch.nn.functional.one_hot(drawn, count).sum(1).double()
    weights = times.sum(1).square() - times.square().sum(1)
    usable = weights > 0             # a draw of one and the same person has no pair
    low, high = estimate.interval((torch.einsum('ri,ij,rj->r', times, off, times)[usable] / weights[usable]).numpy())
    return estimate.Estimate(float(off.sum() / (count * (count - 1))), low, high, count if count > 2 else 1, seed)
