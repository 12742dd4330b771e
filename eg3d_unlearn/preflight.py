"""All that a run needs is read and checked before anything is written: network, photos, latents, judges, options."""
from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass

import torch

from eg3d_unlearn import duration
from eg3d_unlearn.config import Config, needing, refuse_unused
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.loading import choose_device, load_generator
from eg3d_unlearn.generators.memory import keep_freed_memory
from eg3d_unlearn.generators.precision import choose_precision
from eg3d_unlearn.judges.judges import Judges, check_judges, load_judges, without_missing
from eg3d_unlearn.judges.weights import NotHere, fetching_nothing
from eg3d_unlearn.person.checks import check_person
from eg3d_unlearn.person.given import each_person, kept_people, photos_of
from eg3d_unlearn.person.person import encoder_of
from eg3d_unlearn.run_folder import RunFolder
from eg3d_unlearn.unlearning.checks import check_inputs, check_used
from eg3d_unlearn.unlearning.erase import prefixes_of
from eg3d_unlearn.unlearning.presets import resolve
from eg3d_unlearn.unlearning.target import distances
from eg3d_unlearn.worlds.registry import check_world, world_by_network
from torch_utils_ext import ops
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import NetworkPickle, check_writable, copies_elsewhere


@dataclass
class Checked:
    """A run whose inputs were all read and can do; nothing of it is written yet."""
    config: Config                   # every value resolved
    pickle: NetworkPickle
    generator: Generator
    judges: Judges
    folder: RunFolder
    options: dict                    # what the folder is held against: a run goes on with the same ones only
    usual: dict                      # the same where nothing but network and method is given
    about: list[str]                 # what the log says of it
    notes: list[str]                 # what is to be known of the network's file


def check(
    given: Config,
    fetch: bool = True,              # False: judges that would have to be fetched stay away, untrained ones take as much time
) -> Checked:
    """Read all that a run needs, resolve its options, refuse what cannot do, and write nothing.

    Raises:
        InputError: for everything that the user can mend.
    """
    config = resolve(given, *world_by_network(given.network))
    check_used(given, config)
    check_inputs(config)
    device = choose_device(config.device)
    keep_freed_memory()
    choose_precision(config.precision, None, device)
    folder = RunFolder(config.outdir)
    operations = ops.select_ops(config.upstream, device)
    pickle, generator = load_generator(config, device)
    # A network of a world may also come as a file: exported, or unlearned before.
    world = generator.trained_on.world
    config = resolve(given, world, generator.family)
    for one in each_person(config):
        if one.image:
            check_world(one.image[0], world)
    check_judges(config)
    config, missing = without_missing(given, config)
    generator.precision = choose_precision(config.precision, world, device)
    d, alpha_max, distances_are = distances(config, generator)
    config = dataclasses.replace(config, precision=generator.precision, encoder=encoder_of(config, generator), target_d=d, alpha_max=alpha_max,
                                 report=report_of(config, device, world is not None))
    # How the page is written changes nothing of the run: one that was begun on a GPU may end on a CPU.
    options = {**{name: value for name, value in config.to_json().items() if name not in ('report', 'delta')}, 'network_sha256': pickle.sha256()}
    notes = check_against_network(config, generator, pickle)
    usual = resolve(Config(network=given.network, outdir=given.outdir, method=given.method), world, generator.family).to_json()
    folder.check(options, usual)
    try:
        with contextlib.nullcontext() if fetch else fetching_nothing():
            judges = load_judges(config, generator, device)
    except NotHere as error:
        judges, missing = load_judges(dataclasses.replace(config, random_metric_weights=True), generator, device), [*missing, str(error)]
    about = [f'{operations[0].upper()}{operations[1:]}; arithmetic: {config.precision}.',
             f'Judges: LPIPS {judges.names["perceptual"]}, recogniser {judges.names["recogniser"]} in the loss, '
             f'{judges.names["measuring"]} in the summary.', f'Distances: {distances_are}.', *missing, *(f'WARNING: {note}' for note in notes)]
    if world is not None and world.limits and any(photos_of(one) for one in each_person(config)):
        about.append(f'NOTE: {world.limits}')
    return Checked(config, pickle, generator, judges, folder, options, usual, about, notes)


def how_long(run: Checked) -> list[str]:
    """What is said of the time that a run will take."""
    expected = duration.estimate(run.config, run.generator, run.judges)
    advice = duration.shorter(run.config, run.generator, expected.whole)
    return [f'This takes {expected}.', *([advice] if advice else [])]


def check_against_network(config: Config, generator: Generator, pickle: NetworkPickle) -> list[str]:
    """What can be refused once the network is known, before anything is written; returns what is to be said of the file.

    What would keep the unlearned network from being written at the end is refused here as well.
    """
    if not generator.is_3d:
        refuse_unused(config, needing('cameras'), f'was given, but a {generator.family} network has no cameras. Leave it out.')
        fits = ('full', 'half') if generator.has_half else ('full',)
        if config.loss_resolution not in fits:
            raise InputError(f'--loss-resolution={config.loss_resolution} needs a neural rendering, which 2D networks have not. '
                             f'Use --loss-resolution={" or ".join(fits)}.')
    for one in [*each_person(config), *filter(None, [kept_people(config)])]:
        check_person(one, generator)
    trained = generator.freeze_except(prefixes_of(config, generator))
    generator.network.requires_grad_(False)
    check_writable(pickle, generator.network.state_dict(), trained.keys())
    return generator.notes + pickle.notes + copies_elsewhere(pickle, trained.keys())


def report_of(config: Config, device: torch.device, of_world: bool) -> str:
    """How ``report.html`` is written: a full one shows some 150 pictures, which on a CPU take a large network a quarter of an hour."""
    if config.people is not None:
        return 'brief'               # a full one looks at one person
    if config.report != 'auto':
        return config.report
    return 'full' if of_world or device.type != 'cpu' else 'brief'
