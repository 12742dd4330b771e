"""One file for each family of generators, which is found by being here.

A family whose networks come in pickles of its own also has a line in `torch_utils_ext.network_pickle.CLASSES`, by which such a
pickle is recognised.  Networks that come in other files are put into pickles by `save_network_pickle`, under a name in ``classes``.
"""
from __future__ import annotations

import functools
import importlib
import pkgutil

from eg3d_unlearn.generators.generator import Generator


@functools.cache
def adapters() -> dict[str, type[Generator]]:
    """By family: the class in its file that bears its name."""
    found = {}
    for file in pkgutil.iter_modules(__path__):
        content = vars(importlib.import_module(f'{__name__}.{file.name}')).values()
        found[file.name] = next(kind for kind in content if getattr(kind, 'family', None) == file.name)
    return found


def family_of(upstream_class: str | None) -> str | None:
    """The family that a class of networks belongs to; None where nobody here knows the class."""
    return next((family for family, kind in adapters().items() if upstream_class in kind.classes), None)
