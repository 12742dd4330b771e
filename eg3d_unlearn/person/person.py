"""Who is to be forgotten: from a seed, a latent, photos or a person of a world to the latents that a run needs."""
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor

from eg3d_unlearn.config import CLOSED, Config, InversionOptions, PersonOptions
from eg3d_unlearn.generators.cameras import mirrored
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.judges import Judges, alignment_of
from eg3d_unlearn.person.given import kept_people, photos_of, world_person
from eg3d_unlearn.person.inversion import make_inverter
from eg3d_unlearn.person.inversion.optimise import Optimisation
from eg3d_unlearn.person.latents import read_latent
from eg3d_unlearn.person.photo.camera_labels import find_camera
from eg3d_unlearn.person.photo.folders import sheets_at
from eg3d_unlearn.person.photo.prepare import Prepared, prepare_file
from eg3d_unlearn.person.quality import quality, too_poor
from eg3d_unlearn.worlds.registry import Photos
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm


@dataclass
class Person:
    """Who is to be forgotten, and photos that witness it, as the run needs them."""
    ws: Tensor                       # [K, num_ws, w_dim] what is erased: one latent, or those of all photos
    notes: dict                      # how it was found, without saying who it is
    # Where there are other photos: latents, and the cameras of 3D networks.
    ws_others: Tensor | None = None  # [M, num_ws, w_dim] other photos of the person
    ws_strangers: Tensor | None = None  # [S, num_ws, w_dim] photos of other people, where a world brings them
    cameras: Tensor | None = None    # [M + S, 25]
    # What the latents were inverted from, for those who measure; never kept in a run's folder.
    images: Tensor | None = None     # [1 + M + S, 3, H, W] in -1 to 1, the erased photo first
    camera: Tensor | None = None     # [1, 25] of the erased photo
    ws_mirrored: Tensor | None = None  # [K, num_ws, w_dim] of the erased photos' mirror images, for the closed form


def find_person(config: Config, generator: Generator, judges: Judges, log: Callable[[str], None]) -> Person:
    """The latents of who is to be forgotten."""
    if config.latent_seed is not None:
        return Person(generator.map_seed(config.latent_seed, config.trunc), {'given_as': 'seed'})
    if config.latent is not None:
        return Person(given_latent(config, generator), {'given_as': 'latent', 'forget_from': config.forget_from})
    if (found := world_person(config)) is not None:
        (world, person), resolution = found, generator.img_resolution
        return photographed(config, generator, judges, world.photos_of(person, 1 + world.other_photos, resolution),
                            world.photos_of_strangers(person, world.strangers, resolution), log)
    if left_out := [sheet for name in config.image for sheet in sheets_at(Path(name))]:
        log(f'Left out of the folder, since eg3d_unlearn made them of several pictures: {len(left_out)} sheet{"s" * (len(left_out) > 1)}.')
    photos = []
    for number, path in enumerate(paths := photos_of(config), 1):
        photos.append(photo := prepare_photo(config, path, generator))
        # By number: a file's name may be the person's, and the log stays.
        log(f'{"The photo" if len(paths) == 1 else f"Photo {number}"}: {"; ".join([*photo.notes, f"camera: {photo.source}"])}.')
    images, cameras = stacked(photos, generator)
    notes = {'given_as': 'image', 'photos': len(photos), 'camera': photos[0].source}
    return inverted(config, generator, judges, images, cameras, log, 'the photo' if len(photos) == 1 else f'{len(photos)} photos', notes,
                    len(photos))


def latents_kept(config: Config, generator: Generator, judges: Judges, log: Callable[[str], None]) -> Tensor | None:   # [N, num_ws, w_dim]
    """Latents of the photos of ``--keep``; None where there are none."""
    others = kept_people(config)
    if others is None:
        return None
    log('Photos of other people, who are to stay:')
    return find_person(others, generator, judges, log).ws


