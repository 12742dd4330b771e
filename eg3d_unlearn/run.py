"""The main job, told in order: pickle in, person found, person forgotten, pickle out, measured, reported."""
from __future__ import annotations

import dataclasses
import time

import torch
from torch import Tensor

from eg3d_unlearn import distributed, machine
from eg3d_unlearn.config import CLOSED_FORM, Config
from eg3d_unlearn.delta import Delta, write_delta
from eg3d_unlearn.evaluation import summary as figures
from eg3d_unlearn.evaluation.comparison import Plan, compare
from eg3d_unlearn.evaluation.evidence import Evidence, measuring_recognisers
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.loading import is_trusted
from eg3d_unlearn.person import photo
from eg3d_unlearn.person.given import photos_of, world_person
from eg3d_unlearn.person.person import Person, photos_again, prepare_photo
from eg3d_unlearn.person.saved import find_once
from eg3d_unlearn.preflight import Checked, check, how_long
from eg3d_unlearn.report import write_report
from eg3d_unlearn.report.files import PAGE, settings_of
from eg3d_unlearn.report.page import ALWAYS
from eg3d_unlearn.report.sheet import draw_sheet
from eg3d_unlearn.run_folder import NETWORK, PICTURE, Follower, RunFolder, write_whole
from eg3d_unlearn.unlearning.erase import erase, moves_to, prefixes_of
from torch_utils_ext.download import sha256_of
from torch_utils_ext.network_pickle import write_unlearned_pickle


def unlearn(given: Config) -> dict:
    """Run ``given`` and return its report; the folder then holds all that the README lists.

    Raises:
        InputError: for everything that the user can mend.
    """
    begun = time.time()
    run = check(given)
    distributed.begin()
    if distributed.rank() > 0:
        follow(run)
        return {}
    folder = run.folder
    with folder.locked():
        folder.check(run.options, run.usual)  # once more: another run may have begun or ended here meanwhile
        resumes = folder.begin(run.options)
        for line in (f'{"Resuming in" if resumes else "Writing to"} {folder.path}.', *run.about, *how_long(run)):
            folder.log(line)
        result, evidence, ws_target = run_in(folder, run)
        result['seconds'] = round(time.time() - begun, 1)
        pictures = None
        if evidence is not None:
            pictures, result['evidence'] = compare(evidence, settings_of(result), Plan(show_photo=run.config.keep_source), ws_target)
        write_report(folder.path, pictures, result, log=folder.log)
        result['seconds'] = result['summary']['seconds'] = round(time.time() - begun, 1)
        folder.finish(result)
    summarise(folder, result)
    return result


def run_in(folder: RunFolder, run: Checked) -> tuple[dict, Evidence | None, Tensor | None]:
    """The run itself, in a folder that is ours: what report.json holds, and what a full page looks at (None: a brief one)."""
    config, generator, judges = run.config, run.generator, run.judges
    say_what_runs(folder, run)
    state, found = find_once(folder, config, generator, judges)
    people, device = [state, *state['more']], generator.device
    ws_source = state['ws_source'].to(device)
    g_u, g_s, erased, targets, steps = erase(folder, config, generator, judges, distributed.from_first(state))

    # The network goes out whole before anything speaks of it.
    notes = write_unlearned_pickle(run.pickle, folder / NETWORK, g_u.network.state_dict())
    if config.delta is not None:
        write_delta(config.delta, Delta(run.pickle.sha256(), erased.edit.mean, erased.people))
        folder.log('Wrote the delta; it holds the latents of who was erased: keep it as you keep photos of them.')
    trains = config.method != CLOSED_FORM
    seeds = figures.OTHER_SEEDS if trains else figures.other_seeds(generator, judges.measure)
    # What the closed form moves people to is what the network shows after: it is not shown twice.
    before = figures.show_all(g_s, people, seeds, targets if trains else ())
    after = figures.show_all(g_u, people, seeds)
    draw(folder, config, generator, before, after, state)
    if config.keep_source:
        keep_source(folder, config, ws_source)
    result = written(run, before, after, steps, state)
    result['networks']['out'] = {'file': NETWORK, 'sha256': sha256_of(folder / NETWORK), 'notes': notes}
    # Where nobody is moved to one face, nobody is to be shown as what the person was moved to.
    ws_target = targets[0] if moves_to(config) else None
    if config.report == 'brief':
        return result, None, ws_target
    if found is not None:
        person = found[0]
    else:                            # the run was resumed: the photos themselves were not kept, and are read again
        person = Person(ws_source, state['notes'], state['ws_others'], state['ws_strangers'], state['cameras'],
                        photos_again(config, generator), state['camera'])
    recognisers, trained_with = measuring_recognisers(config, judges, (), g_s, device)
    evidence = Evidence(run.pickle, None, g_s, g_u, person, judges, recognisers, trained_with, generator.trained_on.world, config)
    return result, evidence, ws_target


