"""The main job, told in order: pickle in, person found, person forgotten, pickle out."""
from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from eg3d_unlearn import cameras, photo, report
from eg3d_unlearn.config import Config
from eg3d_unlearn.generator import Generator, build, wrap
from eg3d_unlearn.identity import load_identity
from eg3d_unlearn.inversion import make_inverter
from eg3d_unlearn.memory import keep_freed_memory
from eg3d_unlearn.objective import Objective
from eg3d_unlearn.perceptual import Lpips
from eg3d_unlearn.person import digest, read_latent
from eg3d_unlearn.run_folder import NETWORK, PICTURE, REPORT, STATE, RunFolder, write_whole
from eg3d_unlearn.target import mean_target, ufo_target
from eg3d_unlearn.training_loop import training_loop
from torch_utils_ext import ops
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import NetworkPickle, NetworkRecord, read_network_pickle, write_unlearned_pickle
from torch_utils_ext.network_url import resolve_network


@dataclass
class Judges:
    """What the losses see pictures with."""
    perceptual: Lpips
    recogniser: Callable[[Tensor], Tensor] | None  # [N, 3, H, W] -> [N, D] unit norm; None = no identity term


@dataclass
class Person:
    """Who is to be forgotten, as the run needs it."""
    ws: Tensor                       # [1, num_ws, w_dim]
    notes: dict                      # how the latent was found, without saying who it is


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


def check_precision(config: Config, device: torch.device) -> None:
    """Half and TF32 are the GPU's; on a CPU they would be slower, not faster."""
    if config.precision != 'fp32' and device.type != 'cuda':
        raise InputError(f'--precision={config.precision} needs a CUDA GPU; on {device.type} everything is float32. Use --precision=fp32.')
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.precision == 'tf32'


def load_generator(config: Config, device: torch.device) -> tuple[NetworkPickle, Generator]:
    """The pickle of ``--network`` and its G_ema, ready to use."""
    path = resolve_network(config.network)
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
    return pickle, wrap(network, family, config.class_label, config.precision, config.fov_deg)


def make_network(config: Config, record: NetworkRecord, path: Path, device: torch.device) -> tuple[nn.Module, str]:
    """Our own network where it fits the file, and its family; with ``--trust-pickle`` the checkout's where ours does not."""
    if record.family is not None:
        try:
            return build(record, device), record.family
        except InputError:           # a fork that kept the class's name
            if not config.trust_pickle:
                raise
    from eg3d_unlearn.foreign import load_trusted
    network, family = load_trusted(path, config.upstream)
    return network.to(device), family


def load_judges(config: Config, family: str, device: torch.device) -> Judges:
    """LPIPS and the recogniser; a missing file is an error before anything slow begins."""
    perceptual = Lpips(config.lpips_net, weights=config.lpips_weights, random_weights=config.random_metric_weights,
                       resolution=config.lpips_resolution, device=device)
    recogniser = load_identity(config.id_network, weights=config.id_weights, random_weights=config.random_metric_weights)
    if recogniser is None:
        return Judges(perceptual, None)
    alignment = config.face_crop if config.face_crop != 'auto' else 'eg3d' if family == 'eg3d' else 'ffhq'
    return Judges(perceptual, partial(recogniser.to(device).embed, alignment=alignment))


def find_person(config: Config, generator: Generator, judges: Judges, log: Callable[[str], None]) -> Person:
    """The latent of who is to be forgotten."""
    if config.latent_seed is not None:
        return Person(generator.map_seed(config.latent_seed, config.trunc), {'given_as': 'seed'})
    if config.latent is not None:
        return Person(read_latent(Path(config.latent), generator), {'given_as': 'latent'})
    path = Path(config.image)
    image, warning = photo.to_tensor(photo.read_image(path), generator.img_resolution)
    if warning:
        log(f'Warning: {warning}.')
    camera, camera_source = cameras.find_camera(config.camera, path) if generator.is_3d else (None, 'none (2D network)')
    log(f'Inverting the photo in {config.inversion.upper()} (camera: {camera_source}).')
    inverter = make_inverter(config.inversion, steps=config.inversion_steps, lr=config.inversion_lr, seed=config.seed)
    if camera is None and generator.is_3d:
        camera = generator.frontal()
    with tqdm(total=config.inversion_steps, desc='inverting', unit='step', dynamic_ncols=True) as bar:
        def progress(step: int, figures: dict) -> None:
            bar.update()
            bar.set_postfix({name: f'{value:.3f}' for name, value in figures.items()})
        found = inverter(generator, image.to(generator.device), camera, judges.perceptual, progress)
    figures = {'lpips': round(found.lpips.item(), 4), 'psnr_db': round(found.psnr.item(), 2)}
    log(f'Inverted: LPIPS {figures["lpips"]:.3f}, PSNR {figures["psnr_db"]:.1f} dB to the photo.')
    return Person(found.ws, {'given_as': 'image', 'camera': camera_source, 'inversion': config.inversion, **figures})


