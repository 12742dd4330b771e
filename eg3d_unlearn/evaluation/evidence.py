"""What is measured, attacked and reported: the two networks, the person's photos and their latents, and the judges."""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor

from eg3d_unlearn.config import CLOSED_FORM, Config
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.loading import choose_device, load_generator
from eg3d_unlearn.generators.memory import keep_freed_memory
from eg3d_unlearn.generators.precision import arithmetic, choose_precision
from eg3d_unlearn.judges.identity import NAMES, load_identity
from eg3d_unlearn.judges.judges import Embed, Judges, alignment_of, check_needed, load_judges
from eg3d_unlearn.person.checks import check_person
from eg3d_unlearn.person.inversion import make_inverter
from eg3d_unlearn.person.inversion.inverter import Inversion
from eg3d_unlearn.person.person import Person, encoder_of, find_person
from eg3d_unlearn.run_folder import OPTIONS
from eg3d_unlearn.unlearning.checks import check_inputs
from eg3d_unlearn.unlearning.presets import resolve
from eg3d_unlearn.worlds.registry import REGISTERED, World, check_world, world_by_network
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import NetworkPickle
from torch_utils_ext.user_files import is_file, read_json, shown


@dataclass
class Evidence:
    """An erasure as those who measure it need it."""
    before: NetworkPickle | None     # None: generators in memory
    after: NetworkPickle | None
    g_s: Generator                   # frozen
    g_u: Generator                   # frozen
    person: Person | None            # None where only the networks are looked at
    judges: Judges
    recognisers: dict[str, Embed]    # all that measure, by name
    trained_with: str                # which of them the loss used (its figures flatter)
    world: World | None              # that the networks belong to, which knows the truth; None: none of ours
    config: Config                   # resolved: how photos are inverted, by what they are judged

    @property
    def device(self) -> torch.device:
        return self.g_s.device

    @property
    def made_up_world(self) -> World | None:
        """The world, where nobody in it is real: it has photos of its people, and knows who they are."""
        return self.world if self.world is not None and self.world.is_made_up else None

    @property
    def measuring(self) -> tuple[str, Embed]:
        """The recogniser that decides: one that the loss did not use, where there is one."""
        unused = [name for name in self.recognisers if name != self.trained_with]
        name = unused[0] if unused else self.trained_with
        return name, self.recognisers[name]

    @property
    def ws_mine(self) -> Tensor | None:                # [1 + M, num_ws, w_dim]
        """Latents of the person in G_s: of the erased photo, then of the other ones."""
        if self.person is None:
            return None
        others = self.person.ws_others
        return self.person.ws[:1] if others is None else torch.cat([self.person.ws[:1], others])

    def distance(self, ws: Tensor) -> Tensor:          # [N, num_ws, w_dim] -> [N], on the CPU
        """How far latents lie from the erased one, over all layers [units of W+]."""
        return (ws - self.person.ws[:1].to(ws)).flatten(1).norm(dim=1).cpu()

    @property
    def photos_mine(self) -> tuple[Tensor, Tensor | None] | None:  # [1 + M, 3, H, W], [1 + M, 25]
        """The person's photos, the erased one first, and their cameras; None where a latent or a seed was given."""
        person = self.person
        if person is None or person.images is None:
            return None
        count = len(self.ws_mine)
        if person.camera is None:
            return person.images[:count], None
        return person.images[:count], torch.cat([person.camera, person.cameras])[:count] if count > 1 else person.camera

    def invert(
        self,
        generator: Generator,        # G_s or G_u
        images: Tensor,              # [N, 3, H, W] in -1 to 1
        cameras: Tensor | None,      # [N, 25]; None for 2D networks
        name: str | None = None,     # of `config.INVERSIONS`; None = as the person's photo was inverted
    ) -> Inversion:
        """Photos inverted into one of the networks, by the encoder and the judges of this evidence."""
        config = self.config
        inverter = make_inverter(name or config.inversion, config.encoder, config.encoder_mean, steps=config.inversion_steps or 100,
                                 lr=config.inversion_lr or 0.05, seed=config.seed, lambda_id=config.inversion_lambda_id or 0.0,
                                 recogniser=self.judges.recogniser)
        return inverter(generator, images.to(self.device), None if cameras is None else cameras.to(self.device),
                        self.judges.perceptual)


