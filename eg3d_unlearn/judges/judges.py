"""What pictures are judged with: the perceptual distance and the recognisers, real ones or those of a world."""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Callable

import torch
from torch import Tensor

from eg3d_unlearn.config import CLOSED_FORM, Config, JudgesOptions, parts_of, refuse_unused
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.identity import load_identity, network_class
from eg3d_unlearn.judges.perceptual import NETS, Lpips, Perceptual
from eg3d_unlearn.judges.weights import NotHere, fetching_nothing, find
from eg3d_unlearn.worlds.registry import REGISTERED, world_named
from torch_utils_ext.download import default_cache
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import did_you_mean, shown

Embed = Callable[[Tensor], Tensor]   # [N, 3, H, W] in -1 to 1 -> [N, D] unit norm
NONE = 'none'                        # name of a judge that there is not


@dataclass
class Judges:
    """What the losses see pictures with."""
    perceptual: Perceptual | None    # None: nothing is trained, and nothing measures it
    recogniser: Embed | None         # None = no identity term
    measuring: Embed | None          # what the summary measures with; on faces the recogniser of the loss
    names: dict[str, str]            # 'perceptual', 'recogniser', 'measuring' -> which

    @property
    def measure(self) -> bool:
        """Whether anything measures pictures."""
        return self.perceptual is not None or self.measuring is not None


def alignment_of(options: JudgesOptions, generator: Generator) -> str:
    """Where the face is in the network's pictures: 'eg3d', 'ffhq' or, anywhere, 'full'."""
    return options.face_crop if options.face_crop != 'auto' else generator.alignment


def load_judges(options: JudgesOptions, generator: Generator, device: torch.device) -> Judges:
    """LPIPS and the recogniser; a missing file is an error before anything slow begins."""
    names = {'perceptual': options.lpips_net, 'recogniser': options.id_network, 'measuring': options.id_network}
    if options.lpips_net == NONE:
        perceptual = None
    elif options.lpips_net in REGISTERED:
        perceptual = world_named(options.lpips_net).perceptual().to(device)
        perceptual.resolution = options.lpips_resolution
    else:
        perceptual = Lpips(options.lpips_net, weights=options.lpips_weights, random_weights=options.random_metric_weights,
                           resolution=options.lpips_resolution, device=device)
    if options.id_network in REGISTERED:
        world = world_named(options.id_network)
        found, alignment = world.recognisers(), 'full' if world.is_made_up else alignment_of(options, generator)
        names.update(zip(('recogniser', 'measuring'), found, strict=True))
        return Judges(perceptual, *(partial(network.to(device).embed, alignment=alignment) for network in found.values()), names)
    recogniser = load_identity(options.id_network, weights=options.id_weights, random_weights=options.random_metric_weights,
                               trust=options.trust_file)
    if recogniser is None:
        return Judges(perceptual, None, None, names)
    embed = partial(recogniser.to(device).embed, alignment=alignment_of(options, generator))
    return Judges(perceptual, embed, embed, names)


def needed(config: Config) -> dict[str, bool]:
    """Whether a run needs a recogniser and LPIPS, by the option that names them: an optimisation does, a formula does not."""
    optimises = config.person_kind in ('image', 'people') and parts_of(config.inversion)[1] is not None
    trains = config.method != CLOSED_FORM
    return {'id_network': trains or optimises and bool(config.inversion_lambda_id), 'lpips_net': trains or optimises}


def check_needed(config: Config) -> None:
    """Refuse a perceptual distance that is not known, and a run without one that cannot do without."""
    known = (*NETS, *REGISTERED, NONE)
    if config.lpips_net not in known:
        raise InputError(f'--lpips-net={shown(config.lpips_net)} is not known; expected {", ".join(known)}.'
                         f'{did_you_mean(config.lpips_net, known)}')
    if config.lpips_net == NONE and needed(config)['lpips_net']:
        raise InputError(f'--lpips-net={NONE} goes with --method={CLOSED_FORM} only, and with photos only where an encoder finds the latent '
                         '(--inversion=encoder): all else is optimised by LPIPS. Leave it out, or use --lpips-net=squeeze, which is small.')


def check_judges(config: Config) -> None:
    """Options about judges that are not in use would have no effect."""
    check_needed(config)
    of_world = {'lpips': config.lpips_net in REGISTERED, 'id': config.id_network in REGISTERED}
    for kind, option in (('lpips', '--lpips-net=vgg'), ('id', '--id-network=arcface')):
        if of_world[kind]:
            refuse_unused(config, [f'{kind}_weights'], f'names a file, but here the judge of a world is used, which comes with it. Leave it '
                                                       f'out, or add {option}.')
    if all(of_world.values()):
        refuse_unused(config, ['random_metric_weights'], 'was given, but here the judges of a world are used, which are trained. Leave it '
                                                         'out, or add --lpips-net=vgg --id-network=arcface.')


def without_missing(given: Config, config: Config) -> tuple[Config, list[str]]:
    """``config`` without the judges that nobody asked for, that it can do without, and whose weights are not here; what is to be said of it.

    Nothing is fetched for them.
    """
    missing = {}
    for option, is_needed in needed(config).items():
        named = getattr(given, option) is not None or getattr(given, option.split('_')[0] + '_weights') is not None
        if is_needed or named or config.random_metric_weights or getattr(config, option) in REGISTERED:
            continue
        entry = NETS[config.lpips_net].weights if option == 'lpips_net' else network_class(config.id_network).weights
        try:
            with fetching_nothing():
                find(entry)
        except NotHere:
            missing[option] = entry
    if not missing:
        return config, []
    purposes = ' and the '.join(entry.purpose for entry in missing.values())
    follows = {'id_network': "the strength is the default one and nobody's likeness is measured", 'lpips_net': 'no LPIPS is measured'}
    files = ' and '.join(f'{entry.filename} ({entry.url})' for entry in missing.values())
    return replace(config, **dict.fromkeys(missing, NONE)), [
        f'The closed form goes without the {purposes}, whose weights are not on this machine: '
        f'{", and ".join(follows[option] for option in missing)}; to change that, put {files} into {default_cache()}.']
