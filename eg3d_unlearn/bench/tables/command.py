"""Remake the paper's tables.

    python evaluate.py tables --world=demo --outdir=tables
"""
from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

import click

from eg3d_unlearn.bench.tables.jobs import PEOPLE_FILE, Job, load_experiments, path_of
from eg3d_unlearn.console import PATH, command
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm
from torch_utils_ext.user_files import did_you_mean, read_json, shown

PUBLISHED = 'ffhq', ('ffhqrebalanced512-128.pkl', 'stylegan2-ffhq-256x256.pkl')   # name for --world, networks


@command(stopped='Run the same command again to go on.')
@click.option('--world', help='Networks and people: of a world by its name; ffhq: the published networks, with --data.', metavar='NAME', default='demo', show_default=True)
@click.option('--network', 'networks', help="Only this network; may be given more than once.  [default: the world's]", type=PATH, metavar='NAME', multiple=True)
@click.option('--table', 'tables', help='Only this table: table1 to table4, figure9, methods, closed-form, closed-form-against-guide; may be given more than once.  [default: all]', metavar='NAME', multiple=True)
@click.option('--outdir', help='Folder of the results; the same command goes on.', type=PATH, metavar='DIR', required=True)
@click.option('--data', help='Photos of real people: DIR/in-domain/PERSON/*.jpg and DIR/out-of-domain/PERSON/*.jpg.', type=PATH, metavar='DIR')
@click.option('--real', help='Real pictures for ΔFID_real, cropped as the training pictures were: folder or zip.  [default: in the demo world its renderer; else ΔFID_real is left out]', type=PATH, metavar='DIR|ZIP')
@click.option('--people', help='People of each scenario.', type=click.IntRange(min=1), default=3, show_default=True, metavar='INT')
@click.option('--seeds', help='Seeds of the training for each person.', type=click.IntRange(min=1), default=1, show_default=True, metavar='INT')
@click.option('--samples', help='Pictures of each FID.', type=click.IntRange(min=50), default=None, metavar='INT')
@click.option('-j', '--processes', help="Runs at a time on this machine, each with its share of the cores and a GPU of its own where there are several; more than one needs dask. With --scheduler: workers that share a machine's cores.  [default: 1; with --scheduler: as many as are found on one]", type=click.IntRange(min=1), metavar='INT')
@click.option('--scheduler', help='Address of a running dask scheduler, whose workers make the runs (tcp://HOST:8786).', metavar='ADDRESS')
@click.option('--device', help='auto, cpu, cuda, cuda:N or mps.', default='auto', show_default=True)
@click.option('--build-only', help='Build the tables from the results that are there; run nothing.', is_flag=True)
@click.option('-n', '--dry-run', help='List the runs and exit.', is_flag=True)
def main(world: str, networks: tuple[str, ...], tables: tuple[str, ...], outdir: str, data: str | None, real: str | None, people: int, seeds: int, samples: int | None,
         processes: int | None, scheduler: str | None, device: str, build_only: bool, dry_run: bool) -> None:
    """Remake the paper's Tables 1 to 4, its sweep of d (Figure 9) and a comparison with other methods.

    Every run leaves one file in DIR/results; tables are built from these files only (DIR/tables.md, DIR/tables.json). A run
    that has its file is not made again, whichever table asks for it. With -j several runs are made at a time; with --scheduler
    they are made by the workers of a dask cluster (dask worker ADDRESS --nthreads=1), which need the same installation, networks and
    photos at the same paths, but not DIR.

    \b
    Examples:
      python evaluate.py tables --world=demo --outdir=tables -j 2
      python evaluate.py tables --world=demo --outdir=tables --scheduler=tcp://10.0.0.1:8786
      python evaluate.py tables --world=ffhq --data=photos --outdir=tables-ffhq --people=10
    """
    from eg3d_unlearn.bench.tables.build import TABLES, write_tables
    from eg3d_unlearn.bench.tables.runner import RESULTS, check_results
    from eg3d_unlearn.run_folder import RunFolder, refuse_foreign_files
    experiments = load_experiments(tables)
    networks = networks or networks_of(world)
    if world == PUBLISHED[0] and data is None:
        raise InputError(f'--world={world} is about photos of real people: --data=DIR names a folder with in-domain/PERSON/*.jpg and '
                         'out-of-domain/PERSON/*.jpg.')
    if real is not None:
        from eg3d_unlearn.person.photo.dataset import DataSet
        DataSet(real)            # one that cannot be read is refused before anything slow
    samples = samples or (5000 if world == PUBLISHED[0] else 500)
    jobs = list(dict.fromkeys(job for experiment in experiments for job in experiment.jobs(list(networks), people, seeds)))
    # What any table asks for, so that no run is made a second time for another one.
    protocols = protocols_of(load_experiments(), list(networks), people, seeds, samples, world, real is not None)
    if dry_run:
        for job in jobs:
            click.echo(f'{job.name}: {", ".join(protocols[job])}')
        click.echo(f'{len(jobs)} runs.')
        return
    folder, failure = Path(outdir), None
    refuse_foreign_files(folder, '--outdir', [PEOPLE_FILE, *(f'{RESULTS}/{job.name}.json' for job in jobs)])
    check_results(jobs, folder)
    with RunFolder(folder, last=TABLES).locked():
        if not build_only:
            check_people(folder, world, data, real)
            try:
                run_all(jobs, folder, protocols, processes, scheduler, device, data, real)
            except InputError as error:      # some runs failed: tables are made of the others
                failure = error
        click.echo(write_tables(experiments, folder, list(networks), people, seeds))
    click.echo(left_over(jobs, folder), nl=False)
    if failure is not None:
        raise failure


