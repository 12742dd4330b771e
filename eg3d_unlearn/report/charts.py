"""Charts as inline SVG.  Places are percentages of the width, so that a chart fits a phone and its letters keep their size."""
from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from eg3d_unlearn.report.files import is_number
from eg3d_unlearn.report.markup import Markup, tag
from eg3d_unlearn.report.numbers import plain

MOST_POINTS = 400                    # of a curve; more are not seen


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


def likeness_scale(values: list[float]) -> Scale:
    """From two strangers to the same person, wider where values lie outside."""
    low = min([-0.2, *values])
    return Scale(math.floor(low * 5) / 5, 1.0)


def svg(height: int, *content: object, label: str, class_: str = '') -> Markup:
    """A chart as wide as its place and ``height`` pixels high; ``label`` says what it shows to those who cannot see it."""
    return tag('svg', tag('title', label), content, width='100%', height=height, role='img', class_=f'chart {class_}'.strip())


def strip(
    scale: Scale,
    label: str,
    values: list[float],             # single ones, drawn as ticks
    mean: float | None = None,
    interval: tuple[float, float] | None = None,
    band: tuple[float, float] | None = None,   # of two different people
    threshold: float | None = None,
) -> Markup:
    """Values on a line: a tick each, their mean as a dot, its interval as a bar, over the band of different people."""
    parts = [tag('line', x1='0', x2='100%', y1=17, y2=17, class_='rule')]
    if band is not None:
        width = scale.percent(band[1]) - scale.percent(band[0])
        parts.insert(0, tag('rect', x=scale(band[0]), y=2, width=f'{width:.2f}%', height=30, class_='band'))
    if threshold is not None:
        parts.append(tag('line', x1=scale(threshold), x2=scale(threshold), y1=2, y2=32, class_='threshold'))
    parts += [tag('line', x1=scale(value), x2=scale(value), y1=10, y2=24, class_='one') for value in values]
    if interval is not None and interval[0] < interval[1]:
        parts.append(tag('line', x1=scale(interval[0]), x2=scale(interval[1]), y1=17, y2=17, class_='interval'))
    if mean is not None:
        parts.append(tag('circle', cx=scale(mean), cy=17, r=5, class_='mean'))
    return svg(34, *parts, label=label, class_='strip')


def axis(scale: Scale, notes: list[tuple[float, str]] = ()) -> Markup:
    """The numbers below strips that share ``scale``; ``notes`` are words at places of it."""
    parts = [tag('text', plain(value, 1), x=scale(value), y=14, class_='tick', text_anchor=anchor(scale.percent(value)))
             for value in scale.ticks()]
    parts += [tag('text', words, x=scale(value), y=30, class_='tick', text_anchor=anchor(scale.percent(value))) for value, words in notes]
    return svg(36 if notes else 18, *parts, label='Scale of the likeness.', class_='axis')


def anchor(percent: float) -> str:
    """Words at an end of the chart stay within it."""
    return 'start' if percent < 8 else 'end' if percent > 92 else 'middle'


SHAPES = 4                           # of marks; a fifth recogniser takes the first shape again, its colour tells


def mark(x: str, y: float | str, kind: int, title: str) -> Markup:
    """A mark of recogniser number ``kind``: shape and colour both tell."""
    shapes = ('M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z', 'M-4.5,-4.5h9v9h-9z', 'M0,-5.5l5.5,10h-11z', 'M0,-6l6,6l-6,6l-6,-6z')
    path = tag('path', tag('title', title), d=shapes[kind % SHAPES], class_=f'mark kind{kind % SHAPES}')
    # A nested picture can be placed by percentages, a path cannot.
    return tag('svg', path, x=x, y=y, overflow='visible')


def marks(scale: Scale, label: str, points: list[tuple[float, int, str]], threshold: float | None = None) -> Markup:
    """One row of marks: value, which recogniser, words."""
    line = tag('line', x1=scale(threshold), x2=scale(threshold), y1=2, y2=32, class_='threshold') if threshold is not None else None
    return svg(34, tag('line', x1='0', x2='100%', y1=17, y2=17, class_='rule'), line,
               [mark(scale(value), 17, kind, title) for value, kind, title in points], label=label, class_='strip')


def scatter(
    label: str,
    points: list[tuple[float, float, int, str]],   # x, y, kind of mark, words
    across: Scale,
    up: Scale,
    threshold: float | None = None,
    height: int = 220,
) -> Markup:
    """Points with the numbers of both axes; the words of the axes stand outside."""
    parts: list[Markup] = []
    for value in up.ticks():
        parts += [tag('line', x1='0', x2='100%', y1=up(value), y2=up(value), class_='rule'),
                  tag('text', plain(value, 1), x=-8, y=up(value), dy='4', class_='tick', text_anchor='end')]
    parts += [tag('text', f'{value:g}', x=across(value), y='100%', dy='16', class_='tick', text_anchor=anchor(across.percent(value)))
              for value in across.ticks()]
    if threshold is not None:
        parts.append(tag('line', x1='0', x2='100%', y1=up(threshold), y2=up(threshold), class_='threshold'))
    parts += [mark(across(x), up(y), kind, title) for x, y, kind, title in points]
    return svg(height, *parts, label=label, class_='scatter')


def curve(
    steps: list[float],
    series: list[tuple[str, list[float]]],   # class of the line, values
    label: str,
    low: float | None = None,        # of the vertical axis; None: by the values
    high: float | None = None,
    height: int = 120,
    unit: str = ' steps',            # behind the last number below
) -> Markup:
    """Lines over steps: the picture stretches, its lines do not; the numbers stand in HTML around it."""
    values = [value for _, line in series for value in line if is_number(value)]
    low = min([0.0, *values]) if low is None else low
    high = max(values, default=1.0) if high is None else high
    up, across = Scale(low, high if high > low else low + 1, flipped=True), Scale(steps[0], steps[-1])
    lines = []
    for name, line in series:
        stride = max(1, -(-len(line) // MOST_POINTS))
        drawn = [(step, value) for step, value in zip(steps, line, strict=True) if is_number(value)][::stride]
        points = [(across.percent(step) * 10, up.percent(value)) for step, value in drawn]
        lines.append(tag('path', d='M' + 'L'.join(f'{x:.1f},{y:.2f}' for x, y in points), class_=f'line {name}') if points else None)
    zero = tag('path', d=f'M0,{up.percent(0):.2f}H1000', class_='rule') if low < 0 < high else None
    area = tag('svg', tag('title', label), zero, lines, viewBox='0 0 1000 100', preserveAspectRatio='none', width='100%', height=height,
               role='img', class_='chart area')
    return tag('div', tag('span', short(high), class_='top'), tag('span', short(low), class_='bottom'), area,
               tag('span', f'{steps[0]:g}', class_='first'), tag('span', f'{steps[-1]:g}{unit}', class_='last'), class_='curve')


def running_median(values: list[float], width: int) -> list[float]:
    """Medians over ``width`` values around each, fewer at the ends."""
    half = width // 2
    return [statistics.median(values[max(0, i - half):i + half + 1]) for i in range(len(values))]


def short(value: float) -> str:
    """A number of an axis with three digits that count."""
    return plain(value, 0) if abs(value) >= 100 or value == 0 else f'{value:.3g}'.replace('-', '−')
