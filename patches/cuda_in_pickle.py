"""`Attempting to deserialize object on a CUDA device` when a network pickle is opened without one.

Cause: training moves a network to the CPU before it is pickled, but tensors that are plain attributes, such as the
`plane_axes` of EG3D's renderer, stay on CUDA and are pickled as such.
Fix: where there is no CUDA device, tensors load to the CPU unless the caller names a place.
Report: https://github.com/NVlabs/eg3d (training/volumetric_rendering/renderer.py).
"""

from __future__ import annotations

import functools

import torch

from .runner import Run


def needed() -> bool:
    return not torch.cuda.is_available()


def apply(run: Run | None = None) -> None:
    for module in (torch, torch.jit):
        module.load = _to_cpu(module.load)


def _to_cpu(load):
    @functools.wraps(load)
    def load_to_cpu(f, map_location=None, *args, **kwargs):
        if map_location is None or str(map_location).startswith('cuda'):
            map_location = 'cpu'
        return load(f, map_location, *args, **kwargs)
    return load_to_cpu
