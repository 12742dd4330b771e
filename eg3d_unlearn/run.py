"""The main job, told in order: pickle in, person found, person forgotten, pickle out."""
from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from eg3d_unlearn import duration
from eg3d_unlearn.config import Config, person_of
from eg3d_unlearn.console import refuse_existing
from eg3d_unlearn.delta import Delta, write_delta
from eg3d_unlearn.evaluation import summary as report
from eg3d_unlearn.generators.generator import Generator, build, wrap
from eg3d_unlearn.generators.memory import keep_freed_memory
from eg3d_unlearn.generators.precision import arithmetic, choose_precision
from eg3d_unlearn.generators.trained_on import TrainedOn, trained_on
from eg3d_unlearn.judges.judges import Judges, check_needed, load_judges, without_missing
from eg3d_unlearn.judges.weights import NotHere, fetching_nothing
from eg3d_unlearn.person import person as finding
from eg3d_unlearn.person import photo
from eg3d_unlearn.person.inversion import PUBLISHED, plan
from eg3d_unlearn.person.inversion.optimise import check_optimiser
from eg3d_unlearn.person.latents import digest
from eg3d_unlearn.person.photo.camera_labels import parse_camera
from eg3d_unlearn.person.photo.folders import no_photo, pictures_at
from eg3d_unlearn.report import words, write_report
from eg3d_unlearn.report.files import PAGE
from eg3d_unlearn.run_folder import NETWORK, PICTURE, RunFolder, write_whole
from eg3d_unlearn.unlearning import margin
from eg3d_unlearn.unlearning.closed_form import LatentEdit, affine_names
from eg3d_unlearn.unlearning.methods import make_rule
from eg3d_unlearn.unlearning.methods.surrogate import surrogate_target
from eg3d_unlearn.unlearning.objective import Objective
from eg3d_unlearn.unlearning.polish import Watch
from eg3d_unlearn.unlearning.presets import CLOSED, CLOSED_FORM, OF_TRAINING, POLISHED, resolve
from eg3d_unlearn.unlearning.scale import distances
from eg3d_unlearn.unlearning.target import DRAWN, mean_target, ufo_target
from eg3d_unlearn.unlearning.training_loop import training_loop
from eg3d_unlearn.worlds.demo.photo import OTHER_PHOTOS, check_person, photos_of
from eg3d_unlearn.worlds.demo.recipes import NETWORKS
from eg3d_unlearn.worlds.demo.reference import reference_latents
from eg3d_unlearn.worlds.demo.shipped import is_demo, network_path
from torch_utils_ext import ops
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import (
    NetworkPickle,
    NetworkRecord,
    check_writable,
    copies_elsewhere,
    read_network_pickle,
    write_unlearned_pickle,
)
from torch_utils_ext.network_url import resolve_network
from torch_utils_ext.user_files import shown

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

DEMO_ONLY = ('a demo network knows the drawn people of the demo world only; nobody real can be shown by it. For a photo of a real person take a '
             'published network, for a demo person --image=demo:N.')
# What a saved state holds of the person until the run ends.
KEPT = ('person', 'ws_source', 'notes', 'ws_others', 'ws_strangers', 'cameras', 'camera', 'ws_mirrored', 'more', 'ws_kept')
LATER = {'camera': None, 'ws_mirrored': None, 'more': [], 'ws_kept': None}   # what states of older versions lack


def choose_device(name: str) -> torch.device:
    """The device of ``--device``; 'auto' takes a GPU where there is one."""
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f'--device={name} is no device; expected auto, cpu, cuda, cuda:N or mps.') from None
    if device.type not in ('cpu', 'cuda', 'mps'):
        raise InputError(f'--device={name} is no device; expected auto, cpu, cuda, cuda:N or mps.')
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise InputError(f'--device={name}, but torch sees no CUDA GPU here. Use --device=cpu, or install a driver and a CUDA build of torch.')
    if device.type == 'cuda' and device.index is not None and device.index >= torch.cuda.device_count():
        raise InputError(f'--device={name}, but there are only {torch.cuda.device_count()} GPUs, counted from 0.')
    if device.type == 'mps' and not torch.backends.mps.is_available():
        raise InputError(f'--device={name}, but torch sees no MPS device here. Use --device=cpu.')
    return device


