"""Random people: who they are, from where they are seen, and what G_s shows of them."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.cache import checksum, fingerprint
from eg3d_unlearn.evaluation.rendering import YAWS, Renders, from_yaws, rendered
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.generators.generator import Generator

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
