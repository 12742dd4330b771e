"""`gen_samples.py --fov-deg=18.837` is refused, and its default of 18.837 becomes 18.

Cause: EG3D declares the option as an int, with a default that is none.
Fix: a click option declared as int whose default is a fraction is a float.
Report: https://github.com/NVlabs/eg3d (gen_samples.py).
"""

from __future__ import annotations

import functools
from types import ModuleType


def needed() -> bool:
    return True


def concerns(module: ModuleType) -> bool:
    return module.__name__ == 'click'


def apply(module: ModuleType) -> None:
    option = module.option

    @functools.wraps(option)
    def option_with_fraction(*args, **kwargs):
        if kwargs.get('type') is int and isinstance(kwargs.get('default'), float) and kwargs['default'] % 1:
            kwargs['type'] = float
        return option(*args, **kwargs)

    module.option = option_with_fraction
