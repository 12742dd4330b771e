"""`No module named 'distutils'` at every import of `dnnlib`.

Cause: Python 3.12 dropped `distutils`; `dnnlib/util.py` takes `strtobool` from it.
Fix: a stand-in, for the checkout alone, with a `strtobool` of the same behaviour.
Report: https://peps.python.org/pep-0632/
"""

from __future__ import annotations

import importlib.util

from .imports import stand_in
from .runner import Run


def needed() -> bool:
    # The parent first: asking for a submodule of a package that is missing raises.
    return importlib.util.find_spec('distutils') is None or importlib.util.find_spec('distutils.util') is None


def apply(run: Run) -> None:
    stand_in({'distutils': {}, 'distutils.util': {'strtobool': strtobool}}, run.root)


def strtobool(text: str) -> int:
    """Return 1 for y, yes, t, true, on, 1 and 0 for n, no, f, false, off, 0, in any case; else raise ValueError."""
    word = text.lower()
    if word in ('y', 'yes', 't', 'true', 'on', '1'):
        return 1
    if word in ('n', 'no', 'f', 'false', 'off', '0'):
        return 0
    raise ValueError(f'invalid truth value {text!r}')
