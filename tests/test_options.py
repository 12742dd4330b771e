"""The table of options: each stands in one place, changes the run or is refused, and says in the help what numbers mean."""
from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import click
import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from small import SMALL, guide_loss, small_generator

import eg3d_unlearn
from eg3d_unlearn import command, config, evaluate_command
from eg3d_unlearn.config import GROUPS, METHODS, OF_TRAINING, OPTIONS, Config, JudgesOptions, NetworkOptions, from_command
from eg3d_unlearn.console import PATH
from eg3d_unlearn.generators.loading import load_generator
from eg3d_unlearn.judges.judges import load_judges
from eg3d_unlearn.options import about, flag_of, own_fields
from eg3d_unlearn.preflight import check
from eg3d_unlearn.report.command import OF_THE_RUN
from eg3d_unlearn.unlearning.loss import UnlearningLoss
from eg3d_unlearn.unlearning.presets import PRESETS
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import save_network_pickle

JUDGES = dict(lpips_net='squeeze', id_network='none', random_metric_weights=True)
BY_HAND = {'inversion': 'w', 'trainable': 'mapping', 'device': 'cpu', 'people': 'demo:4', 'random_metric_weights': False}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('files')
    save_network_pickle(folder / 'net.pkl', *SMALL['stylegan2'], small_generator('stylegan2').network.state_dict())
    PIL.Image.fromarray(np.random.RandomState(0).randint(0, 255, (64, 64, 3), np.uint8)).save(folder / 'face.png')
    return folder


@pytest.fixture(scope='module')
def bases(files):
    """Two runs, and their resolved configurations: a training that forgets a seed, and the closed form on a photo."""
    common = dict(network=str(files / 'net.pkl'), outdir=str(files / 'out'), **JUDGES)
    given = [Config(**common, method='guide', latent_seed=1),
             Config(**common, method='closed-form', image=(str(files / 'face.png'),), aligned=True)]
    return [(one, check(one, fetch=False).config) for one in given]


def another(name: str, value: object, files: Path) -> object:
    """A valid value of an option, another than ``value``."""
    kind = about(OPTIONS[name]).kind
    if name in BY_HAND:
        return BY_HAND[name]
    if name == 'image':
        return (str(files / 'face.png'),) * 2
    if kind is None:
        return not value
    if isinstance(kind, click.Choice):
        return next(choice for choice in reversed(kind.choices) if choice != value)
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        lowest = kind.min or 0
        tried = [number for number in (lowest + 1, lowest + 2, lowest + 0.5, lowest + 0.25) if kind.max is None or number < kind.max]
        return next(number for number in tried if number != value)
    if kind is click.FLOAT:
        return 7.5
    return str(files / 'nowhere')


@pytest.mark.parametrize('name', OPTIONS)
def test_another_value_is_another_run_or_is_refused(name, bases, files):
    for given, resolved in bases:
        changed = dataclasses.replace(given, **{name: another(name, getattr(resolved, name), files)})
        try:
            found = check(changed, fetch=False).config
        except InputError as error:
            assert flag_of(OPTIONS[name]) in str(error) or str(files / 'nowhere') in str(error), error
        else:
            assert getattr(found, name) != getattr(resolved, name)


@pytest.mark.parametrize('base, options, words', [
    (0, {'method': 'baseline', 'n_adj': 3}, '--n-adj has no effect with --lambda-adj=0'),
    (0, {'lambda_global': 0.0, 'n_near': 1}, '--n-near has no effect with --lambda-global=0'),
    (0, {'target': 'mean', 'target_d': 3.0}, '--target-d has no effect, since --target=mean'),
    (0, {'fov_deg': 20.0}, '--fov-deg was given, but a stylegan2 network has no cameras'),
    (0, {'id_weights': 'a.pth'}, '--id-weights has no effect with --id-network=none'),
    (0, {'delta': 'a.safetensors'}, '--delta holds what the closed form changes'),
    (0, {'keep': 'photos'}, '--keep is for --method=closed-form'),
    (1, {'trunc': 0.5}, '--trunc has no effect without --latent-seed'),
    (1, {'snap': 5}, '--snap is about training'), (1, {'batch': 5}, '--batch is about training'),
    (1, {'trainable': 'mapping'}, '--trainable is about training'), (1, {'iters': 5}, '--iters is about training'),
    (1, {'inversion': 'encoder', 'inversion_lr': 0.5}, '--inversion-lr is about optimisation'),
])
def test_an_option_without_an_effect_is_refused(base, options, words, bases):
    with pytest.raises(InputError) as error:
        check(dataclasses.replace(bases[base][0], **options), fetch=False)
    assert words in str(error.value)


@pytest.mark.parametrize('options', [{'lambda_adj': 0.0, 'n_adj': 0}, {'trunc': 0.5}, {'latent_seed': 0, 'trunc': 0.5}, {'target_d': -3.0}])
def test_what_has_an_effect_or_says_the_same_twice_is_taken(options, bases):
    assert check(dataclasses.replace(bases[0][0], **options), fetch=False)


def test_the_groups_hold_every_option_once():
    fields = [field for group in GROUPS for field in own_fields(group)]
    assert {field.name for field in fields} == {field.name for field in dataclasses.fields(Config)} and len(fields) == len(OPTIONS)
    assert len({flag_of(field) for field in fields}) == len(fields)
    assert len({group.__doc__.split(':')[0] for group in GROUPS}) == len(GROUPS)
    assert {'target', 'iters', 'lambda_local', 'trainable'} <= set(OF_TRAINING) and 'method' not in OF_TRAINING


