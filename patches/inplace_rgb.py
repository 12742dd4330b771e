"""`one of the variables needed for gradient computation has been modified by an inplace operation` in EG3D.

Cause: `SynthesisBlockNoUp` adds its colours into the picture that it is given.  When the neural rendering has just the
size that the super-resolution wants (64 in SuperresolutionHybrid2X, 128 in 4X) nothing lies between, and that picture
is a view of the rendered features, which the backward pass needs; `image_raw` too comes out changed.
Fix: the block gets a copy.
Report: https://github.com/NVlabs/eg3d (training/superresolution.py).
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType

from .imports import own_classes


def needed() -> bool:
    return True


def concerns(module: ModuleType) -> bool:
    return bool(_blocks(module))


def apply(module: ModuleType) -> None:
    for cls in _blocks(module):
        cls.forward = _with_a_copy(cls.forward)


def _blocks(module: ModuleType) -> list[type]:
    return [cls for cls in own_classes(module) if cls.__name__ == 'SynthesisBlockNoUp' and 'forward' in vars(cls)]


def _with_a_copy(forward):
    signature = inspect.signature(forward)

    @functools.wraps(forward)
    def forward_on_a_copy(*args, **kwargs):
        call = signature.bind(*args, **kwargs)
        if call.arguments.get('img') is not None:
            call.arguments['img'] = call.arguments['img'].clone()
        return forward(*call.args, **call.kwargs)

    return forward_on_a_copy
