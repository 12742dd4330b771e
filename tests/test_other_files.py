"""What a file says chooses no code, no path and no address; and whatever it says is shown, left out or refused in a sentence."""
from __future__ import annotations

import json
import math
import os

import page_stand_ins as stand_ins
import pytest
import torch
from click.testing import CliRunner
from small import save_small, small_generator

from eg3d_unlearn.bench.tables import runner
from eg3d_unlearn.bench.tables.command import check_people
from eg3d_unlearn.bench.tables.jobs import Job
from eg3d_unlearn.evaluate_command import main
from eg3d_unlearn.evaluation.audit import runner as audit_runner
from eg3d_unlearn.evaluation.evidence import recogniser_of_run
from eg3d_unlearn.judges.identity import load_identity
from eg3d_unlearn.judges.weights import load_into
from eg3d_unlearn.person.inversion.encoder import META, load_encoder
from eg3d_unlearn.report import command, files, write_report
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError

HOSTILE = '"><script>alert(1)</script>\x1b[2J\u202e\x00'
ODD = [HOSTILE, None, [], {}, 5, -1.5, math.nan, math.inf, 10**400, True, [[1]], 1e308, '\ud800', {HOSTILE: HOSTILE}]


class Acts(torch.nn.Module):
    """A recogniser that writes a file when it is tried out."""

    def __init__(self, victim: str):
        super().__init__()
        self.victim = victim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.from_file(self.victim, shared=True, size=4, dtype=torch.uint8)
        return x.flatten(1)[:, :64] + x.mean() + found.float().sum() * 0


@pytest.fixture
def vendor(tmp_path, monkeypatch):
    """A folder as somebody delivers it: its options and its report name a program, a file, a path or an address."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr('torch_utils_ext.network_url.download', lambda *_, **__: pytest.fail('fetched what a file named'))
    os.mkdir('vendor')
    for name in ('net.pkl', 'vendor/network-unlearned.pkl'):
        save_small(name, 'stylegan2')
    torch.jit.script(Acts(str(tmp_path / 'VICTIM'))).save('vendor/recogniser.pt')
    return tmp_path


CHEAP = ['--latent-seed=1', '--device=cpu', '--lpips-net=squeeze', '--random-metric-weights']
PAIR = ['--before=net.pkl', '--after=vendor/network-unlearned.pkl']
COMMANDS = {
    'metrics': ['metrics', *PAIR, *CHEAP, '--metrics=id', '--outdir=out'], 'audit': ['audit', *PAIR, *CHEAP, '--tiers=T0', '--outdir=out'],
    'report': ['report', '--run=vendor', '--before=net.pkl', *CHEAP, '--people=8'],
}


def written(vendor, **config):
    """The vendor's report, with these settings; and the same as options of the run."""
    sha = sha256_of('net.pkl')
    networks = {side: {'file': name, 'sha256': sha} for side, name in (('in', 'net.pkl'), ('out', 'network-unlearned.pkl'))}
    (vendor / 'vendor/report.json').write_text(json.dumps({'networks': networks, 'config': config}))
    (vendor / 'vendor/training_options.json').write_text(json.dumps(config))


@pytest.mark.filterwarnings('ignore:.*torch.jit')
@pytest.mark.parametrize('name', COMMANDS)
def test_no_command_runs_the_recogniser_that_a_folder_names(vendor, name):
    written(vendor, id_network='vendor/recogniser.pt')
    done = CliRunner().invoke(main, COMMANDS[name])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.output
    assert '--id-network=' in done.output and '--trust-file' in done.output and 'vendor/recogniser.pt' in done.output
    assert not (vendor / 'VICTIM').exists()


@pytest.mark.filterwarnings('ignore:.*torch.jit')
@pytest.mark.parametrize('option', ['--id-network', '--recogniser', '--features'])
def test_a_program_runs_with_the_users_word_only(vendor, option):
    (vendor / 'VICTIM').write_bytes(b'mine')
    words = ['metrics', *PAIR, *CHEAP[:-1], '--lpips-net=squeeze', '--random-metric-weights', '--outdir=out', f'{option}=vendor/recogniser.pt']
    words += ['--metrics=fid_pre50'] if option == '--features' else ['--metrics=id']
    words += ['--id-network=none'] if option != '--id-network' else []
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 1 and f'{option}=vendor/recogniser.pt is a TorchScript file, which is a program' in refused.output
    assert 'Add --trust-file if you trust it' in refused.output and (vendor / 'VICTIM').read_bytes() == b'mine'
    with pytest.raises(InputError, match='runs code of its author'):
        load_identity('vendor/recogniser.pt')
    assert load_identity('vendor/recogniser.pt', trust=True).name == 'vendor/recogniser.pt'


