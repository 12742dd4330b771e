"""Worlds: which networks, judges, defaults and photos belong together, and what is known to be true of them.

A world is a package here whose ``world.py`` defines ``WORLD``, a `World`, and one line in `REGISTERED`. The rest of the product
asks this registry and knows no world by name.
"""
from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import torch
from torch import Tensor

from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import NetworkPickle

REGISTERED = {name: f'eg3d_unlearn.worlds.{name}.world' for name in ('demo', 'faces')}


@dataclass
class Photos:
    """Photos with their cameras: of one person, or of several people."""
    images: Tensor                   # [N, 3, H, W] float32 in -1 to 1
    cameras: Tensor                  # [N, 25]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Bars:
    """What a reconstruction must reach to be the person of the photo: erasing the latent of another face erases somebody else."""
    identity: float                  # cosine to the photo, at least
    lpips: float                     # at most
    psnr_db: float                   # at least


class World:
    """What a world tells the product; a network's file belongs to it by the data set that it names."""
    name: str                        # in options: --image=NAME:7, --lpips-net=NAME, --id-network=NAME, --features=NAME
    title: str                       # in sentences: 'the demo world'
    mark: str                        # the data set that pickles of its networks name
    networks: dict[str, str]         # names for --network, and the family of each
    people: str                      # what its people are called: 'held-out people'
    # Nobody in it is real: its people are drawn, and known. There are photos of them and truth beyond what its networks show, and no
    # detector was made for their faces. Else there are none.
    is_made_up: bool = False
    default_person: int = 0          # whom --image=NAME means
    other_photos: int = 0            # of a person, that come with the erased one
    strangers: int = 0               # photos of other people that come with a person
    limits: str | None = None        # what its networks cannot do, in a sentence that follows 'NOTE: '
    bars: dict[str, Bars]            # by family: between its people's photos and what is none of them
    precision: str | None = None     # on a CPU that can; None: fp32

    def network_path(self, name: str) -> Path:
        """The pickle of one of its networks."""
        raise NotImplementedError

    def encoder_path(self, family: str) -> Path | None:
        """The encoder of its network of ``family``; None where there is none."""
        return None

    def reference_latents(self, family: str) -> Tensor | None:   # [N, num_ws or 1, w_dim] float32
        """Latents of photos of other people, who are to stay; None where there are none."""
        return None

    def settings(self, family: str, method: str) -> dict[str, Any]:
        """Settings of GUIDE's training and of inversion that suit its networks better than the published ones, by option name."""
        return {}

    def inversion_steps(self, family: str, start: str) -> int | None:
        """Steps of an inversion from the 'mean' latent or from where an 'encoder' says; None: the usual number."""
        return None

    def perceptual(self) -> Any:
        """Its perceptual distance, a `judges.Perceptual` with a ``resolution``."""
        raise NotImplementedError

    def recognisers(self) -> dict[str, torch.nn.Module]:
        """By name: the recogniser of the losses, then the one that measures; with ``embed(images, alignment)``, 'full' where made up."""
        raise NotImplementedError

    def features(self) -> Any:
        """Features for Fréchet distances: ``features(images)`` [N, D], ``source``, the file."""
        raise NotImplementedError

    def photos_of(
        self,
        person: int,
        count: int,
        resolution: int,             # pixels
        first: int = 0,              # number of the first photo; number 0 is the one that is erased
        out_of_domain: bool = False,  # a person with features that no network has seen
    ) -> Photos:
        """``count`` photos of a person."""
        raise NotImplementedError

    def photos_of_strangers(self, person: int, count: int, resolution: int) -> Photos:
        """One photo each of ``count`` people, none of them ``person``."""
        raise NotImplementedError

    def training_cameras(self, count: int, rng: torch.Generator) -> tuple[Tensor, str]:   # [count, 25]
        """Cameras distributed as in training, and how they were drawn."""
        raise NotImplementedError

    def real_pictures(self, family: str, resolution: int, batches: Callable) -> tuple[Callable[[range, int], Tensor], dict]:
        """Makes real pictures [n, 3, H, W] uint8 of rows out of so many; and what fixes them, for a cache. ``batches``: as `in_batches`."""
        raise NotImplementedError

    def __contains__(self, network: str) -> bool:
        return network in self.networks


@functools.cache
def world_named(name: str) -> World:
    """The world of that name.  Raises KeyError."""
    return importlib.import_module(REGISTERED[name]).WORLD


def worlds() -> list[World]:
    """All of them."""
    return [world_named(name) for name in REGISTERED]


def known_networks() -> dict[str, World]:
    """The names for --network that a world brings, and which world."""
    return {network: world for world in worlds() for network in world.networks}


def world_of(pickle: NetworkPickle) -> World | None:
    """The world that a network belongs to by its file; None: none of ours."""
    path = (pickle.training_set_kwargs or {}).get('path')
    return next((world for world in worlds() if world.mark == path), None)


def world_by_network(network: str) -> tuple[World | None, str | None]:
    """The world of --network and the network's family, by its name alone; None for files."""
    world = known_networks().get(network)
    return (None, None) if world is None else (world, world.networks[network])


def person_in(image: str) -> tuple[World, int] | None:
    """The world and the number of the person that ``--image=demo`` or ``--image=demo:7`` names; None for a file."""
    found = re.fullmatch(r'([a-z]+)(?::(\d{1,6}))?', image)
    if found is None or found[1] not in REGISTERED:
        return None
    world = world_named(found[1])
    number = int(found[2] or world.default_person)
    if world.is_made_up:
        return world, number
    if Path(image).exists():         # a folder of that name
        return None
    raise InputError(f'--image={image}: there are no photos of {world.title}. Its random people are named by --latent-seed={number}.')


def people_in(people: str) -> list[str] | None:
    """The names for --image of the people that ``--people=demo:4-8,12`` names; None for a folder."""
    name, _, listed = people.partition(':')
    if name not in REGISTERED or not re.fullmatch(r'\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*', listed):
        return None
    spans = [[int(end) for end in part.split('-')] for part in listed.split(',')]
    return list(dict.fromkeys(f'{name}:{number}' for span in spans for number in range(span[0], span[-1] + 1)))


def check_world(image: str, network: World | None) -> None:
    """Refuse a person of a world for a network that does not belong to it."""
    found = person_in(image)
    if found is not None and found[0] is not network:
        world = found[0]
        raise InputError(f'--image={image} is a person of {world.title}, whom only its networks can show. Use it with '
                         f'--network={" or ".join(world.networks)}, or give a photo.')