def load_generator(config: Config, device: torch.device, data: TrainedOn | None = None) -> tuple[NetworkPickle, Generator]:
    """The pickle of ``--network`` and its G_ema, ready to use; ``data`` None: trained on what the pickle says."""
    path = network_path(config.network) if config.network in NETWORKS else resolve_network(config.network, also=NETWORKS)
    pickle = read_network_pickle(path, allow_unknown=config.trust_pickle)
    record = pickle.records.get('G_ema')
    if record is None:
        raise InputError(f'{path} holds no G_ema network, only {", ".join(pickle.records) or "no network at all"}.')
    network, family = make_network(config, record, path, device)
    if network.img_resolution < 32:
        raise InputError(f'The network makes pictures of {network.img_resolution} pixels; at least 32 are needed.')
    if config.loss_resolution != 'full' and family != 'eg3d':
        raise InputError(f'--loss-resolution={config.loss_resolution} needs a neural rendering, which 2D networks have not. '
                         'Use --loss-resolution=full.')
    data = data or trained_on(pickle, getattr(network, 'rendering_kwargs', None))
    generator = wrap(network, family, config.class_label, config.precision or 'fp32', config.fov_deg, data)
    if is_foreign(generator):
        from eg3d_unlearn.generators.checkout import check_picture
        check_picture(generator)
    return pickle, generator


def is_foreign(generator: Generator) -> bool:
    """Whether the network is run by a checkout's code."""
    return type(generator.network).__module__.endswith('.foreign')


def make_network(config: Config, record: NetworkRecord, path: Path, device: torch.device) -> tuple[nn.Module, str]:
    """Our own network where it fits the file, and its family; with ``--trust-pickle`` the checkout's where ours does not."""
    if record.family is not None:
        try:
            network = build(record, device)
            if not config.trust_pickle or not network.notes:
                return network, record.family
        except InputError:           # a fork that kept the class's name
            if not config.trust_pickle:
                raise
    from eg3d_unlearn.generators.checkout import load_trusted
    network, family = load_trusted(path, config.upstream)
    return network.to(device), family


def demo_family(network: str) -> str | None:
    """The family of a demo network by its name; None for all others."""
    return NETWORKS[network]['family'] if network in NETWORKS else None


def target_of(config: Config, generator: Generator, judges: Judges, ws_source: Tensor) -> Tensor:  # [K, num_ws, w_dim]
    """w_t by ``--target``, of each latent that is erased; where it is drawn in each step, the mean of what is drawn."""
    if config.target == 'surrogate':
        return surrogate_target(ws_source, generator, judges, config.target_d, config.seed)
    if config.target == 'mean' or config.target in DRAWN:
        return mean_target(ws_source, generator.w_avg)
    return ufo_target(ws_source, generator.w_avg, config.target_d)


def moves_to(config: Config) -> bool:
    """Whether the person is moved to one face: some methods draw another one in each step, some only hold on to the others."""
    return config.target not in DRAWN and bool(config.lambda_local or (config.lambda_adj and config.n_adj))


