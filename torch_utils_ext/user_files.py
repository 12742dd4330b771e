"""Reading files that somebody else wrote: bounded, never blocking, and one clear sentence about what is wrong with them."""

from __future__ import annotations

import difflib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from torch_utils_ext.errors import InputError

MAX_JSON_BYTES = 256 << 20
MAX_NUMBER = 1e300  # numbers beyond are no results
_KINDS = {
    stat.S_ISDIR: 'is a folder',
    stat.S_ISFIFO: 'is a pipe',
    stat.S_ISCHR: 'is a device',
    stat.S_ISBLK: 'is a device',
    stat.S_ISSOCK: 'is a socket',
}


def shown(text: object, limit: int = 100) -> str:
    """Text out of a file or a file's name, fit for a message: what does not print is escaped, and it is cut to `limit` characters."""
    text = str(text)
    clean = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode('ascii') for c in text[:limit])
    return clean + ('...' if len(text) > limit else '')


def open_file(
    path: str | Path,
    what: str = 'file',  # what it should be, for the error: 'latent file', 'photo'
) -> BinaryIO:
    """A regular file, opened for reading.  Pipes and devices, which can block or never end, are refused unread.

    Raises InputError: no such file, not a regular file, no permission.
    """
    try:
        # Not blocking: opening a pipe to which nobody writes would wait for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0))
    except ValueError:  # a NUL in the name
        raise InputError(f'The {what} {shown(path)} cannot be opened: its name holds a NUL character.') from None
    except OSError as error:
        raise InputError(f'The {what} {shown(path, 300)} cannot be opened: {error.strerror or error}.') from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = next((text for test, text in _KINDS.items() if test(mode)), 'is no regular file')
        raise InputError(f'The {what} {shown(path, 300)} {kind}, not a file. Give the path of a file.')
    return os.fdopen(handle, 'rb')


def is_file(path: str | Path) -> bool:
    """Whether there is a regular file; False, too, for a name that the system cannot look for (too long, a NUL in it)."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' Did you mean X?' where one of the known names is much like it, else nothing; to be put behind an error."""
    near = difflib.get_close_matches(str(name)[:100].lower(), list(known), 1, cutoff=0.6)
    return f' Did you mean {near[0]}?' if near else ''


def read_bytes(
    path: str | Path,
    what: str = 'file',
    at_most: int = 4 << 30,  # bytes; a longer file is refused unread
) -> bytes:
    """The content of a regular file.  Raises InputError: as `open_file`, or too long, or cut while it was read."""
    with open_file(path, what) as file:
        size = os.fstat(file.fileno()).st_size
        if size > at_most:
            raise InputError(f'The {what} {shown(path, 300)} has {size:,} bytes, far more than a {what} needs (at most {at_most:,}).')
        try:
            return file.read(size)   # not at_most: that much would be taken
        except OSError as error:
            raise InputError(f'The {what} {shown(path, 300)} cannot be read: {error.strerror or error}.') from None


def read_json(
    path: str | Path,
    what: str = 'json file',
    kind: type | None = None,  # what the outermost value must be: dict, list; None = anything
) -> Any:
    """The content of a json file, with or without a byte order mark.

    Raises InputError: as `read_bytes`, no valid json, nested without end, or another outermost type.
    """
    return parse_json(read_bytes(path, what, MAX_JSON_BYTES), f'The {what} {shown(path, 300)}', kind)


def parse_json(content: bytes, name: str, kind: type | None = None) -> Any:
    """The value that json text holds; `name` begins the sentence of an error."""
    try:
        value = json.loads(content.decode('utf-8-sig'))
    except UnicodeDecodeError:
        raise InputError(f'{name} is not text in UTF-8. Save it as UTF-8 json.') from None
    except (ValueError, RecursionError) as error:
        where = f' (line {error.lineno})' if isinstance(error, json.JSONDecodeError) else ''
        raise InputError(f'{name} is not valid json{where}.') from None
    if kind is not None and not isinstance(value, kind):
        expected = 'an object {...}' if kind is dict else 'a list [...]' if kind is list else kind.__name__
        raise InputError(f'{name} holds {type(value).__name__} where {expected} was expected.')
    return value


def dict_at(value: object, *names: str) -> dict:
    """The object that stands under a path of names in the value of a json file; {} where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of a json file is a number that can be a result: finite, no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < MAX_NUMBER
