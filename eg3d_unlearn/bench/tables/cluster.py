"""Runs in worker processes, by dask.distributed: of this machine, or of a cluster whose scheduler is running already.

The command hands out runs, gets their results and writes them, so that workers need not see its folder.
"""
from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator
from urllib.parse import urlsplit

from eg3d_unlearn.bench.tables.jobs import PEOPLE_FILE, Job, path_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

if TYPE_CHECKING:                    # a scheduler imports this module, too, and needs no torch
    from distributed import Client, Future

    from eg3d_unlearn.bench.tables.workbench import Workbench
    from eg3d_unlearn.evaluation.metrics import Cache
    from eg3d_unlearn.person.person import Person

INSTALL = "pip install 'distributed>=2024.1' cryptography bokeh"
CONNECT_SECONDS = 20                 # within which a scheduler must answer
LOOK_SECONDS = 5                     # between looks for workers that have come or gone
STOP_SECONDS = 60                    # after Ctrl-C, for trainings to end their step and save their state


@dataclass(frozen=True)
class Setting:
    """What all runs of one command have in common."""
    command: str                     # a random name: several commands may share a cluster
    outdir: Path                     # absolute
    mark: bytes                      # content of `PEOPLE_FILE`, with its random number: where it is the same, the folder is
    device: str                      # as --device
    data: str | None = None          # absolute, and so on
    real: str | None = None
    cores: int | None = None         # of this machine, for workers of its own; None: all that a worker's process may use
    share: int = 1                   # workers that share the cores of a machine


# What the command does.

@contextlib.contextmanager
def connected(
    processes: int,                  # workers to be started
    scheduler: str | None = None,    # address of a running scheduler; None: start workers on this machine
) -> Iterator[Client]:
    """A client of the workers.

    Raises:
        InputError: dask is not installed, or no scheduler answers.
    """
    try:
        import dask.config
        from distributed import Client, LocalCluster
        from distributed.security import Security
        security = None if scheduler else Security.temporary()
    except ImportError as error:
        raise InputError(f'{"--scheduler" if scheduler else "-j"} needs dask ({error}). Install it with: {INSTALL}') from None
    if scheduler is None:
        # With keys of its own: whoever can talk to a scheduler can run programs as its user. Without a limit of memory, by which dask
        # would kill a run that takes more than its share, and without its log: what matters of it is said at the end.
        # A worker that died is waited for: dask would give it up after 15 seconds, and a loaded machine needs longer to start one.
        with dask.config.set({'distributed.deploy.lost-worker-timeout': '1 day'}), \
            LocalCluster(n_workers=processes, threads_per_worker=1, memory_limit=None, security=security, dashboard_address='127.0.0.1:0',
                          silence_logs=logging.CRITICAL, env={'TQDM_DISABLE': '1'}) as cluster, Client(cluster) as client:
            client.run(ignore_ctrl_c)
            yield client
        return
    logging.getLogger('distributed').setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f'--scheduler={shown(scheduler, 300)}: no dask scheduler answers there ({shown(error)}). Start one with: '
                         'dask scheduler, and workers with: dask worker ADDRESS --nthreads=1') from None
    with client:
        yield client


def setting_of(
    client: Client,
    outdir: Path,                    # with its `PEOPLE_FILE`
    device: str,
    data: str | None,
    real: str | None,
    share: int | None,               # workers that share a machine's cores; None: as many as are found on one
    is_local: bool,                  # whether the workers are ours, on this machine
) -> Setting:
    """The setting of a command whose workers are those of ``client``.

    Raises:
        InputError: a worker would make several runs at a time, which share torch's settings.
    """
    workers = client.nthreads()
    for address, threads in workers.items():
        if threads != 1:
            raise InputError(f'The worker {shown(address)} makes {threads} runs at a time. Start workers with --nthreads=1: each run uses '
                             'several cores by itself.')
    cores = None
    if is_local:
        from torch import get_num_threads
        cores = get_num_threads()
    share = share or max(Counter(urlsplit(address).hostname for address in workers).values(), default=1)
    print(f'{len(workers) or "No"} workers{"" if workers else " yet: runs begin when there are some"}; watch them at {client.dashboard_link}',
          file=sys.stderr)
    absolute = [None if path is None else str(Path(path).resolve()) for path in (data, real)]
    outdir = outdir.resolve()
    return Setting(os.urandom(8).hex(), outdir, (outdir / PEOPLE_FILE).read_bytes(), device, *absolute, cores, share)


def run_on(
    client: Client,
    setting: Setting,
    jobs: list[Job],
    names: Callable[[Job], list[str]],  # protocols of the metrics that a job's result holds
    done: Callable[[Job], None] = lambda job: None,  # after each job that has its result
) -> None:
    """Do every job that has no result yet on the workers. One that fails does not keep the others back.

    Raises:
        InputError: at the end, if any failed; at once where a network or what a metric needs is not there, or the cluster is lost.
    """
    from eg3d_unlearn.bench.tables.runner import lacking, report_failures
    wanted = lacking(jobs, setting.outdir, names, done)
    going: dict[Future, Job] = {}
    try:
        with _told_if_lost():
            # Before the first erasure.
            client.gather([client.submit(check, setting, path_of(network), set().union(*mine.values()), pure=False)
                           for network, mine in wanted.items()])
            failed = list(hand_out(client, setting, {job: lacks for mine in wanted.values() for job, lacks in mine.items()}, going, done))
    except KeyboardInterrupt:
        print('Stopping after the step that each worker is at; once more to stop at once.', file=sys.stderr)
        client.cancel(list(going), force=True)
        stop_by = time.monotonic() + STOP_SECONDS
        while any(client.run(end, setting.command).values()) and time.monotonic() < stop_by:
            time.sleep(0.5)
        raise
    client.run(end, setting.command)
    report_failures(failed, jobs)


