"""Pickles that ask for a call: the classic way to run code, in every dress."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pickle_stand_ins as stand_ins
from attacks.attack import Attack, call, inside_network, text, whole

HOSTILE = 'asks for .* which no network needs: it is broken or hostile, and nothing in it was run'


def attacks() -> list[Attack]:
    return [
        *_direct(),
        Attack('module_src', _source, '', runs=True),
        Attack('module_src of a fork', _fork_source, 'is not a generator of EG3D', runs=True),
        Attack(
            'call inside a good network',
            lambda sentinel: inside_network(_touch('os', 'system', sentinel)),
            HOSTILE,
            runs=True,
        ),
        Attack(
            'unknown class of a fork',
            lambda _: whole(call('my_fork.networks', 'BetterGenerator')),
            '--trust-pickle --upstream=DIR',
        ),
    ]


def _whole(recipe: Callable[[Path], bytes], sentinel: Path) -> bytes:
    return whole(recipe(sentinel))


def _touch(module: str, name: str, sentinel: Path) -> bytes:
    return call(module, name, text(f"touch '{sentinel}'"))


def _python(sentinel: Path) -> str:
    return f"open({str(sentinel)!r}, 'w').close()"


def _direct() -> list[Attack]:
    recipes = {
        'os.system': lambda sentinel: _touch('os', 'system', sentinel),
        'posix.system': lambda sentinel: _touch('posix', 'system', sentinel),
        'subprocess.getoutput': lambda sentinel: _touch('subprocess', 'getoutput', sentinel),
        'builtins.eval': lambda sentinel: call('builtins', 'eval', text(_python(sentinel))),
        'builtins.exec': lambda sentinel: call('builtins', 'exec', text(_python(sentinel))),
        '__builtin__.eval': lambda sentinel: call('__builtin__', 'eval', text(_python(sentinel))),
        'builtins.open': lambda sentinel: call('builtins', 'open', text(str(sentinel)), text('w')),
        'os.mkdir': lambda sentinel: call('os', 'mkdir', text(str(sentinel))),
        'importlib then getattr': lambda sentinel: (
            call('builtins', 'getattr', call('importlib', 'import_module', text('os')), text('system'))
            + b'('
            + text(f"touch '{sentinel}'")
            + b'tR'
        ),
        'builtins.__import__': lambda sentinel: (
            call('builtins', 'getattr', call('builtins', '__import__', text('os')), text('system'))
            + b'('
            + text(f"touch '{sentinel}'")
            + b'tR'
        ),
        'runpy.run_path': lambda sentinel: call('runpy', 'run_path', text(str(_script(sentinel)))),
        'pty.spawn': lambda sentinel: call('pty', 'spawn', b'](' + text('touch') + text(str(sentinel)) + b'e'),
        'new object': lambda sentinel: (
            b'coperator\nmethodcaller\n('
            + text('touch')
            + b't\x81'
            + b'('
            + call('pathlib', 'Path', text(str(sentinel)))
            + b'tR'
        ),
        'dotted name': lambda sentinel: (
            text('torch') + text('os.system') + b'\x93(' + text(f"touch '{sentinel}'") + b'tR'
        ),
        'operator.methodcaller': lambda sentinel: (
            call('operator', 'methodcaller', text('touch'))
            + b'('
            + call('pathlib', 'Path', text(str(sentinel)))
            + b'tR'
        ),
        'list of a map': lambda sentinel: call(
            'builtins', 'list', call('builtins', 'map', b'cos\nsystem\n', b'](' + text(f"touch '{sentinel}'") + b'e')
        ),
    }
    found = [
        Attack(
            name,
            partial(_whole, recipe),
            HOSTILE,
            runs=name != '__builtin__.eval',
        )
        for name, recipe in recipes.items()
    ]
    return [
        *found,
        Attack('torch.hub', lambda _: whole(call('torch.hub', 'load', text('nobody/nothing'), text('net'))), HOSTILE),
        Attack('torch.load', lambda _: whole(call('torch', 'load', text('/tmp/x'))), HOSTILE),
        Attack('numpy.load', lambda _: whole(call('numpy', 'load', text('/tmp/x'))), HOSTILE),
        Attack(
            "upstream's persistence module",
            lambda _: whole(call('torch_utils.persistence', '_src_to_module', text('1'))),
            '--trust',
        ),
    ]


def _script(sentinel: Path) -> Path:
    script = sentinel.with_suffix('.py')
    script.write_text(_python(sentinel))
    return script


def _source(sentinel: Path) -> bytes:
    """A network that is good but for its source text; it is read, and the text stays text."""
    net = stand_ins.generator()
    net._meta = (net._meta[0], f'{stand_ins.NEWER_SOURCE}\n{_python(sentinel)}', 6)
    return stand_ins.dump(stand_ins.network_contents() | {'G_ema': net})


def _fork_source(sentinel: Path) -> bytes:
    return stand_ins.dump(
        stand_ins.network_contents() | {'G_ema': stand_ins.Persistent('BetterGenerator', _python(sentinel))}
    )
