"""Hostile, broken and foreign files: nothing of them runs, none takes memory or time, each gets one clear sentence.

The attacks are in the folder `attacks`.  All files are read in one process of its own, see `attacks/reader.py`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pickle_stand_ins as stand_ins
import pytest
from attacks import ALL

from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle

READER = Path(__file__).parent / 'attacks' / 'reader.py'
MEMORY_FLOOR = 24 << 20  # bytes; a file of a few bytes cannot be read in three times its size
SECONDS = 10


def run_reader(paths: list[Path]) -> list[dict]:
    done = subprocess.run([sys.executable, str(READER), *map(str, paths)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f'the reader died: {done.stderr[-2000:]}'
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_harmless(result: dict) -> None:
    assert result['events'] == []
    allowed = max(3 * result['size'], MEMORY_FLOOR)
    assert result['peak'] < allowed and result['grown'] < allowed
    assert result['seconds'] < SECONDS


def assert_one_sentence(message: str) -> None:
    assert '\n' not in message and len(message) < 500 and message.endswith('.')


@pytest.fixture(scope='module')
def results(tmp_path_factory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp('attacks')
    paths = {}
    for index, (name, attack) in enumerate(ALL.items()):
        paths[name] = folder / f'{index}.pkl'
        paths[name].write_bytes(attack.build(folder / f'{index}.ran'))
    found = dict(zip(ALL, run_reader(list(paths.values())), strict=True))
    return {name: result | {'ran': Path(result['path']).with_suffix('.ran').exists()} for name, result in found.items()}


@pytest.mark.parametrize('name', ALL)
def test_attack_fails(results, name):
    result = results[name]
    assert not result['ran']
    assert_harmless(result)
    if not ALL[name].message:
        assert result['outcome'] == 'read'
    else:
        assert result['outcome'] == 'InputError', result['message']
        assert re.search(ALL[name].message, result['message'])
        assert_one_sentence(result['message'])


CONTROL = """
import pickle, sys
import pickle_stand_ins
for path in sys.argv[1:]:
    with pickle_stand_ins.upstream_stand_ins():
        try:
            pickle.load(open(path, "rb"))
        except Exception as error:
            print(error)
"""
WORKING = [name for name, attack in ALL.items() if attack.runs]


@pytest.fixture(scope='module')
def control(tmp_path_factory) -> dict[str, Path]:
    """The file that the payload of each attack makes, after Python's own unpickler had the attack."""
    folder = tmp_path_factory.mktemp('control')
    sentinels = {name: folder / f'{index}.ran' for index, name in enumerate(WORKING)}
    for name, sentinel in sentinels.items():
        sentinel.with_suffix('.pkl').write_bytes(ALL[name].build(sentinel))
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parent))
    command = [sys.executable, '-c', CONTROL, *(str(sentinel.with_suffix('.pkl')) for sentinel in sentinels.values())]
    subprocess.run(
        command, env=environment, timeout=120, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    return sentinels


@pytest.mark.parametrize('name', WORKING)
def test_control_attack_works_on_pythons_own_unpickler(control, name):
    """Otherwise the test above would prove nothing."""
    assert control[name].exists()


def test_truncated_everywhere(tmp_path):
    whole = stand_ins.dump(stand_ins.network_contents('eg3d'))
    paths = []
    for tenth in range(1, 10):
        paths.append(tmp_path / f'{tenth}.pkl')
        paths[-1].write_bytes(whole[: len(whole) * tenth // 10])
    paths.append(tmp_path / 'last.pkl')
    paths[-1].write_bytes(whole[:-1])
    for result in run_reader(paths):
        assert result['outcome'] == 'InputError'
        assert 'the file is incomplete or damaged' in result['message']
        assert_one_sentence(result['message'])
        assert_harmless(result)


def test_no_file_a_folder_and_a_pipe(tmp_path):
    with pytest.raises(InputError, match='does not exist; expected a network pickle'):
        read_network_pickle(tmp_path / 'missing.pkl')
    with pytest.raises(InputError, match='is a folder; expected a network pickle'):
        read_network_pickle(tmp_path)
    if hasattr(os, 'mkfifo'):
        os.mkfifo(tmp_path / 'pipe.pkl')
        with pytest.raises(InputError, match='is a device or a pipe'):
            read_network_pickle(tmp_path / 'pipe.pkl')


def test_unknown_names_stay_inert_even_when_they_are_let_through(tmp_path):
    path, sentinel = tmp_path / 'net.pkl', tmp_path / 'ran'
    path.write_bytes(ALL['call inside a good network'].build(sentinel))
    assert read_network_pickle(path, allow_unknown=True).records['G_ema'].upstream_class == 'training.networks_stylegan2.Generator'
    assert not sentinel.exists()
