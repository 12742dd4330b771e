"""Pictures of people, by sphere tracing."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from eg3d_unlearn.generators.cameras import look_at
from eg3d_unlearn.generators.networks.rendering import camera_rays
from eg3d_unlearn.worlds.demo import heads
from eg3d_unlearn.worlds.demo.people import People, uniform

NEAR, FAR = 2.32, 3.08                # depths between which people stand [world units]
PIVOT = [0.0, 0.0, 0.05]
MAX_YAW, MAX_PITCH = 0.6, 0.2         # of photos [radians]
HIT = 0.004                           # a ray has arrived when it is this close [world units]
MAX_STEPS = 90

# Compiled forms, where `compile_people` made them.
_distance, _albedo = heads.distance, heads.albedo


def compile_people() -> None:
    """Make pictures several times faster from now on; needs a C++ compiler and a minute, as training does and users do not."""
    global _distance, _albedo
    _distance = torch.compile(heads.distance, dynamic=True)
    _albedo = torch.compile(heads.albedo, dynamic=True)


def distance(p: heads.Params, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """`heads.distance`, compiled where that was asked for."""
    return _distance(p, x, y, z)


def color(p: heads.Params, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Lit colour [L, M, 3] in 0 to 1 of the surface near each point."""
    return (_albedo(p, x, y, z) * heads.shading(p, x, y, z, distance=_distance)).clamp(0, 1)


class Picture(NamedTuple):
    image: Tensor                     # [N, 3, H, H] float32, -1 to 1, white behind the person
    depth: Tensor                     # [N, 1, H, H] float32, world units along the ray, nearest of each pixel; FAR: nothing
    mask: Tensor                      # [N, 1, H, H] float32, share of the pixel that the person covers


def trace(
    p: heads.Params,                  # of one person
    origin: Tensor,                   # [3]
    directions: Tensor,               # [R, 3] unit length
) -> Tensor:                          # [R] depth of the first hit, ``FAR`` where there is none
    """Steps of 0.85 times the distance; rays that have arrived or left are not followed any more."""
    depth = torch.full(directions.shape[:1], NEAR, device=directions.device)
    active = torch.arange(len(directions), device=directions.device)
    for _ in range(MAX_STEPS):
        t = depth[active]
        x, y, z = (origin + t[:, None] * directions[active]).t()[:, None].contiguous()
        d = _distance(p, x, y, z)[0]
        t = (t + 0.85 * d).clamp(max=FAR)
        depth[active] = t
        active = active[(d > 2e-4) & (t < FAR)]
        if len(active) == 0:
            break
    return depth


def render(
    people: People,                   # N of them
    cameras: Tensor,                  # [N, 25] EG3D camera labels
    resolution: int = 128,            # pixels along each side
    samples: int = 2,                 # rays along each side of a pixel
) -> Picture:
    """One picture of each person."""
    side = resolution * samples
    _, directions = camera_rays(cameras[:, :16].view(-1, 4, 4), cameras[:, 16:].view(-1, 3, 3), side)
    pictures = [_render_one(people[i : i + 1], cameras[i, [3, 7, 11]], directions[i]) for i in range(len(people))]
    colors, depth, mask = (torch.stack(parts).unflatten(1, (side, side)) for parts in zip(*pictures, strict=True))
    colors = F.avg_pool2d(colors.permute(0, 3, 1, 2), samples)
    depth = -F.max_pool2d(-depth[:, None], samples)
    return Picture(colors * 2 - 1, depth, F.avg_pool2d(mask[:, None], samples))


@torch.no_grad()
def _render_one(person: People, origin: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    p = heads.parameters(person)
    depth = trace(p, origin, directions)
    seen = (depth < FAR - 1e-3).nonzero()[:, 0]
    points = origin + depth[seen, None] * directions[seen]
    x, y, z = points.t()[:, None].contiguous()
    hit, lit = _distance(p, x, y, z)[0] < HIT, color(p, x, y, z)
    colors = torch.ones_like(directions)
    colors[seen[hit]] = lit[0, hit]
    mask = torch.zeros_like(depth)
    mask[seen[hit]] = 1
    return colors, torch.where(mask > 0, depth, FAR), mask


def camera_at(yaw: float, pitch: float) -> Tensor:
    """Camera label [1, 25]; angles in radians, as in `cameras.look_at`."""
    return look_at(yaw, pitch, PIVOT)


def cameras_at_random(count: int, seed: int, max_yaw: float = MAX_YAW, max_pitch: float = MAX_PITCH) -> Tensor:
    """Camera labels [count, 25], angles uniform."""
    angles = uniform(torch.Generator().manual_seed(seed), count, 2) * 2 - 1
    return torch.cat([camera_at(yaw * max_yaw, pitch * max_pitch) for yaw, pitch in angles.tolist()])