def check_inputs(config: Config) -> None:
    """What can be refused before anything is loaded."""
    given = [name for name in ('image', 'people', 'latent', 'latent_seed') if getattr(config, name) not in (None, ())]
    if len(given) != 1:
        options = ', '.join('--' + name.replace('_', '-') for name in given) or 'none'
        several = ' --people,' if config.method in CLOSED else ''
        raise InputError(f'Say who is to be forgotten with exactly one of --image,{several} --latent and --latent-seed (got {options}).')
    if config.people is not None and config.method not in CLOSED:
        raise InputError(f'--people erases several people at once, which --method={CLOSED_FORM} can; --method={config.method} knows one. Leave '
                         '--method out, or give one person with --image.')
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f'--{name.replace("_", "-")}={value} is no usable number.')
    if config.people is not None and config.report == 'full':
        raise InputError('--report=full looks at one person closely, and --people names several. Leave it out.')
    if config.keep is not None and config.method not in CLOSED:
        raise InputError(f'--keep is for --method={CLOSED_FORM}; --method={config.method} holds on to random people. Leave it out.')
    for one in [*config.each_person, *filter(None, [config.kept_people])]:
        check_photos(one)
    if config.latent is not None and not os.path.exists(config.latent):
        raise InputError(f'The latent file {shown(config.latent, 300)} is not there; --latent takes an .npy, .npz or .pt file.')
    weights = config.weights
    if not (weights.local or (weights.adj and config.n_adj) or (weights.glob and config.n_global)):
        raise InputError('All losses are switched off, so there is nothing to learn. Set one of --lambda-local, --lambda-adj and '
                         '--lambda-global above 0.')
    if not (weights.local or (weights.adj and config.n_adj) or config.lambda_l1 or config.method == 'ft'):
        raise InputError('Both --lambda-local and --lambda-adj are off: the network would only be told to stay as it is.')
    if config.n_near > config.n_global:
        raise InputError(f'--n-near={config.n_near} is more than --n-global={config.n_global}, of which it is a part.')
    if not (weights.lpips or weights.l2 or weights.id):
        raise InputError('--lambda-l2, --lambda-lpips and --lambda-id are all 0, so the local loss has no term. Set one above 0.')
    if config.trust_pickle and not config.upstream:
        raise InputError("--trust-pickle hands the file to the loader of an NVIDIA checkout, which runs the file's code: name the checkout "
                         'with --upstream=DIR.')


def check_closed_form(given: Config) -> None:
    """Options of a training would have no effect where nothing is trained."""
    unused = [name for name in OF_TRAINING if getattr(given, name) is not None] + ['trainable'] * (given.trainable != 'auto')
    if given.method == CLOSED_FORM and unused:
        raise InputError(f'--{unused[0].replace("_", "-")} is about training, and --method={CLOSED_FORM} trains nothing. Leave it out.')


def check_delta(config: Config) -> None:
    """Refuse a delta that could not be written at the end."""
    if config.delta is None:
        return
    if config.method != CLOSED_FORM:
        raise InputError(f'--delta holds what the closed form changes, and --method={config.method} trains all weights. Leave it out, or use '
                         f'--method={CLOSED_FORM}.')
    refuse_existing(Path(config.delta), '--delta')


def check_photos(config: Config) -> None:
    """Refuse photos that cannot be read, and options about photos where there are none."""
    people = [name for name in config.image if person_of(name) is not None]
    if people and len(config.image) > 1:
        raise InputError(f'--image={people[0]} is a person of the demo world with photos of their own; it goes alone '
                         f'(got {len(config.image)} times --image).')
    for name in config.image:
        if not people and not pictures_at(Path(name)):
            raise no_photo(Path(name))
    finding.check_each(config.photos, photo.read_image)
    if config.camera is not None and people:
        raise InputError('--camera was given, but the photos of demo people bring their own. Leave it out.')
    if config.camera is not None and len(config.photos) != 1:
        raise InputError(f'--camera is the camera of one photo, and {len(config.photos)} were given. Put the cameras of several photos '
                         'into a dataset.json beside them.')
    if config.camera is not None:
        parse_camera(config.camera, config.photos[0])
    if (config.face is not None or config.aligned) and not config.photos:
        raise InputError('--face and --aligned are about a photo, and none was given: they go with --image=FILE only.')
    if config.forget_from != 'first' and len(config.photos) < 2 and not people and config.latent is None:
        raise InputError(f'--forget-from={config.forget_from} is about several photos; {len(config.photos)} given. Give --image more '
                         'than once, or a folder.')
    if config.image:
        encoders = plan(config.inversion).encoders
        unused = [name for name in ('inversion_steps', 'inversion_lr', 'inversion_lambda_id', 'inversion_early_stop', 'refine_camera')
                  if plan(config.inversion).space is None and getattr(config, name)]
        if plan(config.inversion).space is None and config.inversion_optimiser != 'adam':
            unused.append('inversion_optimiser')
        if unused:
            raise InputError(f'--{unused[0].replace("_", "-")} is about optimisation, but --inversion={config.inversion} takes what the '
                             f'encoder says. Leave it out, or use --inversion={config.inversion}+w+.')
        check_optimiser(config.inversion_optimiser, config.refine_camera)
        if config.encoder is not None and not encoders:
            raise InputError(f'--encoder names a file, but --inversion={config.inversion} uses no encoder. Leave it out, or use '
                             f'--inversion=encoder+{config.inversion}.')
        if config.encoder_mean is not None and not set(encoders) & set(PUBLISHED):
            raise InputError(f'--encoder-mean belongs to the published encoders ({", ".join(PUBLISHED)}), not to '
                             f'--inversion={config.inversion}. Leave it out.')


