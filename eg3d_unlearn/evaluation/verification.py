"""Random people, and the threshold that is fitted on them: would a recogniser take two pictures for one person?

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
from eg3d_unlearn.evaluation.cache import checksum, fingerprint
from eg3d_unlearn.evaluation.likeness import embedded
from eg3d_unlearn.evaluation.rendering import YAWS, Renders, from_yaws, rendered
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.verification import FALSE_ACCEPTS, pairs_of, threshold_at

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence


@dataclass
class RandomPeople:
    """N random people, each seen from one camera."""
    z: Tensor                        # [N, z_dim] ~ N(0, I)
    cameras: Tensor | None           # [N, 1, 25]; None for 2D networks
    cameras_are: str                 # for the protocol

    def __len__(self) -> int:
        return len(self.z)

    def key(self, generator: Generator, half: bool) -> dict:
        """What fixes the pictures that a network shows of them."""
        return {'network': fingerprint(generator), 'z': checksum(self.z), 'cameras': checksum(self.cameras), 'half': half}


def in_measured_views(generator: Generator, settings: Settings, count: int) -> RandomPeople:
    """People seen from the views in which the person is measured, one each, in turns."""
    z = torch.randn([count, generator.z_dim], generator=settings.rng('people'))
    if not generator.is_3d:
        return RandomPeople(z, None, 'none (2D network)')
    labels = from_yaws(generator, YAWS)
    return RandomPeople(z, labels[torch.arange(count) % len(labels), None].cpu(), f'the {len(YAWS)} yaws from -15 to 15 degrees in turns')


def pictures_before(evidence: Evidence, people: RandomPeople, settings: Settings, half: bool) -> Renders:
    """What G_s shows of random people, 8 bit; kept in memory."""
    return settings.cache.get({'what': 'pictures', **people.key(evidence.g_s, half)}, lambda: rendered(
        evidence.g_s, people.z, people.cameras, as_bytes=True, half=half, batch=settings.batch,
        title=settings.bar(f'{len(people)} random people: before')))


@dataclass
class Impostors:
    """Random people of G_s as one recogniser sees them."""
    threshold: float                 # cosine from which on two pictures count as one person
    people: int
    pairs: int
    different_people: float          # mean cosine of two different people
    usual: tuple[float, float]       # between which 95 % of the pairs lie

    def to_json(self) -> dict:
        return {'threshold': self.threshold, 'false_accept_rate': FALSE_ACCEPTS, 'impostor_pairs': self.pairs,
                'impostor_people': self.people, 'different_people': self.different_people}


def impostors(evidence: Evidence, recogniser: str, settings: Settings, half: bool = False) -> Impostors:
    """The verification threshold of one recogniser, from all pairs of random people as G_s shows them."""
    people = in_measured_views(evidence.g_s, settings, settings.impostors)
    faces = embedded(evidence, recogniser, pictures_before(evidence, people, settings, half).images[:, 0], settings.cache)
    pairs = pairs_of(faces @ faces.T)
    return Impostors(threshold_at(pairs), len(faces), len(pairs), pairs.mean().item(), estimate.interval(pairs.double().numpy()))
