"""Numbers as they are read, each with its exact value behind it (``<data value>``), so that a page can be checked.

Sentences are made by ``Markup('… {} …').format(…)``, which escapes what it is given unless it is `Markup` already.
"""
from __future__ import annotations

import re
from typing import Sequence

from markupsafe import Markup, escape

from torch_utils_ext.user_files import is_number

MISSING = '–'
LONG = 16                            # longer lists are counted, not written


def plain(value: float, digits: int) -> str:
    """A number with a true minus sign, and no minus before zeros."""
    text = f'{value:.{digits}f}'
    if float(text) == 0:
        text = text.lstrip('-')
    return text.replace('-', '−')


def short(value: float) -> str:
    """A number of an axis with three digits that count."""
    return plain(value, 0) if abs(value) >= 100 or value == 0 else f'{value:.3g}'.replace('-', '−')


def typeset(text: object) -> str:
    """A sentence of another file with true minus signs before its numbers."""
    return re.sub(r'(?<![\w.-])-(?=\d)', '−', str(text))


def number(value: object, digits: int = 2) -> Markup:
    """A measured number as it is read; the exact one is in the element's value."""
    if not is_number(value):
        return escape(MISSING)
    return Markup('<data value="{}">{}</data>').format(value, plain(value, digits if isinstance(value, float) else 0))


def percent(share: float) -> str:
    """A share, small ones more exactly."""
    return f'{100 * share:.0f} %' if share >= 0.095 else f'{100 * share:.1f} %'


def interval(figure: dict | None, digits: int = 2) -> Markup:
    """[low, high] of a figure; nothing where one sample says nothing of its spread."""
    if not figure or not is_number(figure.get('low')) or not is_number(figure.get('high')) or figure['low'] == figure['high']:
        return Markup('')
    return Markup('<span class="interval">[{}, {}]</span>').format(number(figure['low'], digits), number(figure['high'], digits))


def figure(measured: dict | None, digits: int = 2) -> Markup:
    """A figure with its interval."""
    if not measured:
        return escape(MISSING)
    return Markup('{} {}').format(number(measured.get('value'), digits), interval(measured, digits)).rstrip()


def counted(count: int, one: str, many: str | None = None) -> Markup:
    """'1 photo', '3 photos'."""
    return Markup('{} {}').format(number(count), one if count == 1 else many or one + 's')


def listed(parts: Sequence[object]) -> Markup:
    """'a, b and c'."""
    *first, last = map(escape, parts)
    return Markup(' and ').join([Markup(', ').join(first), last] if first else [last])


def entries(settings: dict, before: str = '') -> list[tuple[str, str]]:
    """Names and values of nested dictionaries, names with their path; lists are written out."""
    leaves = []
    for name, value in settings.items():
        if isinstance(value, dict) and {'value', 'low', 'high', 'samples'} <= set(value):
            leaves.append((f'{before}{name}', figure_as_text(value)))
        elif isinstance(value, dict):
            leaves += entries(value, f'{before}{name}.')
        elif isinstance(value, list) and (len(value) > LONG or any(isinstance(part, dict) for part in value)):
            leaves.append((f'{before}{name}', f'{len(value)} entries, in the file'))
        elif value is not None and value != '' and value != []:
            leaves.append((f'{before}{name}', as_text(value)))
    return leaves


def figure_as_text(figure: dict) -> str:
    """A figure of `estimate.Estimate.to_json` in one line."""
    value, low, high = (as_text(figure[name]) for name in ('value', 'low', 'high'))
    return f'{value}{f" [{low}, {high}]" if low != high else ""}, n = {figure["samples"]}'


def as_text(value: object) -> str:
    """A value of an option or figure as the page shows it."""
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.6g}'
    return ', '.join(map(as_text, value)) if isinstance(value, (list, tuple)) else str(value)
