"""`TORCH_CUDA_ARCH_LIST` is empty for the rest of the process, and later extensions build for the wrong GPU.

Cause: `custom_ops.get_plugin` empties the variable before it builds and leaves it so.
Fix: it is put back afterwards.
Report: https://github.com/NVlabs/stylegan3 (torch_utils/custom_ops.py), and EG3D's copy.
"""

from __future__ import annotations

import functools
import os
from types import ModuleType

VARIABLE = 'TORCH_CUDA_ARCH_LIST'


def needed() -> bool:
    return True


def concerns(module: ModuleType) -> bool:
    return VARIABLE in getattr(getattr(module, 'get_plugin', None), '__code__', needed.__code__).co_consts


def apply(module: ModuleType) -> None:
    get_plugin = module.get_plugin

    @functools.wraps(get_plugin)
    def get_plugin_and_restore(*args, **kwargs):
        before = os.environ.get(VARIABLE)
        try:
            return get_plugin(*args, **kwargs)
        finally:
            os.environ.pop(VARIABLE, None)
            if before is not None:
                os.environ[VARIABLE] = before

    module.get_plugin = get_plugin_and_restore
