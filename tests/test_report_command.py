"""`evaluate.py report`: what it writes, what it refuses before anything slow, what it takes from the run."""
from __future__ import annotations

import json

import page_stand_ins as stand_ins
import pytest
import torch
from click.testing import CliRunner
from page_stand_ins import Reader
from small import SMALL, small_generator

from eg3d_unlearn.report import command
from torch_utils_ext.download import sha256_of
from torch_utils_ext.network_pickle import save_network_pickle

JUDGES = ['--random-metric-weights', '--lpips-net=squeeze', '--id-network=none']


@pytest.fixture(scope='module')
def networks(tmp_path_factory):
    """A small network, and the same with other weights."""
    folder = tmp_path_factory.mktemp('networks')
    for seed, name in enumerate(('before', 'network-unlearned')):
        save_network_pickle(folder / f'{name}.pkl', *SMALL['stylegan2'], small_generator('stylegan2', seed).network.state_dict(), None)
    return folder


@pytest.fixture
def run(networks, tmp_path):
    """The folder of a finished run."""
    (tmp_path / 'network-unlearned.pkl').write_bytes((networks / 'network-unlearned.pkl').read_bytes())
    sides = (('in', 'before.pkl'), ('out', 'network-unlearned.pkl'))
    shas = {side: {'file': name, 'sha256': sha256_of(networks / name)} for side, name in sides}
    config = {'network': str(networks / 'before.pkl'), 'target': 'ufo', 'target_d': 2.0, 'alpha_max': 1.0, 'lpips_net': 'squeeze',
              'id_network': 'none', 'random_metric_weights': True, 'keep_source': False}
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report(networks=shas, config=config, person={'given_as': 'seed'})))
    return tmp_path


def invoke(*options: str):
    return CliRunner().invoke(command.main, list(options))


def test_without_a_person_the_page_comes_from_the_folder(run):
    done = invoke(f'--run={run}')
    assert done.exit_code == 0, done.output
    assert 'No person was named' in done.output and (run / 'report.html').is_file()
    assert 'evidence' not in json.loads((run / 'report.json').read_text())


def test_with_the_person_report_json_gains_what_the_page_shows(run, networks):
    """The judges and the targets come from the run itself."""
    before = json.loads((run / 'report.json').read_text())
    done = invoke(f'--run={run}', f'--before={networks / "before.pkl"}', '--latent-seed=4', '--people=8', '--device=cpu')
    assert done.exit_code == 0, done.output
    after = json.loads((run / 'report.json').read_text())
    assert {name: after[name] for name in before} == before
    assert after['evidence']['protocol']['people'] == 8
    reader = Reader((run / 'report.html').read_text())
    assert {'neighbours', 'people'} <= set(reader.ids)
    assert after['evidence']['lpips']['other_people']['value'] in reader.data
    assert not list(run.glob('.*'))
    # Again, over what is there: nothing piles up.
    again = invoke(f'--run={run}', f'--before={networks / "before.pkl"}', '--latent-seed=4', '--people=8', '--device=cpu')
    assert again.exit_code == 0
    assert json.loads((run / 'report.json').read_text()) == after


def test_somebody_else_than_the_erased_one_is_doubted(run, networks):
    report = json.loads((run / 'report.json').read_text())
    (run / 'report.json').write_text(json.dumps({**report, 'person': {'given_as': 'image'}}))
    done = invoke(f'--run={run}', f'--before={networks / "before.pkl"}', '--latent-seed=4', '--people=8', '--device=cpu')
    sentence = 'The run was given a person as image, this page as seed: perhaps it is not the same person.'
    assert done.exit_code == 0 and f'WARNING: {sentence}' in done.output, done.output
    assert sentence in Reader((run / 'report.html').read_text()).words


def test_the_run_is_not_overruled_by_defaults(run):
    """What the user says counts; what was left open is the run's; where a file tells code to run, only the user."""
    report = {'config': {'network': 'demo-eg3d', 'inversion': 'w', 'forget_from': 'mean', 'seed': 7, 'trust_pickle': True, 'upstream': '/x',
                         'image': '(given, not recorded)'}}
    options = {'before': None, 'after': None, 'inversion': 'w+', 'forget_from': 'first', 'seed': 0, 'trust_pickle': False, 'upstream': None,
               'image': ('a.png',), 'fov_deg': None}
    whole = command.completed(options, set(options) - {'inversion', 'image'}, report, run)
    assert (whole['before'], whole['inversion'], whole['forget_from'], whole['seed']) == ('demo-eg3d', 'w+', 'mean', 7)
    assert whole['image'] == ('a.png',) and not whole['trust_pickle'] and whole['upstream'] is None
    assert whole['after'] == str(run / 'network-unlearned.pkl')


@pytest.mark.parametrize('options, sentence', [
    (['--run={nowhere}'], 'is no folder. Name the --outdir of a finished run'),
    (['--run={run}', '--show-photo'], '--show-photo needs the person: add --image, --latent or --latent-seed'),
    (['--run={run}', '--video'], '--video needs the person'),
    (['--run={run}', '--people=2'], 'x>=8'),
    (['--run={run}', '--before={run}/network-unlearned.pkl', '--latent-seed=1', '--image=face.png'],
     'exactly one of --image, --latent and --latent-seed'),
    (['--run={run}', '--latent-seed=1', '--before={run}/network-unlearned.pkl'], 'is not the network of this run: its SHA-256'),
    ([], "Missing option '--run'"),
])
def test_what_is_refused(run, options, sentence):
    words = [option.replace('{nowhere}', str(run / 'nowhere')).replace('{run}', str(run)) for option in options]
    done = invoke(*words)
    assert done.exit_code in (1, 2) and sentence in ' '.join(done.output.split()), done.output
    assert not (run / 'report.html').exists() and 'Traceback' not in done.output


def test_a_film_needs_its_package_before_anything_slow(run, monkeypatch):
    from eg3d_unlearn.report import video
    monkeypatch.setattr(video.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setattr(command, 'evidence_from', lambda *_, **__: pytest.fail('looked before it checked'))
    assert 'pip install imageio imageio-ffmpeg' in invoke(f'--run={run}', '--latent-seed=1', '--video').output


def test_the_help_tells_what_the_run_knows():
    text = ' '.join(invoke('--help').output.split())
    assert "[default: (the run's)]" in text and '[default: (network-unlearned.pkl of --run)]' in text and '--show-photo' in text


def test_the_seed_of_the_person_stays_out_of_the_page(run, networks):
    with torch.random.fork_rng(devices=[]):
        done = invoke(f'--run={run}', f'--before={networks / "before.pkl"}', '--latent-seed=918273', '--people=8', '--device=cpu')
    assert done.exit_code == 0, done.output
    assert '918273' not in (run / 'report.json').read_text()
    text = (run / 'report.html').read_text()
    assert '918273' not in text
