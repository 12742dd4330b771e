"""What can be refused of photos, cameras, latents and encoders: before any network is loaded, and once it is known."""
from __future__ import annotations

from pathlib import Path
from typing import Callable

from eg3d_unlearn.config import Config, needing, parts_of, refuse_unused
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.person.given import photos_of
from eg3d_unlearn.person.inversion import PUBLISHED, check_inversion
from eg3d_unlearn.person.person import given_latent, prepare_photo
from eg3d_unlearn.person.photo import read_image
from eg3d_unlearn.person.photo.camera_labels import parse_camera
from eg3d_unlearn.person.photo.folders import no_photo, pictures_at
from eg3d_unlearn.worlds.registry import person_in
from torch_utils_ext.errors import InputError

SHOWN_ERRORS = 10                    # bad photos that one error names


def check_photos(config: Config) -> None:
    """Refuse photos that cannot be read, and options about photos where there are none."""
    people = [name for name in config.image if person_in(name) is not None]
    if people and len(config.image) > 1:
        raise InputError(f'--image={people[0]} is a person of {person_in(people[0])[0].title} with photos of their own; it goes alone '
                         f'(got {len(config.image)} times --image).')
    for name in config.image:
        if not people and not pictures_at(Path(name)):
            raise no_photo(Path(name))
    check_each(photos_of(config), read_image)
    if config.camera is not None and people:
        raise InputError('--camera was given, but the photos of a world\'s people bring their own. Leave it out.')
    if config.camera is not None and len(photos_of(config)) != 1:
        raise InputError(f'--camera is the camera of one photo, and {len(photos_of(config))} were given. Put the cameras of several photos '
                         'into a dataset.json beside them.')
    if config.camera is not None:
        parse_camera(config.camera, photos_of(config)[0])
    if not photos_of(config):
        refuse_unused(config, needing('photos'), 'is about a photo, and none was given: --face and --aligned go with --image=FILE only.')
    if config.forget_from != 'first' and len(photos_of(config)) < 2 and not people and config.latent is None:
        raise InputError(f'--forget-from={config.forget_from} is about several photos; {len(photos_of(config))} given. Give --image more '
                         'than once, or a folder.')
    if not config.image:
        return
    encoder, space = parts_of(config.inversion)
    if space is None:
        refuse_unused(config, needing('refining'), f'is about optimisation, but --inversion={config.inversion} takes what the encoder says. '
                                                   f'Leave it out, or use --inversion={config.inversion}+w+.')
    if encoder is None:
        refuse_unused(config, ['encoder'], f'names a file, but --inversion={config.inversion} uses no encoder. Leave it out, or use '
                                           f'--inversion=encoder+{config.inversion}.')
    if encoder not in PUBLISHED:
        refuse_unused(config, ['encoder_mean'], f'belongs to the published encoders ({", ".join(PUBLISHED)}), not to '
                                                f'--inversion={config.inversion}. Leave it out.')


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

    check_each(photos_of(config), lambda path: prepare_photo(config, path, generator))


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