def given_latent(options: PersonOptions, generator: Generator) -> Tensor:  # [K, num_ws, w_dim]
    """What is erased of the latents of ``--latent``: of one photo, or of several of one person."""
    ws = read_latent(Path(options.latent), generator)
    if len(ws) > 1 and options.forget_from == 'first':
        # Which of them, and whether they are one person's, is not for us to guess.
        raise InputError(f'The latent in {options.latent} has shape {list(ws.shape)}: {len(ws)} latents. If they are of photos of one person, '
                         'say what is erased: --forget-from=all, or mean.')
    if len(ws) == 1 and options.forget_from != 'first':
        raise InputError(f'--forget-from={options.forget_from} is about several photos; {options.latent} holds one latent. Leave it out.')
    return erased(ws, options.forget_from)


def erased(ws: Tensor, forget_from: str) -> Tensor:   # [N, num_ws, w_dim] -> [K, num_ws, w_dim]
    """What of a person's photos is erased."""
    return {'first': ws[:1], 'mean': ws.mean(dim=0, keepdim=True), 'all': ws}[forget_from]


def photos_again(config: Config, generator: Generator) -> Tensor | None:   # [1 + M + S, 3, H, W]
    """The photos that the latents of a person were found from, for a run that is taken up again; None where there were none."""
    resolution = generator.img_resolution
    if (found := world_person(config)) is not None:
        world, person = found
        return torch.cat([world.photos_of(person, 1 + world.other_photos, resolution).images,
                          world.photos_of_strangers(person, world.strangers, resolution).images])
    photos = [prepare_photo(config, path, generator).tensor(resolution) for path in photos_of(config)]
    return torch.cat(photos) if photos else None


def photographed(config: Config, generator: Generator, judges: Judges, mine: Photos, others: Photos | None,
                 log: Callable[[str], None]) -> Person:
    """The person of photos whose cameras are known; ``others`` are one photo each of other people."""
    all_photos = [mine] if others is None else [mine, others]
    images = torch.cat([photos.images for photos in all_photos])
    cameras = torch.cat([photos.cameras for photos in all_photos]).to(generator.device) if generator.is_3d else None
    what = f'the photo, {len(mine) - 1} other photos of the person' + ('' if others is None else f' and {len(others)} of other people')
    notes = {'given_as': generator.trained_on.world.name, 'camera': 'of the rendered photo'}
    return inverted(config, generator, judges, images, cameras, log, what, notes, len(mine))


def inverted(
    config: Config,
    generator: Generator,
    judges: Judges,
    images: Tensor,                  # [N, 3, H, W] in -1 to 1
    cameras: Tensor | None,          # [N, 25]; None for 2D networks
    log: Callable[[str], None],
    what: str,                       # what the photos are, for the log
    notes: dict,                     # how they were given
    mine: int,                       # how many of the photos, the first, are the person's; the rest are one each of other people
) -> Person:
    """The person whom photos show.

    The closed form also takes the mirror images of what is erased: they show the same person in another pose and light, and cost
    nobody a second photo.
    """
    mirrors = 0 if config.method not in CLOSED else 1 if config.forget_from == 'first' else mine
    both, seen_from = images, cameras
    if mirrors:
        both = torch.cat([images, images[:mirrors].flip(3)])
        seen_from = None if cameras is None else torch.cat([cameras, mirrored(cameras[:mirrors])])
    ws, figures = invert(config, generator, judges, both, seen_from, log, what)
    ws, ws_mirrored = ws.split([len(images), mirrors])
    notes = {**notes, 'forget_from': config.forget_from, 'inversion': config.inversion, **figures[0]}
    if notes.get('photos', 1) > 1:
        notes['other_photos'] = figures[1:mine]
    several = len(images) > 1
    return Person(erased(ws[:mine], config.forget_from), notes, ws[1:mine] if several else None, ws[mine:] if mine < len(images) else None,
                  None if cameras is None or not several else cameras[1:], images, None if cameras is None else cameras[:1],
                  erased(ws_mirrored, config.forget_from) if mirrors else None)


