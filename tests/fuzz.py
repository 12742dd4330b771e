"""Mutated files and options of every kind against what reads them: success or one sentence, in bounded time and memory.

    python -m tests.fuzz --minutes=5
    python -m tests.fuzz --mutations=2000 --target=photo --seed=3

Each case runs in a child process with a limit on memory and time. A case that ends in anything but success or an `InputError` is kept
in a folder, and the exit status is 1.
"""
from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_targets import TARGETS, Target  # noqa: E402

from torch_utils_ext.errors import InputError  # noqa: E402

SECONDS = 20                         # of one case; on a busy machine a good one takes up to two
ADDRESS_SPACE = 2 << 30              # bytes that a case may map beyond what the child has
MEMORY = 96 << 20                    # bytes that any case may take
PER_BYTE = 3                         # and how many more for each byte of its file, besides what the target allows

# Values that stand where something else was expected.
ODD = [None, True, False, -1, 0, 1, 3, 7, 64, 255, 2**31 - 1, 2**31, 2**63, -2**63, 10**30, 0.5, -0.0, 1e308, math.nan, math.inf,
       '', 'x', '0', 'x' * 5000, '\x1b]0;title\x07', '\u202egnp', '<script>alert(1)</script>', '../../etc/passwd', 'http://127.0.0.1:9/x',
       '\ud800', [], {}, [1], [[]], [None] * 9, {'a': 1}, {'': {}}, [0.0] * 25,
       'demo-eg3d', ['a', 'b']]
# Numbers at whose edges lengths and offsets go wrong.
EDGES = [bytes(2), bytes(4), bytes(8), b'\xff' * 2, b'\xff' * 4, b'\xff' * 8, b'\x7f\xff\xff\xff', b'\xff\xff\xff\x7f', b'\x00\x00\x00\x80',
         b'\x01\x00\x00\x00', b'\x00\x00\x00\x01', b'\x00' * 3 + b'\x40']


