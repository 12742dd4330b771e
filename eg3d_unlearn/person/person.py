"""Who is to be forgotten: from a seed, a latent, photos or a person of a world to the latents that a run needs."""
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional

from eg3d_unlearn.config import CLOSED, Config, InversionOptions, PersonOptions
from eg3d_unlearn.generators.cameras import mirrored
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.judges import Judges, alignment_of
from eg3d_unlearn.person.given import kept_people, photos_of, world_person
from eg3d_unlearn.person.inversion import check_inversion, make_inverter, plan
from eg3d_unlearn.person.inversion.optimise import Inversion
from eg3d_unlearn.person.latents import read_latent
from eg3d_unlearn.person.photo.camera_labels import find_camera
from eg3d_unlearn.person.photo.folders import sheets_at
from eg3d_unlearn.person.photo.prepare import Prepared, prepare_file
from eg3d_unlearn.worlds.registry import REGISTERED, Bars, Photos, world_named
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm

SHOWN_ERRORS = 10                    # bad photos that one error names

# By what is known of the judges, not by trials: ArcFace calls two photos one person from about 0.3 to 0.4 on, and two different
# FFHQ faces lie at 0.5 to 0.6 in LPIPS (VGG).
BARS = Bars(0.4, 0.5, 10.0)
# Fine detail of the photo over that of the reconstruction: below, the photo is blurred, and many faces would fit.
BLURRED = 0.6
COARSE = 32                          # pixels along each side: what they cannot show is fine detail


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
    if world_person(config) is not None:
        return find_in_world(config, generator, judges, log)
    images, labels, sources = [], [], []
    if left_out := [sheet for name in config.image for sheet in sheets_at(Path(name))]:
        log(f'Left out of the folder, since eg3d_unlearn made them of several pictures: {len(left_out)} sheet{"s" * (len(left_out) > 1)}.')
    for number, path in enumerate(photos_of(config), 1):
        prepared = prepare_photo(config, path, generator)
        camera, source = photo_camera(config, path, generator, prepared)
        # By number: a file's name may be the person's, and the log stays.
        log(f'{"The photo" if len(photos_of(config)) == 1 else f"Photo {number}"}: {"; ".join([*prepared.notes, f"camera: {source}"])}.')
        images.append(prepared.tensor(generator.img_resolution))
        labels.append(generator.frontal() if camera is None and generator.is_3d else camera)
        sources.append(source)
    cameras_ = torch.cat([label.to(generator.device) for label in labels]) if generator.is_3d else None
    what = 'the photo' if len(images) == 1 else f'{len(images)} photos'
    found, figures, turned = invert_mirrored(config, generator, judges, torch.cat(images), cameras_, log, what, len(images))
    notes = {'given_as': 'image', 'photos': len(images), 'forget_from': config.forget_from, 'camera': sources[0],
             'inversion': config.inversion, **figures[0]}
    seen_from = cameras_ if found.camera is None else found.camera
    camera = None if seen_from is None else seen_from[:1]
    if len(images) == 1:
        return Person(found.ws, notes, images=images[0], camera=camera, ws_mirrored=turned)
    notes['other_photos'] = figures[1:]
    return Person(erased(found.ws, config.forget_from), notes, found.ws[1:], None, None if seen_from is None else seen_from[1:],
                  torch.cat(images), camera, turned)


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


def find_in_world(config: Config, generator: Generator, judges: Judges, log: Callable[[str], None]) -> Person:
    """A person of a world: one photo to erase from, other photos and other people's as witnesses."""
    (world, person), resolution = world_person(config), generator.img_resolution
    mine = world.photos_of(person, 1 + world.other_photos, resolution)
    return photographed(config, generator, judges, mine, world.photos_of_strangers(person, world.strangers, resolution), log)


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
    labels = torch.cat([photos.cameras for photos in all_photos]).to(generator.device) if generator.is_3d else None
    what = f'the photo, {len(mine) - 1} other photos of the person'
    what += '' if others is None else f' and {len(others)} of other people'
    found, figures, turned = invert_mirrored(config, generator, judges, images, labels, log, what, len(mine))
    notes = {'given_as': generator.trained_on.world.name, 'forget_from': config.forget_from, 'camera': 'of the rendered photo',
             'inversion': config.inversion, **figures[0]}
    return Person(erased(found.ws[:len(mine)], config.forget_from), notes, found.ws[1:len(mine)],
                  None if others is None else found.ws[len(mine):],
                  None if labels is None else labels[1:], images, None if labels is None else labels[:1], turned)