def prepare_photo(config: Config, path: Path, generator: Generator) -> Prepared:
    """The crop of a photo that the network was trained on, with its camera label and where that came from, in words without names."""
    alignment = alignment_of(config, generator)
    # Camera labels belong to EG3D's crop. Where a network's pictures are all face, no crop that would give them is known.
    kind = 'eg3d' if generator.is_3d or alignment == 'eg3d' else 'ffhq'
    # Beside a 2D network's photo a dataset.json holds classes, which are no cameras.
    given, source = find_camera(config.camera, path) if generator.is_3d else (None, '')
    prepared = prepare_file(path, kind, config.face, config.aligned or alignment == 'full', generator.img_resolution)
    if not generator.is_3d:
        return replace(prepared, camera=None, source='none (2D network)')
    solved = prepared.camera
    if solved is not None and not generator.sees_like_ffhq:
        note = 'no camera from the landmarks, which tell FFHQ\'s cameras and not this network\'s'
        prepared, solved = replace(prepared, notes=[*prepared.notes, note]), None
    if given is not None:
        return replace(prepared, camera=given, source=source)
    camera, instead = (generator.frontal(), 'frontal') if solved is None else (solved, "the face's landmarks")
    return replace(prepared, camera=camera, source=f'{instead}, since {source}' if source else instead)


def stacked(photos: list[Prepared], generator: Generator) -> tuple[Tensor, Tensor | None]:
    """Photos as networks see them, [N, 3, H, W] in -1 to 1, and their cameras [N, 25]; None for 2D networks."""
    cameras = torch.cat([photo.camera.to(generator.device) for photo in photos]) if generator.is_3d else None
    return torch.cat([photo.tensor(generator.img_resolution) for photo in photos]), cameras


def encoder_of(options: InversionOptions, generator: Generator) -> str | None:
    """The file of ``--encoder``, else the one that a network of a world comes with."""
    world = generator.trained_on.world
    path = None if world is None else world.encoder_path(generator.family)
    return options.encoder if options.encoder is not None or path is None else str(path)


def invert(config: Config, generator: Generator, judges: Judges, images: Tensor, camera: Tensor | None, log: Callable[[str], None],
           what: str) -> tuple[Tensor, list[dict]]:
    """Latents [N, num_ws, w_dim] of ``images`` [N, 3, H, W] with a progress bar, and how good they are; the first is the erased person's."""
    log(f'Inverting {what} by {config.inversion}.')
    inverter = make_inverter(config.inversion, config.encoder, config.encoder_mean, steps=config.inversion_steps, lr=config.inversion_lr,
                             seed=config.seed, lambda_id=config.inversion_lambda_id or 0.0, recogniser=judges.recogniser)
    images = images.to(generator.device)
    total, unit = (inverter.steps, 'step') if isinstance(inverter, Optimisation) else (len(images), 'photo')
    with tqdm(total=total, desc='inverting', unit=unit, dynamic_ncols=True) as bar:
        def progress(step: int, figures: dict) -> None:
            bar.update(step - bar.n)
            bar.set_postfix({name: f'{value:.3f}' for name, value in figures.items()})
        found = inverter(generator, images, camera, judges.perceptual, progress)
    figures = quality(found, generator, judges, images, camera)
    first = figures[0]
    lpips = f'LPIPS {first["lpips"]:.3f}, ' if 'lpips' in first else ''
    likeness = f', identity cosine {first["identity"]:.2f}' if 'identity' in first else ''
    log(f'Inverted: {lpips}PSNR {first["psnr_db"]:.1f} dB{likeness} to the photo.')
    if 'warning' in found.notes:
        log(f'WARNING: {found.notes["warning"]}')
    if poor := too_poor(first, judges, generator.family):
        first['warning'] = poor
        log(f'WARNING: {poor}')
    if found.notes:
        first['encoder'] = found.notes
    return found.ws, figures
