"""`Setting up PyTorch plugin "..." Failed!` and a long traceback ends the script.

Cause: no ninja, no nvcc, a CUDA toolkit other than PyTorch's, an unsupported compiler, a stale lock; the plain PyTorch
form of each operation is at hand, but EG3D and StyleGAN3 do not fall back to it.
Fix: after the first failure the plain forms serve for the whole process, and one warning names the cause.
Report: https://github.com/NVlabs/stylegan3/issues/2, /86, /124, /215;
https://github.com/NVlabs/stylegan2-ada-pytorch/issues/39, /97, /291
"""

from __future__ import annotations

import functools
import re
import warnings
from types import ModuleType

import torch

# What the error says (any case): what that means and what mends it.
CAUSES = (
    (r'ninja.*(required|not found|available)|No module named .ninja', 'ninja is not installed: pip install ninja'),
    (r'CUDA_HOME|nvcc.*not found|No such file.*nvcc', 'no CUDA toolkit (nvcc) was found: install it, or set CUDA_HOME'),
    (r'detected CUDA version', "the CUDA toolkit's version is not the one that PyTorch was built with"),
    (r'unsupported (GNU|clang|Microsoft)|unsupported.*compiler',
     'the CUDA toolkit does not know this C++ compiler: install an older one, or a newer toolkit'),
    (r'MSVC/GCC/CLANG|cl\.exe|Error checking compiler|(g\+\+|c\+\+|gcc).*(not found|No such file)',
     'no C++ compiler was found'),
    (r'lock file', 'a lock file was left behind'),
    (r'Read-only file system|Permission denied', 'the build folder cannot be written: set TORCH_EXTENSIONS_DIR'),
)


class _State:
    has_failed = False


def needed() -> bool:
    return torch.cuda.is_available()


def concerns(module: ModuleType) -> bool:
    return callable(getattr(module, '_init', None)) and hasattr(module, '_plugin') and hasattr(module, 'custom_ops')


def apply(module: ModuleType) -> None:
    init = module._init

    @functools.wraps(init)
    def init_or_fall_back(*args, **kwargs) -> bool:
        if _State.has_failed:
            return False
        try:
            return init(*args, **kwargs)
        except Exception as error:
            _State.has_failed = True
            warnings.warn(f"{module.__name__}: NVIDIA's CUDA plugin cannot be used, so all operations run in plain "
                          f'PyTorch (same results, slower). Cause: {cause(error)}', stacklevel=2)
            return False

    module._init = init_or_fall_back


def cause(error: BaseException) -> str:
    """Return in one line why a build failed, with the first line of the error that says so."""
    text = '\n'.join(str(link) for link in _chain(error))
    for pattern, meaning in CAUSES:
        match = re.search(f'.*({pattern}).*', text, re.IGNORECASE)
        if match:
            return f'{meaning} ({match.group(0).strip()})'
    return (text.strip() or type(error).__name__).splitlines()[0]


def _chain(error: BaseException | None):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
