"""How figures are taken: seeds, batches, the verification threshold; for metrics, what their names do not say."""
from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from eg3d_unlearn.evaluation.cache import Cache
from eg3d_unlearn.judges.verification import IMPOSTORS

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence


@dataclass
class Settings:
    """Options of `metrics.compute`; page and audit set the seed and the impostors alone."""
    seed: int = 0                    # of latents, cameras and resampling
    batch: int = 0                   # pictures that go through at once; 0 = by device. No figure depends on it
    impostors: int = IMPOSTORS       # random people from whose pairs the verification threshold is fitted
    features: str | None = None      # 'inception', 'demo' or a TorchScript file; None = demo in the demo world, else inception
    inception_weights: str | None = None  # file of Inception's weights; None = the cache, else a checked download
    data: str | None = None          # folder or zip of real pictures, with a dataset.json where there are cameras
    held_out: int | None = None      # real people whom `retain` looks at by their photos; None = 20 in the demo world, else none
    others: tuple[Evidence, ...] = ()  # further erased people, for `targets_apart`
    cache: Cache = field(default_factory=Cache)
    progress: bool = True            # bars on stderr

    def bar(self, title: str) -> str | None:
        """The title of a progress bar; None: no bar."""
        return title if self.progress else None

    def rng(self, purpose: str) -> torch.Generator:
        """A stream of random numbers of its own for each purpose.

        None of them is the stream that training draws from with the same seed: people whom a run was told to keep would
        flatter it.
        """
        number = np.random.SeedSequence([zlib.crc32(purpose.encode()), self.seed]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(number))
