"""The folder of a run: files written whole or not at all, a log, and a state from which the same command goes on."""
from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import BinaryIO, Callable, Iterable, Iterator

import torch

from torch_utils_ext.atomic_file import cannot_write, held, parts_of, remove_abandoned, replacing
from torch_utils_ext.errors import InputError
from torch_utils_ext.tensor_file import read_tensors
from torch_utils_ext.user_files import read_json, shown

OPTIONS, LOG, STATS, REPORT = 'training_options.json', 'log.txt', 'stats.jsonl', 'report.json'
NETWORK, PICTURE, STATE, LOCK = 'network-unlearned.pkl', 'before-after.png', 'training-state.pt', '.lock'
SYSTEM_FILES = ('thumbs.db', 'desktop.ini', 'lost+found', 'system volume information', '$recycle.bin')  # and all hidden ones
MACHINE = 'machine'                  # in a state: what decides the bytes of a result, beside the options


def write_whole(path: Path, write: Callable[[BinaryIO], None], private: bool = False) -> None:
    """Let ``write`` fill ``path``, which appears whole or not at all; ``private``: for its owner's eyes only."""
    try:
        with replacing(path, private) as file:
            write(file)
    except RuntimeError as error:    # torch.save reports a full disk this way
        if not isinstance(error.__context__, OSError) and 'write' not in str(error):
            raise
        raise InputError(f'Cannot write {path}: is the disk full? Free space and run the same command again.') from None


def write_json(path: Path, content: dict | list) -> None:
    """A json file, readable by people; names of files that are not UTF-8 stay what they are."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + '\n'
    # Such names hold lone surrogates, whose escape is the same in Python and in json.
    write_whole(path, lambda file: file.write(text.encode('utf-8', 'backslashreplace')))


def load_whole(path: Path) -> object:
    """What torch.save wrote: plain tensors and numbers.  Raises many kinds of exception for a damaged file, a single bit included."""
    with zipfile.ZipFile(path) as archive:
        if (part := archive.testzip()) is not None:    # torch writes checksums, but does not look at them
            raise ValueError(f'the checksum of {part} is wrong')
    return read_tensors(path, 'saved state')


def refuse_foreign_files(folder: Path, flag: str, ours: Iterable[str]) -> None:
    """Refuse a folder with somebody's files in it, unless one of the files ``ours`` shows that we began to use it."""
    if any((folder / name).exists() for name in ours) or not folder.is_dir():
        return
    found = sorted(name for name in os.listdir(folder) if not name.startswith('.') and name.lower() not in SYSTEM_FILES)
    if found:
        names = ', '.join(shown(name, 60) for name in found[:3]) + (f' and {len(found) - 3} more' if len(found) > 3 else '')
        raise InputError(f'{flag}={folder} holds files that this command did not make ({names}) and that it could overwrite. Choose a '
                         'new or an empty folder.')


def machine() -> dict:
    """What beside the options decides the bytes of a result: sums over several threads, or on another processor, round differently."""
    return {'torch': str(torch.__version__), 'threads': torch.get_num_threads(), 'processor': torch.backends.cpu.get_cpu_capability(),
            'GPU': torch.cuda.get_device_name() if torch.cuda.is_available() else None}


