"""C++ errors in PyTorch's own headers when an extension is built.

Cause: a pinned `-std=c++14` or `-std=c++17` beside a PyTorch whose headers want a newer C++; PyTorch passes the right
one by itself.
Fix: `torch.utils.cpp_extension.load` drops such flags.
Report: https://github.com/NVlabs/FoundationPose/issues/35
"""

from __future__ import annotations

import functools
from types import ModuleType

FLAGS = ('-std=', '--std=', '/std:')


def needed() -> bool:
    return True


def concerns(module: ModuleType) -> bool:
    return module.__name__ == 'torch.utils.cpp_extension'


def apply(module: ModuleType) -> None:
    load = module.load

    @functools.wraps(load)
    def load_without_std(*args, **kwargs):
        for name in ('extra_cflags', 'extra_cuda_cflags'):
            if kwargs.get(name):
                kwargs[name] = [flag for flag in kwargs[name] if not flag.startswith(FLAGS)]
        return load(*args, **kwargs)

    module.load = load_without_std
