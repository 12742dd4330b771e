"""Tables are made of result files only; a run that has its file is not made again."""
import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from eg3d_unlearn.bench.tables import build, command, readme, runner
from eg3d_unlearn.bench.tables.command import check_people, left_over, main, protocols_of
from eg3d_unlearn.bench.tables.jobs import SCENARIOS, Job, Row, load_experiments
from eg3d_unlearn.bench.tables.workbench import Workbench, multiple
from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation.metrics import METRICS
from eg3d_unlearn.unlearning.presets import PRESETS
from eg3d_unlearn.unlearning.training_loop import Stopped
from eg3d_unlearn.worlds.demo.shipped import encoder_path, network_path
from eg3d_unlearn.worlds.demo.world import TRAINING
from torch_utils_ext.atomic_file import held
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError

JOB = Job('demo-stylegan2', 'in-domain', 0, 0, 'guide')


def put(outdir, job, **figures):
    path = runner.result_path(outdir, job)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({'figures': {name: {'value': {'value': value}} for name, value in figures.items()}}))


def test_experiments_are_complete():
    experiments = load_experiments()
    assert [one.name for one in experiments] == ['closed-form-against-guide', 'closed-form', 'figure9', 'methods', 'table1', 'table2', 'table3',
                                                'table4']
    for one in experiments:
        assert {metric.partition(':')[0] for metric in one.metrics} <= set(METRICS) and set(one.scenarios) <= set(SCENARIOS)
        assert all(row.method is None or row.method in PRESETS for row in one.rows)
        assert len({row.title for row in one.rows}) == len(one.rows)
        for scenario, rows in one.paper.items():
            assert scenario in one.scenarios and set(rows) <= {row.title for row in one.rows}
    with pytest.raises(InputError, match='--table=table9 is not known; expected closed-form-against-guide'):
        load_experiments(('table9',))


def test_tables_share_their_runs():
    experiments = {one.name: one for one in load_experiments()}
    first, second = (set(experiments[name].jobs(['demo-eg3d'], 2, 1)) for name in ('table1', 'table2'))
    assert second < first
    # The run in the middle of a sweep is the plain one.
    assert experiments['figure9'].rows[4].job('demo-eg3d', 'in-domain', 0, 0) in first
    protocols = protocols_of(list(experiments.values()), ['demo-eg3d', 'demo-stylegan2'], 1, 1, 500, 'demo')
    guide = protocols[experiments['table1'].rows[-1].job('demo-eg3d', 'in-domain', 0, 0)]
    assert set(guide) == {'id', 'id_others', 'fid_pre500-half', 'retain200-half', 'dfid_real500-half'}
    assert 'fid_pre500' in protocols[experiments['table1'].rows[-1].job('demo-stylegan2', 'random', 0, 0)]


def test_names_tell_runs_apart():
    others = [Job('demo-eg3d', 'in-domain', 0, 0, 'guide'), Job('demo-stylegan2', 'random', 0, 0, 'guide'),
              Job('demo-stylegan2', 'in-domain', 1, 0, 'guide'), Job('demo-stylegan2', 'in-domain', 0, 1, 'guide'),
              Job('demo-stylegan2', 'in-domain', 0, 0, None), Job('demo-stylegan2', 'in-domain', 0, 0, 'guide', (('target_d', 0),))]
    assert len({JOB.name, *(job.name for job in others)}) == 7
    assert Row('x', None).job('n', 'random', 0, 5).seed == 0    # nothing is drawn where nothing is learned
    assert multiple('x0.5', 12.0) == 6 and multiple('x-1', 12.0) == -12 and multiple(0, 12.0) == 0 and multiple('mean', 1.0) == 'mean'


def rows_of(tmp_path, name='table4', **figures):
    """Table 4 of demo-stylegan2 by hand: `baseline` and `both` are the runs of its rows, person by person."""
    table = next(iter(load_experiments((name,))))
    for row, values in zip(table.rows, figures.values(), strict=True):
        for person, value in values.items():
            put(tmp_path, row.job('demo-stylegan2', 'out-of-domain', person, 0), **value)
    return table, [cells for _, cells in build.rows_of(table, tmp_path, 'demo-stylegan2', 'out-of-domain', 3, 1)]


