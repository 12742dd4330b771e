"""Runs, and the files that they leave: one each, and what has one is not run again."""
from __future__ import annotations

import dataclasses
import functools
import glob
import hashlib
import json
import re
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Callable

from eg3d_unlearn import machine
from eg3d_unlearn.bench.tables.jobs import Job
from eg3d_unlearn.bench.tables.workbench import Workbench, multiple
from eg3d_unlearn.config import Config
from eg3d_unlearn.console import sentence
from eg3d_unlearn.evaluation import metrics
from eg3d_unlearn.evaluation.cache import fingerprint
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.run_folder import LOG, RunFolder, write_whole
from eg3d_unlearn.unlearning.presets import GUIDE, resolve
from eg3d_unlearn.unlearning.training_loop import Stopped
from eg3d_unlearn.worlds.registry import world_by_network
from torch_utils_ext.atomic_file import cannot_write
from torch_utils_ext.download import sha256_once
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import is_number, read_json, shown

RESULTS, WORK, CACHE = 'results', 'work', 'cache'


class QuietFolder(RunFolder):
    """A run's folder whose log is not printed: the bar over all runs is what is looked at."""

    def log(self, message: str) -> None:
        self.make()
        self.append(LOG, message)


def result_path(outdir: Path, job: Job) -> Path:
    return outdir / RESULTS / f'{job.name}.json'


def run_jobs(
    jobs: list[Job],
    outdir: Path,
    names: Callable[[Job], list[str]],  # protocols of the metrics that a job's result holds
    make_workbench: Callable[[str], Workbench],
    done: Callable[[Job], None] = lambda job: None,  # after each job that has its result
    real: str | None = None,         # folder or zip of real pictures, for ΔFID_real
) -> None:
    """Do every job that has no result yet, one after another in this process. One that fails does not keep the others back.

    Raises:
        InputError: at the end, if any failed; at once where a network or what a metric needs is not there, or the user stops.
    """
    failed, cache = [], metrics.Cache(outdir / CACHE)
    for network, wanted in lacking(jobs, outdir, names, done).items():
        workbench = None             # one network in memory at a time
        workbench = make_workbench(network)
        workbench.check(set().union(*wanted.values()), real)          # once for all runs, before the first erasure
        for job, lacks in wanted.items():
            said = kept_or_told(outdir, job, partial(run_job, job, workbench, outdir, lacks, cache, real), Stopped)
            failed.append(said) if said else done(job)
    report_failures(failed, jobs)


def lacking(jobs: list[Job], outdir: Path, names: Callable[[Job], list[str]],
            done: Callable[[Job], None]) -> dict[str, dict[Job, list[str]]]:
    """By network the jobs that lack protocols, and which; ``done`` is told of the others."""
    wanted: dict[str, dict[Job, list[str]]] = {}
    for job in jobs:
        if lacks := missing(outdir, job, names(job)):
            wanted.setdefault(job.network, {})[job] = lacks
        else:
            done(job)
    return wanted


def kept_or_told(
    outdir: Path,
    job: Job,
    make: Callable[[], dict],        # gives what the run found
    stops: type[BaseException],      # what ends all runs
) -> str | None:
    """Write the result of a run; None, or what is said of one that failed: a loss that diverged, photos that cannot be used, no memory."""
    try:
        write_result(outdir, job, make())
    except stops:
        raise
    except Exception as error:
        return f'{job.name}: {error if isinstance(error, InputError) else sentence(error)}'
    forget_states(outdir, job)
    return None


def report_failures(failed: list[str], jobs: list[Job]) -> None:
    """Raise an InputError that names the runs that failed, if any did."""
    if failed:
        raise InputError('\n'.join([f'{len(failed)} of {len(jobs)} runs failed, the others have their results:', *failed]))


def missing(outdir: Path, job: Job, names: list[str]) -> list[str]:
    """The protocols that a job's result does not hold yet."""
    figures = known(outdir, job)
    return [name for name in names if name not in figures]


def known(outdir: Path, job: Job) -> dict[str, dict | None]:
    """The figures of a job's result by protocol; None: cannot be measured on this person."""
    path = result_path(outdir, job)
    if not path.exists():
        return {}
    state = path.stat()
    return _known(path, state.st_ino, state.st_mtime_ns, state.st_size)


@functools.cache
def _known(path: Path, *state: int) -> dict[str, dict | None]:
    """Tables ask for one figure at a time: a file that stays as it is is read once."""
    return read_result(path)['figures']


def read_result(path: Path) -> dict:
    """What a run left.

    Raises:
        InputError: the file is damaged, or holds what no run of ours writes.
    """
    content = read_json(path, 'result', dict)
    figures = content.get('figures')
    if isinstance(figures, dict):
        figures.pop('embeddings', None)          # of earlier versions
    if not isinstance(figures, dict) or not all(map(is_figure, figures.values())):
        raise InputError(f'{shown(path, 300)} is no result of evaluate.py tables, or is damaged. Move it away to have that run made again.')
    return content


def is_figure(figure: object) -> bool:
    """Whether a metric's entry is as tables need it."""
    value = figure.get('value') if isinstance(figure, dict) else None
    return figure is None or (isinstance(value, dict) and is_number(value.get('value')))


