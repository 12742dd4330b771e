"""From cosines to figures: how well an attack shows a person, and how much better than it shows people who were never erased.

The interval of a figure is a percentile bootstrap (Efron 1979): of the person over the pictures of the attack and over the
photos that they are held against, of the controls over people as well.  Of few people a bootstrap sees too little spread
(three people would give an interval less than half as wide as Student's), so deviations between people are stretched to
the width of Student's t.  The excess asks whether the person is one more control: its interval is one of prediction, of how
far a single further control may lie from the controls' mean, and not only of how well that mean is known.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.evaluation.estimate import RESAMPLES, Estimate, interval, stretch

BEFORE, AFTER = 'before', 'after'    # the attack on G_s, on G_u


def cells(
    shown: Tensor,                   # [A, D] unit norm, what the attack shows
    photos: Tensor,                  # [N, D] unit norm, real photos
    used: int | None,                # number of the photo that is left out, having been attacked with; None = all count
) -> Tensor:                         # [A, N] cosines; NaN where the photo is left out
    """The cosines that count."""
    cosines = (shown @ photos.T).nan_to_num(0.0)
    if used is not None:
        cosines[:, used] = torch.nan
    return cosines.cpu()


def figures(
    before: list[Tensor],            # per person [A, N]: the erased person, then the controls; against G_s
    after: list[Tensor],             # the same against G_u
    seed: int = 0,
    least: float = -1.0,             # what a cell cannot fall below: a cosine -1, a share 0; none can be above 1
) -> dict[str, Estimate]:
    """``before``, ``after``, ``controls_before``, ``controls`` (against G_u) and ``excess``, each with its interval.

    excess = (after - before) of the person - mean of (after - before) of the controls, with the interval in which one more of
    n controls would lie: the spread of their mean between people, times sqrt(n + 1).  Of one control no spread is known.
    """
    rng = np.random.RandomState(seed)
    change = [two - one for one, two in zip(before, after, strict=True)]
    photos, people = int((~before[0].isnan()).any(0).sum()), len(before) - 1
    draws = {name: [resampled(matrix, rng) for matrix in part] for name, part in
             (('before', before), ('after', after), ('change', change))}
    means = {name: np.array([matrix.nanmean().item() for matrix in part]) for name, part in
             (('before', before), ('after', after), ('change', change))}
    result = {name: figure(means[name][0], draws[name][0], photos, seed, (least, 1.0)) for name in (BEFORE, AFTER)}
    wider = {'change': (people + 1) ** 0.5}
    spread = {name: of_people(np.array(part[1:]), rng, wider.get(name, 1.0)) for name, part in draws.items()}
    result['controls_before'] = figure(means['before'][1:].mean(), spread['before'], people, seed, (least, 1.0))
    result['controls'] = figure(means['after'][1:].mean(), spread['after'], people, seed, (least, 1.0))
    widest = 2 * (1.0 - least)
    result['excess'] = figure(means['change'][0] - means['change'][1:].mean(), draws['change'][0] - spread['change'], people, seed,
                              (-widest, widest))
    return result


def figure(value: float, draws: np.ndarray, samples: int, seed: int, bounds: tuple[float, float]) -> Estimate:
    """``value`` with the interval of ``draws``, stretched ones cut off at what can be."""
    low, high = np.clip(interval(draws), *bounds).tolist()
    return Estimate(float(value), min(low, float(value)), max(high, float(value)), samples, seed)


def resampled(matrix: Tensor, rng: np.random.RandomState) -> np.ndarray:  # [A, N] -> [RESAMPLES]
    """Means with pictures (rows) and photos (columns) each drawn with replacement."""
    values = matrix.double().numpy()
    counts = ~np.isnan(values)
    rows, columns = (rng.multinomial(size, np.full(size, 1 / size), RESAMPLES) for size in values.shape)
    total = np.einsum('ra,an,rn->r', rows, np.nan_to_num(values), columns)
    weight = np.einsum('ra,an,rn->r', rows, counts.astype(float), columns)
    # A draw can hit cells alone that do not count.
    return np.where(weight > 0, total / np.maximum(weight, 1e-9), np.nanmean(values))


def of_people(
    draws: np.ndarray,               # [C, RESAMPLES] means of each person, with draws of their own pictures and photos
    rng: np.random.RandomState,
    wider: float = 1.0,              # factor on the spread between people
) -> np.ndarray:                     # [RESAMPLES]
    """Means over people drawn with replacement."""
    people = len(draws)
    centre = draws.mean(0)
    if people == 1:
        return centre
    weights = rng.multinomial(people, np.full(people, 1 / people), draws.shape[1]).T / people
    return centre + wider * stretch(people) * (weights * (draws - centre)).sum(0)


def holds_zero(given: dict) -> bool:
    """Whether a figure's interval, as in audit.json, holds 0."""
    return given['low'] <= 0 <= given['high']
