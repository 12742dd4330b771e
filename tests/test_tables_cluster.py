"""Runs by worker processes leave what runs one after another leave, whatever becomes of a worker; no folder need be shared."""
import dataclasses
import json
import sys
from types import SimpleNamespace

import cluster_stand_ins as stand_ins
import pytest
import torch
from click.testing import CliRunner
from test_tables import JOB, put

from eg3d_unlearn.bench.tables import cluster, runner
from eg3d_unlearn.bench.tables.command import main
from eg3d_unlearn.bench.tables.jobs import PEOPLE_FILE
from eg3d_unlearn.person.person import Person
from eg3d_unlearn.unlearning.training_loop import STOP, interruption
from torch_utils_ext.errors import InputError

SETTING = cluster.Setting('a command', None, b'', 'cpu')


@pytest.fixture(scope='module')
def client():
    pytest.importorskip('distributed', reason="needs dask: pip install -e '.[cluster]'")
    with cluster.connected(2) as client:
        client.wait_for_workers(2, timeout=300)
        yield client


@pytest.fixture
def setting(tmp_path, client, monkeypatch):
    """Of a command whose workers do what the stand-ins do."""
    for name in ('check', 'find', 'run'):
        monkeypatch.setattr(cluster, name, getattr(stand_ins, name))
    (tmp_path / PEOPLE_FILE).write_text('{"salt": "1"}')
    return cluster.setting_of(client, tmp_path, 'cpu', None, None, None, is_local=True)


def job(person, method=None):
    return dataclasses.replace(JOB, person=person, method=method)


def result(outdir, one):
    return json.loads(runner.result_path(outdir, one).read_text())


def test_runs_are_shared_among_workers_and_completed(tmp_path, client, setting, monkeypatch):
    """A person is found once for all runs; a result gains what it lacked and keeps what it had; a failed run is named at the end."""
    jobs = [job(person, method) for person in range(4) for method in (None, 'baseline')] + [job(0, 'guide'), job(9), job(9, 'baseline')]
    put(tmp_path, jobs[0], id=0.5)
    put(tmp_path, jobs[1], id=0.5, fid_pre500=0.5)
    written, done = runner.result_path(tmp_path, jobs[1]).read_bytes(), []
    (tmp_path / runner.WORK / f'{jobs[2].name}-01234567').mkdir(parents=True)
    with pytest.raises(InputError) as told:
        cluster.run_on(client, setting, jobs, lambda one: ['id', 'fid_pre500'], done.append)
    lines = str(told.value).splitlines()
    assert lines[0].startswith('3 of 11 runs failed') and sorted(lines[1:]) == sorted([
        f'{jobs[8].name}: The loss grew.', *(f'{one.name}: No face was found.' for one in jobs[9:])])
    assert sorted(one.name for one in done) == sorted(one.name for one in jobs[:8])
    assert {name: figure['value']['value'] for name, figure in result(tmp_path, jobs[0])['figures'].items()} == {'id': 0.5, 'fid_pre500': 0.0}
    assert runner.result_path(tmp_path, jobs[1]).read_bytes() == written
    made = [result(tmp_path, one) for one in jobs[2:8]]
    assert len({one['by'] for one in made}) == 2 and len({one['person'] for one in made}) == 3
    assert not list((tmp_path / runner.WORK).iterdir()) and len(list((tmp_path / runner.RESULTS).iterdir())) == 8


def test_what_a_metric_needs_is_asked_for_before_the_first_erasure(tmp_path, client, setting):
    jobs = [job(0), dataclasses.replace(job(0), network='missing.pkl')]
    with pytest.raises(InputError, match='^weights are missing$'):
        cluster.run_on(client, setting, jobs, lambda one: ['id'])
    assert not (tmp_path / runner.RESULTS).exists()


def test_a_worker_that_dies_takes_no_other_run_with_it(tmp_path, client, setting):
    jobs = [job(0, 'salun'), job(1)]
    with pytest.raises(InputError, match=f'1 of 2 runs failed(?s:.*){jobs[0].name}: the worker process died'):
        cluster.run_on(client, setting, jobs, lambda one: ['id'])
    assert runner.result_path(tmp_path, jobs[1]).is_file()


def test_ctrl_c_keeps_what_was_finished(tmp_path, client, setting):
    """And workers go on for the next command."""
    jobs = [job(person) for person in range(12)]

    def stop(one):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        cluster.run_on(client, setting, jobs, lambda one: ['id'], stop)
    assert 1 <= len(list((tmp_path / runner.RESULTS).iterdir())) < 10
    cluster.run_on(client, setting, jobs[:2], lambda one: ['id'])
    assert all(runner.result_path(tmp_path, one).is_file() for one in jobs[:2])


