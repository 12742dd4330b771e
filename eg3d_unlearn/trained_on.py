"""Which pictures a network was trained on, as far as its file says: how faces lie in them, and through which lens EG3D sees.

What GUIDE and the recognisers take for granted, focal length, crop, d and alpha_max, belongs to FFHQ.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from eg3d_unlearn.cameras import FOCAL, FOCAL_SHAPENET
from eg3d_unlearn.demo.shipped import WORLD
from torch_utils_ext.network_pickle import NetworkPickle


@dataclass(frozen=True)
class TrainedOn:
    """A data set; ``name`` is '' where nothing tells."""
    name: str = ''
    aligned: bool = True             # faces lie where FFHQ's alignment puts them; taken for granted where nothing tells
    source: str = ''                 # what tells

    @property
    def is_ffhq(self) -> bool:
        return self.name == 'FFHQ'

    @property
    def note(self) -> str | None:
        """What has to be said before anybody believes the figures."""
        if not self.name:
            return ('Nothing in the file or its name says which pictures the network was trained on: photos are cut out, and faces looked '
                    'for, as in FFHQ. If its pictures are others, give photos as they are with --aligned, and --face-crop=full.')
        if not self.aligned:
            return (f'The network was trained on {self.name} ({self.source} says so), whose pictures are not aligned like FFHQ\'s: '
                    'recognisers look at whole pictures (--face-crop says otherwise), and what they find in pictures without human faces '
                    'means nothing.')
        return None


ALIGNED = r'(?![-_]?u(naligned)?(?![a-z]))'  # not FFHQ-U, NVIDIA's unaligned version
# Words in a file's name or in the path of the data set, and whether FFHQ's alignment made these pictures; FFHQ last, since
# networks of other faces are often begun from one of FFHQ and say so.
WORDS = (
    (r'ffhq[-_]?u(naligned)?', 'FFHQ-U', False), (r'metfaces[-_]?u(naligned)?', 'MetFaces-U', False),
    (r'afhq\w*', 'AFHQ', False), (r'shapenet\w*', 'ShapeNet', False), (r'cars?|carla', 'cars', False),
    (r'cats?|dogs?|wild|horses?|church(es)?|bedrooms?|lsun\w*', 'LSUN or animals', False), (r'cifar\w*', 'CIFAR', False),
    (r'bre[-_]?ca[-_]?had', 'BreCaHAD', False), (r'shhq\w*', 'SHHQ', False),
    (rf'metfaces{ALIGNED}', 'MetFaces', True), (r'celeba[-_]?hq', 'CelebA-HQ', True), (rf'ffhq(rebalanced)?{ALIGNED}', 'FFHQ', True),
)
# EG3D's rendering options by NVIDIA's train.py --cfg: radius and height of the point that cameras look at.
BY_CAMERA = (((2.7, 0.2), 'FFHQ', True), ((2.7, -0.06), 'AFHQ', False), ((1.7, 0.0), 'ShapeNet', False))
# Where there is no radius, rays tell: their range by the same options.
RADIUS_OF_RAYS = {(2.25, 3.3): 2.7, (0.1, 2.6): 1.7}
FOCAL_BY_RADIUS = ((2.7, FOCAL), (1.7, FOCAL_SHAPENET))


def trained_on(pickle: NetworkPickle, rendering: dict | None) -> TrainedOn:
    """By the data set that the pickle names, by the pickle's own name, by EG3D's rendering options."""
    path = (pickle.training_set_kwargs or {}).get('path')
    if path == WORLD:
        return TrainedOn('the demo world', True, 'the file')
    parts = re.split(r'[\\/]', path) if isinstance(path, str) else []
    # The last folder knows best: data/cars/images is no less of cars than data/cars.
    for text in [*reversed(parts), PurePath(pickle.path).name]:
        if found := by_words(text):
            return TrainedOn(*found, 'the path of its data set' if text in parts else "the file's name")
    return by_options(rendering)


def by_options(rendering: dict | None) -> TrainedOn:
    """By EG3D's rendering options; None for 2D networks."""
    pivot = (rendering or {}).get('avg_camera_pivot')
    height = pivot[2] if isinstance(pivot, (list, tuple)) and len(pivot) == 3 else None
    for camera, name, aligned in BY_CAMERA:
        if near(radius_of(rendering), camera[0]) and (near(height, camera[1]) or name == 'ShapeNet'):
            return TrainedOn(name, aligned, 'the cameras in its rendering options')
    return TrainedOn()


def by_words(text: str) -> tuple[str, bool] | None:
    """The data set that a name speaks of; None for none, or where it speaks of several that are aligned in several ways."""
    found = [(name, aligned) for words, name, aligned in WORDS if re.search(rf'(?<![a-z])({words})(?![a-z])', text[:1000].lower())]
    return found[0] if len({aligned for _, aligned in found}) == 1 else None


def radius_of(rendering: dict | None) -> float | None:
    """How far EG3D's cameras are from the middle of the scene; None where its options do not say."""
    rendering = rendering or {}
    radius = rendering.get('avg_camera_radius')
    if radius is None:
        return next((radius for rays, radius in RADIUS_OF_RAYS.items()
                     if near(rendering.get('ray_start'), rays[0]) and near(rendering.get('ray_end'), rays[1])), None)
    return radius


def focal_length(rendering: dict, data: TrainedOn) -> tuple[float, str | None]:
    """The focal length of EG3D's training cameras in picture widths, and what has to be said where it is a guess."""
    radius = radius_of(rendering)
    for known, focal in FOCAL_BY_RADIUS:
        if near(radius, known):
            return focal, None
    if data.name in ('ShapeNet', 'cars'):
        return FOCAL_SHAPENET, None
    if data.name in ('FFHQ', 'AFHQ'):
        return FOCAL, None
    return FOCAL, (f'Nothing in the file or its name says the focal length of its cameras: FFHQ\'s {FOCAL} picture widths (18.8 degrees) was '
                   'taken. If heads are too large, too small or cut, give the field of view with --fov-deg.')


def near(a: object, b: float) -> bool:
    return isinstance(a, (int, float)) and b - 0.01 < a < b + 0.01
