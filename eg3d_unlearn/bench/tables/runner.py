"""Runs, one after another or many at a time; each leaves one result file, and what has one is not run again."""
from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import hashlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import Callable, Iterator

from eg3d_unlearn import machine
from eg3d_unlearn.bench.tables.jobs import Job
from eg3d_unlearn.bench.tables.plots import embeddings_of
from eg3d_unlearn.bench.tables.world import EMBEDDINGS, World, multiple
from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation import metrics
from eg3d_unlearn.evaluation.cache import fingerprint
from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.report.files import is_number
from eg3d_unlearn.run_folder import LOG, RunFolder, write_whole
from eg3d_unlearn.unlearning.presets import GUIDE, resolve
from eg3d_unlearn.worlds.registry import world_by_network, worlds
from torch_utils_ext.atomic_file import cannot_write, held
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import read_json, shown

RESULTS, WORK, CACHE = 'results', 'work', 'cache'


class QuietFolder(RunFolder):
    """A run's folder whose log is not printed: the bar over all runs is what is looked at."""

    def log(self, message: str) -> None:
        self.make()
        self.append(LOG, message)


def result_path(outdir: Path, job: Job) -> Path:
    return outdir / RESULTS / f'{job.name}.json'


def claim_of(outdir: Path, job: Job) -> Path:
    return outdir / WORK / f'{job.name}.claim'


@contextlib.contextmanager
def claimed(outdir: Path, job: Job) -> Iterator[bool]:
    """Whether this process may do ``job``: no other one on this machine, or on another with the same folder, is at it.

    The claim of a process that died is void.
    """
    path = claim_of(outdir, job)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(path))
        except TimeoutError:
            yield False
            return
        yield True


def work_goes_on(outdir: Path) -> bool:
    """Whether some process is at a run."""
    return any(is_held(path) for path in (outdir / WORK).glob('*.claim'))


def is_held(path: Path) -> bool:
    try:
        with held(path):
            return False
    except TimeoutError:
        return True


def run_jobs(
    jobs: list[Job],
    outdir: Path,
    names: Callable[[Job], list[str]],  # protocols of the metrics that a job's result holds
    make_world: Callable[[str], World],
    done: Callable[[Job], None] = lambda job: None,  # after each job of the list, run here or elsewhere
    real: str | None = None,         # folder or zip of real pictures, for ΔFID_real
) -> None:
    """Do every job that has no result yet and that nobody else is at. One that fails does not keep the others back.

    Raises:
        InputError: at the end, if any failed.
    """
    loaded: dict[str, World] = {}
    failed: list[str] = []
    cache = metrics.Cache(outdir / CACHE)
    for job in jobs:
        if missing(outdir, job, names(job)):
            with claimed(outdir, job) as mine:
                if not mine:
                    continue
                wanted = missing(outdir, job, names(job))    # another process may have made it meanwhile
                if wanted and job.network not in loaded:
                    loaded.clear()   # one network in memory at a time
                    world = loaded[job.network] = make_world(job.network)
                    # Once for all runs, before the first erasure.
                    world.check({name for one in jobs if one.network == job.network for name in missing(outdir, one, names(one))}, real)
                try:
                    if wanted:
                        run_job(job, loaded[job.network], outdir, wanted, cache, real)
                except InputError as error:              # one that diverged, a person whose photos cannot be used
                    failed.append(f'{job.name}: {error}')
                    continue
                with contextlib.suppress(OSError):       # whoever gets at this claim now finds the result
                    claim_of(outdir, job).unlink()
        done(job)
    if failed:
        raise InputError('\n'.join([f'{len(failed)} of {len(jobs)} runs failed, the others have their results:', *failed]))


def missing(outdir: Path, job: Job, names: list[str]) -> list[str]:
    """The protocols that a job's result does not hold yet."""
    figures = known(outdir, job)
    return [name for name in names if name not in figures]


def known(outdir: Path, job: Job) -> dict[str, dict | None]:
    """The figures of a job's result by protocol; None: cannot be measured on this person."""
    path = result_path(outdir, job)
    return read_result(path)['figures'] if path.exists() else {}


def read_result(path: Path) -> dict:
    """What a run left.

    Raises:
        InputError: the file is damaged, or holds what no run of ours writes.
    """
    content = read_json(path, 'result', dict)
    figures = content.get('figures')
    if not isinstance(figures, dict) or not all(is_figure(name, figure) for name, figure in figures.items()):
        raise InputError(f'{shown(path, 300)} is no result of evaluate.py tables, or is damaged. Move it away to have that run made again.')
    return content


