"""`object.__init__() takes exactly one argument` when training or a metric makes its DataLoader.

Cause: `misc.InfiniteSampler` hands the data set to the constructor of PyTorch's `Sampler`, which no longer takes one.
Fix: that class alone gets a base between them which swallows the argument.
Report: https://github.com/pytorch/pytorch/pull/163134
"""

from __future__ import annotations

import warnings
from types import ModuleType

from torch.utils.data import Sampler

from .imports import own_classes


class SamplerWithSource(Sampler):
    """A Sampler that takes, and ignores, the data set."""

    def __init__(self, data_source=None):
        super().__init__()


def needed() -> bool:
    try:
        with warnings.catch_warnings():  # PyTorch announced the change for a while
            warnings.simplefilter('ignore')
            Sampler([0])
    except TypeError:
        return True
    return False


def concerns(module: ModuleType) -> bool:
    return needed() and bool(_samplers(module))


def apply(module: ModuleType) -> None:
    for cls in _samplers(module):
        cls.__bases__ = tuple(SamplerWithSource if base is Sampler else base for base in cls.__bases__)


def _samplers(module: ModuleType) -> list[type]:
    return [cls for cls in own_classes(module) if cls.__name__ == 'InfiniteSampler' and Sampler in cls.__bases__]
