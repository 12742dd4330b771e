"""HTML in which nothing is forgotten to be escaped: whatever is not `Markup` already becomes text."""
from __future__ import annotations

import html

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
    return Markup(html.escape(str(content)))


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """An element; of attribute names the last underscore is dropped and the others become hyphens; None and False: left out."""
    written = ''
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.removesuffix('_').replace('_', '-')
        written += f' {key}' if value is True else f' {key}="{html.escape(str(value))}"'
    return Markup(f'<{name}{written}>' if name in VOID else f'<{name}{written}>{markup(content)}</{name}>')