def test_cells_are_means_over_people_and_seeds(tmp_path):
    runs = {person: {'fid_pre500': value} for person, value in enumerate((1.0, 2.0, 6.0))}
    _, (first, second) = rows_of(tmp_path, baseline=runs, both=runs)
    cell = first['fid_pre']
    assert (cell.mean, cell.runs) == (3.0, 3) and cell.std == pytest.approx(7 ** 0.5) and str(cell) == '3.00 ± 2.65'
    assert second['fid_pre'] == cell and first['id'] is None and str(build.Cell(-0.004, 0.001, 2, 0.0)) == '0.00 ± 0.00'


def test_rows_are_compared_on_the_same_people(tmp_path):
    """Person 1 alone rises; a mean of the baseline over both people against person 1 alone would say that the figure falls."""
    table, (first, second) = rows_of(tmp_path, baseline={0: {'fid_pre500': 9.0}, 1: {'fid_pre500': 1.0}, 2: {'fid_pre500': 5.0}},
                                     both={1: {'fid_pre500': 2.0}})
    assert (first['fid_pre'].mean, first['fid_pre'].runs) == (1.0, 1) and first['fid_pre'].std is None and second['fid_pre'].mean == 2.0
    step, = build.ordering(table, tmp_path, 'demo-stylegan2', 3, 1)
    assert step['here'] == 1.0 and step['runs'] == 1 and not step['alike'] and not step['agrees']


@pytest.mark.parametrize('both, alike', [((0.5, 1.5, 5.0), True), ((0.5, 2.5, 1.0), False)])
def test_a_step_says_whether_every_run_makes_it(tmp_path, both, alike):
    table, _ = rows_of(tmp_path, baseline={person: {'fid_pre500': value} for person, value in enumerate((1.0, 2.0, 6.0))},
                       both={person: {'fid_pre500': value} for person, value in enumerate(both)})
    step, = build.ordering(table, tmp_path, 'demo-stylegan2', 3, 1)
    assert step['here'] < 0 and step['agrees'] and step['runs'] == 3 and step['alike'] is alike


def test_ordering_is_held_against_the_paper(tmp_path):
    table = next(one for one in load_experiments(('table1',)))
    baseline, extrapolated = table.rows[1], table.rows[2]
    put(tmp_path, baseline.job('demo-stylegan2', 'in-domain', 0, 0), id=0.2, fid_pre500=5.0)
    put(tmp_path, extrapolated.job('demo-stylegan2', 'in-domain', 0, 0), id=0.1, fid_pre500=4.0)
    steps = {step['metric']: step for step in build.ordering(table, tmp_path, 'demo-stylegan2', 1, 1)}
    assert steps['id']['agrees'] and steps['id']['paper'] == pytest.approx(-0.11)
    assert not steps['fid_pre']['agrees'] and steps['fid_pre']['here'] == -1
    text = build.write_tables([table], tmp_path, ['demo-stylegan2'], 1, 1)
    assert '| + extrapolated target | 0.10 | 4.00 |' in text and 'GUIDE |' not in text and 'In-domain, one person:' in text
    assert json.loads((tmp_path / 'tables.json').read_text())['table1/demo-stylegan2']['ordering']


@pytest.mark.parametrize('runs_and_people, said', [
    ([(1, 1), (1, 1)], 'one person:'), ([(3, 3), (3, 3)], 'mean ± standard deviation over 3 people:'),
    ([(2, 2), (3, 3)], 'mean ± standard deviation over 2 to 3 people:'),
    ([(2, 2), (4, 2)], 'mean ± standard deviation over 2 to 4 runs of 2 people:'),
    ([(2, 1), (2, 1)], 'mean ± standard deviation over 2 runs of one person:'),
])
def test_a_table_says_what_its_cells_are_means_of(runs_and_people, said):
    assert build.of_what([build.Cell(0.0, None, runs, 0.0, people) for runs, people in runs_and_people]) == said


