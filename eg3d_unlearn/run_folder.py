"""The folder of a run: files written whole or not at all, a log, and a state from which the same command goes on."""
from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import BinaryIO, Callable, Iterator

import torch

from torch_utils_ext.atomic_file import is_abandoned, replacing
from torch_utils_ext.errors import InputError

OPTIONS, LOG, STATS, REPORT = 'training_options.json', 'log.txt', 'stats.jsonl', 'report.json'
NETWORK, PICTURE, STATE, LOCK = 'network-unlearned.pkl', 'before-after.png', 'training-state.pt', '.lock'


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let ``write`` fill ``path``, which appears whole or not at all."""
    try:
        with replacing(path) as file:
            write(file)
    except RuntimeError as error:    # torch.save reports a full disk this way
        if not isinstance(error.__context__, OSError) and 'write' not in str(error):
            raise
        raise InputError(f'Cannot write {path}: is the disk full? Free space and run the same command again.') from None


class RunFolder:
    """``--outdir`` of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def check(self, options: dict) -> None:
        """Refuse a folder that is finished, made with other options, or used for something else; nothing is written."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f'--outdir={self.path} is a file. Name a folder.')
        parent = next(parent for parent in [self.path, *self.path.absolute().parents] if parent.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            raise InputError(f'--outdir={self.path} cannot be written: no permission in {parent}. Choose another folder.')
        if (self / REPORT).exists():
            (self / STATE).unlink(missing_ok=True)      # killed between its last two moments: the latent must not stay
            raise InputError(f'--outdir={self.path} holds a finished run, which is not overwritten. Choose another folder, or '
                             'delete this one.')
        if not (self / OPTIONS).exists():
            if (self / NETWORK).exists():
                raise InputError(f'--outdir={self.path} holds a {NETWORK} that this run did not make. Choose another folder.')
            return
        try:
            before = json.loads((self / OPTIONS).read_text(encoding='utf-8'))
        except (OSError, ValueError):
            raise InputError(f'{self / OPTIONS} cannot be read. Choose another --outdir.') from None
        # json turns tuples into lists, so both sides go through it.
        now = json.loads(json.dumps(options))
        if before != now:
            names = [name for name in now if before.get(name) != now[name]] + [name for name in before if name not in now]
            changes = ', '.join(f'{name}: {before.get(name)!r} then, {now.get(name)!r} now' for name in names[:3])
            raise InputError(f'--outdir={self.path} was begun with other options ({changes}). Run the same command to resume, or '
                             'choose another folder.')

    def begin(self, options: dict) -> bool:
        """Make the folder, or take it up again; True when it resumes."""
        self.make()
        for left in self.path.glob('.*.part'):
            if is_abandoned(left):
                left.unlink(missing_ok=True)
        resumes = (self / OPTIONS).exists()
        if not resumes:
            self.write_json(OPTIONS, options)
        return resumes

    def make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f'--outdir={self.path} cannot be made: {error.strerror}. Choose another folder.') from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, so that the same command started twice does not write into one run."""
        self.make()
        try:
            import fcntl
        except ImportError:          # Windows: no advisory locks in the standard library
            yield
            return
        with open(self / LOCK, 'w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f'--outdir={self.path} is in use by another run. Wait for it, or choose another folder.') from None
            try:
                yield
            finally:
                (self / LOCK).unlink(missing_ok=True)

    def write_json(self, name: str, content: dict) -> None:
        text = json.dumps(content, indent=2, ensure_ascii=False) + '\n'
        write_whole(self / name, lambda file: file.write(text.encode()))

    def log(self, message: str) -> None:
        """Print a line and keep it in ``log.txt``."""
        print(message, flush=True)
        with open(self / LOG, 'a', encoding='utf-8') as file:
            file.write(f'{time.strftime("%Y-%m-%d %H:%M:%S")}  {message}\n')

    def save_state(self, state: dict) -> None:
        write_whole(self / STATE, lambda file: torch.save(state, file))

    def load_state(self) -> dict | None:
        """The state of an interrupted run, None if there is none yet."""
        if not (self / STATE).exists():
            return None
        try:
            return torch.load(self / STATE, map_location='cpu', weights_only=True)
        except Exception as error:   # torch.load fails in many ways on a damaged file
            raise InputError(f'{self / STATE} is damaged ({type(error).__name__}). Delete the folder and start again.') from None

    def drop_stats_after(self, step: int) -> None:
        """Forget the lines of steps that will be done again."""
        if not (self / STATS).exists():
            return
        lines = (self / STATS).read_text(encoding='utf-8').splitlines()
        kept = []
        for line in lines:
            with contextlib.suppress(ValueError, KeyError):    # a line that a kill cut short
                if json.loads(line)['step'] <= step:
                    kept.append(line)
        write_whole(self / STATS, lambda file: file.write(''.join(line + '\n' for line in kept).encode()))
