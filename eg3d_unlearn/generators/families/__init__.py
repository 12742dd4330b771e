"""One file for each family of generators. A new one is a file of its name here, and its classes in
`torch_utils_ext.network_pickle` (`FAMILIES`, `_upstream_class`)."""
from __future__ import annotations

import importlib

from eg3d_unlearn.generators.generator import Generator
from torch_utils_ext.network_pickle import FAMILIES


def adapter(family: str) -> type[Generator]:
    """The adapter of a family: the class in its file that bears its name."""
    module = importlib.import_module(f'eg3d_unlearn.generators.families.{family}')
    return next(found for found in vars(module).values() if isinstance(found, type) and getattr(found, 'family', None) == family)


def adapters() -> list[type[Generator]]:
    """All of them."""
    return [adapter(family) for family in dict.fromkeys(FAMILIES.values())]