def prepare_photo(config: Config, path: Path, generator: Generator) -> Prepared:
    """The crop of a photo that the network was trained on, and its camera."""
    alignment = alignment_of(config, generator)
    # Camera labels belong to EG3D's crop. Where a network's pictures are all face, no crop that would give them is known.
    kind = 'eg3d' if generator.is_3d or alignment == 'eg3d' else 'ffhq'
    prepared = prepare_file(path, kind, config.face, config.aligned or alignment == 'full', generator.img_resolution)
    if generator.is_3d and prepared.pose is not None and not generator.sees_like_ffhq:
        note = 'no camera from the landmarks, which tell FFHQ\'s cameras and not this network\'s'
        prepared = replace(prepared, pose=None, notes=[*prepared.notes, note])
    return prepared


def photo_camera(config: Config, path: Path, generator: Generator, prepared: Prepared) -> tuple[Tensor | None, str]:
    """The camera label [1, 25] of a photo and where it came from, in words without names; None: frontal, or a 2D network."""
    if not generator.is_3d:
        return None, 'none (2D network)'
    camera, source = find_camera(config.camera, path)
    if camera is not None:
        return camera, source
    camera, instead = (None, 'frontal') if prepared.camera is None else (prepared.camera, "the face's landmarks")
    return camera, f'{instead}, since {source}' if source else instead


def encoder_of(options: InversionOptions, generator: Generator) -> str | None:
    """The file of ``--encoder``, else the one that a network of a world comes with."""
    world = generator.trained_on.world
    return options.encoder if options.encoder is not None or world is None else str(world.encoder_path(generator.family))


def check_person(config: Config, generator: Generator) -> None:
    """Refuse photos, cameras, latents and encoders that cannot do, before anything is written."""
    if config.latent is not None:
        given_latent(config, generator)
    if config.image:
        check_inversion(config.inversion, generator, config.encoder, config.encoder_mean)
    data = generator.trained_on
    if photos_of(config) and not (data.aligned or config.aligned or config.face_crop != 'auto'):
        raise InputError(f'The network was trained on {data.name} ({data.source} says so), whose pictures are not aligned like FFHQ\'s, but '
                         'photos are cut out as FFHQ\'s are. Cut the photo out as the network\'s own pictures are, and add --aligned.')

    def check(path: Path) -> None:
        if generator.is_3d:
            # Only here: beside a 2D network's photo a dataset.json holds classes, which are no cameras.
            find_camera(config.camera, path)
        prepare_photo(config, path, generator)

    check_each(photos_of(config), check)


def check_each(photos: list[Path], check: Callable[[Path], object]) -> None:
    """``check`` every photo, so that one error names all that cannot do."""
    errors = []
    for path in photos:
        try:
            check(path)
        except InputError as error:
            errors.append(str(error))
    if len(errors) == 1:
        raise InputError(errors[0])
    if errors:
        more = f'\n... and {len(errors) - SHOWN_ERRORS} more.' if len(errors) > SHOWN_ERRORS else ''
        listed = '\n'.join(f'  {error}' for error in errors[:SHOWN_ERRORS])
        raise InputError(f'{len(errors)} of {len(photos)} photos cannot be used. Replace them or leave them out:\n{listed}{more}')


def invert(config: Config, generator: Generator, judges: Judges, images: Tensor, camera: Tensor | None,
           log: Callable[[str], None], what: str) -> tuple[Inversion, list[dict]]:
    """Latents of ``images`` [N, 3, H, W] with a progress bar, and how good they are; the first is the erased person's."""
    log(f'Inverting {what} by {config.inversion}.')
    options = {} if plan(config.inversion).space is None else dict(
        steps=config.inversion_steps, lr=config.inversion_lr, lambda_id=config.inversion_lambda_id, seed=config.seed,
        early_stop=config.inversion_early_stop, refine_camera=config.refine_camera, optimiser=config.inversion_optimiser)
    inverter = make_inverter(config.inversion, config.encoder, config.encoder_mean, **options)
    images = images.to(generator.device)
    with tqdm(total=config.inversion_steps if options else len(images), desc='inverting', unit='step' if options else 'photo',
              dynamic_ncols=True) as bar:
        def progress(step: int, figures: dict) -> None:
            bar.update(step - bar.n)
            bar.set_postfix({name: f'{value:.3f}' for name, value in figures.items()})
        found = inverter(generator, images, camera, judges.perceptual, progress, judges.recogniser)
        if not options:              # an encoder takes all photos at once
            bar.update(len(images) - bar.n)
    figures = quality(found, generator, judges, images, found.camera if found.camera is not None else camera)
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
    return found, figures