@pytest.mark.parametrize('config, sentence', [
    ({'network': 'http://127.0.0.1:9/net.pkl'}, 'Name the network yourself: --before='), ({'network': 'net.pkl'}, '--before='),
    ({'network': '/etc/passwd'}, '--before='), ({'network': ['net.pkl']}, '--before='), ({'network': 5}, '--before='),
    ({'network': 'demo-eg3d', 'id_weights': 'x.pth'}, '--id-weights=FILE'),
    ({'network': 'demo-eg3d', 'lpips_weights': '/dev/zero'}, '--lpips-weights=FILE'),
    ({'network': 'demo-eg3d', 'encoder_mean': 'w.npy'}, '--encoder-mean=FILE'),
    ({'network': 'demo-eg3d', 'inversion_steps': '9'}, '--inversion-steps'),
    ({'network': 'demo-eg3d', 'inversion_lr': math.nan}, '--inversion-lr'),
    ({'network': 'demo-eg3d', 'seed': 10**400}, '--seed'), ({'network': 'demo-eg3d', 'trunc': True}, '--trunc'),
    ({'network': 'demo-eg3d', 'face': -1}, '--face'), ({'network': 'demo-eg3d', 'lpips_net': 'x\x1b[2J'}, r'--lpips-net as x\x1b[2J'),
    ({'network': 'demo-eg3d', 'aligned': 'yes'}, '--aligned'), ({'network': 'demo-eg3d', 'id_network': ['arcface']}, '--id-network'),
    ({'network': 'demo-eg3d', 'fov_deg': {}}, '--fov-deg'), ({}, 'does not say which network went in'),
])
def test_what_a_report_may_not_say(tmp_path, config, sentence):
    options = {parameter.name: None for parameter in command.main.params}
    with pytest.raises(InputError) as error:
        command.completed(options, set(options), {'config': config}, tmp_path)
    assert sentence in str(error.value) and str(error.value).isprintable()


def test_what_a_report_may_say(tmp_path):
    """Numbers, choices, flags, built-in judges and known networks, as the command line would take them; nothing else is looked at."""
    said = {'network': 'ffhqrebalanced512-128.pkl', 'inversion': 'w', 'inversion_steps': 7, 'trunc': 1, 'aligned': True, 'id_network': 'facenet',
            'lpips_net': 'alex', 'seed': 3}
    ours = {'upstream': '/x', 'trust_pickle': True, 'trust_file': True, 'device': 'cuda:7', 'encoder': '/x', 'outdir': '/x', 'image': '/x',
            'latent': '/x', 'camera': '/x', 'recognisers': ['/x'], 'after': '/x', 'precision': 'fp16', 'batch': 9}
    options = {parameter.name: None for parameter in command.main.params}
    whole = command.completed(options, set(options), {'config': {**said, **ours}}, tmp_path)
    assert {name: whole['before' if name == 'network' else name] for name in said} == said
    assert whole['after'] == str(tmp_path / 'network-unlearned.pkl') and not any(whole[name] for name in set(ours) & set(options) - {'after'})


@pytest.mark.parametrize('content, used', [
    ('{"id_network": "facenet"}', 'facenet'), ('{"id_network": "none"}', None), ('{"id_network": "demo"}', None), ('{}', None), ('[1]', None),
    ('{', None), ('[' * 100_000, None), ('{"id_network": null}', None)])
def test_the_recogniser_of_a_run(tmp_path, content, used):
    (tmp_path / 'training_options.json').write_text(content)
    assert recogniser_of_run(tmp_path / 'net.pkl') == used


@pytest.mark.parametrize('value', ['mine.pt', 'arcface\x1b[2J', 5, ['arcface'], {}, True, 'http://127.0.0.1:9/x'])
def test_a_run_whose_recogniser_is_no_built_in_one(tmp_path, value):
    (tmp_path / 'training_options.json').write_text(json.dumps({'id_network': value}))
    with pytest.raises(InputError, match='--id-network=FILE --trust-file') as error:
        recogniser_of_run(tmp_path / 'net.pkl')
    assert str(error.value).isprintable()


# ---- pages from files with values of any kind ----

def paths(content, path=()):
    yield path
    if isinstance(content, (dict, list)):
        for key in list(content) if isinstance(content, dict) else range(min(len(content), 1)):
            yield from paths(content[key], (*path, key))


def put(content, path, value):
    if not path:
        return value
    changed = dict(content) if isinstance(content, dict) else list(content)
    changed[path[0]] = put(content[path[0]], path[1:], value)
    return changed


