"""Photos of a person of the demo world, for ``--image=demo``: rendered from the truth, not by any network."""
from __future__ import annotations

import torch
from torch import Tensor

from eg3d_unlearn.worlds.demo import scene
from eg3d_unlearn.worlds.demo.people import nuisances, people
from eg3d_unlearn.worlds.registry import Photos

MAX_YAW, MAX_PITCH = 0.4, 0.12       # of these photos: what demo-stylegan2 has seen, too [radians]


def photos_of(person: int, count: int, resolution: int, first: int = 0, kind: str = 'held-out') -> Photos:
    """``count`` photos of a person of one of the ranges, from number ``first`` on; number 0 is nearly frontal, with a calm face."""
    who = people(kind, 1, seed=person)
    faces, cameras = nuisances(first + count, seed=2 * person), angles(first + count, seed=2 * person + 1)
    faces[0, 0] = -1.0               # mouth closed
    cameras[0] *= 0.4
    labels = torch.cat([scene.camera_at(yaw, pitch) for yaw, pitch in cameras.tolist()])
    who = who[torch.zeros(count, dtype=torch.long)].posing(faces[first:])
    return Photos(scene.render(who, labels[first:], resolution).image, labels[first:])


def angles(count: int, seed: int) -> Tensor:          # [count, 2]
    """Yaw and pitch [radians] of a person's photos, uniform."""
    drawn = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return drawn * torch.tensor([MAX_YAW, MAX_PITCH])


def strangers(person: int, count: int, resolution: int) -> Photos:
    """One photo each of ``count`` other held-out people."""
    taken = [photos_of(100_000 + person * 50 + i, 1, resolution, first=1) for i in range(count)]
    return Photos(torch.cat([photos.images for photos in taken]), torch.cat([photos.cameras for photos in taken]))