def hand_out(client: Client, setting: Setting, wanted: dict[Job, list[str]], going: dict[Future, Job],
             done: Callable[[Job], None]) -> Iterator[str]:
    """Let workers make all runs, and write results as they come; what is said of each run that failed.

    No worker has a run in reserve: dask would take one for guilty, too, that only waits where another kills the worker.
    """
    from distributed import CancelledError, TimeoutError, wait

    from eg3d_unlearn.bench.tables.runner import kept_or_told
    waiting = list(reversed(wanted))
    people: dict[tuple[str, str, int], Future] = {}   # each is found once for all runs
    while waiting or going:
        while waiting and len(going) < max(1, len(client.nthreads())):
            job = waiting.pop()
            network, who = path_of(job.network), (job.network, job.scenario, job.person)
            if who not in people:
                people[who] = client.submit(find, setting, network, *who[1:], pure=False)
            going[client.submit(run, setting, network, job, wanted[job], people[who], pure=False)] = job
        try:
            ended = wait(list(going), timeout=LOOK_SECONDS, return_when='FIRST_COMPLETED').done
        except TimeoutError:         # new workers may have come
            continue
        for future in ended:
            job = going.pop(future)
            if said := kept_or_told(setting.outdir, job, partial(result_of, future), CancelledError):
                yield said
            else:
                done(job)


def result_of(future: Future) -> dict:
    """What a run that ended found."""
    from distributed import KilledWorker
    try:
        return future.result()
    except KilledWorker:
        raise InputError('the worker process died each time that it was tried. Perhaps its memory is too small for a run.') from None


@contextlib.contextmanager
def _told_if_lost() -> Iterator[None]:
    from distributed import CancelledError
    try:
        yield
    except CancelledError:
        raise InputError('The dask scheduler was lost. What was finished is kept: start it and its workers, and run the same command '
                         'again.') from None


# What workers do, one thing at a time: torch's settings are those of the whole process.

_one = threading.Lock()
_at_work: list[str] = []             # the command whose task goes on
_loaded: dict[tuple[Setting, str], tuple[Workbench, Cache]] = {}


@contextlib.contextmanager
def loaded(setting: Setting, network: str) -> Iterator[tuple[Workbench, Cache]]:
    """The network on which runs are made, one in memory at a time, and what its metrics keep."""
    import torch

    from eg3d_unlearn.bench.tables.runner import CACHE
    from eg3d_unlearn.bench.tables.workbench import Workbench
    from eg3d_unlearn.evaluation.metrics import Cache
    from eg3d_unlearn.unlearning.training_loop import STOP
    from torch_utils_ext.download import default_cache
    with _one:
        STOP.clear()
        _at_work.append(setting.command)
        try:
            use_share(setting, torch)
            if (setting, network) not in _loaded:
                _loaded.clear()
                kept = setting.outdir / CACHE if sees_folder(setting) else default_cache() / 'metrics'
                _loaded[setting, network] = Workbench(network, setting.device, setting.data), Cache(kept)
            yield _loaded[setting, network]
        finally:
            _at_work.clear()


def use_share(setting: Setting, torch) -> None:
    """Take this worker's part of the machine: of its cores, and of its GPUs the next one."""
    from dask.system import CPU_COUNT
    from distributed import get_worker
    torch.set_num_threads(max(1, (setting.cores or CPU_COUNT) // setting.share))
    if setting.cores is not None and setting.device == 'auto' and torch.cuda.is_available():
        torch.cuda.set_device(int(get_worker().name) % torch.cuda.device_count())


def sees_folder(setting: Setting) -> bool:
    """Whether the command's folder of results is here, too."""
    with contextlib.suppress(OSError):
        return (setting.outdir / PEOPLE_FILE).read_bytes() == setting.mark
    return False


def check(setting: Setting, network: str, names: set[str]) -> None:
    """Refuse metrics that could not be taken at the end of a run."""
    with loaded(setting, network) as (workbench, _):
        workbench.check(names, setting.real)


def find(setting: Setting, network: str, scenario: str, number: int) -> Person:
    """Who is erased, for all runs that erase them."""
    with loaded(setting, network) as (workbench, _):
        return moved(workbench.person(scenario, number, lambda message: None), 'cpu')


def run(setting: Setting, network: str, job: Job, names: list[str], person: Person) -> dict:
    """One run; what its result holds.  Its state lies in the command's folder where that is here, else it goes with the run."""
    from eg3d_unlearn.bench.tables.runner import run_job
    with contextlib.ExitStack() as stack:
        workbench, cache = stack.enter_context(loaded(setting, network))
        workbench.people.setdefault((job.scenario, job.person), moved(person, workbench.g_s.device))
        folder = setting.outdir if sees_folder(setting) else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='eg3d-unlearn-')))
        return run_job(job, workbench, folder, names, cache, setting.real)


def moved(person: Person, device) -> Person:
    """The same person with tensors on another device."""
    tensors = {name: value.to(device) for name, value in vars(person).items() if hasattr(value, 'to')}
    return dataclasses.replace(person, **tensors)


def end(command: str) -> bool:
    """Let go of what a command loaded here, and stop its training after the step at hand; whether a task of it goes on."""
    for key in [key for key in _loaded if key[0].command == command]:
        del _loaded[key]
    if command not in _at_work:
        return False
    from eg3d_unlearn.unlearning.training_loop import STOP
    STOP.set()
    return True


def ignore_ctrl_c() -> None:
    """Ctrl-C reaches all processes of a terminal: the command alone decides what becomes of its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
