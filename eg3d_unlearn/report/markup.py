"""HTML in which nothing is forgotten to be escaped: whatever is not `Markup` already becomes text."""
from __future__ import annotations

import html
import re

STEERING = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
VOID = ('br', 'hr', 'img', 'input', 'link', 'meta')   # elements without an end tag


class Markup(str):
    """HTML that was made by `tag`, or written by this package itself."""


def markup(content: object) -> Markup:
    """``content`` as HTML: escaped, unless it is `Markup`; lists are joined, None is nothing."""
    if content is None:
        return Markup('')
    if isinstance(content, Markup):
        return content
    if isinstance(content, (list, tuple)):
        return Markup(''.join(markup(part) for part in content))
    return Markup(escaped(content))


def escaped(content: object) -> str:
    """Text as HTML; what steers a terminal or turns the direction of reading, and half characters, are written as escapes."""
    return html.escape(STEERING.sub(lambda found: found[0].encode('unicode_escape').decode('ascii'), str(content)))


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """An element; of attribute names the last underscore is dropped and the others become hyphens; None and False: left out."""
    written = ''
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.removesuffix('_').replace('_', '-')
        written += f' {key}' if value is True else f' {key}="{escaped(value)}"'
    return Markup(f'<{name}{written}>' if name in VOID else f'<{name}{written}>{markup(content)}</{name}>')
