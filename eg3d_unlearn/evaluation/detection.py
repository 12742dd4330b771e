"""Is there still a face?  A picture in which none is found is a failure, and is counted as one."""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.cache import checksum
from eg3d_unlearn.evaluation.rendering import to_floats
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.person.photo import detect, to_image

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

NO_DETECTOR = 'none: no detector knows the faces of this world'
DETECTOR = 'MTCNN; a picture fails where a face is found before and none after'


def faces_found(evidence: Evidence, pictures: Tensor, settings: Settings) -> Tensor | None:   # [..., 3, H, W] uint8 -> [...] bool
    """Where a detector finds a face; None in a world of drawn faces, for which none was made."""
    if evidence.made_up_world is not None:
        return None
    return settings.cache.get({'what': 'faces', 'pictures': checksum(pictures)}, lambda: found_in(pictures))


def found_in(pictures: Tensor) -> Tensor:              # [..., 3, H, W] uint8, or float32 in -1 to 1 -> [...] bool
    """Whether the detector finds a face in each picture."""
    found = [bool(detect.find_faces(to_image(to_floats(picture)))) for picture in pictures.flatten(0, -4)]
    return torch.tensor(found, dtype=torch.bool).unflatten(0, pictures.shape[:-3])


def failed(before: Tensor | None, after: Tensor | None) -> Tensor | None:   # [...] bool each
    """Pictures that lost their face; those that showed none before (cats, cars) cannot."""
    return None if before is None else before & ~after


def detection_json(before: Tensor | None, after: Tensor | None) -> dict:
    """Counts for a result."""
    if before is None:
        return {'detector': NO_DETECTOR, 'failed': None, 'of': None}
    return {'detector': DETECTOR, 'failed': int(failed(before, after).sum()), 'of': before.numel(),
            'without_a_face_before': int((~before).sum())}