def invert_mirrored(config: Config, generator: Generator, judges: Judges, images: Tensor, labels: Tensor | None, log: Callable[[str], None],
                    what: str, mine: int) -> tuple[Inversion, list[dict], Tensor | None]:
    """`invert`, and for the closed form the latents [K, num_ws, w_dim] of the mirror images of what is erased of the first ``mine`` photos.

    A mirrored photo shows the same person in another pose and light, and costs nobody a second photo.
    """
    if config.method not in CLOSED:
        return *invert(config, generator, judges, images, labels, log, what), None
    count = 1 if config.forget_from == 'first' else mine
    both = torch.cat([images, images[:count].flip(3)])
    labels = None if labels is None else torch.cat([labels, mirrored(labels[:count])])
    found, figures = invert(config, generator, judges, both, labels, log, what)
    turned = found.ws[len(images):]
    given = slice(len(images))
    lpips, camera = (None if part is None else part[given] for part in (found.lpips, found.camera))
    found = replace(found, ws=found.ws[given], lpips=lpips, psnr=found.psnr[given], camera=camera)
    return found, figures[given], erased(turned, config.forget_from)


@torch.no_grad()
def quality(found: Inversion, generator: Generator, judges: Judges, images: Tensor, camera: Tensor | None) -> list[dict]:
    """How near the reconstruction of each photo comes to it: LPIPS, PSNR [dB], identity cosine; how sharp the photo is beside it."""
    figures = []
    for index in range(len(images)):
        label = None if camera is None else camera[index if len(camera) > 1 else 0][None]
        photo, shown = images[index:index + 1], generator.synthesize(found.ws[index:index + 1], label).image.clamp(-1, 1)
        lpips = {} if found.lpips is None else {'lpips': round(found.lpips[index].item(), 4)}
        figures.append({**lpips, 'psnr_db': round(found.psnr[index].item(), 2),
                        'detail': round(fine_detail(photo) / max(fine_detail(shown), 1e-6), 4)})
        if judges.measuring is not None:
            cosine = (judges.measuring(shown) * judges.measuring(photo)).sum()
            figures[-1]['identity'] = round(cosine.item(), 4)
    return figures


def fine_detail(image: Tensor) -> float:              # [1, 3, H, W] in -1 to 1
    """The standard deviation of what a small picture of it does not show."""
    small = functional.interpolate(image.float(), size=min(COARSE, image.shape[-1] // 4), mode='area')
    return (image - functional.interpolate(small, size=image.shape[-2:], mode='bilinear', align_corners=False)).std().item()


def too_poor(figures: dict, judges: Judges, family: str) -> str | None:
    """A warning where the reconstruction is not the person of the photo, by whichever figure says so; figures of `quality`."""
    name = judges.names['perceptual']
    world = world_named(name) if name in REGISTERED and family in world_named(name).bars else None
    bars, faults = BARS if world is None else world.bars[family], []
    if 'identity' in figures and figures['identity'] < bars.identity:
        faults.append(f'identity cosine {figures["identity"]:.2f} by {judges.names["measuring"]}, below {bars.identity}')
    if 'lpips' in figures and figures['lpips'] > bars.lpips:
        faults.append(f'LPIPS {figures["lpips"]:.2f}, above {bars.lpips}')
    if figures['psnr_db'] < bars.psnr_db:
        faults.append(f'PSNR {figures["psnr_db"]:.1f} dB, below {bars.psnr_db:g}')
    if figures['detail'] < BLURRED:
        faults.append(f'the photo is blurred or empty, with {100 * figures["detail"]:.0f} % of the fine detail of a picture by the network')
    if not faults:
        return None
    advice = (f'A network of {world.title} can show its people only (--image={world.name}:N).' if world else
              'Give a sharper, frontal photo, more --inversion-steps, or an encoder (--inversion=encoder+w+).')
    return f'the reconstruction is not the person of the photo: {"; ".join(faults)}. Erasing this latent erases another face. {advice}'