def check_results(jobs: list[Job], outdir: Path) -> None:
    """Refuse results that were made with other settings than today's: a table of both would compare nothing.

    Raises:
        InputError: there is one, by another version of this package; or one that is damaged or of another run.
    """
    for job in jobs:
        path = result_path(outdir, job)
        if not path.exists():
            continue
        content = read_result(path)
        if content.get('job') != described(job):
            raise InputError(f'{shown(path, 300)} is a result of another run than its name says. Move it away to have that run made again.')
        if not isinstance(content.get('config'), dict):
            raise InputError(f'{shown(path, 300)} is no result of evaluate.py tables, or is damaged. Move it away to have that run made again.')
        changed = changed_since(content)
        if changed:
            name, (then, now) = next(iter(changed.items()))
            raise InputError(f"{shown(path, 300)} was made with other settings than today's, by another version of this package "
                             f'({name} {shown(then)}, now {shown(now)}). Move it away to have that run made again, or choose another --outdir.')


def described(job: Job) -> dict:
    """A job as its result names it."""
    return {'network': job.network, 'scenario': job.scenario, 'person': job.person, 'seed': job.seed, 'method': job.method,
            'settings': dict(job.settings)}


def changed_since(content: dict) -> dict[str, tuple]:
    """Settings of a result that would be others today: name -> (then, now).  Those that its run did not use do not count."""
    job, then = content['job'], content['config']
    world, family = world_by_network(job['network'])
    given = Config(network=job['network'], outdir='')
    guide, now = (resolve(dataclasses.replace(given, method=method), world, family).to_json() for method in ('guide', job['method'] or 'guide'))
    # Distances are multiples of the network's own, which its checksum stands for.
    now.update({name: multiple(value, guide[name]) for name, value in job['settings'].items() if name not in ('target_d', 'alpha_max')})
    names = (set(GUIDE) if job['method'] else set()) | {'inversion', 'inversion_steps', 'inversion_lr', 'lpips_net', 'id_network'}
    names -= {'n_global', 'n_near'} if not then.get('lambda_global') else set()
    names -= {'n_adj'} if not then.get('lambda_adj') else set()
    names -= {'inversion_lambda_id'} if now['inversion_lambda_id'] is None else set()   # an encoder alone
    before = {name: then.get(name, GUIDE.get(name)) for name in names}   # what was no option then was as published
    before |= {name: content.get(name) for name in ('network_sha256', 'encoder_sha256')}
    encoder = None if world is None else world.encoder_path(family)
    now |= {'network_sha256': checksum_of(job['network'], before['network_sha256']),
            'encoder_sha256': before['encoder_sha256'] if encoder is None else sha256_once(encoder)}
    return {name: (before[name], now[name]) for name in sorted(before) if before[name] != now[name]}


def checksum_of(network: str, unknown: str) -> str:
    """The checksum of a network that lies on this machine; ``unknown`` for others."""
    world, _ = world_by_network(network)
    try:
        path = Path(network) if world is None else world.network_path(network)
    except InputError:               # of a world that was not set up here
        return unknown
    return sha256_once(path) if path.is_file() else unknown


def work_folder(folder: Path, job: Job, workbench: Workbench) -> QuietFolder:
    """Where a run keeps its state: a run with other settings, or of another network, does not go on from it."""
    options = {**workbench.config(job).to_json(), 'network_sha256': workbench.pickle.sha256()}
    mark = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
    return QuietFolder(folder / WORK / f'{job.name}-{mark}')


def run_job(
    job: Job,
    workbench: Workbench,
    folder: Path,                    # in which the run keeps its state
    names: list[str],                # protocols of the metrics to be taken
    cache: metrics.Cache,
    real: str | None = None,         # folder or zip of real pictures, for ΔFID_real
) -> dict:                           # content of the result's file, with figures for ``names`` only
    """Erase and measure."""
    begun = time.time()
    work = work_folder(folder, job, workbench)
    evidence = workbench.run(job, work, work.log)
    trained = time.time()
    settings = Settings(seed=0, cache=cache, data=real, progress=False)
    figures: dict[str, dict | None] = {}
    for name in names:
        if evidence.person.ws_others is None and metrics.METRICS[metrics.parse(name).base].needs_other_photos:
            figures[name] = None     # a random latent, or somebody with one photo
            continue
        figures[name] = essence(metrics.compute(name, evidence, settings))
    if evidence.g_u is not evidence.g_s:
        cache.forget(fingerprint(evidence.g_u))
    options = evidence.config.to_json()
    return {
        'job': described(job),
        'figures': figures,
        'reconstruction': {key: evidence.person.notes[key] for key in ('lpips', 'psnr_db', 'identity') if key in evidence.person.notes},
        'config': {key: value for key, value in options.items() if key not in ('network', 'outdir', 'encoder')},
        'network_sha256': workbench.pickle.sha256(),
        'encoder_sha256': None if workbench.given.encoder is None else sha256_once(Path(workbench.given.encoder)),
        'versions': machine.versions(), 'hardware': machine.hardware(evidence.device),
        'seconds': {'erasing': round(trained - begun, 1), 'measuring': round(time.time() - trained, 1)},
    }


def write_result(outdir: Path, job: Job, content: dict) -> None:
    """Write what a run found; figures that its result held before stay."""
    path = result_path(outdir, job)
    content = {**content, 'figures': {**known(outdir, job), **content['figures']}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    write_whole(path, lambda file: file.write((json.dumps(content, indent=1) + '\n').encode()))


def forget_states(folder: Path, job: Job) -> None:
    """Delete the states of a run that has its result, those of other settings, too: they hold the person's latent."""
    for left in (folder / WORK).glob(f'{glob.escape(job.name)}-*'):
        if re.fullmatch('[0-9a-f]{8}', left.name.removeprefix(f'{job.name}-')):
            shutil.rmtree(left, ignore_errors=True)


def essence(figure: dict) -> dict:
    """A metric's result less its details by view, person and bin: what tables are made of."""
    return {key: value for key, value in figure.items() if key in ('value', 'protocol') or isinstance(value, (int, float))}