def test_the_page_of_results_and_the_tables_are_current(tmp_path):
    """What they say is what the results that come with the package say."""
    text = (Path(__file__).parents[1] / readme.PAGE).read_text(encoding='utf-8')
    assert readme.renewed(text) == text, 'run: python -m eg3d_unlearn.bench.tables.readme'
    shutil.copytree(readme.RESULTS / runner.RESULTS, tmp_path / runner.RESULTS)
    build.write_tables(load_experiments(), tmp_path, list(readme.NETWORKS), readme.PEOPLE, readme.SEEDS)
    for name in ('tables.md', 'tables.json'):
        assert (tmp_path / name).read_bytes() == (readme.RESULTS / name).read_bytes(), 'run: python -m eg3d_unlearn.bench.tables.readme'
    assert '| no unlearning | 1.00 ± 0.00 |' in text
    with pytest.raises(InputError, match='between which the results belong'):
        readme.renewed('no place')


def test_results_tell_their_settings_and_nobody_is_in_them():
    """Each result names the network, the options and the hardware, and holds no latent and no path."""
    files = sorted((readme.RESULTS / runner.RESULTS).glob('*.json'))
    assert files
    for path in files:
        content = json.loads(path.read_text(encoding='utf-8'))
        assert {'job', 'figures', 'config', 'network_sha256', 'versions', 'hardware', 'seconds'} <= set(content)
        assert not {'network', 'outdir', 'encoder', 'image', 'latent'} & {key for key, value in content['config'].items() if value}, path
        assert str(Path.home()) not in path.read_text(encoding='utf-8')


def test_results_were_made_with_todays_settings_and_networks():
    """A file's name does not say with which presets a run was made: after a change results are to be made again."""
    networks = {name: sha256_of(network_path(name)) for name in readme.NETWORKS}
    encoders = {name: sha256_of(encoder_path(name)) for name in readme.NETWORKS}
    for path in sorted((readme.RESULTS / runner.RESULTS).glob('*.json')):
        content = json.loads(path.read_text(encoding='utf-8'))
        job = content['job']
        assert runner.changed_since(content) == {}, path.name
        assert content['network_sha256'] == networks[job['network']], path.name
        assert content['encoder_sha256'] == encoders[job['network']], path.name


def test_results_of_other_settings_are_refused(tmp_path, monkeypatch):
    """Presets that moved since: the file is named, not used and not overwritten; settings without a part in the run do not matter."""
    shipped = next(path for path in sorted((readme.RESULTS / runner.RESULTS).glob('demo-stylegan2-in-domain-0-baseline-*.json')))
    job = Job(**{**json.loads(shipped.read_text())['job'], 'settings': ()})
    mine = runner.result_path(tmp_path, job)
    mine.parent.mkdir()
    shutil.copy(shipped, mine)
    content = json.loads(shipped.read_text())
    del content['config']['lambda_l1']                               # an option that there was not yet
    assert runner.changed_since(content) == {}
    monkeypatch.setitem(TRAINING['stylegan2'], 'lambda_global', 99.0)
    monkeypatch.setitem(TRAINING['stylegan2'], 'n_near', 3)
    runner.check_results([JOB, job], tmp_path)
    monkeypatch.setitem(TRAINING['stylegan2'], 'lr', 0.5)
    with pytest.raises(InputError, match=r'baseline-\w+.json was made with other settings(?s:.*)lr 0.002, now 0.5'):
        runner.check_results([JOB, job], tmp_path)
    result = CliRunner().invoke(main, ['--network=demo-stylegan2', '--table=table1', f'--outdir={tmp_path}', '--people=1'])
    assert result.exit_code == 1 and 'Move it away' in result.output and mine.read_bytes() == shipped.read_bytes()


def test_a_folder_is_of_one_world_and_one_set_of_photos(tmp_path):
    check_people(tmp_path, 'ffhq', 'photos', None)
    check_people(tmp_path, 'ffhq', str(Path('photos').resolve()), None)
    with pytest.raises(InputError, match=r'holds results of --data=.*photos, not of --data=.*others. Choose another --outdir'):
        check_people(tmp_path, 'ffhq', 'others', None)
    with pytest.raises(InputError, match=r'holds results of --world=ffhq'):
        check_people(tmp_path, 'demo', None, None)
    with pytest.raises(InputError, match=r'of --real=\(none\), not of --real=.*real.zip'):
        check_people(tmp_path, 'ffhq', 'photos', 'real.zip')


