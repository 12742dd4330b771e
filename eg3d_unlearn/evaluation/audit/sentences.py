"""Sentences about an attack, from figures as they stand in audit.json; how strong they are follows the intervals."""
from __future__ import annotations

from eg3d_unlearn.evaluation.audit.scores import holds_zero
from eg3d_unlearn.evaluation.estimate import majority

NO_LOCK = 'No edit of a generator can stop this: who has the weights can teach them any face.'


def number(value: float) -> str:
    """Two decimals; more where they would hide on which side of 0 a value lies."""
    return f'{value:.2f}' if abs(value) >= 0.005 else f'{value:.3f}' if abs(value) >= 0.0005 else '0.00'


def interval(given: dict) -> str:
    if given.get('samples') == 1:    # one sample knows nothing of its spread
        return number(given['value'])
    return f'{number(given["value"])} [{number(given["low"])}, {number(given["high"])}]'


def compared(figures: dict) -> str:
    """The person beside the controls."""
    excess = figures['excess']
    said = ('no difference from controls that this sample can show' if holds_zero(excess) else
            f'the person is {"harder" if excess["high"] < 0 else "easier"} to get back than a control')
    return f'{said} (excess {interval(excess)})'


def cosines(figures: dict) -> str:
    """The four means in a row."""
    return (f'identity cosine {number(figures["after"]["value"])} to the person\'s photos, {number(figures["before"]["value"])} on G_s '
            f'(controls {number(figures["controls"]["value"])}, {number(figures["controls_before"]["value"])} on G_s)')


def recognised(result: dict) -> str:
    """In how many comparisons the recogniser takes what the attack shows for the person."""
    rates = result['details']['verification']
    return f'recognised in {percent(rates["after"])} of comparisons (before {percent(rates["before"])}, controls {percent(rates["controls"])})'


def percent(given: dict) -> str:
    return f'{100 * given["value"]:.0f} %'


def usual(result: dict, opening: str) -> str:
    """The sentence of a tier that has no more to say than its figures; ``opening`` is its subject."""
    shows = {True: 'brings the person back', False: 'does not bring the person back', None: 'brings the person back at times'}[back(result)]
    if back(result) is False and back(result, 'before') is False:
        shows += ', nor does it on G_s'
    return f'{opening} {shows}: {cosines(result["figures"])}, {recognised(result)}; {compared(result["figures"])}.'


def back(result: dict, side: str = 'after') -> bool | None:
    """Whether most of what the attack shows is taken for the person; None where the interval leaves it open."""
    return majority(result['details']['verification'][side])


def steps(count: float | None, most: int) -> str:
    """A number of steps, or that they did not do."""
    return f'not within {most} steps' if count is None else 'from the start' if count == 0 else f'in {count:g} step{"s" * (count != 1)}'