def target_of(config: Config, generator: Generator, ws_source: Tensor) -> Tensor:  # [1, num_ws, w_dim]
    """w_t by ``--target``."""
    if config.target == 'mean':
        return mean_target(ws_source, generator.w_avg)
    return ufo_target(ws_source, generator.w_avg, config.target_d)


def check_inputs(config: Config) -> None:
    """What can be refused before anything is loaded."""
    given = [name for name in ('image', 'latent', 'latent_seed') if getattr(config, name) is not None]
    if len(given) != 1:
        options = ', '.join('--' + name.replace('_', '-') for name in given) or 'none'
        raise InputError(f'Say who is to be forgotten with exactly one of --image, --latent and --latent-seed (got {options}).')
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f'--{name.replace("_", "-")}={value} is no usable number.')
    if config.camera is not None and config.image is None:
        raise InputError('--camera is the camera of a photo; it goes with --image only.')
    if config.image is not None:
        photo.read_image(Path(config.image))
    if config.camera is not None:
        cameras.parse_camera(config.camera, Path(config.image))
    if config.latent is not None and not Path(config.latent).is_file():
        raise InputError(f'The latent file {config.latent} is not there; --latent takes an .npy, .npz or .pt file.')
    weights = config.weights
    if not (weights.local or (weights.adj and config.n_adj) or (weights.glob and config.n_global)):
        raise InputError('All losses are switched off, so there is nothing to learn. Set one of --lambda-local, --lambda-adj and '
                         '--lambda-global above 0.')
    if not (weights.local or (weights.adj and config.n_adj)):
        raise InputError('Both --lambda-local and --lambda-adj are off: the network would only be told to stay as it is.')
    if not (weights.lpips or weights.l2 or weights.id):
        raise InputError('--lambda-l2, --lambda-lpips and --lambda-id are all 0, so the local loss has no term. Set one above 0.')
    if config.trust_pickle and not config.upstream:
        raise InputError('--trust-pickle hands the file to the loader of an NVIDIA checkout: name it with --upstream=DIR.')


def check_against_network(config: Config, generator: Generator) -> None:
    """What can be refused once the network is known, before anything is written."""
    if config.camera is not None and not generator.is_3d:
        raise InputError(f'--camera was given, but a {generator.family} network has no cameras. Leave it out.')
    if config.image is not None and generator.is_3d:
        # Only here: beside a 2D network's photo a dataset.json holds classes, which are no cameras.
        cameras.find_camera(config.camera, Path(config.image))
    if config.latent is not None:
        read_latent(Path(config.latent), generator)
    generator.freeze_except(prefixes_of(config, generator))
    generator.network.requires_grad_(False)


def prefixes_of(config: Config, generator: Generator) -> list[str]:
    """``--trainable`` as a list of parameter prefixes."""
    listed = generator.trainable if config.trainable == 'auto' else config.trainable
    return [prefix.strip() for prefix in listed.split(',')]


def unlearn(config: Config) -> dict:
    """Run ``config`` and return its report; the folder then holds all that the README lists.

    Raises `InputError` for everything that the user can mend.
    """
    begun = time.time()
    check_inputs(config)
    device = choose_device(config.device)
    keep_freed_memory()
    check_precision(config, device)
    folder = RunFolder(config.outdir)
    operations = ops.select_ops(config.upstream, device)
    pickle, generator = load_generator(config, device)
    options = {**config.to_json(), 'network_sha256': pickle.sha256()}
    check_against_network(config, generator)
    folder.check(options)
    judges = load_judges(config, generator.family, device)
    resumes = folder.begin(options)
    with folder.locked():
        folder.log(f'{"Resuming in" if resumes else "Writing to"} {folder.path}.')
        folder.log(operations)
        result = run_in(folder, config, pickle, generator, judges)
        # The report comes last: a folder with one is finished, and no longer holds the latent.
        result['seconds'] = round(time.time() - begun, 1)
        (folder / STATE).unlink(missing_ok=True)
        folder.write_json(REPORT, result)
    summarise(folder, result)
    return result


