"""Parts that several sections are made of."""
from __future__ import annotations

from eg3d_unlearn.report.markup import Markup, tag

LONG = 16                            # longer lists are counted, not written
GROUPS = {                           # of `measured`: what they are called
    'same_photo': 'this photo, all views', 'other_photos': 'other photos of the person', 'neighbours': 'latents around the person',
    'strangers': 'photos of other people', 'other_people': 'random people',
}


class Section:
    """A part of the page with its heading beside it."""

    def __init__(self, key: str, title: str, lead: object, *content: object):
        self.key, self.title = key, title
        heading = tag('div', tag('h2', title), tag('p', lead, class_='lead') if lead else None, class_='heading')
        self.html = tag('section', heading, tag('div', content, class_='content'), id=key)


def legend(entries: list[tuple[str, object]]) -> Markup:
    """What the marks of a chart mean: class of a mark, words."""
    return tag('p', [tag('span', tag('span', class_=f'key {mark}'), words) for mark, words in entries], class_='legend')


def table(head: list[object], rows: list[list[object]], label: str) -> Markup:
    """A table that scrolls by itself where the page is narrow."""
    return tag('div', tag('table', tag('caption', label), tag('thead', tag('tr', [tag('th', cell, scope='col') for cell in head])),
                          tag('tbody', [tag('tr', tag('th', row[0], scope='row'), [tag('td', cell) for cell in row[1:]]) for row in rows])),
               class_='table', tabindex=0, role='region', aria_label=label)


def pairs(settings: dict) -> Markup:
    """Names and values, nested ones with their path."""
    return tag('dl', [tag('div', tag('dt', name), tag('dd', value)) for name, value in flat(settings)], class_='settings')


def flat(settings: dict, before: str = '') -> list[tuple[str, str]]:
    """Leaves of nested dictionaries; lists are written out."""
    leaves = []
    for name, value in settings.items():
        if isinstance(value, dict) and {'value', 'low', 'high', 'samples'} <= set(value):
            leaves.append((f'{before}{name}', in_words(value)))
        elif isinstance(value, dict):
            leaves += flat(value, f'{before}{name}.')
        elif isinstance(value, list) and (len(value) > LONG or any(isinstance(part, dict) for part in value)):
            leaves.append((f'{before}{name}', f'{len(value)} entries, in the file'))
        elif value is not None and value != '' and value != []:
            leaves.append((f'{before}{name}', written(value)))
    return leaves


def in_words(figure: dict) -> str:
    """A figure of `figures.Figure.to_json` in one line."""
    value, low, high = (written(figure[name]) for name in ('value', 'low', 'high'))
    return f'{value}{f" [{low}, {high}]" if low != high else ""}, n = {figure["samples"]}'


def written(value: object) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.6g}'
    return ', '.join(map(written, value)) if isinstance(value, (list, tuple)) else str(value)