def check_judges(config: Config) -> None:
    """Options about judges that are not in use would have no effect."""
    check_needed(config)
    demo = {'lpips': config.lpips_net == 'demo', 'id': config.id_network == 'demo'}
    for kind, option in (('lpips', '--lpips-net=vgg'), ('id', '--id-network=arcface')):
        if demo[kind] and getattr(config, f'{kind}_weights') is not None:
            raise InputError(f'--{kind}-weights names a file, but here the demo judge is used, which comes with the package. Leave it '
                             f'out, or add {option}.')
    if config.random_metric_weights and all(demo.values()):
        raise InputError('--random-metric-weights was given, but here the demo judges are used, which are trained. Leave it out, or '
                         'add --lpips-net=vgg --id-network=arcface.')


def check_against_network(config: Config, generator: Generator, pickle: NetworkPickle) -> list[str]:
    """What can be refused once the network is known, before anything is written; returns what is to be said of the file.

    What would keep the unlearned network from being written at the end is refused here as well.
    """
    if config.camera is not None and not generator.is_3d:
        raise InputError(f'--camera was given, but a {generator.family} network has no cameras. Leave it out.')
    if config.refine_camera and not generator.is_3d:
        raise InputError(f'--refine-camera was given, but a {generator.family} network has no cameras. Leave it out.')
    for one in [*config.each_person, *filter(None, [config.kept_people])]:
        finding.check_person(one, generator)
    trained = generator.freeze_except(prefixes_of(config, generator))
    generator.network.requires_grad_(False)
    check_writable(pickle, generator.network.state_dict(), trained.keys())
    return generator.notes + pickle.notes + copies_elsewhere(pickle, trained.keys())