def test_people_keep_their_numbers(tmp_path):
    """Results go by the order of the folders: people may be added at the end, not before others; nobody's name is in the file."""
    for name in ('berta', 'carl'):
        (tmp_path / 'photos' / 'in-domain' / name).mkdir(parents=True)
    out = tmp_path / 'out'
    out.mkdir()
    check_people(out, 'ffhq', str(tmp_path / 'photos'), None)
    (tmp_path / 'photos' / 'in-domain' / 'dora').mkdir()
    check_people(out, 'ffhq', str(tmp_path / 'photos'), None)
    assert 'berta' not in (out / command.PEOPLE_FILE).read_text()
    (tmp_path / 'photos' / 'in-domain' / 'anna').mkdir()
    with pytest.raises(InputError, match='holds other folders of people than when'):
        check_people(out, 'ffhq', str(tmp_path / 'photos'), None)


def test_multiples_of_a_default_that_moved_and_other_networks_are_noticed(monkeypatch):
    shipped = sorted((readme.RESULTS / runner.RESULTS).glob('demo-stylegan2-out-of-domain-1-*.json'))
    contents = [json.loads(path.read_text()) for path in shipped]
    multiple = next(one for one in contents if one['job']['method'] == 'guide')
    multiple['job'] = {**multiple['job'], 'settings': {'lambda_global': 'x1'}}
    assert runner.changed_since(multiple) == {}
    assert set(runner.changed_since({**multiple, 'network_sha256': '0' * 64})) == {'network_sha256'}
    assert set(runner.changed_since({**multiple, 'encoder_sha256': '0' * 64})) == {'encoder_sha256'}
    monkeypatch.setitem(TRAINING['stylegan2'], 'lambda_global', 8.0)
    assert runner.changed_since(multiple) == {'lambda_global': (6.0, 8.0)}


def test_a_run_with_other_settings_does_not_go_on_from_the_old_state(tmp_path):
    def workbench(lr):
        return SimpleNamespace(config=lambda job: Config(network='n', outdir='', lr=lr), pickle=SimpleNamespace(sha256=lambda: 'x'))
    first, second, again = (runner.work_folder(tmp_path, JOB, workbench(lr)).path for lr in (0.1, 0.2, 0.1))
    assert first == again != second and first.name.startswith(JOB.name)


def run_three(tmp_path, monkeypatch, error):
    """Three runs without a network, of which the second fails; those that were made, and those that were counted."""
    jobs, made, done = [dataclasses.replace(JOB, person=number) for number in range(3)], [], []

    def run_job(job, *_):
        if job.person == 1:
            raise error
        made.append(job)
        return {'figures': {'id': {'value': {'value': 0.1}}}}
    monkeypatch.setattr(runner, 'run_job', run_job)
    with pytest.raises(InputError) as told:
        runner.run_jobs(jobs, tmp_path, lambda job: ['id'], lambda network: SimpleNamespace(check=lambda *_: None), done.append)
    assert made == done and all(runner.result_path(tmp_path, job).is_file() == (job in made) for job in jobs)
    return jobs, made, str(told.value)


@pytest.mark.parametrize('error, said', [(InputError('The loss grew.'), 'The loss grew'), (ZeroDivisionError('x'), 'ZeroDivisionError: x'),
                                         (MemoryError(), 'The memory is too small')])
def test_a_run_that_fails_does_not_keep_the_others_back(tmp_path, monkeypatch, error, said):
    jobs, made, told = run_three(tmp_path, monkeypatch, error)
    assert made == [jobs[0], jobs[2]] and told.startswith('1 of 3 runs failed') and f'{jobs[1].name}: ' in told and said in told


def test_a_run_that_is_stopped_ends_all(tmp_path, monkeypatch):
    """Ctrl-C in a training: it saves its state, and no further run is begun."""
    jobs, made, told = run_three(tmp_path, monkeypatch, Stopped('Stopped by the user after step 3 of 9.'))
    assert made == jobs[:1] and told == 'Stopped by the user after step 3 of 9.'


def test_two_commands_do_not_write_into_one_folder(tmp_path):
    with held(tmp_path / '.lock'):
        result = CliRunner().invoke(main, [f'--outdir={tmp_path}', '--build-only', '--table=table4'])
    assert result.exit_code == 1 and 'is in use by another run' in result.output and not (tmp_path / 'tables.md').exists()
    assert CliRunner().invoke(main, [f'--outdir={tmp_path}', '--build-only', '--table=table4']).exit_code == 0
    assert (tmp_path / 'tables.md').exists() and not (tmp_path / '.lock').exists()


