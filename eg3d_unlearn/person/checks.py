"""What can be refused of photos and cameras before any network is loaded."""
from __future__ import annotations

from pathlib import Path

from eg3d_unlearn.config import Config, needing, refuse_unused
from eg3d_unlearn.person.given import photos_of
from eg3d_unlearn.person.inversion import PUBLISHED, plan
from eg3d_unlearn.person.inversion.optimise import check_optimiser
from eg3d_unlearn.person.person import check_each
from eg3d_unlearn.person.photo import read_image
from eg3d_unlearn.person.photo.camera_labels import parse_camera
from eg3d_unlearn.person.photo.folders import no_photo, pictures_at
from eg3d_unlearn.worlds.registry import person_in
from torch_utils_ext.errors import InputError


def check_photos(config: Config) -> None:
    """Refuse photos that cannot be read, and options about photos where there are none."""
    people = [name for name in config.image if person_in(name) is not None]
    if people and len(config.image) > 1:
        raise InputError(f'--image={people[0]} is a person of the demo world with photos of their own; it goes alone '
                         f'(got {len(config.image)} times --image).')
    for name in config.image:
        if not people and not pictures_at(Path(name)):
            raise no_photo(Path(name))
    check_each(photos_of(config), read_image)
    if config.camera is not None and people:
        raise InputError('--camera was given, but the photos of demo people bring their own. Leave it out.')
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
    if config.image:
        named, name = plan(config.inversion), config.inversion
        if named.space is None:
            refuse_unused(config, needing('refining'), f'is about optimisation, but --inversion={name} takes what the encoder says. Leave it '
                                                       f'out, or use --inversion={name}+w+.')
        check_optimiser(config.inversion_optimiser, config.refine_camera)
        if not named.encoders:
            refuse_unused(config, ['encoder'], f'names a file, but --inversion={name} uses no encoder. Leave it out, or use '
                                               f'--inversion=encoder+{name}.')
        if not set(named.encoders) & set(PUBLISHED):
            refuse_unused(config, ['encoder_mean'], f'belongs to the published encoders ({", ".join(PUBLISHED)}), not to --inversion={name}. '
                                                    'Leave it out.')
