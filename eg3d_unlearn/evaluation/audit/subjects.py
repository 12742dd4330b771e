"""Whom attackers go for: the erased person, and control people whom nobody asked to forget."""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.evaluation.rendering import from_yaws, rendered
from eg3d_unlearn.person.given import world_person
from eg3d_unlearn.person.person import prepare_photo, stacked
from eg3d_unlearn.person.photo.folders import PICTURES, folders_in, pictures_at
from eg3d_unlearn.worlds.registry import World
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm

# Numbers of people of a world: far from those whom an erasing run takes as witnesses.
CONTROLS, BYSTANDERS, PER_PERSON = 700_000, 50, 100
GENERATED_YAWS = (-0.2, 0.2)         # cameras of a generated person's two pictures [radians]
FEWEST = 3                           # controls; of fewer the spread says nothing
FEWEST_PHOTOS = 2                    # of each control of a folder: one to attack with, another to judge by


@dataclass
class Subject:
    """One person as attackers and judges know them."""
    images: Tensor                   # [N, 3, H, W] in -1 to 1; number 0 was erased, or plays that part
    cameras: Tensor | None           # [N, 25]; None for 2D networks
    ws: Tensor                       # [N, num_ws, w_dim] their latents in G_s

    @property
    def attacked(self) -> int:
        """The one photo that an attacker has: another than the erased one, where there is another."""
        return min(1, len(self.images) - 1)

    def photo(self, index: int) -> tuple[Tensor, Tensor | None]:  # [1, 3, H, W], [1, 25]
        return self.images[index, None], None if self.cameras is None else self.cameras[index, None]


def the_person(evidence: Evidence) -> Subject:
    """The erased person; one who was given as a latent or a seed is photographed by G_s."""
    if evidence.photos_mine is None:
        return generated(evidence, evidence.person.ws[:1], exact=True)
    images, cameras = evidence.photos_mine
    device = evidence.device
    return Subject(images.to(device), None if cameras is None else cameras.to(device), evidence.ws_mine.to(device))


def check_controls(folder: str | None) -> None:
    """Refuse a folder of control people that cannot do."""
    if folder is None:
        return
    if not Path(folder).is_dir():
        raise InputError(f'--controls={folder} is no folder. Expected one with a subfolder of photos for each control person.')
    people = people_in(folder)
    if len(people) < FEWEST:
        raise InputError(f'--controls={folder} has {len(people)} subfolders with photos ({", ".join(PICTURES)}), expected at least {FEWEST}: '
                         'one for each control person, with two or more photos. Add people, or leave --controls out: then random people of '
                         'the network serve.')
    if few := [photos[0].parent.name for photos in people if len(photos) < FEWEST_PHOTOS]:
        raise InputError(f'--controls={folder} has one photo only of {", ".join(few)}, expected at least {FEWEST_PHOTOS} of each control '
                         'person: one to attack with, another to judge by. Add photos, or take the subfolder away.')


def people_in(folder: str) -> list[list[Path]]:
    """The photos of each subfolder, by name; subfolders without any are left out."""
    return [photos for photos in map(pictures_at, folders_in(Path(folder))) if photos]


def find_controls(evidence: Evidence, count: int, folder: str | None, seed: int) -> tuple[list[Subject], str]:
    """Control people and what they are."""
    found = world_person(evidence.config)
    if folder is not None:
        people = people_in(folder)[:count]
        return [photographed(evidence, photos) for photos in tqdm(people, desc='controls', unit='person')], 'people of --controls'
    if found is not None:
        photos, numbers = len(evidence.photos_mine[0]), numbers_beside(found[1], seed)[:count]
        return [of_world(evidence, found[0], number, photos) for number in tqdm(numbers, desc='controls', unit='person')], found[0].people
    exact = evidence.photos_mine is None
    ws = evidence.g_s.sample(count, torch.Generator().manual_seed(1_000_003 * (seed + 1)))
    return [generated(evidence, one[None], exact) for one in tqdm(ws, desc='controls', unit='person')], 'generated people'


def numbers_beside(person: int, seed: int) -> range:
    """Held-out people beside ``person``: the first `BYSTANDERS` are controls, the others serve for harmless tuning."""
    first = CONTROLS + (person + 1_000_000 * (seed % 5)) * PER_PERSON
    return range(first, first + PER_PERSON)


def of_world(evidence: Evidence, world: World, number: int, photos: int) -> Subject:
    taken = world.photos_of(number, photos, evidence.g_s.img_resolution)
    return inverted(evidence, taken.images, taken.cameras if evidence.g_s.is_3d else None)


def photographed(evidence: Evidence, photos: list[Path]) -> Subject:
    """A control person from photos."""
    # --camera and --face are about the erased person's photo.
    config = dataclasses.replace(evidence.config, camera=None, face=None)
    return inverted(evidence, *stacked([prepare_photo(config, path, evidence.g_s) for path in photos], evidence.g_s))


@torch.no_grad()
def generated(evidence: Evidence, ws: Tensor, exact: bool) -> Subject:  # ws [1, num_ws, w_dim]
    """A person of the network itself: two pictures by G_s for EG3D, one for 2D networks.

    ``exact``: the first latent is the person's own; otherwise it comes by inversion, as a photographed person's does.
    """
    g_s = evidence.g_s
    cameras = from_yaws(g_s, GENERATED_YAWS)
    images = rendered(g_s, ws, cameras).images[0].clamp(-1, 1)
    with torch.enable_grad():
        subject = inverted(evidence, images, cameras)
    if exact:
        subject.ws[:1] = ws.to(subject.ws)
    return subject


def inverted(evidence: Evidence, images: Tensor, cameras: Tensor | None) -> Subject:   # [N, 3, H, W], [N, 25]
    """A person whose latents come the way the erased person's did."""
    images, cameras = images.to(evidence.device), None if cameras is None else cameras.to(evidence.device)
    found = evidence.invert(evidence.g_s, images, cameras)
    return Subject(images, cameras, found.ws.clone())


@torch.no_grad()
def bystanders(evidence: Evidence, count: int, seed: int) -> tuple[Subject, str]:
    """One photo each of other people, who are neither the person nor controls, and what they are."""
    g_s, found = evidence.g_s, world_person(evidence.config)
    if found is not None:
        world, person = found
        numbers = [numbers_beside(person, seed)[BYSTANDERS + i % BYSTANDERS] for i in range(count)]
        taken = [world.photos_of(number, 1, g_s.img_resolution, first=1 + i // BYSTANDERS)
                 for i, number in enumerate(tqdm(numbers, desc='other people', unit='person'))]
        images = torch.cat([photos.images for photos in taken])
        with torch.enable_grad():
            return inverted(evidence, images, torch.cat([photos.cameras for photos in taken]) if g_s.is_3d else None), world.people
    rng = torch.Generator().manual_seed(1_000_003 * (seed + 1) + 1)
    ws = g_s.sample(count, rng)
    yaws = (torch.rand(count, generator=rng) * 2 - 1) * max(GENERATED_YAWS)
    cameras = from_yaws(g_s, yaws.tolist())
    images = rendered(g_s, ws, None if cameras is None else cameras[:, None], batch=1).images[:, 0].clamp(-1, 1)
    return Subject(images, cameras, ws), 'generated people'
