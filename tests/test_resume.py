"""Killed at any moment, the same command goes on and ends in the same bytes as an uninterrupted run."""
import json
import os
import re
import signal
import time

import pytest
import torch
from kill_at import begin
from small import save_noise, save_small

from eg3d_unlearn.run_folder import LOCK, RunFolder


@pytest.fixture(scope='module')
def command(tmp_path_factory):
    """A run of seven steps on a small network, from a photo: `kill_at.Begun`."""
    folder = tmp_path_factory.mktemp('resume')
    save_small(folder / 'net.pkl', 'stylegan2')
    save_noise(folder / 'jane_doe.png')

    def run(outdir, moment='never', count=0, **extra):
        options = {'network': folder / 'net.pkl', 'image': folder / 'jane_doe.png', 'aligned': True, 'outdir': outdir, 'iters': 7, 'snap': 3,
                   'lr': 0.01, 'inversion-steps': 5, 'lpips-net': 'squeeze', 'id-network': 'none',
                   'device': 'cpu', 'random-metric-weights': True, **extra}
        words = [f'--{name}={value}' if value is not True else f'--{name}' for name, value in options.items()]
        return begin(words, folder / 'said.txt', moment, count)

    return run


def files(folder):
    """What a run leaves, without the lock and TensorBoard's curves, which are there where it is installed."""
    return sorted(name for name in os.listdir(folder) if 'tfevents' not in name and name != LOCK)


@pytest.fixture(scope='module')
def uninterrupted(command, tmp_path_factory):
    outdir = tmp_path_factory.mktemp('whole') / 'out'
    result = command(outdir).ended()
    assert result.returncode == 0, result.output
    return outdir


@pytest.mark.parametrize('moment, count', [
    ('inverting', 4), ('step', 2), ('step', 6), ('before a file is put in place', 3), ('half of the network is written', 1),
    ('before the report', 1),
])
def test_kill_and_resume_end_in_the_same_bytes(command, uninterrupted, tmp_path, moment, count):
    killed = command(tmp_path / 'out', moment, count).ended()
    assert killed.returncode == -signal.SIGKILL, killed.output
    assert not (tmp_path / 'out' / 'report.json').exists()
    resumed = command(tmp_path / 'out').ended()
    assert resumed.returncode == 0, resumed.output
    for name in ('network-unlearned.pkl', 'before-after.png'):
        assert (tmp_path / 'out' / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    assert files(tmp_path / 'out') == files(uninterrupted)

    def steps(folder):
        lines = [json.loads(line) for line in (folder / 'stats.jsonl').read_text().splitlines()]
        return [{name: value for name, value in line.items() if name != 'seconds'} for line in lines]
    assert steps(tmp_path / 'out') == steps(uninterrupted)
    first, last = ([json.loads((folder / 'report.json').read_text())['loss'][name]['step'] for folder in (tmp_path / 'out', uninterrupted)]
                   for name in ('first_step', 'last_step'))
    assert first == [1, 1] and last == [7, 7]


def test_the_network_did_learn(uninterrupted, command, tmp_path):
    """Same bytes would prove nothing if the steps changed nothing."""
    other = command(tmp_path / 'out', seed=1).ended()
    assert other.returncode == 0
    assert (tmp_path / 'out' / 'network-unlearned.pkl').read_bytes() != (uninterrupted / 'network-unlearned.pkl').read_bytes()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_finishes_the_step_and_loses_nothing(command, tmp_path, number):
    begun = command(tmp_path / 'out', iters=1000)
    stats = tmp_path / 'out' / 'stats.jsonl'
    while not (stats.exists() and stats.read_text().count('\n') >= 4):
        assert begun.process.is_alive(), begun.ended().output
        time.sleep(0.05)
    os.kill(begun.process.pid, number)
    stopped = begun.ended()          # if need be at the last step
    assert stopped.returncode == 1 and 'Nothing is lost' in stopped.output, stopped.output
    saved = torch.load(tmp_path / 'out' / 'training-state.pt', weights_only=True)['step']
    assert saved == len(stats.read_text().splitlines()) >= 4
    assert (tmp_path / 'out' / 'training-state.pt').stat().st_mode & 0o777 == 0o600


def test_nothing_of_the_person_stays(uninterrupted):
    assert files(uninterrupted) == [
        'before-after.png', 'log.txt', 'network-unlearned.pkl', 'report.html', 'report.json', 'stats.jsonl', 'training_options.json']
    for name in ('log.txt', 'report.html', 'report.json', 'training_options.json', 'stats.jsonl', 'network-unlearned.pkl'):
        assert b'jane_doe' not in (uninterrupted / name).read_bytes(), name


def test_keep_source_keeps_it(command, tmp_path):
    result = command(tmp_path / 'out', iters=1, **{'keep-source': True}).ended()
    assert result.returncode == 0, result.output
    assert {'source-latent.pt', 'source-photo.png'} <= set(os.listdir(tmp_path / 'out'))
    assert 'jane_doe' in (tmp_path / 'out' / 'report.json').read_text()


def test_two_at_once_in_one_folder(command, tmp_path):
    (tmp_path / 'out').mkdir()
    with RunFolder(tmp_path / 'out').locked():
        result = command(tmp_path / 'out').ended()
    assert result.returncode == 1 and 'in use by another run' in result.output


def test_the_page_of_a_resumed_run_is_that_of_an_uninterrupted_one(command, tmp_path):
    """The photo, which no state holds, is read again."""
    shown = []
    for moment, count in (('never', 0), ('step', 4)):
        outdir, extra = tmp_path / moment, {'report': 'full', 'keep-source': True, 'inversion-steps': 2}
        if moment != 'never':
            assert command(outdir, moment, count, **extra).ended().returncode == -signal.SIGKILL
        assert command(outdir, **extra).ended().returncode == 0
        shown.append(re.findall(r'<img [^>]*>', (outdir / 'report.html').read_text()))
        figures = json.loads((outdir / 'report.json').read_text())['evidence']
        shown.append(figures)
    assert any('The photo that was erased.' in picture for picture in shown[0])
    assert shown[0] == shown[2] and shown[1] == shown[3]