def gather(
    before: str,                     # network pickle, or the name of a demo network
    after: str,                      # network pickle
    recognisers: tuple[str, ...] = (),  # further ones that measure: names or TorchScript files
    log: Callable[[str], None] = print,
    needs_person: bool = True,
    **options,                       # of `Config`: image, latent, latent_seed, inversion, device, seed, id_network, ...
) -> Evidence:
    """Read both networks and find the person in the first one.

    Raises:
        InputError: files that cannot be read, networks that do not belong together, nobody or several people named.
    """
    if options.get('id_network') is None and (used := recogniser_of_run(Path(after))):
        options['id_network'] = used
        log(f'The loss used the recogniser {used}, by {OPTIONS} beside the network.')
    given = Config(network=before, outdir='', **options)
    config = resolve(given, *world_by_network(before))
    if needs_person:
        check_inputs(config)
    device = choose_device(config.device)
    keep_freed_memory()
    source, g_s = load_generator(config, device)
    world = g_s.trained_on.world
    config = resolve(given, world, g_s.family)
    if config.image:
        check_world(config.image[0], world)
    config = dataclasses.replace(config, precision=choose_precision(config.precision, world, device),
                                 encoder=encoder_of(config, g_s))
    g_s.precision = config.precision
    # What was trained on which pictures is one network's answer: the other's file may have another name.
    unlearned, g_u = load_generator(dataclasses.replace(config, network=after), device, g_s.trained_on)
    check_pair(source, g_s, unlearned, g_u)
    for note in g_s.notes:
        log(f'NOTE: {note}')
    g_u.precision = config.precision
    # G_s's own mean latent on both sides: an edit of the mapping network must not move the yardstick.
    g_u.w_avg, g_u.w_avg_source = g_s.w_avg, g_s.w_avg_source
    if needs_person:
        check_person(config, g_s)
    check_needed(dataclasses.replace(config, method=CLOSED_FORM))    # nothing is trained here
    judges = load_judges(config, g_s, device)
    embeds, trained_with = measuring_recognisers(config, judges, recognisers, g_s, device)
    with arithmetic(config.precision, device):
        person = find_person(config, g_s, judges, log) if needs_person else None
    return Evidence(source, unlearned, g_s, g_u, person, judges, embeds, trained_with, world, config)


def recogniser_of_run(after: Path) -> str | None:
    """The built-in recogniser that a run's loss used, by its options beside the network; None where nothing, or nothing usable, says so.

    One that is taken for another would be called independent of the training.

    Raises:
        InputError: it names a file.  What another file names is not loaded: such a recogniser is a program.
    """
    if not is_file(after.parent / OPTIONS):
        return None
    try:
        used = read_json(after.parent / OPTIONS, 'file of options', dict).get('id_network')
    except InputError:
        return None
    if used is None or used in (*REGISTERED, 'none', *NAMES):
        return used if used in NAMES else None
    raise InputError(f'{OPTIONS} beside {shown(after, 300)} says that the loss used the recogniser {shown(used)}, which is none of '
                     f'{", ".join(NAMES)}. A file that another file names is not loaded. Name the recogniser yourself: --id-network=NAME, or '
                     '--id-network=FILE --trust-file if you trust the file, which is a program.')


def check_pair(source: NetworkPickle, g_s: Generator, unlearned: NetworkPickle, g_u: Generator) -> None:
    """Refuse two networks of which one cannot have come from the other."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in g.network.state_dict().items()} for g in (g_s, g_u)]
    if g_s.family != g_u.family or shapes[0] != shapes[1]:
        raise InputError(f'{Path(unlearned.path).name} ({g_u.family}, {g_u.img_resolution} px) cannot have been made from '
                         f'{Path(source.path).name} ({g_s.family}, {g_s.img_resolution} px): their tensors differ in number or shape. '
                         'Name the network that was unlearned with --before.')


def measuring_recognisers(config: Config, judges: Judges, further: tuple[str, ...], generator: Generator,
                          device: torch.device) -> tuple[dict[str, Embed], str]:
    """All recognisers that measure, by name, and which of them the loss used."""
    found: dict[str, Embed] = {}
    if judges.recogniser is not None:
        found[judges.names['recogniser']] = judges.recogniser
        found[judges.names['measuring']] = judges.measuring
    for name in further:
        recogniser = load_identity(name, random_weights=config.random_metric_weights, device=device, trust=config.trust_file,
                                   option='--recogniser')
        if recogniser is not None:
            found[name] = partial(recogniser.embed, alignment=alignment_of(config, generator))
    return found, judges.names['recogniser']