def prefixes_of(config: Config, generator: Generator) -> list[str]:
    """``--trainable`` as a list of parameter prefixes."""
    if config.method == CLOSED_FORM:
        return affine_names(generator)
    listed = generator.trainable if config.trainable == 'auto' else config.trainable
    prefixes = [prefix.strip() for prefix in listed.split(',')]
    return prefixes + (affine_names(generator) if config.method == POLISHED else [])


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

    Raises `InputError` for everything that the user can mend.
    """
    check_closed_form(given)
    check_delta(given)
    config = resolve(given, demo_family(given.network))
    check_inputs(config)
    device = choose_device(config.device)
    keep_freed_memory()
    choose_precision(config.precision, False, device)
    folder = RunFolder(config.outdir)
    operations = ops.select_ops(config.upstream, device)
    pickle, generator = load_generator(config, device)
    # A demo network may also come as a file: exported, or unlearned before.
    demo = generator.family if is_demo(pickle) else None
    config = resolve(given, demo)
    for one in config.each_person:
        if one.image:
            check_person(one.image[0], demo is not None)
    config, missing = without_missing(given, config)
    generator.precision = choose_precision(config.precision, demo is not None, device)
    config = dataclasses.replace(config, precision=generator.precision, encoder=finding.encoder_of(config, demo))
    d, alpha_max, distances_are = distances(config, generator)
    config = dataclasses.replace(config, target_d=d, alpha_max=alpha_max, report=report_of(config, device, demo is not None))
    # How the page is written changes nothing of the run: one that was begun on a GPU may end on a CPU.
    options = {**{name: value for name, value in config.to_json().items() if name not in ('report', 'delta')}, 'network_sha256': pickle.sha256()}
    check_judges(config)
    notes = check_against_network(config, generator, pickle)
    usual = resolve(Config(network=given.network, outdir=given.outdir, method=given.method), demo).to_json()
    folder.check(options, usual)
    try:
        with contextlib.nullcontext() if fetch else fetching_nothing():
            judges = load_judges(config, generator, device)
    except NotHere as error:
        judges, missing = load_judges(dataclasses.replace(config, random_metric_weights=True), generator, device), [*missing, str(error)]
    about = [f'{operations[0].upper()}{operations[1:]}; arithmetic: {config.precision}.',
             f'Judges: LPIPS {judges.names["perceptual"]}, recogniser {judges.names["recogniser"]} in the loss, '
             f'{judges.names["measuring"]} in the summary.', f'Distances: {distances_are}.', *missing, *(f'WARNING: {note}' for note in notes)]
    if demo is not None and any(one.photos for one in config.each_person):
        about.append(f'NOTE: {DEMO_ONLY}')
    return Checked(config, pickle, generator, judges, folder, options, usual, about, notes)


def how_long(run: Checked) -> list[str]:
    """What is said of the time that a run will take."""
    expected = duration.estimate(run.config, run.generator, run.judges)
    advice = duration.shorter(run.config, run.generator, expected.whole)
    return [f'This takes {expected}.', *([advice] if advice else [])]


def unlearn(given: Config) -> dict:
    """Run ``given`` and return its report; the folder then holds all that the README lists.

    Raises `InputError` for everything that the user can mend.
    """
    begun = time.time()
    run = check(given)
    folder = run.folder
    with folder.locked():
        folder.check(run.options, run.usual)  # once more: another run may have begun or ended here meanwhile
        resumes = folder.begin(run.options)
        for line in (f'{"Resuming in" if resumes else "Writing to"} {folder.path}.', *run.about, *how_long(run)):
            folder.log(line)
        result, evidence, ws_target = run_in(folder, run.config, run.pickle, run.generator, run.judges)
        result['networks']['in']['notes'] = run.notes
        result['seconds'] = round(time.time() - begun, 1)
        result.update(write_report(folder.path, evidence, result, ws_target=ws_target, log=folder.log))
        result['seconds'] = result['summary']['seconds'] = round(time.time() - begun, 1)
        folder.finish(result)
    summarise(folder, result)
    return result


def report_of(config: Config, device: torch.device, is_demo: bool) -> str:
    """How ``report.html`` is written: a full one shows some 150 pictures, which on a CPU take a large network a quarter of an hour."""
    if config.people is not None:
        return 'brief'               # a full one looks at one person
    if config.report != 'auto':
        return config.report
    return 'full' if is_demo or device.type != 'cpu' else 'brief'


def run_in(folder: RunFolder, config: Config, pickle: NetworkPickle, generator: Generator,
           judges: Judges) -> tuple[dict, Evidence | None, Tensor | None]:
    """The run itself, in a folder that is ours: what report.json holds, and what a full page looks at (None: a brief one)."""
    log = folder.log
    device = generator.device
    log(f'Network: {pickle.path.name}, {generator.family}, {generator.img_resolution} px; mean latent: {generator.w_avg_source}.')
    if is_foreign(generator):
        log(f'The network was loaded by the checkout\'s own loader, which ran code from the file ({config.upstream}).')
    if config.method != CLOSED_FORM:
        log(f'F in the local loss: {generator.features_are}.')
    if config.random_metric_weights:
        log(f'WARNING: {report.MEANINGLESS}')

    state, found, has_camera = find_once(folder, config, generator, judges)
    people = [state, *state['more']]
    ws_source = state['ws_source'].to(device)

    # The network that learns, beside its frozen source.
    parameters = generator.freeze_except(prefixes_of(config, generator))
    g_u = generator
    g_s = generator.twin()
    g_s.network.requires_grad_(False)  # only the twin's own copies are touched: what is frozen is shared
    erased, targets = moved(config, pickle, g_u, judges, state, log)
    ws_target = targets[0]
    trains = config.method != CLOSED_FORM
    seeds = report.OTHER_SEEDS if trains else report.other_seeds(generator, judges.measure)
    # What the closed form moves people to is what the network shows after: it is not shown twice.
    before = show_all(g_s, people, seeds, targets if trains else ())

    steps = []
    kept = {name: state[name] for name in KEPT}
    if config.method == POLISHED:
        steps = polish(folder, config, g_u, g_s, parameters, judges, [photos_for(one, device).all for one in people], erased.edit, state, kept)
    elif config.method != CLOSED_FORM:
        steps = forget(folder, config, g_u, g_s, parameters, judges, ws_source, ws_target, state, kept)

    # The network goes out whole before anything speaks of it.
    notes = write_unlearned_pickle(pickle, folder / NETWORK, g_u.network.state_dict())
    if config.delta is not None:
        write_delta(config.delta, Delta(pickle.sha256(), erased.edit.mean, erased.people))
        log('Wrote the delta; it holds the latents of who was erased: keep it as you keep photos of them.')
    after = show_all(g_u, people, seeds)
    photos = shown_photos(config, generator)
    doubted = report.WRONG_PERSON if words.doubts({'person': state['notes']}) else None
    warning = report.MEANINGLESS if config.random_metric_weights else doubted
    drawn = before if moves_to(config) else dataclasses.replace(before, target=[])
    write_whole(folder / PICTURE, lambda file: photo.write_sheet(file, report.picture(drawn, after, photos, warning)))
    if config.keep_source:
        keep_source(folder, config, ws_source)
    result = {
        **({'MEANING': report.MEANINGLESS} if config.random_metric_weights else {}),
        'summary': report.summary(before, after, judges.measuring, judges.names['measuring']),
        'figures': report.measure(before, after, judges.perceptual, judges.recogniser),
        **({'loss': {'first_step': steps[0], 'last_step': steps[-1]}} if steps else {}),
        'person': state['notes'],
        'demo_world': is_demo(pickle),
        'config': config.to_json(),
        'features': generator.features_are,
        'w_avg': generator.w_avg_source,
        'trained': prefixes_of(config, generator),
        'networks': {'in': {'file': pickle.path.name, 'sha256': pickle.sha256()},
                     'out': {'file': NETWORK, 'sha256': sha256_of(folder / NETWORK), 'notes': notes}},
        'versions': report.versions(),
        'hardware': report.hardware(device),
        'peak_memory': report.peak_memory(device),
    }
    if not moves_to(config):
        ws_target = None             # nobody is to be shown as what the person was moved to
    if config.report == 'brief':
        return result, None, ws_target
    if found is not None:
        person = found[0]
    else:                            # the run was resumed: the photos themselves were not kept, and are read again
        person = finding.Person(ws_source, state['notes'], state['ws_others'], state['ws_strangers'], state['cameras'],
                                finding.photos_again(config, generator) if has_camera else None, state['camera'])
    return result, evidence_of(config, pickle, g_s, g_u, person, judges), ws_target


def find_once(folder: RunFolder, config: Config, generator: Generator, judges: Judges) -> tuple[dict, list[finding.Person] | None, bool]:
    """The people as the folder's state holds them until the run ends; as they were found, None for a resumed run; whether cameras were kept."""
    state = folder.load_state()
    who = digest(config.person_kind, given_person(config))
    has_camera = state is None or 'camera' in state      # states of before it was kept go on without the photos
    if state is not None:
        state = {**LATER, **state}
        if not all(name in state for name in KEPT):
            raise folder.damaged('something is missing')
        if state['person'] != who:
            raise InputError(f'--outdir={folder.path} was begun for another person. Choose another folder.')
        return state, None, has_camera
    with arithmetic(config.precision, generator.device):
        found = find_each(config, generator, judges, folder.log)
        ws_kept = finding.kept_people(config, generator, judges, folder.log) if config.method in CLOSED else None
    state = {'step': 0, 'person': who, **kept_of(found[0]), 'more': [kept_of(one) for one in found[1:]], 'ws_kept': ws_kept}
    folder.save_state(state)
    return state, found, has_camera


