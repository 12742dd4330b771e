"""What all commands have in common: text that any console can show, paths with ~, Ctrl-C, and one sentence for every error."""
from __future__ import annotations

import contextlib
import errno
import functools
import os
import platform
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Callable, Iterable, Iterator

import click

import eg3d_unlearn
from torch_utils_ext.atomic_file import cannot_write
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

# Of the machine, not of the program: a sentence is enough.
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
KILLS = ('SIGTERM', 'SIGHUP')        # a polite kill; a terminal or connection that was closed
LONGEST_MESSAGE = 300                # characters of an exception's own words, which may quote a file


class UserPath(click.ParamType):
    """A path as the user writes it: ~ is the home folder.  URLs and names (``demo:7``) stay as they are."""
    name = 'path'

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail('the path is empty.', param, ctx)
        return os.path.expanduser(value)


PATH = UserPath()


def refuse_existing(path: str | Path | None, flag: str = '--outfile') -> None:
    """Refuse to overwrite a file."""
    if path is not None and os.path.lexists(path):
        raise InputError(f'{flag}={path} exists and is not overwritten. Delete it, or name another file.')


class Terminated(KeyboardInterrupt):
    """A polite kill, or a terminal that was closed."""


def make_output_safe() -> None:
    """Let what a console's encoding lacks become a question mark instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):    # a stream of somebody who called us
            stream.reconfigure(errors='replace')


@contextlib.contextmanager
def guarded(stopped: str = '') -> Iterator[None]:
    """Every error inside becomes `click.ClickException` with a sentence; ``stopped``: what to do after Ctrl-C."""
    with signals_to(terminate):
        try:
            yield
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except InputError as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            raise click.ClickException(f'Stopped by the user. {stopped}'.rstrip()) from None
        except Exception as error:   # whatever nobody has thought of
            raise click.ClickException(sentence(error)) from None


def sentence(error: Exception) -> str:
    """What is said of an exception that no code of ours has turned into an `InputError`."""
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        return str(cannot_write(error.filename or 'a file', error))
    if isinstance(error, MemoryError) or 'out of memory' in str(error) or "can't allocate memory" in str(error):
        return 'The memory is too small for this. Try a smaller --batch, --device=cpu, or a machine with more memory.'
    kept = keep_traceback(error)
    where = f'Please report it with the file {kept}, which holds no picture and no latent' if kept else 'Please report it'
    return f'Something unexpected happened, a fault of the program: {type(error).__name__}: {shown(error, 200)}. {where}.'


def keep_traceback(error: BaseException) -> str | None:
    """Write where an exception came from into a new file; None where even that fails.  No values of variables are in it."""
    parts = [f'eg3d_unlearn {eg3d_unlearn.__version__}, Python {platform.python_version()}, {platform.platform()}']
    if 'torch' in sys.modules:
        parts.append(f'torch {sys.modules["torch"].__version__}')
    while error is not None:
        parts += [*traceback.format_tb(error.__traceback__), f'{type(error).__name__}: {shown(error, LONGEST_MESSAGE)}', '']
        error = error.__cause__ or error.__context__
    with contextlib.suppress(OSError):
        handle, path = tempfile.mkstemp(prefix='eg3d-unlearn-error-', suffix='.txt')
        with os.fdopen(handle, 'w', encoding='utf-8', errors='backslashreplace') as file:
            file.write('\n'.join(parts))
        return path
    return None


@contextlib.contextmanager
def signals_to(handler: Callable, names: Iterable[str] = KILLS) -> Iterator[None]:
    """While entered, signals call ``handler``, unless they are ignored (nohup) or unknown (Windows); in the main thread only."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def terminate(number: int, frame) -> None:
    """A kill ends the work as Ctrl-C does."""
    raise Terminated


class _Guarded:
    """The part of a command or group that concerns its end."""

    def __init__(self, *args, stopped: str = '', **settings):
        super().__init__(*args, **settings)
        self.stopped = stopped

    def main(self, *args, **settings):
        make_output_safe()
        return super().main(*args, **settings)

    def invoke(self, ctx: click.Context):
        with guarded(self.stopped):
            return super().invoke(ctx)


class Option(click.Option):
    """An option in a titled section of the help; ``common``: --help shows it, too, not --help-all only."""

    def __init__(self, *args, group: str = 'Options', common: bool = True, **settings):
        super().__init__(*args, **settings)
        self.group, self.common = group, common


def show_all(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    """The callback of --help-all."""
    if value and not ctx.resilient_parsing:
        ctx.meta[SHOWS_ALL] = True
        click.echo(ctx.get_help())
        ctx.exit()


SHOWS_ALL = 'eg3d_unlearn.console.shows_all'
HELP_ALL = click.Option(['--help-all'], is_flag=True, is_eager=True, expose_value=False, callback=show_all, help='Show all options and exit.')
COLUMN = 27                          # characters of an option's name in the help


class Command(_Guarded, click.Command):
    """A command whose errors are sentences, and whose help shows options by groups.  ``stopped``: what its user can do after Ctrl-C."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.rare = [option for option in self.params if not getattr(option, 'common', True)]
        if self.rare:
            self.params.append(HELP_ALL)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by groups, those that most people need unless --help-all asks for all."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            section, record = sections.setdefault(getattr(option, 'group', 'Options'), []), option.get_help_record(ctx)
            if record is not None and (option not in self.rare or SHOWS_ALL in ctx.meta):
                section.append((record[0].ljust(COLUMN), record[1]))
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records, col_max=COLUMN)
        if self.rare and SHOWS_ALL not in ctx.meta:
            formatter.write_paragraph()
            formatter.write_text(f'These are the options that most people need. --help-all shows {len(self.rare)} more.')


class Group(_Guarded, click.Group):
    """Likewise a group of commands."""


command = functools.partial(click.command, cls=Command, context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 120})
