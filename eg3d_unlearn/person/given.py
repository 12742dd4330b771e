"""Whom the options name: photos, folders of photos, people of a world, seeds and latents."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eg3d_unlearn.config import Config, PersonOptions
from eg3d_unlearn.person.photo.folders import folders_in, pictures_at
from eg3d_unlearn.worlds import registry
from eg3d_unlearn.worlds.registry import World
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown


def world_person(options: PersonOptions) -> tuple[World, int] | None:
    """The world and the number of the person that --image names; None for photos."""
    return registry.person_in(options.image[0]) if options.image else None


def photos_of(options: PersonOptions) -> list[Path]:
    """The files of --image, folders opened; none for a person of a world."""
    return [] if world_person(options) is not None else [path for name in options.image for path in pictures_at(Path(name))]


def each_person(config: Config) -> list[Config]:
    """The options for each of the people: of one person ``config`` itself.

    Raises:
        InputError: --people is no folder of folders.
    """
    if config.people is None:
        return [config]
    images = registry.people_in(config.people) or [str(folder) for folder in folders_of(config.people)]
    each = [replace(config, people=None, image=(image,)) for image in images]
    return [replace(one, forget_from='all' if len(photos_of(one)) > 1 else 'first') for one in each]


def kept_people(config: Config) -> Config | None:
    """The options by which the photos of --keep are found, as if they were one person's; None: there are none."""
    if config.keep is None:
        return None
    several = len(pictures_at(Path(config.keep))) > 1
    return replace(config, image=(config.keep,), people=None, latent=None, latent_seed=None, camera=None, face=None, method='guide',
                   forget_from='all' if several else 'first')


def names_of(config: Config) -> list[str]:
    """What tells one run's people from another's: files, a seed, or people of a world."""
    others = kept_people(config)
    kept = [] if others is None else [str(path) for path in photos_of(others)]
    if config.image or config.people is not None:
        return [name for one in each_person(config) for name in [str(path) for path in photos_of(one)] or one.image] + kept
    return [str(config.latent if config.latent is not None else config.latent_seed)] + kept


def folders_of(people: str) -> list[Path]:
    """The folders in the folder of --people, one for each person."""
    path = Path(people)
    found = folders_in(path) if path.is_dir() else []
    if not found:
        what = 'holds no folders' if path.is_dir() else 'is no folder'
        raise InputError(f'--people={shown(people, 300)} {what}; it takes a folder with one folder of photos for each person, or '
                         'demo:4-8,12, people of the demo world. For one person there is --image.')
    return found
