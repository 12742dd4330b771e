"""`Could not find MSVC/GCC/CLANG installation on this computer` with Visual Studio 2022.

Cause: EG3D and StyleGAN2-ADA look in `Program Files (x86)` alone; Visual Studio 2022 lives in `Program Files`.
Fix: where the checkout finds nothing, both are searched, for every edition.
Report: https://github.com/NVlabs/stylegan3/issues/202
"""

from __future__ import annotations

import functools
import glob
import os
from types import ModuleType

PATTERN = 'C:/Program Files*/Microsoft Visual Studio/*/*/VC/Tools/MSVC/*/bin/Hostx64/x64'


def needed() -> bool:
    return os.name == 'nt'


def concerns(module: ModuleType) -> bool:
    return callable(getattr(module, '_find_compiler_bindir', None))


def apply(module: ModuleType) -> None:
    find = module._find_compiler_bindir

    @functools.wraps(find)
    def find_anywhere() -> str | None:
        return find() or max(glob.glob(PATTERN), default=None)

    module._find_compiler_bindir = find_anywhere