@pytest.mark.parametrize('shares_folder', [True, False])
def test_a_worker_keeps_states_in_the_folder_or_with_the_run(tmp_path, monkeypatch, shares_folder):
    """Where the command's folder is not to be seen from a worker, nothing of the person stays there."""
    (tmp_path / PEOPLE_FILE).write_bytes(b'here' if shares_folder else b'of another folder')
    setting, folders = dataclasses.replace(SETTING, outdir=tmp_path, mark=b'here'), []
    workbench = SimpleNamespace(people={}, g_s=SimpleNamespace(device='cpu'))

    def run_job(one, bench, folder, *_):
        (folder / 'state').touch()
        folders.append(folder)
        return bench.people[one.scenario, one.person]
    monkeypatch.setattr(runner, 'run_job', run_job)
    monkeypatch.setattr(cluster, 'use_share', lambda *_: None)
    monkeypatch.setitem(cluster._loaded, (setting, 'n'), (workbench, None))
    ws = torch.ones(1, 2, 3)
    assert torch.equal(cluster.run(setting, 'n', JOB, ['id'], Person(ws, {'given_as': 'seed'})).ws, ws)
    assert (folders == [tmp_path]) is shares_folder and (folders[0] / 'state').exists() is shares_folder


def test_a_training_outside_the_main_thread_is_stopped(monkeypatch):
    """`end` stops the trainings of its own command only, and the next task begins unstopped."""
    monkeypatch.setattr(cluster, 'use_share', lambda *_: None)
    setting = dataclasses.replace(SETTING, outdir=cluster.Path('nowhere'))
    monkeypatch.setitem(cluster._loaded, (setting, 'n'), 'a network')
    with cluster.loaded(setting, 'n') as found, interruption() as asked:
        assert found == 'a network' and not cluster.end('another command') and not asked() and cluster._loaded
        assert cluster.end('a command') and asked() and not cluster._loaded
    assert not cluster.end('a command')
    cluster._loaded[setting, 'n'] = 'a network'
    with cluster.loaded(setting, 'n'):
        assert not STOP.is_set()


@pytest.mark.parametrize('cores, share, threads', [(8, 2, 4), (2, 4, 1), (None, 1, 12)])
def test_a_worker_takes_its_share_of_the_cores(monkeypatch, cores, share, threads):
    pytest.importorskip('distributed')
    import dask.system
    taken = []
    monkeypatch.setattr(dask.system, 'CPU_COUNT', 12)
    fake = SimpleNamespace(set_num_threads=taken.append, cuda=SimpleNamespace(is_available=lambda: False))
    cluster.use_share(dataclasses.replace(SETTING, cores=cores, share=share), fake)
    assert taken == [threads]


def test_workers_of_one_machine_take_one_gpu_each(monkeypatch):
    """With --device=auto; who names a device gets it, and a cluster's workers have theirs already."""
    distributed = pytest.importorskip('distributed')
    taken = []
    fake = SimpleNamespace(set_num_threads=lambda count: None, cuda=SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 4, set_device=taken.append))
    monkeypatch.setattr(distributed, 'get_worker', lambda: SimpleNamespace(name=5))
    for device, cores in (('auto', 8), ('cuda:2', 8), ('auto', None)):
        cluster.use_share(dataclasses.replace(SETTING, device=device, cores=cores), fake)
    assert taken == [1]


@pytest.mark.parametrize('workers, said', [({'tcp://a:1': 1, 'tcp://a:2': 4}, 'makes 4 runs at a time. Start workers with --nthreads=1'),
                                           ({}, None)])
def test_workers_make_one_run_at_a_time(tmp_path, workers, said):
    """Torch's settings are of the whole process; where no worker is there yet, the first one that comes has its machine to itself."""
    (tmp_path / PEOPLE_FILE).touch()
    client = SimpleNamespace(nthreads=lambda: workers, dashboard_link='http://x')
    if said:
        with pytest.raises(InputError, match=said):
            cluster.setting_of(client, tmp_path, 'auto', None, None, None, is_local=False)
    else:
        assert cluster.setting_of(client, tmp_path, 'auto', None, None, None, is_local=False).share == 1


def test_workers_are_counted_by_machine(tmp_path):
    (tmp_path / PEOPLE_FILE).touch()
    client = SimpleNamespace(nthreads=lambda: dict.fromkeys(('tcp://a:1', 'tcp://a:2', 'tls://[::1]:3'), 1), dashboard_link='http://x')
    assert [cluster.setting_of(client, tmp_path, 'auto', 'photos', None, given, is_local=False).share for given in (None, 1)] == [2, 1]


@pytest.mark.parametrize('options, said', [(['-j2'], r'-j needs dask'), (['--scheduler=tcp://127.0.0.1:1'], r'--scheduler needs dask')])
def test_without_dask_the_command_says_what_installs_it(tmp_path, monkeypatch, options, said):
    monkeypatch.setitem(sys.modules, 'distributed', None)
    given = ['--network=demo-stylegan2', '--table=table4', '--people=1', f'--outdir={tmp_path}', *options]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 1 and said in result.output and "pip install 'distributed>=2024.1'" in result.output


def test_where_no_scheduler_answers(monkeypatch):
    pytest.importorskip('distributed')
    monkeypatch.setattr(cluster, 'CONNECT_SECONDS', 0.2)
    for address in ('tcp://127.0.0.1:1', 'nonsense://a'):
        with pytest.raises(InputError, match=f'--scheduler={address}: no dask scheduler answers there'), cluster.connected(1, address):
            pass
