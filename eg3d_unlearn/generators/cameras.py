"""EG3D camera labels: 25 numbers, a 4x4 cam2world matrix (row-major) and 3x3 intrinsics in units of the image size.

Axes as in OpenCV: x right, y down, z into the picture.  Source: EG3D (arXiv 2112.07945), section 4 and its data sets.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

FOCAL = 4.2647                       # EG3D's focal length for FFHQ and AFHQ, in picture widths: 18.837 degrees
FOCAL_SHAPENET = 1.7074              # of NVIDIA's gen_videos.py --cfg=Shapenet: 45 degrees
PITCH = -0.2                         # the published code's pitch offset for every picture it renders [radians]
MAX_YAW = math.pi / 12               # GUIDE renders yaws from -15 to +15 degrees [radians]


def intrinsics(fov_deg: float | None = None, focal: float = FOCAL) -> Tensor:
    """Normalised 3x3 pinhole intrinsics for a field of view in degrees; None = for ``focal``, in picture widths.

    NVIDIA's tools measure the field of view along the picture's diagonal (focal = 1 / (sqrt 2 tan(fov / 2))): their
    18.837 degrees are 4.263, close to the 4.2647 that stands in the labels.
    """
    focal = focal if fov_deg is None else 1 / (math.tan(math.radians(fov_deg) / 2) * math.sqrt(2))
    return torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])


def look_at(
    yaw: float,                      # radians, 0 = frontal, positive = the camera moves to +x
    pitch: float,                    # offset of NVIDIA's polar variable, radians: -0.2 puts the camera above the face
    pivot: list[float],              # the point looked at, world units
    radius: float = 2.7,             # distance of the camera from the origin, world units
    fov_deg: float | None = None,    # diagonal field of view, degrees; None = by the focal length
    focal: float = FOCAL,            # picture widths; read where there is no field of view
) -> Tensor:
    """The camera label [1, 25] float32 of a camera on the sphere about the origin that looks at ``pivot``.

    The polar angle follows NVIDIA's samplers: v = pi/2 + pitch and cos(phi) = 1 - 2 v / pi, so equal steps of v are equal
    areas on the sphere.
    """
    cos_phi = 1 - 2 * min(max(0.5 + pitch / math.pi, 1e-5), 1 - 1e-5)
    sin_phi = math.sqrt(1 - cos_phi * cos_phi)
    # NVIDIA's azimuth is pi/2 + yaw measured from -x, which puts positive yaws on the +x side.
    origin = radius * torch.tensor([sin_phi * math.sin(yaw), cos_phi, sin_phi * math.cos(yaw)], dtype=torch.float64)
    forward = torch.nn.functional.normalize(torch.tensor(pivot, dtype=torch.float64) - origin, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0]).double()), dim=0)
    down = torch.linalg.cross(forward, right)
    cam2world = torch.eye(4, dtype=torch.float64)
    cam2world[:3, :4] = torch.stack([right, down, forward, origin], dim=1)
    return torch.cat([cam2world.flatten(), intrinsics(fov_deg, focal).double().flatten()]).float().unsqueeze(0)


def mirrored(labels: Tensor) -> Tensor:                # [N, 25] -> [N, 25]
    """The cameras of the mirrored pictures: what was seen from the left is seen from the right."""
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], device=labels.device, dtype=labels.dtype))
    poses = flip @ labels[:, :16].reshape(-1, 4, 4) @ flip
    return torch.cat([poses.reshape(-1, 16), labels[:, 16:]], dim=1)
