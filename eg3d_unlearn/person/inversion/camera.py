"""Turning EG3D cameras about the head while a latent is sought: trials, no gradients, so that any renderer will do."""
from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

FIRST_TURN = 0.06                    # of the first trials [radians]; a label from five landmarks is off by about that
SMALLEST_TURN = 0.002                # where trials end [radians]


def turned(camera: Tensor, yaw: Tensor, pitch: Tensor) -> Tensor:
    """Camera labels [N, 25] after a turn about the world's y axis, then about the camera's own x axis through the origin.

    ``yaw``, ``pitch``: [N] radians.  The distance from the origin stays.
    """
    cam2world, intrinsics = camera[:, :16].reshape(-1, 4, 4), camera[:, 16:]
    axis = cam2world[:, :3, 0]
    up = torch.tensor([0.0, 1.0, 0.0], device=camera.device, dtype=camera.dtype).expand_as(axis)
    rotation = about(up, yaw) @ about(axis, pitch)
    moved = cam2world.clone()
    moved[:, :3] = rotation @ cam2world[:, :3]
    return torch.cat([moved.flatten(1), intrinsics], dim=1)


def about(axis: Tensor, angle: Tensor) -> Tensor:     # [N, 3] unit, [N] radians -> [N, 3, 3]
    """Rotations about axes (Rodrigues)."""
    zero = torch.zeros_like(angle)
    x, y, z = axis.unbind(1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    eye = torch.eye(3, device=axis.device, dtype=axis.dtype)
    return eye + angle.sin()[:, None, None] * cross + (1 - angle.cos())[:, None, None] * (cross @ cross)


class Turns:
    """A search by trials in yaw and pitch, each photo with a step of its own, halved where no trial helps."""

    def __init__(self, camera: Tensor):               # [N, 25]
        self.camera = camera
        self.size = torch.full((len(camera),), FIRST_TURN, device=camera.device, dtype=camera.dtype)

    def improve(self, loss: Callable[[Tensor], Tensor]) -> Tensor:  # loss: [N, 25] -> [N]; returns [N, 25]
        """One round: both ways in yaw and in pitch."""
        if (self.size < SMALLEST_TURN).all():
            return self.camera
        best = loss(self.camera)
        helped = torch.zeros_like(best, dtype=torch.bool)
        nothing = torch.zeros_like(self.size)
        for yaw, pitch in ((self.size, nothing), (-self.size, nothing), (nothing, self.size), (nothing, -self.size)):
            trial = turned(self.camera, yaw, pitch)
            value = loss(trial)
            better = value < best
            self.camera = torch.where(better[:, None], trial, self.camera)
            best, helped = torch.where(better, value, best), helped | better
        self.size = torch.where(helped, self.size, self.size / 2)
        return self.camera
