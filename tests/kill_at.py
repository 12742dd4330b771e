"""Runs unlearn.py in processes of its own and kills it, as ``kill -9`` does, at a chosen moment."""
from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from eg3d_unlearn import run
from eg3d_unlearn.command import main
from eg3d_unlearn.person.inversion import optimise
from eg3d_unlearn.unlearning import loss
from torch_utils_ext import atomic_file, network_patch

# Processes are forked from one that has imported all this and done nothing: to import it takes three times as long as a small run.
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload([__name__, 'torch._dynamo'])       # the latter is what the first optimiser imports


def die_at(module, name: str, count: int, halfway=None) -> None:
    """Replace ``module.name`` so that its ``count``-th call ends the process, after ``halfway`` was done."""
    inner, calls = getattr(module, name), [0]

    def wrapped(*arguments, **options):
        calls[0] += 1
        if calls[0] == count:
            if halfway is not None:
                halfway(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments, **options)
    setattr(module, name, wrapped)


def half_a_copy(original, copy) -> None:
    copy.write(original.read(100_000))
    copy.flush()


MOMENTS = {
    'inverting': (optimise, 'shrink', None),
    'step': (loss.UnlearningLoss, 'accumulate_gradients', None),
    'before a file is put in place': (atomic_file.os, 'replace', None),
    'half of the network is written': (network_patch, '_copy', half_a_copy),
    'before the report': (run.figures, 'measure', None),
}

@dataclass
class Begun:
    """A command that runs."""
    process: ForkServerProcess
    said: Path                       # what it writes on the screen

    def ended(self, seconds: float | None = None) -> Ended:
        """Wait for it."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f'still running after {seconds} s: {self.said.read_text()}'
        return Ended(self.process.exitcode, self.said.read_text())


@dataclass
class Ended:
    """A command that ran."""
    returncode: int                  # -N: killed by signal N
    output: str


def begin(words: list[str], said: Path, moment: str = 'never', count: int = 0) -> Begun:
    """Run unlearn.py with the options ``words``; the ``count``-th time that it comes to ``moment`` it is killed."""
    process = SERVER.Process(target=child, args=(words, said, moment, count))
    with pytest.MonkeyPatch.context() as patch:      # for the server, which the first process starts
        patch.setenv('PYTHONPATH', os.pathsep.join(sys.path))
        patch.setenv('OMP_NUM_THREADS', '1')
        process.start()
    return Begun(process, said)


def child(words: list[str], said: Path, moment: str, count: int) -> None:
    """In the process itself."""
    with open(said, 'w') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for number in (signal.SIGTERM, signal.SIGHUP):       # which tests in the background or under nohup ignore, and this with them
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if moment != 'never':
        module, name, halfway = MOMENTS[moment]
        die_at(module, name, count, halfway)
    main(words)