FILES = {'report.json': stand_ins.report(evidence=stand_ins.evidence()), 'audit.json': stand_ins.audit(), 'metric-id.jsonl': stand_ins.metric(),
         'stats.jsonl': stand_ins.stats(2)[0]}
SPOILT = [(name, path) for name, content in FILES.items() for path in paths(content)]


def folder_with(folder, **changed):
    for name, content in {**FILES, **changed}.items():
        lines = [content, stand_ins.stats(3)[2]] if name == 'stats.jsonl' else [content]
        (folder / name).write_text('\n'.join(map(json.dumps, lines)))


def test_a_whole_folder_loses_nothing(tmp_path):
    folder_with(tmp_path)
    said = []
    write_report(tmp_path, None, log=said.append)
    assert not said and 'is left out' not in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize('part', range(2))
def test_values_of_any_kind_at_any_place(tmp_path, part):
    """Places of each file, every sixteenth, with a value that goes round: no word of html or of a terminal in page or sentence."""
    for index, (name, path) in list(enumerate(SPOILT))[7 * part::16]:
        folder_with(tmp_path, **{name: put(FILES[name], path, ODD[(index * 5 + part) % len(ODD)])})
        said = []
        try:
            write_report(tmp_path, None, log=said.append)
        except InputError as error:
            said.append(str(error))
            assert name == 'report.json', (name, path)
        else:
            text = (tmp_path / 'report.html').read_text(encoding='utf-8')
            assert '<script>alert' not in text and not set('\x1b\u202e\x00') & set(text), (name, path)
        assert ''.join(said).isprintable(), (name, path, said)


def test_what_does_not_fit_is_left_out_and_named_and_the_rest_stays(tmp_path):
    evidence = put(stand_ins.evidence(), ('likeness', 'demo-measuring', 'same_photo', 'value'), 'high')
    folder_with(tmp_path, **{'report.json': stand_ins.report(evidence=evidence), 'metric-id.jsonl': stand_ins.metric(sampled={'curve': [1]})})
    said = []
    write_report(tmp_path, None, log=said.append)
    assert said == ['The entry evidence of report.json is not as this package writes it and is left out.',
                    'Metric id is not as this package writes it and is left out.']
    text = (tmp_path / 'report.html').read_text()
    assert all(sentence in text for sentence in said) and 'The verdict of T3 in one sentence.' in text


def test_settings_of_another_type_are_not_taken():
    config = {'target': 'ufo', 'target_d': 'far', 'alpha_max': math.inf, 'lambda_local': True, 'n_adj': 10**400, 'keep_source': 'yes',
              'iters': 7, 'image': ['/x'], 'unknown': 1, 'lr': 0.1, 'fov_deg': None}
    assert files.settings_of({'config': config}) == {'target': 'ufo', 'iters': 7, 'lr': 0.1, 'fov_deg': None}
    assert files.settings_of({'config': [1]}) == files.settings_of({}) == {}


@pytest.mark.parametrize('name', ['report.json', 'audit.json', 'metric-id.jsonl', 'stats.jsonl'])
@pytest.mark.parametrize('content', [b'', b'[' * 100_000, b'{"networks": ' + b'9' * 5000 + b'}', b'\xff\xfe', b'null', 'pipe', 'folder'])
def test_files_that_are_no_json(tmp_path, name, content):
    folder_with(tmp_path)
    (tmp_path / name).unlink()
    if content == 'pipe':
        os.mkfifo(tmp_path / name)
    elif content == 'folder':
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    said = []
    if name == 'report.json':
        with pytest.raises(InputError, match='is no report of unlearn.py|holds no report.json'):
            write_report(tmp_path, None, log=said.append)
        return
    write_report(tmp_path, None, log=said.append)
    assert all('left out' in sentence for sentence in said) and (tmp_path / 'report.html').exists()


# ---- tables and audits ----

JOB = Job('demo-stylegan2', 'in-domain', 0, 0, 'guide')


@pytest.mark.parametrize('content', [
    [], {}, {'figures': []}, {'figures': {'id': 5}}, {'figures': {'id': {'value': 1}}}, {'figures': {'id': {'value': {'value': 'x'}}}},
    {'figures': {'id': {'value': {'value': math.nan}}}}, {'figures': {}},
    {'figures': {}, 'job': {**runner.described(JOB), 'network': '/etc/passwd'}}, {'figures': {}, 'job': runner.described(JOB)},
    {'figures': {}, 'job': runner.described(JOB), 'config': {}},
    {'figures': {}, 'job': runner.described(JOB), 'config': {'lambda_global': HOSTILE}}])
