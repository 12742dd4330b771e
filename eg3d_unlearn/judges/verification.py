"""From which cosine on two pictures count as one person: one rate of false accepts for all that ask."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

FALSE_ACCEPTS = 1e-3                 # share of pairs of different people above the verification threshold
IMPOSTORS = 200                      # different people whose pairs fit it


def pairs_of(cosines: Tensor) -> Tensor:               # [N, N] -> [N (N - 1) / 2]
    """Each pair of different people once."""
    return cosines[cosines.new_ones(cosines.shape).triu(1).bool()]


def quantile(cosines: Tensor, share: float) -> float:
    """The cosine below which ``share`` of the pairs [N] lie."""
    # Not torch.quantile, which in older versions takes no more than 16 million values: the pairs of 5800 people.
    return float(np.quantile(cosines.detach().double().cpu().numpy(), share))


def threshold_at(cosines: Tensor, false_accepts: float = FALSE_ACCEPTS) -> float:
    """The verification threshold: the cosine above which ``false_accepts`` of the pairs of different people [N] lie."""
    return quantile(cosines, 1 - false_accepts)
