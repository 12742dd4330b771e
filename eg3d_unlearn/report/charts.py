"""Where the parts of a chart stand; ``templates/charts.html`` draws them as inline SVG.

Places are percentages of the width, so that a chart fits a phone and its letters keep their size.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

from eg3d_unlearn.report.formatting import plain, short
from torch_utils_ext.user_files import is_number

MOST_POINTS = 400                    # of a curve; more are not seen
SHAPES = 4                           # of marks; a fifth recogniser takes the first shape again, its colour tells


@dataclass(frozen=True)
class Scale:
    """Values to percentages of a chart's width or height."""
    low: float
    high: float
    flipped: bool = False            # for heights: larger values are further up

    def __call__(self, value: float) -> str:
        return f'{self.percent(value):.2f}%'

    def percent(self, value: float) -> float:
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return 100 * (1 - share if self.flipped else share)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values on the scale."""
        rough = (self.high - self.low) / about
        step = next(unit for power in [10.0 ** math.floor(math.log10(rough))] for unit in (power, 2 * power, 5 * power, 10 * power)
                    if unit >= rough * 0.99)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def words(self, value: float, text: str) -> dict:
        """Words at a place of a horizontal axis; at an end of the chart they stay within it."""
        percent = self.percent(value)
        return {'x': self(value), 'text': text, 'anchor': 'start' if percent < 8 else 'end' if percent > 92 else 'middle'}


def likeness_scale(values: list[float]) -> Scale:
    """From two strangers to the same person, wider where values lie outside."""
    low = min([-0.2, *values])
    return Scale(math.floor(low * 5) / 5, 1.0)


def strip(
    scale: Scale,
    label: str,
    values: list[float],             # single ones, drawn as ticks
    mean: float,
    interval: tuple[float, float],
    band: tuple[float, float],       # of two different people
    threshold: float,
) -> dict:
    """Values on a line: a tick each, their mean as a dot, its interval as a bar, over the band of different people."""
    return {'label': label, 'band': {'x': scale(band[0]), 'width': f'{scale.percent(band[1]) - scale.percent(band[0]):.2f}%'},
            'threshold': scale(threshold), 'ones': [scale(value) for value in values],
            'interval': [scale(end) for end in interval] if interval[0] < interval[1] else None, 'mean': scale(mean)}


def axis(scale: Scale, notes: Sequence[tuple[float, str]] = ()) -> dict:
    """The numbers below strips that share ``scale``; ``notes`` are words at places of it."""
    return {'ticks': [scale.words(value, plain(value, 1)) for value in scale.ticks()], 'notes': [scale.words(*note) for note in notes]}


def mark(x: str, y: float | str, kind: int, title: str) -> dict:
    """A mark of recogniser number ``kind``: shape and colour both tell."""
    return {'x': x, 'y': y, 'kind': kind % SHAPES, 'title': title}


def marks(
    scale: Scale,
    label: str,
    points: list[tuple[float, int, str]],    # value, kind of mark, words
    threshold: float | None = None,
) -> dict:
    """One row of marks."""
    return {'label': label, 'threshold': None if threshold is None else scale(threshold),
            'marks': [mark(scale(value), 17, kind, title) for value, kind, title in points]}


def scatter(
    label: str,
    points: list[tuple[float, float, int, str]],   # x, y, kind of mark, words
    across: Scale,
    up: Scale,
    threshold: float | None = None,
) -> dict:
    """Points with the numbers of both axes; the words of the axes stand outside."""
    return {'label': label, 'lines': [{'y': up(value), 'text': plain(value, 1)} for value in up.ticks()],
            'ticks': [across.words(value, f'{value:g}') for value in across.ticks()], 'threshold': None if threshold is None else up(threshold),
            'marks': [mark(across(x), up(y), kind, title) for x, y, kind, title in points]}


def curve(
    steps: list[float],
    series: list[tuple[str, list[float]]],   # class of the line, values
    label: str,
    high: float | None = None,       # of the vertical axis; None: by the values
    unit: str = ' steps',            # behind the last number below
) -> dict:
    """Lines over steps: the picture stretches, its lines do not; the numbers stand in HTML around it."""
    values = [value for _, line in series for value in line if is_number(value)]
    low = min([0.0, *values])
    high = max(values, default=1.0) if high is None else high
    up, across = Scale(low, high if high > low else low + 1, flipped=True), Scale(steps[0], steps[-1])
    lines = []
    for name, line in series:
        stride = max(1, -(-len(line) // MOST_POINTS))
        drawn = [(step, value) for step, value in zip(steps, line, strict=True) if is_number(value)][::stride]
        points = [f'{across.percent(step) * 10:.1f},{up.percent(value):.2f}' for step, value in drawn]
        lines += [{'kind': name, 'path': 'M' + 'L'.join(points)}] if points else []
    return {'label': label, 'zero': f'{up.percent(0):.2f}' if low < 0 < high else None, 'lines': lines, 'top': short(high), 'bottom': short(low),
            'first': f'{steps[0]:g}', 'last': f'{steps[-1]:g}{unit}'}
