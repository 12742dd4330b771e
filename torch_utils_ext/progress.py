"""Progress bars that are calm where there is no terminal: a plain line now and then in place of thousands of redrawn ones."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

import tqdm as _tqdm

EVERY_SECONDS = 30                   # between lines
EVERY_SHARE = 0.1                    # of the time since the beginning: a long run's log stays readable


class tqdm(_tqdm.tqdm):
    """tqdm's bar on a terminal; into a file or a pipe one line every `EVERY_SECONDS` or more, and one at the end."""

    def __init__(self, *args, **kwargs):
        stream = kwargs.get('file') or sys.stderr
        self.disable: bool
        self._plain = not (hasattr(stream, 'isatty') and stream.isatty())
        self._began = self._told = time.monotonic()
        if self._plain:
            kwargs |= {'mininterval': 1.0, 'maxinterval': 1.0, 'dynamic_ncols': False, 'ncols': 80}
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if not self._plain:
            return super().display(msg, pos)
        now = time.monotonic()
        if now - self._told >= max(EVERY_SECONDS, EVERY_SHARE * (now - self._began)):
            self._tell(now)
        return True

    def _tell(self, now: float) -> None:
        self._told = now
        with suppress(OSError, ValueError):  # nobody reads any more
            self.fp.write(f'{self}\n')
            self.fp.flush()

    def clear(self, nolock: bool = False) -> None:
        if not self._plain:
            super().clear(nolock)

    def close(self) -> None:
        if not self._plain or self.disable:
            super().close()
            return
        self.disable = True
        self._decr_instances(self)
        if self.leave:
            self._tell(time.monotonic())