def kept_people(state: dict, pickle: NetworkPickle, generator: Generator) -> Tensor | None:   # [N, num_ws or 1, w_dim]
    """Latents of photos of other people: those that were given, else what comes with a demo network."""
    if state['ws_kept'] is None and is_demo(pickle):
        return reference_latents(f'demo-{generator.family}')
    return state['ws_kept']


def find_each(config: Config, generator: Generator, judges: Judges, log: Callable[[str], None]) -> list[finding.Person]:
    """Everybody who is to be forgotten."""
    each, found = config.each_person, []
    for number, one in enumerate(each, 1):
        if len(each) > 1:
            log(f'Person {number} of {len(each)}.')
        found.append(finding.find_person(one, generator, judges, log))
    return found


def kept_of(person: finding.Person) -> dict:
    """What a saved state holds of a person."""
    return {'ws_source': person.ws, 'notes': person.notes, 'ws_others': person.ws_others, 'ws_strangers': person.ws_strangers,
            'cameras': person.cameras, 'camera': person.camera, 'ws_mirrored': person.ws_mirrored}


def photos_for(person: dict, device: torch.device) -> margin.Photos:
    """A person of a saved state, as the closed form takes people."""
    ws, turned = (None if person[name] is None else person[name].to(device) for name in ('ws_source', 'ws_mirrored'))
    return margin.Photos(ws, turned, exact=person['notes'].get('given_as') == 'seed')


