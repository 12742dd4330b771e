"""Random people: who they are, from where they are seen, and what a network shows of them."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.metrics.cache import checksum, fingerprint
from eg3d_unlearn.evaluation.metrics.looking import YAWS, in_batches, joined, mapped, shown
from eg3d_unlearn.evaluation.metrics.real import labels_of
from eg3d_unlearn.evaluation.metrics.settings import Settings
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.memory import batch_size

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

# Yaw and pitch of portraits where no labels are at hand: pi-GAN's fit to CelebA (arXiv 2012.00926), used for FFHQ as well.
YAW_SD, PITCH_SD = 0.3, 0.155        # [radians]


@dataclass
class Crowd:
    """N random people, each seen from one camera."""
    z: Tensor                        # [N, z_dim] ~ N(0, I)
    cameras: Tensor | None           # [N, 25]; None for 2D networks
    cameras_are: str                 # for the protocol

    def __len__(self) -> int:
        return len(self.z)

    def key(self, generator: Generator, half: bool) -> dict:
        """What fixes the pictures that a network shows of them."""
        return {'network': fingerprint(generator), 'z': checksum(self.z), 'cameras': checksum(self.cameras), 'half': half}


def in_measured_views(generator: Generator, settings: Settings, count: int) -> Crowd:
    """People seen from the views in which the person is measured, one each, in turns."""
    z = torch.randn([count, generator.z_dim], generator=settings.rng('people'))
    if not generator.is_3d:
        return Crowd(z, None, 'none (2D network)')
    labels = torch.cat([generator.camera(yaw) for yaw in YAWS])
    return Crowd(z, labels[torch.arange(count) % len(labels)].cpu(), f'the {len(YAWS)} yaws from -15 to 15 degrees in turns')


def as_trained(evidence: Evidence, settings: Settings, count: int) -> Crowd:
    """People seen as the training pictures were."""
    z = torch.randn([count, evidence.g_s.z_dim], generator=settings.rng('pictures'))
    labels, about = training_cameras(evidence, settings, count)
    return Crowd(z, labels, about)


def training_cameras(evidence: Evidence, settings: Settings, count: int) -> tuple[Tensor | None, str]:
    """Cameras [count, 25] distributed as the network's training labels, and how they were drawn; None for 2D networks."""
    generator, rng = evidence.g_s, settings.rng('cameras')
    if not generator.is_3d:
        return None, 'none (2D network)'
    if evidence.world is not None:
        return evidence.world.training_cameras(count, rng)
    labels = None if settings.data is None else labels_of(settings.data)
    if labels is not None:
        return labels[torch.randint(len(labels), (count,), generator=rng)], f'drawn from the {len(labels)} labels of --data'
    angles = torch.randn(count, 2, generator=rng) * torch.tensor([YAW_SD, PITCH_SD])
    labels = torch.cat([generator.camera(yaw, pitch).cpu() for yaw, pitch in angles.tolist()])
    return labels, f'normal about the frontal one, yaw {YAW_SD} and pitch {PITCH_SD} rad (no labels: --data gives them)'


@torch.no_grad()
def album(
    generator: Generator,
    crowd: Crowd,
    settings: Settings,
    half: bool,
    title: str,
) -> dict[str, Tensor]:              # 'pictures' [N, 3, H, W] uint8; 3D networks: 'depth' [N, 1, h, w] world units
    """What a network shows of random people, kept in the cache."""
    def make() -> dict[str, Tensor]:
        pictures, depths = [], []
        for rows in in_batches(len(crowd), batch_size(generator, settings.batch), settings, title):
            picture, depth = shown(generator, generator.backbone(mapped(generator, crowd.z, rows)), camera(crowd, rows), half)
            pictures.append(picture)
            depths.append(depth)
        depth = joined(depths)
        return {'pictures': torch.cat(pictures), **({} if depth is None else {'depth': depth})}
    return settings.cache.get({'what': 'album', **crowd.key(generator, half)}, make)


def camera(crowd: Crowd, rows: slice) -> Tensor | None:
    return None if crowd.cameras is None else crowd.cameras[rows]