def test_tables_are_made_of_what_did_not_fail(tmp_path, monkeypatch):
    """And the command ends in the error all the same."""
    def fails(jobs, folder, *_):
        for job in jobs[:-1]:
            put(folder, job, id=0.1, fid_pre500=1.0)
        raise InputError('1 of 2 runs failed')
    monkeypatch.setattr(command, 'run_all', fails)
    monkeypatch.setattr(runner, 'changed_since', lambda content: {})
    result = CliRunner().invoke(main, ['--network=demo-stylegan2', '--table=table2', f'--outdir={tmp_path}', '--people=1'])
    assert result.exit_code == 1 and '1 of 2 runs failed' in result.output and (tmp_path / 'tables.md').read_text() in result.output
    assert '| no unlearning | 0.10' in result.output and 'have no result yet' in result.output


def test_what_a_metric_needs_is_asked_for_before_the_first_erasure(tmp_path):
    """A feature network that is not there: no run is begun for it."""
    def check(names, real):
        assert names == {'id', 'fid_pre500'}
        raise InputError('weights are missing')
    done = []
    with pytest.raises(InputError, match='weights are missing'):
        runner.run_jobs([JOB], tmp_path, lambda job: ['id', 'fid_pre500'], lambda network: SimpleNamespace(check=check), done.append)
    assert done == []


def test_a_workbench_checks_metrics_before_anything_slow():
    workbench = Workbench('demo-stylegan2')
    workbench.check({'id', 'id_others', 'retain200', 'fid_pre500', 'dfid_real500'}, None)
    with pytest.raises(InputError, match='asks for cheaper pictures'):
        workbench.check({'fid_pre500-half'}, None)


def test_runs_without_a_result_are_named(tmp_path):
    put(tmp_path, JOB, id=0.1)
    other = Job('demo-stylegan2', 'in-domain', 1, 0, 'guide')
    assert left_over([JOB], tmp_path) == ''
    assert left_over([JOB, other], tmp_path).startswith(f'1 of 2 runs have no result yet, the first is {other.name}.')


def test_real_faces_need_real_pictures():
    experiments = load_experiments()
    guide = {one.name: one for one in experiments}['table1'].rows[-1].job('ffhq.pkl', 'in-domain', 0, 0)

    def asked(**options):
        return protocols_of(experiments, ['ffhq.pkl'], 1, 1, 5000, 'ffhq', **options)[guide]
    assert asked(real=True) == ['id', 'id_others', 'fid_pre5000', 'retain200', 'dfid_real5000']
    assert asked(real=False) == ['id', 'id_others', 'fid_pre5000', 'retain200']


def test_embeddings_in_results_of_earlier_versions_are_passed_over(tmp_path):
    put(tmp_path, JOB, id=0.1)
    path, figures = runner.result_path(tmp_path, JOB), runner.known(tmp_path, JOB)
    path.write_text(json.dumps({'figures': {**figures, 'embeddings': {'states': ['photo'], 'vectors': [[1.0]]}}}))
    assert runner.known(tmp_path, JOB) == figures == {'id': {'value': {'value': 0.1}}}


def test_what_has_a_result_is_not_run_again(tmp_path):
    put(tmp_path, JOB, id=0.1)
    done = []
    runner.run_jobs([JOB], tmp_path, lambda job: ['id'], lambda network: pytest.fail('loaded a network'), done.append)
    assert done == [JOB] and runner.missing(tmp_path, JOB, ['id', 'fid_pre500']) == ['fid_pre500']


def test_a_result_gains_figures_and_loses_none(tmp_path, monkeypatch):
    """What another table asked for stays; what cannot be measured is noted, and not tried again."""
    put(tmp_path, JOB, id=0.1)
    person = SimpleNamespace(ws_others=None, notes={})
    evidence = SimpleNamespace(person=person, config=Config(network='n', outdir=''), device='cpu', g_s=1, g_u=1)
    workbench = SimpleNamespace(run=lambda *_: evidence, config=lambda job: evidence.config, world=None, family=None, check=lambda *_: None,
                              pickle=SimpleNamespace(sha256=lambda: 'x'), given=SimpleNamespace(encoder=None))
    monkeypatch.setattr(runner.metrics, 'compute', lambda name, *_: {'value': {'value': 2.0}, 'protocol': {}, 'by': {}})
    monkeypatch.setattr(runner.machine, 'hardware', lambda device: {})
    runner.run_jobs([JOB], tmp_path, lambda job: ['id', 'id_others', 'fid_pre500'], lambda network: workbench)
    figures = runner.known(tmp_path, JOB)
    assert figures['id']['value']['value'] == 0.1 and figures['id_others'] is None and figures['fid_pre500']['value']['value'] == 2.0
    assert runner.missing(tmp_path, JOB, ['id', 'id_others', 'fid_pre500']) == []


