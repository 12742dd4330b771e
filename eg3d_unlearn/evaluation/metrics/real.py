"""Real pictures, which generated ones are held against: a user's data set, or a world's own renderer."""
from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.rendering import in_batches
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.person.photo.dataset import data_set
from torch_utils_ext.errors import InputError

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence


def real_pictures(
    evidence: Evidence,
    settings: Settings,
    count: int,
    size: int,                       # pictures at once
) -> tuple[list[Callable[[], Tensor]], dict, str]:   # makers of batches [n, 3, H, W] uint8; what fixes them; in words
    """Real pictures by batches: of ``--data``, in a world of its renderer."""
    resolution = evidence.g_s.img_resolution
    if settings.data is not None:
        data = data_set(settings.data)
        names = data.chosen(count, settings.rng('real'))
        about = f'{count} of the {len(data.names)} pictures of --data, at {resolution} px'
        status = data.path.stat()
        key = {'path': str(data.path.absolute()), 'changed': status.st_mtime_ns, 'names': names, 'resolution': resolution}
        return [lambda part=names[i:i + size]: torch.stack([data.picture(name, resolution) for name in part])
                for i in range(0, count, size)], key, about
    if evidence.world is None:
        raise InputError('dfid_real holds generated pictures against real ones: give them with --data=DIR or --data=FILE.zip, cropped as '
                         "the network's training pictures were.")

    def batches(total: int, at_once: int, title: str) -> Iterator[slice]:
        return in_batches(total, at_once, settings.bar(title))
    pictures, key = evidence.world.real_pictures(evidence.g_s.family, resolution, batches)
    key = {**key, 'family': evidence.g_s.family, 'resolution': resolution, 'count': count}
    return [lambda rows=range(i, min(i + size, count)): pictures(rows, count) for i in range(0, count, size)], key, (
        f'{count} pictures of the {evidence.world.name} renderer, people and cameras as in training, at {resolution} px')
