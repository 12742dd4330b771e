"""The networks and people that tables are about, and one run on them."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable

from eg3d_unlearn.bench.tables.jobs import Job
from eg3d_unlearn.config import CLOSED, CLOSED_FORM, POLISHED, Config
from eg3d_unlearn.evaluation import metrics
from eg3d_unlearn.evaluation.evidence import Evidence, measuring_recognisers
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.loading import choose_device, load_generator
from eg3d_unlearn.generators.precision import arithmetic, choose_precision
from eg3d_unlearn.judges.judges import load_judges
from eg3d_unlearn.person import person as finding
from eg3d_unlearn.person.checks import check_person
from eg3d_unlearn.person.person import Person
from eg3d_unlearn.person.photo.folders import folders_in
from eg3d_unlearn.person.saved import KEPT
from eg3d_unlearn.run_folder import RunFolder
from eg3d_unlearn.unlearning import margin
from eg3d_unlearn.unlearning.erase import forget, polish, prefixes_of, target_of
from eg3d_unlearn.unlearning.presets import resolve
from eg3d_unlearn.unlearning.target import distances
from eg3d_unlearn.worlds.registry import world_by_network
from torch_utils_ext.errors import InputError

PHOTOS = 5                           # of each person: one to erase from, the others as witnesses (the paper's multi-image test)
FIRST_PERSON = 300                   # of the demo world's ranges; the people on whom settings were found are not among them
FIRST_SEED = 7000                    # of the Random scenario


class Workbench:
    """One network with its judges, loaded once for many runs, and the people who are erased from it."""

    def __init__(self, network: str, device: str = 'auto', data: str | None = None, recognisers: tuple[str, ...] = (), **options):
        self.given = Config(network=network, outdir='', device=device, **options)
        config = resolve(self.given, *world_by_network(network))
        place = choose_device(device)
        self.pickle, self.g_s = load_generator(config, place)
        self.world, self.family = self.g_s.trained_on.world, self.g_s.family
        self.data = None if data is None else Path(data)
        precision = choose_precision(config.precision, self.world, place)
        self.given = dataclasses.replace(self.given, precision=precision, encoder=finding.encoder_of(config, self.g_s))
        self.g_s.precision = precision
        config = resolve(self.given, self.world, self.family)
        self.judges = load_judges(config, self.g_s, place)
        self.recognisers, self.trained_with = measuring_recognisers(config, self.judges, recognisers, self.g_s, place)
        self.people: dict[tuple[str, int], Person] = {}
        self.strangers: margin.Strangers | None = None

    def config(self, job: Job) -> Config:
        """The options of a run, with every multiple of a default worked out."""
        guide = resolve(dataclasses.replace(self.given, method='guide'), self.world, self.family)
        d, alpha_max, _ = distances(guide, self.g_s)
        guide = dataclasses.replace(guide, target_d=d, alpha_max=alpha_max)
        settings = {name: multiple(value, getattr(guide, name)) for name, value in job.settings}
        config = resolve(dataclasses.replace(self.given, method=job.method or 'guide', seed=job.seed, **settings), self.world, self.family)
        d, alpha_max, _ = distances(config, self.g_s)
        return dataclasses.replace(config, target_d=d, alpha_max=alpha_max)

    def person(self, scenario: str, number: int, log: Callable[[str], None]) -> Person:
        """Who is erased: found once for all runs that erase them."""
        if (scenario, number) not in self.people:
            with arithmetic(self.given.precision, self.g_s.device):
                self.people[scenario, number] = self._find(scenario, number, log)
        return self.people[scenario, number]

    def _find(self, scenario: str, number: int, log: Callable[[str], None]) -> Person:
        # With all that any method needs: mirrored photos are the closed form's.
        config = resolve(dataclasses.replace(self.given, method=CLOSED_FORM, forget_from='first'), self.world, self.family)
        if scenario == 'random':
            return Person(self.g_s.map_seed(FIRST_SEED + number), {'given_as': 'seed'})
        if self.world is not None and self.world.is_made_up:
            mine = self.world.photos_of(FIRST_PERSON + number, PHOTOS, self.g_s.img_resolution, out_of_domain=scenario == 'out-of-domain')
            return finding.photographed(config, self.g_s, self.judges, mine, None, log)
        config = dataclasses.replace(config, image=(str(self._folder(scenario, number)),))
        check_person(config, self.g_s)
        return finding.find_person(config, self.g_s, self.judges, log)

    def _folder(self, scenario: str, number: int) -> Path:
        """The folder of photos of one real person: DATA/SCENARIO/ANY NAME/*.jpg, people by the order of their names."""
        parent = (self.data or Path('.')) / scenario
        people = folders_in(parent) if self.data and parent.is_dir() else []
        if number >= len(people):
            raise InputError(f'{parent} holds {len(people)} folders of people, but person {number + 1} is asked for. --data=DIR takes a folder '
                             f'with in-domain/PERSON/*.jpg and out-of-domain/PERSON/*.jpg; or ask for fewer with --people.')
        return people[number]

    def run(self, job: Job, folder: RunFolder, log: Callable[[str], None]) -> Evidence:
        """The erasure of ``job``; what is interrupted goes on from ``folder``, which is empty again at the end."""
        config, person = self.config(job), self.person(job.scenario, job.person, log)
        g_u = self.g_s
        if job.method is not None:
            g_u = self._erase(config, person, folder)
        return Evidence(None, None, self.g_s, g_u, person, self.judges, self.recognisers, self.trained_with, self.world, config)

    def check(self, names: set[str], real: str | None) -> None:
        """Refuse metrics, by their whole names, that could not be taken at the end of a run.

        Raises:
            InputError: what one of them needs is not there.
        """
        anybody = self.g_s.w_avg[None]   # with another photo: who has none has no ID_others, which is no error
        evidence = Evidence(None, None, self.g_s, self.g_s, Person(anybody, {}, anybody), self.judges, self.recognisers, self.trained_with,
                            self.world, resolve(self.given, self.world, self.family))
        settings = metrics.Settings(data=real)
        for name in sorted(names):
            metrics.check(metrics.parse(name), evidence, settings)

    def _erase(self, config: Config, person: Person, folder: RunFolder) -> Generator:
        prefixes = prefixes_of(config, self.g_s)
        self.g_s.freeze_except(prefixes)
        g_u = self.g_s.twin()
        self.g_s.network.requires_grad_(False)
        parameters = {name: parameter for name, parameter in g_u.network.named_parameters() if parameter.requires_grad}
        with arithmetic(config.precision, self.g_s.device):
            ws_target = target_of(config, config.seed, self.g_s, self.judges, person.ws)
        folder.path.mkdir(parents=True, exist_ok=True)
        state = folder.load_state()
        if config.method in CLOSED:
            photos = margin.Photos(person.ws, person.ws_mirrored, exact=person.notes['given_as'] == 'seed')
            with arithmetic('fp32', self.g_s.device):
                self.strangers = self.strangers or margin.strangers(self.g_s, self.judges.recogniser)
                kept = None if self.world is None else self.world.reference_latents(self.family)
                edit = margin.erase(g_u, [photos], self.judges.recogniser, folder.log, self.strangers, kept).edit
                if config.method == POLISHED:
                    polish(folder, config, g_u, self.g_s, parameters, self.judges, [photos.all], edit, state, dict.fromkeys(KEPT))
            g_u.network.requires_grad_(False)
            return g_u
        forget(folder, config, g_u, self.g_s, parameters, self.judges, person.ws, ws_target, state, dict.fromkeys(KEPT))
        g_u.network.requires_grad_(False)
        return g_u


def multiple(value: object, default: float) -> object:
    """A setting as it is, or 'x0.5' as a multiple of the default."""
    if isinstance(value, str) and value.startswith('x'):
        return float(value[1:]) * default
    return value


