"""Figures that say how sure they are: a mean with its number of samples, a bootstrap interval and the seed.

Of few samples a bootstrap sees too little spread (of three it covers 74 % where it should 95 %), so that deviations from the mean
are stretched to the width of Student's t; of one sample there is no interval.
"""
from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor

RESAMPLES = 2000                     # of a bootstrap
LEVEL = 0.95                         # of an interval
Z = 1.959963984540054                # quantile of the normal distribution to `LEVEL`
COSINE, SHARE, DISTANCE = (-1.0, 1.0), (0.0, 1.0), (0.0, float('inf'))  # what figures can be
COARSE = 0.05                        # what `coarse` rounds to: a share of the largest distance; cosines


@dataclass(frozen=True)
class Estimate:
    """One measured number; ``low`` and ``high`` bound its `LEVEL` interval and equal ``value`` where there is none."""
    value: float
    low: float
    high: float
    samples: int                     # independent ones: people, not pictures, where people are what was drawn
    seed: int = 0                    # of the bootstrap

    def to_json(self) -> dict:
        return {name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        bounds = f' [{self.low:.3f}, {self.high:.3f}]' if self.samples > 1 else ''
        return f'{self.value:.3f}{bounds}, n = {self.samples}'


def mean(
    values: Tensor,                  # [N], or [N, M]: N independent samples with M dependent values each
    seed: int = 0,                   # of the resampling
    bounds: tuple[float, float] = (-float('inf'), float('inf'))  # what a mean can be: where its interval ends
) -> Estimate:
    """The mean of ``values`` with a percentile bootstrap interval over its first dimension (Efron 1979), as wide as Student's.

    Of one sample nothing is known about its spread: ``low`` and ``high`` equal the value.
    """
    each = values.detach().double().cpu().flatten(1).mean(1) if values.dim() > 1 else values.detach().double().cpu()
    if not len(each):
        raise ValueError('no values to take the mean of')
    samples = each.numpy()
    chosen = np.random.RandomState(seed).randint(len(samples), size=(RESAMPLES, len(samples)))
    value = float(samples.mean())
    if len(samples) == 1:
        return Estimate(value, value, value, 1, seed)
    low, high = interval(value + stretch(len(samples)) * (samples[chosen].mean(-1) - value))
    return Estimate(value, min(value, max(low, bounds[0])), max(value, min(high, bounds[1])), len(samples), seed)


def stretch(samples: int) -> float:
    """How much wider Student's interval of a mean is than the bootstrap's, for ``samples`` normal values."""
    from scipy.stats import t
    return float(t.ppf((1 + LEVEL) / 2, samples - 1)) / Z * (samples / (samples - 1)) ** 0.5


def interval(drawn: np.ndarray) -> tuple[float, float]:   # [RESAMPLES] -> its central `LEVEL`
    low, high = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def fraction(hits: Tensor, seed: int = 0) -> Estimate:      # [N] bool
    """The share of ``hits`` with Wilson's interval, which holds for few samples and for shares of 0 and 1."""
    from scipy.stats import binomtest
    share = binomtest(int(hits.sum()), len(hits))
    low, high = share.proportion_ci(LEVEL, 'wilson')
    return Estimate(float(share.statistic), float(low), float(high), len(hits), seed)


def majority(share: dict) -> bool | None:
    """Whether a share (``Estimate.to_json``) is more than a half; None where its interval leaves it open."""
    return True if share['low'] > 0.5 else False if share['high'] < 0.5 else None


def stands_first(rank: float, candidates: float) -> bool:
    """Whether somebody is the first of so many that chance would put them there once in twenty times at most."""
    return rank == 1 and candidates >= 1 / (1 - LEVEL) - 1e-9


def coarse(
    distances: Tensor,               # [N] of people's latents from the erased one
    cosines: Tensor,                 # [N] of the same people
) -> list[tuple[float, float]]:
    """Pairs of distance and cosine as a file or a page may hold them: rounded to `COARSE`, and sorted, so that no pair is anybody's.

    Exact distances of latents that a seed repeats would give away the erased latent, by trilateration.
    """
    return sorted(zip(snapped(distances, coarse_step(distances)), snapped(cosines, COARSE), strict=True))


def coarse_step(distances: Tensor) -> float:           # [N] -> of the same units
    """`COARSE` of the largest distance, itself to two digits: it is one of the distances."""
    return float(f'{COARSE * distances.max().item():.2g}') if len(distances) else 0.0


def snapped(values: Tensor, step: float) -> list[float]:  # [N]
    """The nearest multiples of ``step``."""
    return [round(count * step, 10) + 0.0 for count in (values.double() / (step or 1.0)).round().tolist()]
