"""`evaluate.py metrics`: a line beside the pickle, and a sentence for what is wrong before anything slow begins."""
from __future__ import annotations

import functools
import json
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from evidence_stand_in import changed
from small import save_small, small_generator

from eg3d_unlearn.evaluate_command import main
from eg3d_unlearn.evaluation import metrics
from eg3d_unlearn.evaluation.metrics import METRICS
from eg3d_unlearn.evaluation.metrics.command import further_person
from eg3d_unlearn.evaluation.options import NAMES, OPTIONS

UNTRAINED = ['--random-metric-weights', '--lpips-net=squeeze', '--id-network=facenet', '--device=cpu']


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('networks')
    generator = small_generator('stylegan2')
    save_small(folder / 'before.pkl', 'stylegan2', generator.network)
    save_small(folder / 'after.pkl', 'stylegan2', changed(generator, 0.3).network)
    np.save(folder / 'person.npy', torch.randn(24, generator=torch.Generator().manual_seed(0)).numpy())
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(metrics, 'Settings', functools.partial(metrics.Settings, impostors=50))   # 200 strangers take half a minute


def run(files, *options):
    words = ['metrics', f'--before={files}/before.pkl']
    words += [] if any(option.startswith('--after') for option in options) else [f'--after={files}/after.pkl']
    return CliRunner().invoke(main, [*words, *options])


def test_a_line_for_each_metric(files, tmp_path):
    options = [f'--latent={files}/person.npy', *UNTRAINED, f'--outdir={tmp_path}/out', '--metrics=id,targets_apart',
               '--apart', f'{files}/after.pkl', 'seed:3']
    for times in (1, 2):
        done = run(files, *options)
        assert done.exit_code == 0, done.output
        lines = (tmp_path / 'out' / 'metric-id.jsonl').read_text().splitlines()
        assert len(lines) == times
    result = json.loads(lines[0])
    assert {'name', 'value', 'protocol', 'networks', 'seconds'} <= result.keys() and result['protocol']['seed'] == 0
    assert {'value', 'low', 'high', 'samples', 'seed'} == result['value'].keys()
    assert all(len(result['networks'][side]) == 64 for side in ('before', 'after')) and 'MEANS NOTHING' in result['MEANING']
    assert re.search(r'\bid +[-\d.]+  \(a single sample has no interval\)  n = 1, lower is better', done.output)
    # Nothing tells who it was.
    kept = ''.join(path.read_text() for path in (tmp_path / 'out').iterdir())
    assert 'person.npy' not in kept and 'latent' not in json.loads(lines[0])['protocol'] and 'seed:3' not in kept


def test_results_lie_beside_the_network(files, tmp_path):
    after = tmp_path / 'run' / 'network-unlearned.pkl'
    after.parent.mkdir()
    after.write_bytes((files / 'after.pkl').read_bytes())
    done = run(files, f'--after={after}', '--latent-seed=1', *UNTRAINED, '--metrics=id')
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in after.parent.iterdir()) == ['metric-id.jsonl', 'network-unlearned.pkl']


CASES = {
    'no such metric': (['--metrics=fid'], "There is no metric 'fid'"),
    'no metric at all': (['--metrics=,'], 'names no metric'),
    'nobody': (['--metrics=id'], 'id is about the erased person'),
    'two ways of saying who': (['--latent-seed=1', '--latent={}/person.npy'], 'exactly one of'),
    'nowhere to write to': (['--after=demo-eg3d', '--latent-seed=1'], 'Name a folder with --outdir'),
    'outdir is a file': (['--latent-seed=1', '--outdir={}/person.npy'], 'is a file'),
    'a seed that is none': (['--latent-seed=1', '--metrics=targets_apart', '--apart', '{}/after.pkl', 'seed:x'], 'expected seed:N'),
    'a seed too large': (['--latent-seed=1', '--metrics=targets_apart', '--apart', '{}/after.pkl', 'seed:4294967296'], 'below 2'),
    'one person apart': (['--latent-seed=1', '--metrics=targets_apart'], 'it needs two'),
    'nobody held out': (['--latent-seed=1', '--metrics=retain', '--held-out=3'], 'give them with --data=DIR'),
    'no Inception': (['--latent-seed=1', '--metrics=fid_pre500', '--inception-weights={}/no.pth'], 'is not a file'),
    'one bad metric of two': (['--latent-seed=1', '--metrics=id,id_others'], 'other photos of the same person'),
}


@pytest.mark.parametrize('options, sentence', CASES.values(), ids=CASES)
def test_bad_input(files, tmp_path, options, sentence):
    words = [option.replace('{}', str(files)) for option in options]
    if not any(word.startswith('--outdir') for word in words) and '--after=demo-eg3d' not in words:
        words.append(f'--outdir={tmp_path}/out')
    done = run(files, *UNTRAINED, *words)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), (done.output, done.exception)
    assert re.search(sentence, ' '.join(done.output.split())), done.output
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('person, aligned', [('seed:3', False), ('person.npy', False), ('demo:3', False), ('other.png', True)])
def test_aligned_is_about_photos(person, aligned):
    found = further_person({'aligned': True, 'image': ('first.png',)}, 'after.pkl', person)
    assert found['aligned'] is aligned and not further_person({'aligned': False}, 'after.pkl', person)['aligned']


def test_help_names_every_metric(files):
    text = run(files, '--help').output
    assert all(metric.base in text for metric in METRICS.values())


def test_shared_options_are_all_known():
    import click

    @click.command()
    def command(**options):
        pass
    for option in OPTIONS:
        option(command)
    assert {parameter.name for parameter in command.params} == set(NAMES)