def havoc(content: bytes, dice: random.Random, others: list[bytes]) -> bytes:
    """A few changes of single bytes and of pieces."""
    out = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 4, 8))):
        size = len(out)
        at = dice.randrange(size + 1)
        length = dice.choice((1, 2, 4, 8, 16, 64, 512, max(1, size // 3)))
        match dice.randrange(8):
            case 0 if size:
                out[min(at, size - 1)] ^= 1 << dice.randrange(8)
            case 1 if size:
                out[min(at, size - 1)] = dice.randrange(256)
            case 2:
                del out[at:at + length]
            case 3:
                out[at:at] = out[at:at + length] * dice.choice((1, 2, 50))
            case 4:
                edge = dice.choice(EDGES)
                out[at:at + len(edge)] = edge
            case 5:
                out[at:] = b''
            case 6:
                other = dice.choice(others)
                start = dice.randrange(len(other) + 1)
                out[at:at + length] = other[start:start + length]
            case _:
                out[at:at + length] = dice.randbytes(length)
    return bytes(out)


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """The way to each value inside of dicts and lists."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, part in entries:
        yield from places(part, (*path, key))


def changed(value: object, dice: random.Random, odd: list = ODD) -> object:
    """A copy in which one to three values were replaced, taken out, doubled or wrapped."""
    value = copy.deepcopy(value)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        path = dice.choice(list(places(value)))
        if not path:
            return copy.deepcopy(dice.choice(odd))
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        if isinstance(parent, tuple):
            continue
        match dice.randrange(6):
            case 0:
                del parent[path[-1]]
            case 1:
                parent[path[-1]] = [parent[path[-1]]] * dice.choice((1, 2, 40))
            case 2 if isinstance(parent, dict):
                parent[str(dice.choice(odd))] = parent[path[-1]]
            case _:
                parent[path[-1]] = copy.deepcopy(dice.choice(odd))
        if not isinstance(value, (dict, list)):
            return value
    return value


def mutated(target: Target, seeds: list, dice: random.Random) -> object:
    """A case of ``target``: bytes, or whatever its seeds are."""
    seed = dice.choice(seeds)
    if isinstance(seed, bytes):
        return havoc(seed, dice, seeds)
    case = changed(seed, dice)
    if not target.as_json:
        return case
    text = json.dumps(case, default=str).encode('utf-8', 'surrogatepass')
    return havoc(text, dice, [text]) if dice.random() < 0.15 else text


@dataclass
class Outcome:
    """How a case ended."""
    kind: str                        # 'success', 'refused', or what should not be: the exception's name, 'time', 'memory', 'died'
    message: str = ''
    seconds: float = 0.0

    @property
    def is_fault(self) -> bool:
        return self.kind not in ('success', 'refused')


def _status(name: str) -> int:       # bytes; 0 where the system does not tell
    try:
        text = Path('/proc/self/status').read_text(encoding='ascii', errors='replace')
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(name + ':')), 0)


def attempt(target: Target, case: object, folder: Path) -> Outcome:
    """One case in this process."""
    try:
        Path('/proc/self/clear_refs').write_text('5', encoding='ascii')  # the peak begins anew
    except OSError:
        pass
    before, begun, size = _status('VmRSS'), time.monotonic(), len(case) if isinstance(case, bytes) else 0
    try:
        target.run(case, folder)
        outcome = Outcome('success')
    except InputError as error:
        bad = [c for c in str(error) if not c.isprintable() and c != '\n']
        outcome = Outcome('unprintable', repr(str(error))[:400]) if bad or len(str(error)) > 3000 else Outcome('refused', str(error)[:400])
    except Exception as error:
        outcome = Outcome(type(error).__name__, traceback.format_exc()[-3000:])
        del error
    outcome.seconds = time.monotonic() - begun
    grown = _status('VmHWM') - before
    if before and grown > MEMORY + target.memory + PER_BYTE * size and not outcome.is_fault:
        outcome = Outcome('memory', f'{grown >> 20} MiB for a file of {size:,} bytes; {outcome.kind}: {outcome.message}', outcome.seconds)
    return outcome


def child(target: Target, seeds: list, seed: int, start: int, folder: Path, pipe: int) -> None:
    """Work through cases from ``start`` on, a line of json into ``pipe`` for each, until killed."""
    os.setpgid(0, 0)
    torch.set_num_threads(1)
    room = _status('VmSize') + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    number = start
    while True:
        outcome = attempt(target, mutated(target, seeds, random.Random(f'{target.name} {seed} {number}')), folder)
        os.write(pipe, (json.dumps([number, outcome.kind, outcome.message, round(outcome.seconds, 3)]) + '\n').encode())
        number += 1


def outcomes(target: Target, seeds: list, seed: int, folder: Path, seconds: float = SECONDS) -> Iterator[tuple[int, Outcome]]:
    """Case after case, in child processes; one that hangs or dies is an outcome, too."""
    number = 0
    while True:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(read)
                child(target, seeds, seed, number, folder, write)
            finally:
                os._exit(1)
        os.close(write)
        try:
            with os.fdopen(read, 'rb', buffering=0) as pipe:
                pending = b''
                while True:
                    ready, _, _ = select.select([pipe], [], [], seconds)
                    chunk = pipe.read(1 << 16) if ready else b''
                    if not chunk:
                        break
                    *lines, pending = (pending + chunk).split(b'\n')
                    for line in lines:
                        number, kind, message, spent = json.loads(line)
                        yield number, Outcome(kind, message, spent)
                        number += 1
        finally:
            os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        yield number, Outcome('died', f'status {status}') if ready else Outcome('time', f'over {seconds:.0f} s')
        number += 1


def fuzz(
    targets: list[Target],
    seed: int,
    mutations: int | None,           # in all; None = until the time is up
    minutes: float | None,
    keep: Path,                      # folder for cases that end badly
    log: Callable[[str], None] = click.echo,
) -> int:                            # cases that ended badly
    """Run the targets in turns, a share of the work each; returns the number of faults."""
    end = math.inf if minutes is None else time.monotonic() + minutes * 60
    faults, done = 0, 0
    for index, target in enumerate(targets):
        left = len(targets) - index
        until = min(end, time.monotonic() + (end - time.monotonic()) / left)
        count = math.inf if mutations is None else math.ceil((mutations - done) / left)
        with tempfile.TemporaryDirectory() as scratch:
            seeds = target.seeds()
            for example in seeds:        # what is imported when it is first needed counts for no case
                with contextlib.suppress(InputError):
                    target.run(json.dumps(example).encode() if target.as_json else example, Path(scratch))
            kinds: Counter[str] = Counter()
            slowest = 0.0
            cases = outcomes(target, seeds, seed, Path(scratch))
            for number, outcome in cases:
                kinds[outcome.kind] += 1
                slowest = max(slowest, outcome.seconds)
                if outcome.is_fault:
                    faults += 1
                    case = mutated(target, seeds, random.Random(f'{target.name} {seed} {number}'))
                    keep.mkdir(parents=True, exist_ok=True)
                    name = f'{target.name}-{seed}-{number}'
                    (keep / name).write_bytes(case if isinstance(case, bytes) else repr(case).encode('utf-8', 'backslashreplace'))
                    (keep / f'{name}.txt').write_text(f'{outcome.kind}\n{outcome.message}\n', encoding='utf-8')
                    log(f'{name}: {outcome.kind}: {(outcome.message.strip().splitlines() or [""])[-1][:200]}')
                if kinds.total() >= count or time.monotonic() >= until:
                    break
            cases.close()
        done += kinds.total()
        counts = ', '.join(f'{kind} {n:,}' for kind, n in kinds.most_common())
        log(f'{target.name}: {kinds.total():,} mutations: {counts}; slowest {slowest:.1f} s')
    where = f'; see {keep}' if faults else ''
    log(f'{done:,} mutations, {faults:,} of them ended in something other than success or a clear refusal{where}')
    return faults


@click.command()
@click.option('--minutes', help='Time for all targets together.  [default: 5 without --mutations]', metavar='FLOAT',
              type=click.FloatRange(min=0, min_open=True))
@click.option('--mutations', help='Number of cases of all targets together.', type=click.IntRange(min=1), metavar='INT')
@click.option('--target', 'names', help='Only these; may be given more than once.', multiple=True,
              type=click.Choice([target.name for target in TARGETS]))
@click.option('--seed', help='Seed of the mutations.', type=int, default=0, show_default=True)
@click.option('--keep', help='Folder for cases that end badly.', type=click.Path(path_type=Path), show_default=True,
              default=Path(tempfile.gettempdir()) / 'fuzz')
def main(minutes: float | None, mutations: int | None, names: tuple[str, ...], seed: int, keep: Path) -> None:
    """Mutate what users may give, and look for anything but success or a clear refusal."""
    targets = [target for target in TARGETS if not names or target.name in names]
    if fuzz(targets, seed, mutations, minutes or (None if mutations else 5), keep):
        raise SystemExit(1)


if __name__ == '__main__':
    main()
