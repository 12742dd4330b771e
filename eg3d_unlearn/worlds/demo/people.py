"""Who lives in the demo world: people as vectors of attributes, and the three ranges from which they come.

A person is a vector of `IDENTITY` attributes; a photo of the person adds the `NUISANCE` attributes and a camera.  Each
attribute lies in -1 to 1 and is uniform over the population.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

IDENTITY = (
    'head_width', 'head_height', 'jaw_width', 'chin_length', 'cheek_fullness',
    'nose_width', 'nose_length', 'ear_size',
    'eye_spacing', 'eye_size', 'eye_tilt', 'eye_color', 'brow_thickness', 'brow_tilt',
    'mouth_width', 'lip_fullness', 'makeup', 'skin_tone',
    'hair_color', 'hair_volume', 'hair_length', 'hairline', 'parting', 'curl', 'bun',
    'beard', 'moustache', 'glasses',
)
NUISANCE = ('mouth_open', 'smile', 'light')
ATTRIBUTES = IDENTITY + NUISANCE
# Never trained: what people of the third range wear.  0: not there, 1: there.
ODDITIES = ('hair_dye', 'face_paint', 'hat', 'eye_patch')

Z_DIM = 64
RANGES = ('training', 'held-out', 'out-of-domain')
SEEDS = 1_000_000_007                # of each range


@dataclass
class People:
    """A batch of photos to be taken: who, with which face, in which light."""

    attributes: Tensor                # [N, len(ATTRIBUTES)] float32, -1 to 1
    oddities: Tensor | None = None    # [N, len(ODDITIES)] float32, 0 to 1; None: none of them

    def __len__(self) -> int:
        return len(self.attributes)

    def __getitem__(self, index) -> People:
        return People(self.attributes[index], None if self.oddities is None else self.oddities[index])

    def posing(self, nuisance: Tensor) -> People:
        """The same people with the nuisance attributes [N, len(NUISANCE)]."""
        return People(torch.cat([self.attributes[:, : len(IDENTITY)], nuisance], dim=1), self.oddities)


@functools.cache
def _basis() -> Tensor:
    """Orthonormal directions [Z_DIM, Z_DIM] of the latent space: one for each attribute, two for the pose, the rest unused."""
    generator = torch.Generator().manual_seed(77)
    return torch.linalg.qr(torch.randn(Z_DIM, Z_DIM, generator=generator, dtype=torch.float64, device='cpu'))[0].float()


def meaningful_directions() -> Tensor:
    """Orthonormal directions [K, Z_DIM] on which attributes (the first of them) and pose (the last two) depend."""
    return _basis()[: len(ATTRIBUTES) + 2].to(torch.get_default_device())


def attributes_of(z: Tensor) -> Tensor:
    """Attributes [N, len(ATTRIBUTES)] of the latents ``z`` [N, Z_DIM] that the demo networks are trained to render.

    Only the direction of z counts, as in the mapping network.  Normal latents give uniform attributes.
    """
    z = z * (z.square().mean(-1, keepdim=True) + 1e-8).rsqrt()
    return torch.erf(z @ _basis()[: len(ATTRIBUTES)].to(z).T / math.sqrt(2))


def pose_of(z: Tensor) -> Tensor:
    """Yaw and pitch [N, 2] in -1 to 1, which 2D networks have to take from the latent ``z`` [N, Z_DIM] as well."""
    z = z * (z.square().mean(-1, keepdim=True) + 1e-8).rsqrt()
    return torch.erf(z @ _basis()[len(ATTRIBUTES) : len(ATTRIBUTES) + 2].to(z).T / math.sqrt(2))


def latents_of(attributes: Tensor) -> Tensor:
    """Latents z [N, Z_DIM] whose attributes these are, up to 1e-3 of the range at its ends.

    No latent is long enough for a person who is extreme in nearly everything: there the attributes shrink a little.
    """
    along = torch.erfinv(attributes.clamp(-0.999, 0.999)) * math.sqrt(2)
    z = along @ _basis()[: len(ATTRIBUTES)].to(attributes)
    # The rest of the latent carries nothing; it fills z up to unit mean square, so that normalising changes nothing.
    rest = (Z_DIM - z.square().sum(-1, keepdim=True)).clamp_min(0).sqrt()
    return z + rest * _basis()[-1:].to(z)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers, drawn on the CPU, so that they are the same everywhere; on the default device."""
    return torch.randn(*shape, generator=generator, device='cpu').to(torch.get_default_device())


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers in 0 to 1, likewise."""
    return torch.rand(*shape, generator=generator, device='cpu').to(torch.get_default_device())


def _generator(kind: str, seed: int) -> torch.Generator:
    # Seeds of the ranges never meet, so no held-out person is drawn in training.
    if not 0 <= seed < SEEDS:
        raise ValueError(f'seed {seed} of {kind} people; expected 0 to {SEEDS - 1}')
    return torch.Generator().manual_seed(RANGES.index(kind) * SEEDS + seed)


def training_people(count: int, seed: int) -> People:
    """``count`` people of the population, of the seeds that networks may be trained on."""
    return People(attributes_of(normal(_generator('training', seed), count, Z_DIM)))


def held_out_people(count: int, seed: int = 0) -> People:
    """``count`` people of the same population whom no network was trained on."""
    return People(attributes_of(normal(_generator('held-out', seed), count, Z_DIM)))


def out_of_domain_people(count: int, seed: int = 0) -> People:
    """``count`` people with features that no trained person has: dyed hair, face paint, a hat, an eye patch."""
    generator = _generator('out-of-domain', seed)
    attributes = attributes_of(normal(generator, count, Z_DIM))
    worn = uniform(generator, count, len(ODDITIES)) < 0.35
    # Everybody wears at least one.
    always = torch.randint(len(ODDITIES), (count,), generator=generator, device='cpu')
    worn[torch.arange(count), always.to(worn.device)] = True
    return People(attributes, worn.float())


def people(kind: str, count: int, seed: int = 0) -> People:
    """``count`` people of one of the `RANGES`."""
    return {'training': training_people, 'held-out': held_out_people, 'out-of-domain': out_of_domain_people}[kind](count, seed)


def nuisances(count: int, seed: int) -> Tensor:
    """Expressions and lights [count, len(NUISANCE)], uniform in -1 to 1."""
    return uniform(torch.Generator().manual_seed(seed), count, len(NUISANCE)) * 2 - 1
