"""A file that appears whole or not at all, and a lock that two processes do not hold at once."""

from __future__ import annotations

import errno
import glob
import os
import re
import socket
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import filelock

from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

try:
    import fcntl
except ImportError:                  # Windows, where nobody can delete a file that somebody else has open
    fcntl = None  # type: ignore[assignment]

ABANDONED = 600                      # seconds after which what another machine began to write counts as left behind
_PART = re.compile(r'\.(?P<name>.+)\.\d+@(?P<host>.+)\.[a-z0-9_]{8}\.part')  # name of a file that is being written
_NO_SUCH_CALL = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_MENDED_BY = {errno.ENOSPC: 'Free space', errno.EDQUOT: 'Free space within your quota', errno.EFBIG: 'Raise the limit on file sizes (ulimit -f)'}


def cannot_write(path: str | Path, error: OSError) -> InputError:
    """The sentence about a file that could not be written, with what mends it."""
    advice = f' {_MENDED_BY[error.errno]} and run the same command again.' if error.errno in _MENDED_BY else ''
    return InputError(f'Cannot write {shown(path, 300)}: {error.strerror or error}.{advice}')


@contextmanager
def replacing(
    path: Path,
    private: bool = False,  # readable by its owner only, from its first byte on
) -> Iterator[BinaryIO]:
    """A new binary file for reading and writing, which takes the place of `path` when the block ends without an error.

    It is made beside `path`, so that the last step is a rename; both the bytes and the rename are on disk at the end.
    What an earlier attempt that was killed left there is removed first; several processes may write the same file at once.
    Raises InputError when the folder is missing or not writable, or the disk is full; then nothing is left behind.
    """
    temporary = None
    try:
        for leftover in parts_of(path.parent, [path.name]):
            remove_abandoned(leftover)
        handle, temporary = _new_part(path)
        with os.fdopen(handle, 'w+b') as file:
            yield file
            file.flush()
            _sync(file.fileno())
        if not private:
            with suppress(OSError):      # file systems without permissions
                os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def parts_of(
    folder: Path,
    names: Iterable[str] | None = None,  # of the files that were to be written; None = of any
) -> list[Path]:
    """Files that `replacing` has in work in a folder, or left there when it was killed; none that others made."""
    found = []
    for pattern in ('*',) if names is None else map(glob.escape, names):
        for path in folder.glob(f'.{pattern}.*.part'):
            match = _PART.fullmatch(path.name)
            if match and (names is None or match['name'] in names):
                found.append(path)
    return found


def remove_abandoned(
    part: Path,
    alone: bool = False,  # nobody else can be writing here, on this machine or another: the folder's lock is held
) -> None:
    """Delete an unfinished file that nobody writes any more.

    Its writer holds a lock on it.  Process ids would say nothing: in containers they repeat.
    """
    with suppress(OSError):
        is_old = time.time() - part.stat().st_mtime > ABANDONED
        is_here = (found := _PART.fullmatch(part.name)) is not None and found['host'] == socket.gethostname()
        if fcntl is None:
            if is_old or is_here or alone:
                part.unlink()
            return
        handle = os.open(part, os.O_RDWR)
        try:
            locks = True
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return               # somebody is writing it
            except OSError:
                locks = False        # a file system without locks: only its age tells
            if is_old or (locks and (is_here or alone)):
                part.unlink()
        finally:
            os.close(handle)


def _new_part(path: Path) -> tuple[int, str]:
    """A new file beside `path`, for its owner only and locked, and its name."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f'.{path.name}.{os.getpid()}@{socket.gethostname()}.', suffix='.part', dir=path.parent)
        if fcntl is None:
            return handle, name
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)             # somebody took it for abandoned before it was locked


@contextmanager
def held(lock: Path) -> Iterator[bool]:
    """Hold a lock file while the block runs, and say whether that keeps others out: False where there are no locks.

    The file stays: who deletes it would let in somebody who has opened it already.
    Raises TimeoutError at once when another process holds it, which ends with that process.
    """
    keeper = filelock.FileLock(str(lock))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # filelock's way without flock
            keeper.acquire(blocking=False)
    except filelock.Timeout:
        raise TimeoutError(f'{lock} is held') from None
    except (OSError, NotImplementedError):   # a file system without locks, a lock file of somebody else
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):      # the folder may be gone
            keeper.release()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(handle: int) -> None:
    """fsync, where the file system has it."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise


def _sync_folder(folder: Path) -> None:
    """Put the rename on disk, as well as it goes: many file systems cannot, and the file itself is there."""
    with suppress(OSError):              # Windows cannot open folders; CIFS and others do not sync them
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
