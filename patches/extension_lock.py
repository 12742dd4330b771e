"""Hangs for ever at `Setting up PyTorch plugin ...`.

Cause: a build that was killed (Ctrl-C) leaves its `lock` file behind; the next one waits for it to go, in silence.
Fix: the wait names the file after 10 s; a lock older than any build ends the wait with an error that names it
(`plugin_fallback` then goes on without the plugin).
Report: https://github.com/NVlabs/stylegan3/issues/48, /82, /203
"""

from __future__ import annotations

import os
import sys
import time
from types import ModuleType

NAME_AFTER = 10  # seconds
# Seconds.  The longest build, filtered_lrelu on a slow machine, takes a few minutes.
STALE_AFTER = 15 * 60


class StaleLock(RuntimeError):
    """A lock file that nobody will take away."""


def needed() -> bool:
    return True


def concerns(module: ModuleType) -> bool:
    return module.__name__ == 'torch.utils.file_baton'


def apply(module: ModuleType) -> None:
    module.FileBaton.wait = wait


def wait(self) -> None:
    """Wait until the lock file of a FileBaton is gone.  Raises StaleLock if it has been there for too long."""
    start = time.time()
    is_named = False
    while (made := _made(self.lock_file_path)) is not None:
        if time.time() - made > STALE_AFTER:
            raise StaleLock(f'the lock file {self.lock_file_path} is {(time.time() - made) / 60:.0f} minutes old, left '
                            'by a build that was stopped. Delete it')
        if not is_named and time.time() - start > NAME_AFTER:
            is_named = True
            print(f'\npatches: waiting for another build to end: {self.lock_file_path} (if there is none, delete the '
                  'file)', file=sys.stderr, flush=True)
        time.sleep(self.wait_seconds)


def _made(path: str) -> float | None:
    try:
        return os.path.getmtime(path)
    except OSError:
        return None
