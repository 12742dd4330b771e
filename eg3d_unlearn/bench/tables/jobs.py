"""Experiments and the runs that they are made of; tables that need the same run share it."""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import did_you_mean, shown

EXPERIMENTS = Path(__file__).parent / 'experiments'
SCENARIOS = ('random', 'in-domain', 'out-of-domain')
PEOPLE_FILE = 'people.json'         # world and photos that a folder's results are of


@dataclass(frozen=True)
class Job:
    """One person erased once."""
    network: str                     # 'demo-eg3d', 'demo-stylegan2', or a pickle
    scenario: str                    # of `SCENARIOS`
    person: int                      # number within the scenario
    seed: int                        # of the training
    method: str | None               # of `presets.PRESETS`; None: no unlearning
    settings: tuple[tuple[str, object], ...] = ()  # of `Config`, sorted; numbers as 'x0.5' multiply the network's default

    @property
    def name(self) -> str:
        """The same for the same run, whichever table asks for it."""
        mark = hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()[:10]
        network = Path(self.network).stem
        return f'{network}-{self.scenario}-{self.person}-{self.method or "none"}-{mark}'


@dataclass(frozen=True)
class Row:
    """A line of a table."""
    title: str
    method: str | None
    settings: tuple[tuple[str, object], ...] = ()

    def job(self, network: str, scenario: str, person: int, seed: int) -> Job:
        # Nothing is drawn where nothing is learned.
        return Job(network, scenario, person, 0 if self.method is None else seed, self.method, self.settings)


@dataclass(frozen=True)
class Experiment:
    """What a table compares."""
    name: str
    title: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]         # columns; 'retain:worst' is a further figure of a metric
    scenarios: tuple[str, ...] = SCENARIOS
    first: int = 0                   # number of the first person
    most: int | None = None          # people at most, where a row takes long
    worst: bool = False              # whether cells name the worst person, too
    paper: dict = field(default_factory=dict)  # row -> metric -> the paper's figure, where it has one

    def people(self, count: int) -> range:
        """The numbers of its people."""
        return range(self.first, self.first + min(count, self.most or count))

    def jobs(self, networks: list[str], people: int, seeds: int) -> list[Job]:
        """All runs of the table, without repetition."""
        every = [row.job(network, scenario, person, seed) for network in networks for person in self.people(people)
                 for seed in range(seeds) for scenario in self.scenarios for row in self.rows]
        return list(dict.fromkeys(every))


def load_experiments(names: tuple[str, ...] = ()) -> list[Experiment]:
    """The experiments called ``names``, or all that come with the package.

    Raises:
        InputError: no such experiment.
    """
    known = {path.stem: path for path in sorted(EXPERIMENTS.glob('*.json'))}
    for name in names:
        if name not in known:
            raise InputError(f'--table={shown(name)} is not known; expected {", ".join(known)}.{did_you_mean(name, known)}')
    return [read_experiment(known[name]) for name in names or known]


def read_experiment(path: Path) -> Experiment:
    content = json.loads(path.read_text(encoding='utf-8'))
    content['rows'] = [Row(row['title'], row['method'], tuple(sorted(row.get('settings', {}).items()))) for row in content['rows']]
    return Experiment(path.stem, **{name: tuple(value) if isinstance(value, list) else value for name, value in content.items()})


def path_of(network: str) -> str:
    """A job's network, wherever a process runs: a file by its whole path, a name or an address as it is."""
    return str(Path(network).absolute()) if Path(network).is_file() else network