def networks_of(world: str) -> tuple[str, ...]:
    """The networks of a world, or the published ones."""
    from eg3d_unlearn.worlds.registry import REGISTERED, world_named
    if world in REGISTERED:
        return tuple(world_named(world).networks)
    name, networks = PUBLISHED
    if world != name:
        raise InputError(f'--world={shown(world)} is not known; expected {", ".join(REGISTERED)} or {name}.{did_you_mean(world, (*REGISTERED, name))}')
    return networks


def protocols_of(experiments: list, networks: list[str], people: int, seeds: int, samples: int, world: str, real: bool = True) -> dict[Job, list[str]]:
    """Which metrics each run's result holds, by their whole names: those of all tables that ask for it."""
    from eg3d_unlearn.evaluation.metrics import METRICS
    from eg3d_unlearn.generators.families import adapters
    from eg3d_unlearn.worlds.registry import REGISTERED, world_named
    found: dict[Job, list[str]] = {}
    known = world_named(world) if world in REGISTERED else None
    for experiment in experiments:
        for job in experiment.jobs(networks, people, seeds):
            half = known is not None and job.network in known and adapters()[known.networks[job.network]].has_half
            for metric in experiment.metrics:
                name = metric.partition(':')[0]
                about = METRICS[name]
                if about.needs_real and not real and not (known is not None and known.is_made_up):
                    continue         # a made-up world renders real pictures
                if about.default_count is not None:
                    name += f'{samples if about.counts == "pictures" else about.default_count}{"-half" if half else ""}'
                if name not in found.setdefault(job, []):
                    found[job].append(name)
    return found


def check_people(folder: Path, world: str, data: str | None, real: str | None) -> None:
    """Results do not say whose they are, so the folder does: one with other people's results is refused.

    Raises:
        InputError: it was begun for another world, or with other photos.
    """
    from eg3d_unlearn.run_folder import write_whole
    now = {'world': world, **{name: None if path is None else str(Path(path).resolve()) for name, path in (('data', data), ('real', real))}}
    path = folder / PEOPLE_FILE
    then = read_people(path) if path.exists() else {**now, 'salt': secrets.token_hex(16), 'people': {}}
    for name, value in now.items():
        if then.get(name) != value:
            raise InputError(f'{folder} holds results of --{name}={shown(then.get(name), 300) if then.get(name) else "(none)"}, not of --{name}={value or "(none)"}. '
                             'Choose another --outdir.')
    people = {scenario: [hashlib.sha256((then['salt'] + name).encode()).hexdigest()[:16] for name in names]
              for scenario, names in people_of(data).items()}
    for scenario, before in then['people'].items():
        if people.get(scenario, [])[:len(before)] != before:
            raise InputError(f'{Path(data or ".") / shown(scenario)} holds other folders of people than when {folder} was begun, and results go by their '
                             'order. Let new people come last by name, or choose another --outdir.')
    content = {**then, 'people': people}
    if not path.exists() or content != then:
        write_whole(path, lambda file: file.write((json.dumps(content, indent=1) + '\n').encode()))


def read_people(path: Path) -> dict:
    """What a folder says of the people whose results it holds."""
    then = read_json(path, 'list of people', dict)
    people = then.get('people')
    if not isinstance(then.get('salt'), str) or not isinstance(people, dict) or not all(isinstance(names, list) for names in people.values()):
        raise InputError(f'{shown(path, 300)} is damaged. Choose another --outdir, or delete that file if you know whose results the folder holds.')
    return then


def people_of(data: str | None) -> dict[str, list[str]]:
    """The names of the folders of people in each scenario, in their order."""
    if data is None:
        return {}
    parents = {scenario: Path(data) / scenario for scenario in ('in-domain', 'out-of-domain')}
    from eg3d_unlearn.person.photo.folders import folders_in
    return {scenario: [path.name for path in folders_in(parent)] if parent.is_dir() else []
            for scenario, parent in parents.items()}


def left_over(jobs: list[Job], folder: Path) -> str:
    """What is said of runs without a result; nothing where all have one."""
    from eg3d_unlearn.bench.tables.runner import result_path
    missing = [job.name for job in jobs if not result_path(folder, job).is_file()]
    if not missing:
        return ''
    return f'{len(missing)} of {len(jobs)} runs have no result yet, the first is {missing[0]}. Run the same command again.\n'


def run_all(jobs: list[Job], folder: Path, protocols: dict[Job, list[str]], processes: int | None, scheduler: str | None, device: str,
            data: str | None, real: str | None) -> None:
    """Every run that is missing: one after another in this process, or at the same time by workers."""
    from eg3d_unlearn.bench.tables import cluster, runner
    from eg3d_unlearn.bench.tables.workbench import Workbench
    lacking = sum(bool(runner.missing(folder, job, protocols[job])) for job in jobs)
    workers = min(processes or 1, lacking)
    with tqdm(total=len(jobs), desc='runs', unit='run', dynamic_ncols=True) as bar:
        def done(job: Job) -> None:
            bar.update()
        if lacking and (scheduler or workers > 1):
            with cluster.connected(workers, scheduler) as client:
                share = processes if scheduler else workers
                setting = cluster.setting_of(client, folder, device, data, real, share, is_local=scheduler is None)
                cluster.run_on(client, setting, jobs, protocols.__getitem__, done)
        else:
            runner.run_jobs(jobs, folder, protocols.__getitem__, lambda network: Workbench(path_of(network), device, data), done, real)
