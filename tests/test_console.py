"""What all commands have in common: paths with ~, consoles of any encoding, Ctrl-C and kills, one sentence for every error."""
from __future__ import annotations

import errno
import importlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from eg3d_unlearn import console
from torch_utils_ext.errors import InputError

COMMANDS = ['command', 'evaluate_command', 'evaluation.audit.command', 'evaluation.metrics.command', 'report.command', 'bench.tables.command',
            'person.photo.__main__', 'bench.benchmark', 'bench.make_network', 'bench.train_encoder', 'bench.compare_inversions',
            'worlds.demo.check', 'worlds.demo.dataset', 'worlds.demo.export', 'worlds.demo.sheet', 'worlds.demo.train', 'worlds.demo.reference',
            'worlds.faces.__main__', 'delta.__main__', 'bench.tables.readme', 'bench.structure']
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_ends_in_a_sentence_and_knows_the_home_folder(name):
    command = importlib.import_module(f'eg3d_unlearn.{name}').main
    assert isinstance(command, (console.Command, console.Group))
    for parameter in command.params:
        if re.search(r'FILE|DIR|PATH|PKL|ZIP|\.pt', parameter.metavar or ''):
            kinds = parameter.type.types if isinstance(parameter.type, click.Tuple) else [parameter.type]
            assert all(kind is console.PATH for kind in kinds), parameter.name


def test_no_command_is_left_out():
    """A module with a command of its own must be in the list above."""
    package = ROOT / 'eg3d_unlearn'
    found = {path.relative_to(package).with_suffix('').as_posix().replace('/', '.') for path in package.rglob('*.py')
             if re.search(r'^@(click\.)?command\(', path.read_text(encoding='utf-8'), re.MULTILINE)}
    assert found == set(COMMANDS)


@pytest.mark.parametrize('given, taken', [
    ('~/x', '/home/jane/x'), ('~', '/home/jane'), ('demo:7', 'demo:7'), ('https://host/~user/net.pkl', 'https://host/~user/net.pkl'),
    ('a/~b', 'a/~b'), ('0.1, 0.2', '0.1, 0.2'), ('~nobody-of-that-name/x', '~nobody-of-that-name/x'),
])
@pytest.mark.skipif(os.name == 'nt', reason='the home folder is another variable there')
def test_paths(monkeypatch, given, taken):
    monkeypatch.setenv('HOME', '/home/jane')
    assert console.PATH.convert(given, None, None) == taken


def test_an_empty_path_is_refused():
    with pytest.raises(click.BadParameter, match='is empty'):
        console.PATH.convert('', None, None)


def of(body) -> click.Command:
    @console.command(stopped='Do it again.')
    def main() -> None:
        """α_max → ≥"""
        body()
    return main


def raises(error: BaseException):
    def body():
        raise error
    return body


@pytest.mark.parametrize('error, said', [
    (InputError('One sentence.'), r'^Error: One sentence\.$'),
    (KeyboardInterrupt(), r'^Error: Stopped by the user\. Do it again\.$'),
    (OSError(errno.ENOSPC, 'No space left on device', 'out/x'), r'^Error: Cannot write out/x: No space left on device\. Free space and run'),
    (OSError(errno.EROFS, 'Read-only file system', 'out/x'), r'^Error: Cannot write out/x: Read-only file system\.$'),
    (MemoryError(), r'^Error: The memory is too small'),
    (RuntimeError('CUDA out of memory. Tried to allocate 2 GiB'), r'^Error: The memory is too small'),
    (ZeroDivisionError('a\x1b[2Jb'), r'^Error: Something unexpected .*: ZeroDivisionError: a\\x1b\[2Jb\. Please report'),
    (RecursionError(), r'^Error: Something unexpected'),
    (click.ClickException('Mine.'), r'^Error: Mine\.$'),
])
def test_every_error_is_one_sentence(error, said):
    result = CliRunner().invoke(of(raises(error)), [])
    assert result.exit_code == 1 and re.search(said, result.output.strip()), result.output
    assert 'Traceback' not in result.output and len(result.output.strip().splitlines()) == 1


def test_the_traceback_is_kept_in_a_file_without_values(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))

    def body():
        secret_latent = [0.123456] * 3
        try:
            secret_latent.index('x')
        except ValueError as error:
            raise LookupError('y' * 10_000) from error
    result = CliRunner().invoke(of(body), [])
    (kept,) = tmp_path.iterdir()
    text = kept.read_text()
    assert str(kept) in result.output and kept.stat().st_mode & 0o777 == 0o600
    assert 'secret_latent.index' in text and 'ValueError' in text and '0.123456, 0.123456' not in text and 'y' * 1000 not in text


def test_a_full_temporary_folder_does_not_matter(monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(console.tempfile, 'mkstemp', full)
    result = CliRunner().invoke(of(raises(ZeroDivisionError('x'))), [])
    assert result.output == 'Error: Something unexpected happened, a fault of the program: ZeroDivisionError: x. Please report it.\n'


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such signals')
@pytest.mark.parametrize('number', [signal.SIGTERM, getattr(signal, 'SIGHUP', signal.SIGTERM), signal.SIGINT])
def test_kills_are_like_ctrl_c(number):
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)     # tests in the background or under nohup ignore it
    try:
        result = CliRunner().invoke(of(lambda: os.kill(os.getpid(), number)), [])
        assert result.exit_code == 1 and result.output == 'Error: Stopped by the user. Do it again.\n'
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such signal')
def test_nohup_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result = CliRunner().invoke(of(lambda: (os.kill(os.getpid(), signal.SIGHUP), click.echo('went on'))), [])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert result.output == 'went on\n'


@pytest.mark.parametrize('encoding', ['cp1252', 'ascii', 'utf-8'])
@pytest.mark.parametrize('words', [['unlearn.py', '--help'], ['evaluate.py', '--help'], ['unlearn.py', '--network=结果\udce9', '--outdir=x']])
def test_consoles_of_any_encoding(tmp_path, encoding, words):
    result = subprocess.run([sys.executable, ROOT / words[0], *(word.encode('utf-8', 'surrogateescape') for word in words[1:])],
                            capture_output=True, cwd=tmp_path, env={**os.environ, 'PYTHONIOENCODING': encoding, 'PYTHONPATH': str(ROOT)})
    assert b'Traceback' not in result.stderr and result.returncode == (0 if words[1] == '--help' else 1), result.stderr
    assert b'Usage' in result.stdout or result.stderr.count(b'\n') == 1


def test_what_the_console_lacks_becomes_a_question_mark(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding='cp1252')
    monkeypatch.setattr(sys, 'stdout', stream)
    console.make_output_safe()
    print('d ≥ 3 in 结果 net\udce9.pkl', flush=True)
    assert stream.buffer.getvalue().strip() == b'd ? 3 in ?? net?.pkl'