def moved(config: Config, pickle: NetworkPickle, g_u: Generator, judges: Judges, state: dict,
          log: Callable[[str], None]) -> tuple[margin.Erased | None, list[Tensor]]:
    """Where each person goes [K, num_ws, w_dim]; the closed form moves them at once, and says what it changed."""
    people, device = [state, *state['more']], g_u.device
    if config.method not in CLOSED:
        with arithmetic(config.precision, device):
            return None, [target_of(config, g_u, judges, state['ws_source'].to(device))]
    with arithmetic('fp32', device):
        erased = margin.erase(g_u, [photos_for(one, device) for one in people], judges.recogniser, log,
                              ws_kept=kept_people(state, pickle, g_u))
        return erased, [erased.edit(one['ws_source'].to(device)) for one in people]


def evidence_of(config: Config, pickle: NetworkPickle, g_s: Generator, g_u: Generator, person: finding.Person, judges: Judges) -> Evidence:
    """The run as those who measure it need it."""
    from eg3d_unlearn.evaluation.evidence import Evidence, measuring_recognisers
    recognisers, trained_with = measuring_recognisers(config, judges, (), g_s, g_s.device)
    return Evidence(pickle, None, g_s, g_u, person, judges, recognisers, trained_with, is_demo(pickle), config)


def forget(folder: RunFolder, config: Config, g_u: Generator, g_s: Generator, parameters: dict[str, nn.Parameter], judges: Judges,
           ws_source: Tensor, ws_target: Tensor, state: dict | None, keep: dict, **loop) -> list[dict]:
    """Let ``parameters`` of G_u forget ``ws_source``, from ``state`` on; the first and the last step's figures."""
    objective = Objective(g_u, g_s, ws_source, ws_target, judges.perceptual, judges.recogniser, config.weights, config.n_adj,
                          config.n_global, config.n_near, config.alpha_max, config.loss_resolution, batch_size(config, g_u),
                          config.seed, drawn=config.target if config.target in DRAWN else None)
    folder.log(f'Forgetting: {config.method}, {config.iters} steps, {sum(p.numel() for p in parameters.values()) / 1e6:.1f} M '
               f'parameters in {", ".join(prefixes_of(config, g_u))}.')
    with arithmetic(config.precision, g_u.device):
        return training_loop(folder, objective, parameters, config.iters, config.lr, config.snap, state, keep=keep,
                             lr_decay=config.lr_decay, rule=make_rule(config, objective, parameters, folder.log), **loop)


def polish(folder: RunFolder, config: Config, g_u: Generator, g_s: Generator, parameters: dict[str, nn.Parameter], judges: Judges,
           photos: list[Tensor], edit: LatentEdit, state: dict | None, keep: dict) -> list[dict]:
    """Go on from the closed form with a few steps of GUIDE's objective, as long as they make it better."""
    ws_source = torch.cat(photos)
    if judges.recogniser is None:
        raise InputError(f'--method={POLISHED} stops by what a recogniser says, and --id-network=none. Use --method={CLOSED_FORM}.')
    watch = Watch(g_u, g_s, ws_source, edit, judges.recogniser, folder.log)
    watch.best.update((state or {}).get('polish', {}))
    if not watch.needed:
        folder.log(f'Nothing to polish: others keep {watch.before:.3f} of their likeness, those whom the edit moves most included.')
        return []
    untouched = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    steps = forget(folder, config, g_u, g_s, parameters, judges, ws_source, edit(ws_source), state, {**keep, 'polish': watch.best},
                   enough=lambda step: watch.enough(step, parameters))
    watch.finish(parameters, untouched)
    return steps


