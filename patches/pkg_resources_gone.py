"""`No module named 'pkg_resources'` at every import or unpickling of StyleGAN3.

Cause: setuptools 82 dropped `pkg_resources`; the custom operations ask it for `parse_version`.
Fix: a stand-in, for the checkout alone, whose `parse_version` is PyTorch's own comparable version.
Report: https://setuptools.pypa.io/en/latest/history.html#v82-0-0
"""

from __future__ import annotations

import importlib.util

from torch.torch_version import TorchVersion

from .imports import stand_in
from .runner import Run


def needed() -> bool:
    return importlib.util.find_spec('pkg_resources') is None


def apply(run: Run) -> None:
    stand_in({'pkg_resources': {'parse_version': TorchVersion}}, run.root)