def test_different_numbers_of_samples_are_not_mixed(tmp_path):
    runs = dict(enumerate(({'fid_pre500': 1.0, 'fid_pre50': 9.0}, {'fid_pre500': 3.0}, {'fid_pre50': 9.0})))
    _, (cells, _) = rows_of(tmp_path, baseline=runs, both=runs)
    assert cells['fid_pre'].runs == 2 and cells['fid_pre'].mean in (2.0, 9.0)


@pytest.mark.parametrize('arguments, text', [
    (['--world=ffhq', '--outdir=o'], '--data=DIR names a folder'),
    (['--table=nine', '--outdir=o'], 'closed-form, figure9, methods'),
    (['--world=dema', '--outdir=o'], '--world=dema is not known; expected demo, faces or ffhq. Did you mean demo?'),
])
def test_errors(arguments, text, tmp_path):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and text in result.output


def test_too_few_people(tmp_path):
    (tmp_path / 'in-domain' / 'someone').mkdir(parents=True)
    workbench = Workbench.__new__(Workbench)
    workbench.data = tmp_path
    assert workbench._folder('in-domain', 0).name == 'someone'
    with pytest.raises(InputError, match='holds 1 folders of people, but person 2 is asked for'):
        workbench._folder('in-domain', 1)


@pytest.mark.slow
def test_runs_leave_results_and_tables(tmp_path, monkeypatch):
    """The command end to end on the small network, with short runs, few samples and one person."""
    monkeypatch.setitem(TRAINING['stylegan2'], 'inversion', 'encoder')
    monkeypatch.setitem(TRAINING['stylegan2'], 'iters', 2)
    monkeypatch.setitem(METRICS, 'retain', dataclasses.replace(METRICS['retain'], default_count=20))
    result = CliRunner().invoke(main, ['--network=demo-stylegan2', '--table=table4', f'--outdir={tmp_path}', '--people=1', '--samples=50'])
    assert result.exit_code == 0, result.output
    results = sorted((tmp_path / 'results').glob('*.json'))
    assert len(results) == 2 and not list((tmp_path / 'work').iterdir())
    content = json.loads(results[0].read_text())
    assert content['job']['scenario'] == 'out-of-domain' and content['seconds']['erasing'] > 0
    assert set(content['figures']) == {'id', 'id_others', 'fid_pre50', 'dfid_real50', 'retain20'}   # what any table asks for
    assert 'baseline (local loss)' in result.output and (tmp_path / 'tables.md').read_text() in result.output
    again = CliRunner().invoke(main, ['--network=demo-stylegan2', '--table=table4', f'--outdir={tmp_path}', '--people=1', '--samples=50'])
    assert again.exit_code == 0 and 'baseline' in again.output


def test_further_figures_of_a_metric_and_the_worst_person(tmp_path):
    """'retain:worst' is another column of the same result; cells name the worst person where the experiment asks for it."""
    table = next(iter(load_experiments(('closed-form',))))
    for person, worst in ((400, 0.5), (401, 0.9)):
        path = runner.result_path(tmp_path, table.rows[0].job('demo-stylegan2', 'random', person, 0))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({'figures': {'retain200': {'value': {'value': 0.75 + worst / 4}, 'worst': worst}}}))
    text = build.markdown(table, tmp_path, 'demo-stylegan2', 3, 1)
    assert text.endswith('| closed form | 0.93 ± 0.07 (0.88) | 0.70 ± 0.28 (0.50) |\n') and 'worst of 200' in text
    assert table.people(3) == range(400, 403) and len(load_experiments(('closed-form-against-guide',))[0].people(20)) == 3