def is_figure(name: str, figure: object) -> bool:
    """Whether a metric's entry, or the embeddings, are as tables need them."""
    if name == EMBEDDINGS and isinstance(figure, dict):
        states, vectors = figure.get('states'), figure.get('vectors')
        return (isinstance(states, list) and isinstance(vectors, list) and len(states) == len(vectors) > 0
                and all(isinstance(state, str) for state in states)
                and all(isinstance(vector, list) and len(vector) == len(vectors[0]) and all(map(is_number, vector)) for vector in vectors))
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
        families = [None, *(family for world in worlds() for family in world.networks.values())]
        if not isinstance(content.get('config'), dict) or content.get('demo') not in families:
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
    before = {name: then.get(name, GUIDE.get(name)) for name in names}   # what was no option then was as published
    before |= {name: content.get(name) for name in ('network_sha256', 'encoder_sha256')}
    now |= {'network_sha256': checksum_of(job['network'], before['network_sha256']),
            'encoder_sha256': before['encoder_sha256'] if world is None else checksum_once(world.encoder_path(family))}
    return {name: (before[name], now[name]) for name in sorted(before) if before[name] != now[name]}


def checksum_of(network: str, unknown: str) -> str:
    """The checksum of a network that lies on this machine; ``unknown`` for others."""
    world, _ = world_by_network(network)
    path = Path(network) if world is None else world.network_path(network)
    return checksum_once(path) if path.is_file() else unknown


@functools.cache
def checksum_once(path: Path) -> str:
    """The checksum of a file that many results are held against; published networks have hundreds of megabytes."""
    return sha256_of(path)


def work_folder(outdir: Path, job: Job, world: World) -> QuietFolder:
    """Where a run keeps its state: a run with other settings, or of another network, does not go on from it."""
    options = {**world.config(job).to_json(), 'network_sha256': world.pickle.sha256()}
    mark = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
    return QuietFolder(outdir / WORK / f'{job.name}-{mark}')


def run_job(job: Job, world: World, outdir: Path, names: list[str], cache: metrics.Cache, real: str | None = None) -> None:
    """Erase, measure, write the result; figures that it held before stay."""
    begun = time.time()
    folder = work_folder(outdir, job, world)
    evidence = world.run(job, folder, folder.log)
    trained = time.time()
    settings = Settings(seed=0, cache=cache, data=real, progress=False)
    figures = known(outdir, job)
    for name in names:
        if name.startswith('id_others') and evidence.person.ws_others is None:
            figures[name] = None     # a random latent, or somebody with one photo
            continue
        figures[name] = embeddings(evidence) if name == EMBEDDINGS else essence(metrics.compute(name, evidence, settings))
    if evidence.g_u is not evidence.g_s:
        cache.forget(fingerprint(evidence.g_u))
    options = evidence.config.to_json()
    content = {
        'job': described(job),
        'figures': figures,
        'reconstruction': {key: evidence.person.notes[key] for key in ('lpips', 'psnr_db', 'identity') if key in evidence.person.notes},
        'config': {key: value for key, value in options.items() if key not in ('network', 'outdir', 'encoder')},
        'demo': None if world.world is None else world.family,
        'network_sha256': world.pickle.sha256(),
        'encoder_sha256': None if world.given.encoder is None else sha256_of(Path(world.given.encoder)),
        'versions': machine.versions(), 'hardware': machine.hardware(evidence.device),
        'seconds': {'erasing': round(trained - begun, 1), 'measuring': round(time.time() - trained, 1)},
    }
    path = result_path(outdir, job)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write((json.dumps(content, indent=1) + '\n').encode()))
    for left in folder.path.parent.glob(f'{glob.escape(job.name)}-*'):   # states of other settings, too, which hold the person's latent
        if re.fullmatch('[0-9a-f]{8}', left.name.removeprefix(f'{job.name}-')):
            shutil.rmtree(left, ignore_errors=True)


def essence(figure: dict) -> dict:
    """A metric's result less its details by view, person and bin: what tables are made of."""
    return {key: value for key, value in figure.items() if key in ('value', 'protocol') or isinstance(value, (int, float))}


def embeddings(evidence: Evidence) -> dict:
    """The recogniser's embeddings of the person's photos and of both networks' pictures, to four digits."""
    vectors, states = embeddings_of(evidence)
    return {'states': states, 'vectors': [[round(number, 4) for number in vector] for vector in vectors.tolist()]}
