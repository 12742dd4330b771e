"""`Expected all tensors to be on the same device` when EG3D's density is sampled (`--shapes`) before a picture is made.

Cause: the renderer's `plane_axes` is a plain attribute, which `.to(device)` does not move; only `forward` moves it, and
`sample` and `sample_mixed` do not go through `forward`.
Fix: it is moved where it is used.
Report: https://github.com/NVlabs/eg3d (training/volumetric_rendering/renderer.py).
"""

from __future__ import annotations

import functools
from types import ModuleType

from torch import Tensor

from .imports import own_classes


def needed() -> bool:
    return True


def concerns(module: ModuleType) -> bool:
    return any(_uses_plane_axes(cls) for cls in own_classes(module))


def apply(module: ModuleType) -> None:
    for cls in own_classes(module):
        if _uses_plane_axes(cls):
            cls.run_model = _with_axes_moved(cls.run_model)


def _uses_plane_axes(cls: type) -> bool:
    code = getattr(vars(cls).get('run_model'), '__code__', None)
    return code is not None and 'plane_axes' in code.co_names


def _with_axes_moved(run_model):
    @functools.wraps(run_model)
    def run_model_with_axes_moved(
        self,
        planes: Tensor,  # [N, 3, C, H, W]
        *args,
        **kwargs,
    ):
        self.plane_axes = self.plane_axes.to(planes.device)
        return run_model(self, planes, *args, **kwargs)
    return run_model_with_axes_moved
