"""From pictures to latents.  Every inverter maps images [N, 3, H, W] and cameras to ws [N, num_ws, w_dim]; one file each.

An inversion is named by its parts, joined with ``+``: where it starts (`ENCODERS`, or ``mean``), then the space that it is
refined in (`SPACES`).  ``encoder`` is an encoder alone, ``w+`` starts from the mean latent, ``encoder+w+`` from what the
encoder says, ``mean+encoder+w+`` from both, and the better end of each photo counts.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.person.inversion.e4e import E4E
from eg3d_unlearn.person.inversion.encoder import Encoder
from eg3d_unlearn.person.inversion.goae import GOAE
from eg3d_unlearn.person.inversion.optimise import Optimisation, Started
from eg3d_unlearn.person.inversion.psp import PSP
from eg3d_unlearn.person.inversion.pti import PivotalTuning
from eg3d_unlearn.person.inversion.published import PublishedEncoder
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import did_you_mean, shown

PUBLISHED: dict[str, type[PublishedEncoder]] = {'goae': GOAE, 'e4e': E4E, 'psp': PSP}
ENCODERS = ('encoder', *PUBLISHED)
SPACES = {'w+': 'one latent for each layer', 'w': 'one latent for all layers'}
EXAMPLES = 'w, w+, encoder, encoder+w, encoder+w+, mean+encoder+w+, goae, e4e, psp, goae+w+'


@dataclass(frozen=True)
class Plan:
    """The parts of an inversion's name."""
    starts: tuple[str, ...]          # of `ENCODERS`, or 'mean'
    space: str | None                # of `SPACES`; None: what the encoder says is taken as it is

    @property
    def encoders(self) -> tuple[str, ...]:
        return tuple(start for start in self.starts if start != 'mean')


def plan(name: str) -> Plan:
    """What ``--inversion=name`` means."""
    space = next((space for space in SPACES if name == space or name.endswith('+' + space)), None)
    rest = name if space is None else name.removesuffix(space).removesuffix('+')
    starts = tuple(rest.split('+')) if rest else ('mean',)
    known = all(start == 'mean' or start in ENCODERS for start in starts) and len(set(starts)) == len(starts)
    if not known or (space is None and (len(starts) > 1 or starts == ('mean',))):
        raise InputError(f'--inversion={shown(name)} is not known. It names a start (mean, {", ".join(ENCODERS)}) and the space that it is '
                         f'refined in ({", ".join(SPACES)}), joined with +, for instance {EXAMPLES}.{did_you_mean(name, EXAMPLES.split(", "))}')
    return Plan(starts, space)


def make_inverter(
    name: str,                       # as `plan` reads it, or 'pti': pivotal tuning on top of a pivot in W
    encoder: str | Path | None = None,  # file of the encoder; None = the published one in the cache
    mean: str | Path | None = None,  # published encoders: file of the mean latent that belongs to it
    tuning_steps: int = 100,         # of pivotal tuning
    **options,                       # of `Optimisation`
) -> Optimisation | Started | Encoder | PublishedEncoder | PivotalTuning:
    """The inverter called ``name``."""
    if name == 'pti':
        pivot = make_inverter('w' if encoder is None else 'encoder+w', encoder, **options)
        return PivotalTuning(pivot, steps=tuning_steps)
    found = plan(name)
    encoders = {start: PUBLISHED[start](encoder, mean) if start in PUBLISHED else Encoder(encoder) for start in found.encoders}
    if found.space is None:
        return encoders[found.starts[0]]
    optimisation = Optimisation(found.space, **options)
    if found.starts == ('mean',):
        return optimisation
    return Started(optimisation, [encoders.get(start) for start in found.starts])


def check_inversion(name: str, generator: Generator, encoder: str | Path | None, mean: str | Path | None = None) -> None:
    """Refuse an encoder that is missing or belongs to another network, before anything slow."""
    for start in plan(name).encoders:
        if start in PUBLISHED:
            PUBLISHED[start](encoder, mean).check(generator)
        else:
            Encoder(encoder).load(generator)
