"""A file that appears whole or not at all."""

from __future__ import annotations

import glob
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import psutil

from torch_utils_ext.errors import InputError

ABANDONED = 600                      # seconds after which what another machine began to write counts as left behind


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new binary file for reading and writing, which takes the place of `path` when the block ends without an error.

    It is made beside `path`, so that the last step is a rename; both the bytes and the rename are on disk at the end.
    What an earlier attempt that was killed left there is removed first; several processes may write the same file at once.
    Raises InputError when the folder is missing or not writable, or the disk is full; then nothing is left behind.
    """
    temporary = None
    try:
        for leftover in path.parent.glob(f'.{glob.escape(path.name)}.*.part'):
            if is_abandoned(leftover):
                leftover.unlink(missing_ok=True)
        mine = f'.{path.name}.{os.getpid()}@{socket.gethostname()}.'
        handle, temporary = tempfile.mkstemp(prefix=mine, suffix='.part', dir=path.parent)
        with os.fdopen(handle, 'w+b') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(f'Cannot write {path}: {error.strerror or error}.') from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def is_abandoned(leftover: Path) -> bool:
    """Whether nobody writes an unfinished file any more: its process is gone, or is elsewhere and long silent."""
    found = re.search(r'\.(\d+)@(.+)\.[^.]+\.part$', leftover.name)
    if found is None:
        return True
    if found[2] == socket.gethostname():
        return not psutil.pid_exists(int(found[1]))
    with suppress(OSError):
        return time.time() - leftover.stat().st_mtime > ABANDONED
    return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name == 'nt':  # Windows cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
