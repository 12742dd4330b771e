"""50 times slower on a CPU, or `not implemented for 'Half'`, with StyleGAN2-ADA networks.

Cause: the blocks of the highest resolutions run in float16, on a CPU too (EG3D and StyleGAN3 look at the device).
Fix: such a block gets `force_fp32=True` where no tensor of the call is on CUDA.
Report: https://github.com/NVlabs/stylegan2-ada-pytorch/issues/54, /105
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType

from torch import Tensor

from .imports import own_classes


def needed() -> bool:
    return True


def concerns(module: ModuleType) -> bool:
    return any(_ignores_the_device(cls) for cls in own_classes(module))


def apply(module: ModuleType) -> None:
    for cls in own_classes(module):
        if _ignores_the_device(cls):
            cls.forward = _in_float32_off_cuda(cls.forward)


def _ignores_the_device(cls: type) -> bool:
    """Tell whether a class has a forward that can run in float16 and never asks on which device."""
    code = getattr(vars(cls).get('forward'), '__code__', None)
    if code is None or 'force_fp32' not in code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]:
        return False
    return 'use_fp16' in code.co_names and 'device' not in code.co_names and 'is_cuda' not in code.co_names


def _in_float32_off_cuda(forward):
    signature = inspect.signature(forward)

    @functools.wraps(forward)
    def forward_in_float32(*args, **kwargs):
        call = signature.bind(*args, **kwargs)
        if not any(isinstance(value, Tensor) and value.is_cuda for value in call.arguments.values()):
            call.arguments['force_fp32'] = True
        return forward(*call.args, **call.kwargs)

    return forward_in_float32
