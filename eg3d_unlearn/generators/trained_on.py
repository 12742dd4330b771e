"""Which pictures a network was trained on, as far as its file says: how faces lie in them, and through which lens EG3D sees.

What GUIDE and the recognisers take for granted, focal length, crop, d and alpha_max, belongs to FFHQ.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

from eg3d_unlearn.generators.cameras import FOCAL, FOCAL_SHAPENET
from eg3d_unlearn.worlds.registry import World, world_of
from torch_utils_ext.network_pickle import NetworkPickle


@dataclass(frozen=True)
class TrainedOn:
    """A data set; ``name`` is '' where nothing tells."""
    name: str = ''
    aligned: bool = True             # faces lie where FFHQ's alignment puts them; taken for granted where nothing tells
    source: str = ''                 # what tells
    world: World | None = None       # whose networks know its people only; None: of nobody's making but the trainer's

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


class Orbit(NamedTuple):
    """Where EG3D's training cameras were."""

    radius: float                    # distance from the middle of the scene, world units
    height: float                    # z of the point that they look at, [0, 0, z]; read where the options do not name one
    focal: float                     # picture widths


# By NVIDIA's train.py --cfg, focal lengths by gen_videos.py.
ORBITS = {'FFHQ': Orbit(2.7, 0.2, FOCAL), 'AFHQ': Orbit(2.7, -0.06, FOCAL), 'ShapeNet': Orbit(1.7, 0.0, FOCAL_SHAPENET)}
# Older networks say where rays begin and end, and not how far the cameras are.
RADIUS_OF_RAYS = {(2.25, 3.3): 2.7, (0.1, 2.6): 1.7}


def trained_on(pickle: NetworkPickle, rendering: dict | None) -> TrainedOn:
    """By the data set that the pickle names, by the pickle's own name, by EG3D's rendering options."""
    path = (pickle.training_set_kwargs or {}).get('path')
    if world := world_of(pickle):
        return TrainedOn(world.title, True, 'the file', world)
    # The last two names: further up stand those of users and machines.
    parts = re.split(r'[\\/]', path.rstrip('\\/'))[-2:] if isinstance(path, str) else []
    for text in [*reversed(parts), PurePath(pickle.path).name]:
        if found := by_words(text):
            return TrainedOn(*found, 'the path of its data set' if text in parts else "the file's name")
    return by_options(rendering)


def by_options(rendering: dict | None) -> TrainedOn:
    """By EG3D's rendering options; None for 2D networks."""
    radius, pivot = radius_of(rendering or {}), (rendering or {}).get('avg_camera_pivot')
    height = pivot[2] if isinstance(pivot, (list, tuple)) and len(pivot) == 3 else None
    for name, orbit in ORBITS.items():
        # No other data set of NVIDIA's is seen from where ShapeNet is.
        if near(radius, orbit.radius) and (near(height, orbit.height) or name == 'ShapeNet'):
            return TrainedOn(name, name == 'FFHQ', 'the cameras in its rendering options')
    return TrainedOn()


def by_words(text: str) -> tuple[str, bool] | None:
    """The data set that a name speaks of; None for none, or where it speaks of several that are aligned in several ways."""
    found = [(name, aligned) for words, name, aligned in WORDS if re.search(rf'(?<![a-z])({words})(?![a-z])', text[:1000].lower())]
    return found[0] if len({aligned for _, aligned in found}) == 1 else None


def radius_of(rendering: dict) -> float | None:
    """How far EG3D's cameras are from the middle of the scene; None where its options do not say."""
    if (radius := rendering.get('avg_camera_radius')) is not None:
        return radius
    return next((radius for (start, end), radius in RADIUS_OF_RAYS.items()
                 if near(rendering.get('ray_start'), start) and near(rendering.get('ray_end'), end)), None)


def orbit_of(rendering: dict, data: TrainedOn) -> tuple[Orbit, str | None]:
    """Where the cameras of an EG3D network are, and what has to be said where that is a guess."""
    radius = radius_of(rendering)
    by_name = ORBITS.get('ShapeNet' if data.name == 'cars' else data.name)
    by_radius = next((orbit for orbit in ORBITS.values() if near(radius, orbit.radius)), None)
    likely = by_radius or by_name or ORBITS['FFHQ']
    said = None if by_radius or by_name else (
        f'Nothing in the file or its name says the focal length of its cameras: FFHQ\'s {FOCAL} picture widths (18.8 degrees) was taken. If '
        'heads are too large, too small or cut, give the field of view with --fov-deg.')
    # As NVIDIA's tools: without a word about it, cameras look at the middle of the scene.
    return Orbit(likely.radius if radius is None else radius, by_name.height if by_name else 0.0, likely.focal), said


def near(a: object, b: float) -> bool:
    return isinstance(a, (int, float)) and b - 0.01 < a < b + 0.01
