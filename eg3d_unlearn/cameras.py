"""EG3D camera labels: 25 numbers, a 4x4 cam2world matrix (row-major) and 3x3 intrinsics in units of the image size.

Axes as in OpenCV: x right, y down, z into the picture.  Source: EG3D (arXiv 2112.07945), section 4 and its data sets.
"""
from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from torch import Tensor

from torch_utils_ext.errors import InputError

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


def check_label(numbers, source: str) -> Tensor:
    """A camera label [1, 25] float32 from 25 numbers, or an `InputError` that says what is wrong with them."""
    try:
        label = torch.tensor([float(number) for number in numbers], dtype=torch.float64)
    except (TypeError, ValueError):
        raise InputError(f'The camera in {source} is not a list of numbers. Expected 25: a 4x4 cam2world matrix and 3x3 '
                         'intrinsics, row by row.') from None
    if label.numel() != 25:
        raise InputError(f'The camera in {source} has {label.numel()} numbers, expected 25: a 4x4 cam2world matrix and '
                         '3x3 intrinsics, row by row.')
    if not torch.isfinite(label).all():
        raise InputError(f'The camera in {source} holds a NaN or infinite number.')
    rotation = label[:16].reshape(4, 4)[:3, :3]
    if (rotation @ rotation.T - torch.eye(3).double()).abs().max() > 0.05 or torch.linalg.det(rotation) < 0:
        raise InputError(f'The camera in {source} is no EG3D label: the upper left 3x3 of its cam2world matrix is not a '
                         'rotation. EG3D uses OpenCV axes (x right, y down, z forward), row-major.')
    focal = label[16]
    if not 0.3 < focal < 30:
        raise InputError(f'The camera in {source} has focal length {focal:g}; EG3D divides the intrinsics by the picture '
                         'size (4.2647 for FFHQ), so 0.3 to 30 was expected.')
    return label.float().unsqueeze(0)


def parse_camera(text: str, image: Path | None = None) -> Tensor:
    """The label [1, 25] from 25 numbers in ``text``, or from the json file that it names.

    A json file holds the 25 numbers, or is a data set's ``dataset.json`` in which ``image`` is found by its name.
    """
    if text.lower().endswith('.json'):
        return read_camera_file(Path(text), image)
    numbers = text.replace(',', ' ').replace('[', ' ').replace(']', ' ').split()
    return check_label(numbers, '--camera')


def read_camera_file(path: Path, image: Path | None) -> Tensor:
    """The label [1, 25] from a json file: 25 numbers, or a ``dataset.json`` with ``labels``: [[file name, numbers], ...]."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise InputError(f'The camera file {path} cannot be read: {error.strerror}.') from None
    except (ValueError, RecursionError):
        raise InputError(f'The camera file {path} is not valid json.') from None
    if not isinstance(content, dict):
        return check_label(content, str(path))
    labels = content.get('labels')
    entries = labels.items() if isinstance(labels, dict) else labels or []
    try:
        # By name, never by order: a missing face would shift every label behind it.
        found = [numbers for name, numbers in entries if image is not None and Path(str(name)).name == image.name]
    except (TypeError, ValueError):
        raise InputError(f'The "labels" of {path} are not pairs of a file name and 25 numbers.') from None
    if len(found) != 1:
        wanted = image.name if image is not None else 'the photo'
        raise InputError(f'{path} has {len(found)} labels for {wanted}, expected one. Give the camera with --camera=25 numbers.')
    return check_label(found[0], str(path))


def find_camera(option: str | None, image: Path | None) -> tuple[Tensor | None, str]:
    """The camera label [1, 25] of the photo and where it came from; (None, 'frontal') when nothing tells."""
    if option is not None:
        return parse_camera(option, image), '--camera'
    if image is not None and (image.parent / 'dataset.json').is_file():
        return read_camera_file(image.parent / 'dataset.json', image), 'dataset.json beside the photo'
    return None, 'frontal'