class RunFolder:
    """``--outdir`` of one run."""

    def __init__(self, path: str | Path, last: str = REPORT):
        self.path, self.last = Path(path), last      # the file that is written last: with it the folder is finished

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def check(self, options: dict, defaults: dict | None = None) -> None:
        """Refuse a folder that is finished, made with other options, or used for something else; nothing is written.

        ``defaults``: what options are that nobody gives; a run that was begun before there was such an option goes on.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f'--outdir={self.path} is a file. Name a folder.')
        parent = next(parent for parent in [self.path, *self.path.absolute().parents] if parent.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            raise InputError(f'--outdir={self.path} cannot be written: no permission in {parent}. Choose another folder.')
        refuse_foreign_files(self.path, '--outdir', [OPTIONS])
        if not (self / OPTIONS).exists():
            return
        if (self / REPORT).exists():
            if (self / STATE).exists() or parts_of(self.path):   # killed between its last two moments: the latent must not stay
                with contextlib.suppress(InputError), self.locked():
                    self.clean()
            raise InputError(f'--outdir={self.path} holds a finished run, which is not overwritten. Choose another folder, or '
                             'delete this one.')
        try:
            before = read_json(self / OPTIONS, 'record of options', dict)
        except InputError as error:
            raise InputError(f'--outdir={self.path} holds a run that cannot be read: {error} Choose another folder.') from None
        if not set(before) & set(options):
            refuse_foreign_files(self.path, '--outdir', [])      # NVIDIA's trainings have a file of that name, too
        # json turns tuples into lists, so all go through it.
        now, usual = (json.loads(json.dumps(values)) for values in (options, defaults or {}))
        if changes := changed(before, now, usual):
            raise InputError(f'--outdir={self.path} was begun with other options ({", ".join(changes[:3])}). Run the same command to resume, '
                             'or choose another folder.')

    def begin(self, options: dict) -> bool:
        """Make the folder, or take it up again; True when it resumes."""
        self.make()
        self.clean(state=False)
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
        with contextlib.ExitStack() as stack:
            try:
                self.is_alone = stack.enter_context(held(self / LOCK))
            except TimeoutError:
                raise InputError(f'--outdir={self.path} is in use by another run. Wait for it, or choose another folder.') from None
            stack.callback(setattr, self, 'is_alone', False)
            if not self.is_alone:
                print(f'{self.path} cannot be locked on this file system: do not start the same command twice.', file=sys.stderr)
            yield
            if (self / self.last).exists():      # whoever gets at this lock now finds a finished folder
                with contextlib.suppress(OSError):
                    (self / LOCK).unlink()

    is_alone = False                 # whether nobody else can be writing here

    def clean(self, state: bool = True) -> None:
        """Delete what killed runs left unfinished here, and with ``state`` the state, which holds the person's latent."""
        for part in parts_of(self.path):
            remove_abandoned(part, self.is_alone)
        if state:
            (self / STATE).unlink(missing_ok=True)

    def finish(self, result: dict) -> None:
        """The end of a run: ``report.json`` comes last, a folder with one no longer holds the latent."""
        self.clean()
        self.write_json(REPORT, result)

    def write_json(self, name: str, content: dict) -> None:
        write_json(self / name, content)

    def append(self, name: str, line: str) -> None:
        """Add a line to a file of text."""
        try:
            with open(self / name, 'a', encoding='utf-8', errors='backslashreplace') as file:
                file.write(line + '\n')
        except OSError as error:
            raise cannot_write(self / name, error) from None

    def log(self, message: str) -> None:
        """Print a line and keep it in ``log.txt``."""
        with contextlib.suppress(OSError):   # a terminal that was closed
            print(message, flush=True)
        self.append(LOG, f'{time.strftime("%Y-%m-%d %H:%M:%S")}  {message}')

    def save_state(self, state: dict) -> None:
        write_whole(self / STATE, lambda file: torch.save({**state, MACHINE: machine()}, file), private=True)

    def load_state(self) -> dict | None:
        """The state of an interrupted run, None if there is none yet; another machine than that of the state is said."""
        if not (self / STATE).exists():
            return None
        try:
            state = load_whole(self / STATE)
            then, now = dict(state.pop(MACHINE, machine())), machine()
            step = state['step']
        except Exception as error:   # a damaged file fails in many ways
            raise self.damaged(type(error).__name__) from None
        if others := [f'{name} {then.get(name)} then, {value} now' for name, value in now.items() if then.get(name) != value]:
            self.log(f'Resuming at step {step} with {", ".join(others)}: the result is as good, but its bytes may differ from those of a run '
                     'that was not interrupted.')
        return state

    def damaged(self, reason: str) -> InputError:
        return InputError(f'{self / STATE} is damaged or of another run ({reason}). Delete the folder and start again.')

    def drop_stats_after(self, step: int) -> None:
        """Forget the lines of steps that will be done again."""
        if not (self / STATS).exists():
            return
        kept = []
        try:
            lines = (self / STATS).read_text(encoding='utf-8', errors='replace').splitlines()
        except OSError as error:
            raise InputError(f'{self / STATS} cannot be read: {error.strerror}. Choose another --outdir.') from None
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):    # a line that a kill cut short
                if json.loads(line)['step'] <= step:
                    kept.append(line)
        write_whole(self / STATS, lambda file: file.write(''.join(line + '\n' for line in kept).encode()))


class Follower(RunFolder):
    """The folder as the processes beside the first one see it, which write nothing."""

    def append(self, *_) -> None:
        pass

    log = save_state = drop_stats_after = append


def changed(before: dict, now: dict, defaults: dict) -> list[str]:
    """How options differ from those of an earlier run, in words; one that was unknown then counts as its default."""
    gone = 'unknown to this version'
    then = {name: before.get(name, defaults.get(name, 'unknown')) for name in now}
    changes = [f'{name}: {shown(repr(then[name]))} then, {shown(repr(now[name]))} now' for name in now if then[name] != now[name]]
    return changes + [f'{shown(name)}: {shown(repr(before[name]))} then, {gone} now' for name in before if name not in now]