def test_every_method_is_an_option():
    assert list(METHODS) == list(PRESETS)


@pytest.mark.parametrize('name', OPTIONS)
def test_the_help_of_a_number_has_a_unit_or_a_range(name):
    this = about(OPTIONS[name])
    assert this.help.endswith('.')
    if isinstance(this.kind, (click.types.IntParamType, click.types.FloatParamType)):
        assert this.unit or isinstance(this.kind, (click.IntRange, click.FloatRange))


def test_what_report_takes_from_a_run_cannot_name_a_place_or_run_code():
    """Of options that take a path it takes built-in names of recognisers only; files it asks for."""
    assert not {'upstream', 'device', 'network', 'outdir', 'encoder'} & set(OF_THE_RUN)
    for name in OF_THE_RUN:
        this = about(OPTIONS[name])
        assert this.evaluate and not this.private and not name.startswith('trust')
        assert this.kind is not PATH or name in ('id_network', 'id_weights', 'lpips_weights', 'encoder_mean')


# ---- one place ----

# Options of the same name that mean something else: a number of people, the results' folder, a schedule of an encoder.
OTHERS = {
    'report/command.py': {'--people'}, 'evaluation/metrics/command.py': {'--outdir', '--batch'}, 'evaluation/audit/command.py': {'--outdir'},
    'bench/tables/command.py': {'--network', '--outdir', '--people', '--device'}, 'bench/compare_inversions.py': {'--network', '--people'},
    'bench/train_encoder.py': {'--batch', '--lr', '--lambda-lpips', '--lambda-l2', '--lambda-id'}, 'bench/make_network.py': {'--seed'},
    'delta/__main__.py': {'--delta'}, 'worlds/demo/dataset.py': {'--people', '--seed'}, 'worlds/demo/sheet.py': {'--people'},
    'worlds/demo/export.py': {'--network'}, 'worlds/demo/reference.py': {'--network'},
    'worlds/demo/check.py': {'--people'}, 'person/photo/__main__.py': {'--outdir'},
}


def test_no_option_is_written_down_a_second_time():
    package, flags = Path(eg3d_unlearn.__file__).parent, {flag_of(field) for field in OPTIONS.values()}
    for path in package.rglob('*.py'):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))) if isinstance(node, ast.Call)]
        written = {part.value for call in calls if getattr(call.func, 'attr', getattr(call.func, 'id', '')) in ('option', 'setting')
                   for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str)}
        name = path.relative_to(package).as_posix()
        assert written & flags == OTHERS.get(name, set()), name


# ---- the command line ----

def shown(main: click.Command, *words: str) -> str:
    done = CliRunner().invoke(main, list(words), catch_exceptions=False, terminal_width=100)
    assert done.exit_code == 0
    return done.output


def test_the_help_shows_what_most_people_need():
    text = shown(command.main, '--help')
    names = [line.split()[0] for line in text.splitlines() if line.startswith('  --')]
    assert 12 <= len(names) <= 18 and {'--network', '--image', '--outdir', '--method'} <= set(names) and '--lambda-ewc' not in text
    assert '--help-all shows' in text and all(f'\n{title}:\n' in text for title in ('Network', 'Person', 'Method', 'Output', 'Run'))
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize('words', [[], ['metrics'], ['audit'], ['report']])
def test_all_options_are_shown_by_help_all(words):
    main = evaluate_command.main.get_command(click.Context(evaluate_command.main), words[0]) if words else command.main
    text = shown(main, '--help-all')
    names = [line.split()[0] for line in text.splitlines() if line.startswith('  --')]
    known = config.OF_EVALUATION if words else OPTIONS
    for name in known:
        assert names.count(flag_of(OPTIONS[name])) == 1, name
    assert 'Sentinel' not in text and 'None' not in text and ('\nJudges:\n' in text)


def test_from_the_command_line_to_a_configuration():
    """None is what was not given; an option of the training chooses one, where no method is named."""
    given = {'network': 'a.pkl', 'outdir': 'out', 'batch': None, 'method': None, 'iters': None}
    assert from_command(given) == Config(network='a.pkl', outdir='out', method='closed-form')
    assert from_command({**given, 'iters': 5}).method == 'guide' and from_command({**given, 'trainable': 'mapping'}).method == 'guide'
    assert from_command({**given, 'iters': 5, 'method': 'closed-form+guide'}).method == 'closed-form+guide'


def test_who_it_is_stays_out_of_the_record():
    who = {name: ('a.png',) if name == 'image' else 'x' for name, field in OPTIONS.items() if about(field).private}
    assert {'image', 'people', 'latent', 'latent_seed', 'camera', 'keep', 'delta'} == set(who)
    recorded = Config(network='a.pkl', outdir='out', **who).to_json()
    assert set(recorded) == set(OPTIONS) and all(recorded[name] == '(given, not recorded)' for name in who)
    assert Config(network='a.pkl', outdir='out', keep_source=True, **who).to_json()['latent'] == 'x'


# ---- the rooms ----

def test_a_room_takes_its_own_group_alone(files):
    pickle, generator = load_generator(NetworkOptions(network=str(files / 'net.pkl')), torch.device('cpu'))
    assert generator.family == 'stylegan2'
    judges = load_judges(JudgesOptions(**JUDGES), generator, torch.device('cpu'))
    assert judges.recogniser is None and judges.perceptual is not None
    ws, options = generator.map_seed(5), guide_loss(lambda_l2=0.0)
    assert [term.name for term in UnlearningLoss(generator, generator, ws, ws, judges, options).terms] == ['lpips']
