"""From photos to latents: optimisation, encoders, or optimisation that starts at an encoder's latent (`inverter` says what each is)."""
from __future__ import annotations

from pathlib import Path

from eg3d_unlearn.config import INVERSIONS, parts_of
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.person.inversion.e4e import E4E
from eg3d_unlearn.person.inversion.encoder import OwnEncoder
from eg3d_unlearn.person.inversion.goae import GOAE
from eg3d_unlearn.person.inversion.inverter import Encoder
from eg3d_unlearn.person.inversion.optimise import Optimisation
from eg3d_unlearn.person.inversion.published import PublishedEncoder
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

PUBLISHED: dict[str, type[PublishedEncoder]] = {'goae': GOAE, 'e4e': E4E}


def make_inverter(
    name: str,                       # of `config.INVERSIONS`
    encoder: str | Path | None = None,  # file of the encoder; None = the published one in the cache
    mean: str | Path | None = None,  # published encoders: file of the mean latent that belongs to it
    **options,                       # of `Optimisation`: steps, lr, seed, lambda_id, recogniser
) -> Optimisation | Encoder:
    """The inverter called ``name``."""
    if name not in INVERSIONS:       # from Python, or from the options of an older run
        raise InputError(f'--inversion={shown(name)} is not known; expected one of {", ".join(INVERSIONS)}.')
    start, space = parts_of(name)
    begin = None if start is None else PUBLISHED[start](encoder, mean) if start in PUBLISHED else OwnEncoder(encoder)
    return begin if space is None else Optimisation(space, begin, **options)


def check_inversion(name: str, generator: Generator, encoder: str | Path | None, mean: str | Path | None = None) -> None:
    """Refuse an encoder that is missing or belongs to another network, before anything slow."""
    inverter = make_inverter(name, encoder, mean)
    if (encoder_ := inverter.encoder if isinstance(inverter, Optimisation) else inverter) is not None:
        encoder_.check(generator)