def test_results_that_no_run_of_ours_wrote(tmp_path, content):
    path = runner.result_path(tmp_path, JOB)
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match='Move it away|where an object') as error:
        runner.check_results([JOB], tmp_path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize('content', ['[]', '{', '{"salt": 5, "people": {}}', '{"salt": "", "people": []}', '{"salt": "", "people": {"x": 5}}',
                                     '{"salt": "", "people": {"x": [1]}, "world": "demo", "data": null, "real": null}'])
def test_lists_of_people_that_are_none(tmp_path, content):
    (tmp_path / 'people.json').write_text(content)
    with pytest.raises(InputError) as error:
        check_people(tmp_path, 'demo', None, None)
    assert str(error.value).isprintable()


@pytest.mark.parametrize('path', [(), ('verdict',), ('seconds',), ('tier',), ('figures',), ('figures', 'excess'),
                                  ('details', 'verification', 'after')])
@pytest.mark.parametrize('value', [HOSTILE, [], {}, math.nan, 10**400, '\ud800'])
def test_parts_of_an_audit_that_are_none(tmp_path, path, value):
    tier = {**FILES['audit.json']['tiers'][0], 'tier': 'T0'}
    tier['details'] = {**tier['details'], 'verification': {side: tier['details']['verification']['after'] for side in ('before', 'after')}}
    folder = audit_runner.AuditFolder(tmp_path)
    audit_runner.check_part(tier, 'T0', tmp_path / 'x')
    (tmp_path / audit_runner.PART.format('T0')).write_text(json.dumps(put(tier, path, value)))
    with pytest.raises(InputError, match='Delete it and run the same command again') as error:
        folder.read_or_make('T0', lambda: pytest.fail('made again'), lambda message: None)
    assert str(error.value).isprintable()


# ---- encoders and weights ----

OPTIONS = {'size': 32, 'w_dim': 24, 'camera_dim': 0, 'width': 8, 'hidden': 16, 'num_ws': 1}


@pytest.mark.parametrize('described', [
    b'{x', b'[1]', b'{}', b'\xff\xfe', b'[' * 100_000, b'{"size": ' + b'9' * 5000 + b'}', torch.zeros(3), torch.zeros(3, 3, dtype=torch.uint8),
    *[{**OPTIONS, **change} for change in ({'x': 1}, {'size': 2**40}, {'size': 'x'}, {'size': 33}, {'size': True}, {'width': 10**9},
                                           {'hidden': 200_000}, {'num_ws': 10**6}, {'camera_dim': -1}, {'camera_dim': 3}, {'w_dim': 0.5}, {})]])
def test_encoders_that_are_none(tmp_path, described):
    if not isinstance(described, torch.Tensor):
        described = described if isinstance(described, bytes) else json.dumps(described).encode()
        described = torch.frombuffer(bytearray(described), dtype=torch.uint8)
    torch.save({META: described}, tmp_path / 'encoder.pt')
    with pytest.raises(InputError) as error:
        load_encoder(tmp_path / 'encoder.pt', small_generator('stylegan2'))
    assert 'encoder.pt' in str(error.value) and len(str(error.value)) < 700 and str(error.value).isprintable()


@pytest.mark.parametrize('change, sentence', [
    ({'weight': torch.full([2, 3], math.nan)}, 'NaN or infinite: weight'),
    ({'weight': torch.ones(2, 3, dtype=torch.int32)}, 'wrong type: weight'),
    ({'\x1b[2J': torch.ones(1)}, r'unexpected: \\x1b\[2J'), ({'x' * 10**6: torch.ones(1)}, 'unexpected: x{100}[.]{3}')])
def test_weights_that_do_not_fit(change, sentence):
    module = torch.nn.Linear(3, 2)
    with pytest.raises(InputError, match=sentence) as error:
        load_into(module, {**module.state_dict(), **change}, 'w.pth')
    assert str(error.value).isprintable()


# ---- names ----

@pytest.mark.parametrize('words, meant', [
    (['metrics', '--before=demo-eg3', '--after=x.pkl', '--outdir=o', '--metrics=id', '--latent-seed=1'], 'demo-eg3d'),
    (['metrics', '--before=ffhqrebalanced512-128', '--after=x', '--outdir=o', '--metrics=id', '--latent-seed=1'],
     'ffhqrebalanced512-128.pkl'),
    (['metrics', '--before=x', '--after=x.pkl', '--outdir=o', '--metrics=idothers'], 'id_others'),
    (['tables', '--table=tabel1', '--outdir=o'], 'table1'),
])
def test_did_you_mean(tmp_path, monkeypatch, words, meant):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1 and f'Did you mean {meant}?' in ' '.join(done.output.split()), done.output
