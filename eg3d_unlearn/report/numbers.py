"""Numbers in words and tables, each with the exact value behind it (``<data value>``), so that a page can be checked."""
from __future__ import annotations

import re

from eg3d_unlearn.report.files import is_number
from eg3d_unlearn.report.markup import Markup, markup, tag

MISSING = '–'


def plain(value: float, digits: int) -> str:
    """A number with a true minus sign, and no minus before zeros."""
    text = f'{value:.{digits}f}'
    if float(text) == 0:
        text = text.lstrip('-')
    return text.replace('-', '−')


def typeset(text: object) -> str:
    """A sentence of another file with true minus signs before its numbers."""
    return re.sub(r'(?<![\w.-])-(?=\d)', '−', str(text))


def number(value: object, digits: int = 2) -> Markup:
    """A measured number as it is read; the exact one is in the element's value."""
    if not is_number(value):
        return markup(MISSING)
    return tag('data', plain(value, digits if isinstance(value, float) else 0), value=value)


def interval(figure: dict | None, digits: int = 2) -> Markup | None:
    """[low, high] of a figure; nothing where one sample says nothing of its spread."""
    if not figure or not is_number(figure.get('low')) or not is_number(figure.get('high')) or figure['low'] == figure['high']:
        return None
    return tag('span', '[', number(figure['low'], digits), ', ', number(figure['high'], digits), ']', class_='interval')


def figure(measured: dict | None, digits: int = 2) -> Markup:
    """A figure with its interval."""
    if not measured:
        return markup(MISSING)
    bounds = interval(measured, digits)
    return markup([number(measured.get('value'), digits), Markup(' ') if bounds else None, bounds])


def counted(count: int, one: str, many: str | None = None) -> Markup:
    """'1 photo', '3 photos'."""
    return markup([number(count), f' {one if count == 1 else many or one + "s"}'])


def listed(parts: list[object]) -> Markup:
    """'a, b and c'."""
    if len(parts) < 2:
        return markup(parts)
    return markup([[[part, ', '] for part in parts[:-2]], parts[-2], ' and ', parts[-1]])