def follow(run: Checked) -> None:
    """The part of a process beside the first one of a torchrun: the same steps, of which it takes its share, and no file."""
    erase(Follower(run.folder.path), run.config, run.generator, run.judges, distributed.from_first({}))


def say_what_runs(folder: RunFolder, run: Checked) -> None:
    """The first lines of the log about the network and the method."""
    config, generator = run.config, run.generator
    folder.log(f'Network: {run.pickle.path.name}, {generator.family}, {generator.img_resolution} px; mean latent: {generator.w_avg_source}.')
    if is_trusted(generator):
        folder.log(f'The network was loaded by the checkout\'s own loader, which ran code from the file ({config.upstream}).')
    if config.method != CLOSED_FORM:
        folder.log(f'F in the local loss: {generator.features_are}.')
    if config.random_metric_weights:
        folder.log(f'WARNING: {figures.MEANINGLESS}')


def draw(folder: RunFolder, config: Config, generator: Generator, before: figures.Views, after: figures.Views, state: dict) -> None:
    """before-after.png."""
    doubted = figures.WRONG_PERSON if figures.doubts(state['notes']) else None
    warning = figures.MEANINGLESS if config.random_metric_weights else doubted
    drawn = before if moves_to(config) else dataclasses.replace(before, target=[])
    sheet = draw_sheet(drawn, after, shown_photos(config, generator), warning)
    write_whole(folder / PICTURE, lambda file: photo.write_sheet(file, sheet))


def written(run: Checked, before: figures.Views, after: figures.Views, steps: list[dict], state: dict) -> dict:
    """report.json, less what the page adds."""
    config, generator, judges, pickle = run.config, run.generator, run.judges, run.pickle
    return {
        **({'MEANING': figures.MEANINGLESS} if config.random_metric_weights else {}),
        'summary': figures.summary(before, after, judges.measuring, judges.names['measuring']),
        'figures': figures.measure(before, after, judges.perceptual, judges.recogniser),
        **({'loss': {'first_step': steps[0], 'last_step': steps[-1]}} if steps else {}),
        'person': state['notes'],
        'world': None if generator.trained_on.world is None else generator.trained_on.world.name,
        'config': config.to_json(),
        'features': generator.features_are,
        'w_avg': generator.w_avg_source,
        'trained': prefixes_of(config, generator),
        'networks': {'in': {'file': pickle.path.name, 'sha256': pickle.sha256(), 'notes': run.notes}},
        'versions': machine.versions(),
        'hardware': machine.hardware(generator.device),
        'peak_memory': machine.peak_memory(generator.device),
    }


def shown_photos(config: Config, generator: Generator) -> Tensor | None:
    """The photos themselves [1 + K, 3, H, W] for the picture: of people of a world always, of others with ``--keep-source`` only."""
    if (found := world_person(config)) is not None:
        world, person = found
        return world.photos_of(person, 1 + world.other_photos, generator.img_resolution).images
    if config.people is not None or not config.image or not config.keep_source:
        return None
    return torch.cat([prepare_photo(config, path, generator).tensor(generator.img_resolution) for path in photos_of(config)])


def keep_source(folder: RunFolder, config: Config, ws_source: Tensor) -> None:   # [K, num_ws, w_dim]
    """With ``--keep-source`` only: the latent, and the photos where there were some."""
    write_whole(folder / 'source-latent.pt', lambda file: torch.save({'w': ws_source.cpu()}, file), private=True)
    for number, path in enumerate(photos_of(config)):
        name = 'source-photo.png' if number == 0 else f'source-photo-{number + 1}.png'
        write_whole(folder / name, lambda file, path=path: photo.read_image(path).save(file, format='png'), private=True)


def summarise(folder: RunFolder, result: dict) -> None:
    """The last lines on the screen: what came out, and what it is worth."""
    for line in figures.summary_lines(result['summary'], result['figures'], result['seconds']):
        folder.log(line)
    if 'MEANING' in result:
        folder.log(result['MEANING'])
    if doubts := figures.doubts(result['person']):
        folder.log(f'WARNING: {figures.WRONG_PERSON}: {" ".join(doubts)}')
    folder.log(ALWAYS)
    folder.log(f'Wrote {folder / NETWORK}; see {folder / PAGE}.')
