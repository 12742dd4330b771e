"""Networks of somebody else's code behind the interface of ours: what a checkout's own loader made of a file (`checkout`)."""
from __future__ import annotations

import contextlib
import copy
from typing import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def seeded(rng: torch.Generator | None) -> Iterator[None]:
    """Draws inside come from torch's global generator, seeded from ``rng`` and put back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(0 if rng is None else int(torch.randint(2**31, [], generator=rng, device=rng.device)))
        yield


class Trusted(nn.Module):
    """Shows another module's parameters under their own names, and its attributes as they are."""
    notes: list[str] = []            # its own code computes with all that is in the file

    def __init__(self, network: nn.Module):
        super().__init__()
        self.__dict__['inner'] = network  # not registered: names in the state dict must stay the file's
        self._modules, self._parameters, self._buffers = network._modules, network._parameters, network._buffers
        self._non_persistent_buffers_set = network._non_persistent_buffers_set

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__['inner'], name)

    def __deepcopy__(self, memo: dict) -> Trusted:
        return type(self)(copy.deepcopy(self.__dict__['inner'], memo))