def run_in(folder: RunFolder, config: Config, pickle: NetworkPickle, generator: Generator, judges: Judges) -> dict:
    """The run itself, in a folder that is ours."""
    log = folder.log
    device = generator.device
    log(f'Network: {pickle.path.name}, {generator.family}, {generator.img_resolution} px; mean latent: {generator.w_avg_source}.')
    if type(generator.network).__module__.endswith('.foreign'):
        log(f'The network was loaded by the checkout\'s own loader, which ran code from the file ({config.upstream}).')
    log(f'F in the local loss: {generator.features_are}.')
    if config.random_metric_weights:
        log(f'WARNING: {report.MEANINGLESS}')

    # The person: found once, kept in the state until the run ends.
    state = folder.load_state()
    who = digest(config.person_kind, getattr(config, config.person_kind))
    if state is not None and state['person'] != who:
        raise InputError(f'--outdir={folder.path} was begun for another person. Choose another folder.')
    if state is None:
        person = find_person(config, generator, judges, log)
        state = {'step': 0, 'person': who, 'ws_source': person.ws, 'notes': person.notes}
        folder.save_state(state)
    ws_source = state['ws_source'].to(device)
    ws_target = target_of(config, generator, ws_source)

    # The network that learns, beside its frozen source.
    parameters = generator.freeze_except(prefixes_of(config, generator))
    g_u = generator
    g_s = generator.twin()
    g_s.network.requires_grad_(False)  # only the twin's own copies are touched: what is frozen is shared
    before = show_all(g_s, source=ws_source, target=ws_target)

    objective = Objective(g_u, g_s, ws_source, ws_target, judges.perceptual, judges.recogniser, config.weights, config.n_adj,
                          config.n_global, config.alpha_max, config.loss_resolution, batch_size(config, generator), config.seed)
    log(f'Forgetting: {config.method}, {config.iters} steps, {sum(p.numel() for p in parameters.values()) / 1e6:.1f} M parameters '
        f'in {", ".join(prefixes_of(config, generator))}.')
    steps = training_loop(folder, objective, parameters, config.iters, config.lr, config.snap, state,
                          keep={name: state[name] for name in ('person', 'ws_source', 'notes')})

    # The network goes out whole before anything speaks of it.
    notes = write_unlearned_pickle(pickle, folder / NETWORK, g_u.network.state_dict())
    after = show_all(g_u, source=ws_source)
    write_whole(folder / PICTURE, lambda file: report.picture(before, after).save(file, format='png'))
    if config.keep_source:
        keep_source(folder, config, ws_source)
    return {
        **({'MEANING': report.MEANINGLESS} if config.random_metric_weights else {}),
        'summary': report.measure(before, after, judges.perceptual, judges.recogniser),
        'loss': {'first_step': steps[0], 'last_step': steps[-1]},
        'person': state['notes'],
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


def batch_size(config: Config, generator: Generator) -> int:
    """Latents that go through at once: what was asked for, else by device."""
    if config.batch:
        return config.batch
    # A GPU wants full batches and halves them by itself when memory is short. On a CPU two latents at EG3D's 512 px take
    # 6 GB, and each of them two thirds of the time of one alone.
    return 8 if generator.device.type == 'cuda' or generator.img_resolution <= 128 else 2


def show_all(generator: Generator, **people: Tensor) -> dict[str, list[Tensor]]:
    """Views of the latents given by name, and one view each of some people nobody asked to forget."""
    shown = {name: report.views(generator, ws) for name, ws in people.items()}
    for seed in report.OTHER_SEEDS:
        shown[f'seed{seed}'] = report.views(generator, generator.map_seed(seed), yaws=(0.0,))
    return shown


def keep_source(folder: RunFolder, config: Config, ws_source: Tensor) -> None:
    """With ``--keep-source`` only: the latent, and the photo where there was one."""
    write_whole(folder / 'source-latent.pt', lambda file: torch.save({'w': ws_source.cpu()}, file))
    if config.image is not None:
        write_whole(folder / 'source-photo.png', lambda file: photo.read_image(Path(config.image)).save(file, format='png'))


def summarise(folder: RunFolder, result: dict) -> None:
    """The last lines on the screen: what came out, and what it is worth."""
    figures = result['summary']
    person, others = figures['unlearned_against_source'], figures['others_before_against_after']
    line = f'The person: LPIPS {person["lpips"]:.3f} from before'
    if 'identity_cosine' in person:
        line += (f', identity cosine {person["identity_cosine"]:.2f} (1 = the same); others: LPIPS {others["lpips"]:.3f}, '
                 f'identity cosine {others["identity_cosine"]:.2f}')
    else:
        line += f'; others: LPIPS {others["lpips"]:.3f}'
    folder.log(f'{line}. {result["seconds"]:.0f} s.')
    if 'MEANING' in result:
        folder.log(result['MEANING'])
    folder.log(f'Wrote {folder / NETWORK}; see {folder / PICTURE} and {folder / REPORT}.')
