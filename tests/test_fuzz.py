"""A short run of `tests.fuzz`, and proof that it finds what it looks for."""
import mmap
import os
import time

import pytest
from fuzz import SECONDS, fuzz, outcomes
from fuzz_targets import TARGETS, Target

from torch_utils_ext.errors import InputError


@pytest.mark.parametrize('target', TARGETS, ids=lambda target: target.name)
def test_every_mutation_is_read_or_refused(target, tmp_path):
    lines = []
    assert fuzz([target], seed=1, mutations=100, minutes=None, keep=tmp_path, log=lines.append) == 0, '\n'.join(lines)


def refuses(case, folder):
    raise InputError('not this')


def steers_the_terminal(case, folder):
    raise InputError('\x1b[31mred')


def hangs(case, folder):
    time.sleep(60)


def takes_memory(case, folder):
    with mmap.mmap(-1, 300 << 20) as pages:   # not from malloc, which may keep what was freed before
        pages.write(bytes(300 << 20))


@pytest.mark.parametrize('run, kind', [
    (lambda case, folder: None, 'success'), (refuses, 'refused'), (lambda case, folder: {}['x'], 'KeyError'),
    (steers_the_terminal, 'unprintable'), (takes_memory, 'memory'),
    (hangs, 'time'), (lambda case, folder: os._exit(3), 'died')])
def test_the_fuzzer_tells_how_a_case_ended(run, kind, tmp_path):
    found = outcomes(Target('planted', lambda: [b'abc'], run), [b'abc'], 0, tmp_path, seconds=1 if run is hangs else SECONDS)
    assert [next(found)[1].kind for _ in range(2)] == [kind, kind]
    found.close()