def given_person(config: Config) -> list[str]:
    """What names the people: files, a seed, or somebody of the demo world."""
    kept = [] if config.kept_people is None else [str(path) for path in config.kept_people.photos]
    if config.image or config.people is not None:
        return [name for one in config.each_person for name in [str(path) for path in one.photos] or one.image] + kept
    return [str(config.latent if config.latent is not None else config.latent_seed)] + kept


def batch_size(config: Config, generator: Generator) -> int:
    """Latents that go through at once: what was asked for, else by device."""
    if config.batch:
        return config.batch
    # A GPU wants full batches and halves them by itself when memory is short. On a CPU two latents at EG3D's 512 px take
    # 6 GB, and each of them two thirds of the time of one alone.
    return 8 if generator.device.type == 'cuda' or generator.img_resolution <= 128 else 2


def show_all(generator: Generator, people: list[dict], seeds: Sequence[int], targets: Sequence[Tensor] = ()) -> report.Views:
    """The people of a saved state, their targets, other photos of them, and people nobody asked to forget: those of ``seeds``.

    Of one person three views and all photos; of several each from the front, and one other photo.
    """
    yaws = report.YAWS if len(people) == 1 else (0.0,)

    def from_all_sides(latents: Iterable[Tensor]) -> list[Tensor]:
        return [view for ws in latents for view in report.views(generator, ws[:1].to(generator.device), yaws)]

    def photographed(person: dict, part: str, cameras: slice) -> list[Tensor]:
        labels = None if person['cameras'] is None else person['cameras'][cameras]
        return [] if person[part] is None else report.from_cameras(generator, person[part].to(generator.device), labels)

    photos = []
    for one in people:
        count = 0 if one['ws_others'] is None else len(one['ws_others']) if len(people) == 1 else 1
        photos += photographed({**one, 'ws_others': one['ws_others'][:count] if count else None}, 'ws_others', slice(count))
    first = 0 if people[0]['ws_others'] is None else len(people[0]['ws_others'])
    random_people = [report.views(generator, generator.map_seed(seed), yaws=(0.0,))[0] for seed in seeds]
    return report.Views(source=from_all_sides(one['ws_source'] for one in people), target=from_all_sides(targets), other_photos=photos,
                        strangers=photographed(people[0], 'ws_strangers', slice(first, None)), random_people=random_people,
                        people=len(people))


def shown_photos(config: Config, generator: Generator) -> Tensor | None:
    """The photos themselves [1 + K, 3, H, W] for the picture: of demo people always, of others with ``--keep-source`` only."""
    if config.demo_person is not None:
        return photos_of(config.demo_person, 1 + OTHER_PHOTOS, generator.img_resolution).images
    if config.people is not None or not config.image or not config.keep_source:
        return None
    return torch.cat([finding.prepare_photo(config, path, generator).tensor(generator.img_resolution) for path in config.photos])


def keep_source(folder: RunFolder, config: Config, ws_source: Tensor) -> None:
    """With ``--keep-source`` only: the latent, and the photos where there were some."""
    write_whole(folder / 'source-latent.pt', lambda file: torch.save({'w': ws_source.cpu()}, file), private=True)
    for number, path in enumerate(config.photos):
        name = 'source-photo.png' if number == 0 else f'source-photo-{number + 1}.png'
        write_whole(folder / name, lambda file, path=path: photo.read_image(path).save(file, format='png'), private=True)


def summarise(folder: RunFolder, result: dict) -> None:
    """The last lines on the screen: what came out, and what it is worth."""
    for line in report.summary_lines(result['summary'], result['figures'], result['seconds']):
        folder.log(line)
    if 'MEANING' in result:
        folder.log(result['MEANING'])
    if doubts := words.doubts(result):
        folder.log(f'WARNING: {report.WRONG_PERSON}: {" ".join(doubts)}')
    folder.log(words.ALWAYS)
    folder.log(f'Wrote {folder / NETWORK}; see {folder / PAGE}.')
