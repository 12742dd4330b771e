"""Evidence without pickles, photos that need finding, or judges that need weights: two tiny networks and one person."""
from __future__ import annotations

import torch
from small import PoorMansLpips, copied, poor_mans_recogniser, small_generator
from torch.nn import functional as F

from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.generators.cameras import PITCH, look_at
from eg3d_unlearn.generators.families.stylegan2 import StyleGAN2
from eg3d_unlearn.generators.generator import Output
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.person.person import Person
from eg3d_unlearn.worlds.demo.world import WORLD


def other_recogniser(images):
    """Unit vectors from 2 x 2 thumbnails."""
    return F.normalize(F.adaptive_avg_pool2d(images, 2).flatten(1), dim=1)


class Turning(StyleGAN2):
    """A 3D network in a thousandth of the time: its picture moves sideways with the camera, and its depth is its brightness."""
    family = 'turning'
    is_3d = has_half = True

    def camera(self, yaw, pitch=PITCH):
        return look_at(yaw, pitch, [0, 0, 0])

    def frontal(self):
        return self.camera(0.0, 0.0)

    def render(self, backbone, camera=None, rng=None, raw=False, half=False):
        camera = (self.camera(0.0) if camera is None else camera).expand(len(backbone.ws), -1)
        steps = (12 * camera[:, 3]).round().int().tolist()
        image = torch.stack([picture.roll(step, -1) for picture, step in zip(backbone.image, steps, strict=True)])
        if half:
            image = F.interpolate(F.avg_pool2d(image, 2), scale_factor=2)
        return Output(image, backbone.features, image.mean(1, keepdim=True))


def changed(generator, by: float, seed: int = 1):
    """A copy of the network with noise on every parameter."""
    other = copied(generator)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.network.parameters():
            parameter.add_(by * parameter.std(correction=0) * torch.randn(parameter.shape, generator=rng))
    return other


def stand_in(family: str = 'stylegan2', by: float = 0.0, other_photos: int = 2, person: bool = True, of_world: bool = True,
             seed: int = 1, **config) -> Evidence:
    """G_s with random weights, G_u with noise ``by`` on them, a person with photos that G_s itself made."""
    g_s = Turning(small_generator('stylegan2').network) if family == '3d' else small_generator(family)
    g_u = changed(g_s, by, seed) if by else g_s
    found = None
    if person:
        with torch.no_grad():
            ws = torch.cat([g_s.map_seed(100 * seed + number) for number in range(1 + other_photos)])
            labels = g_s.frontal().expand(len(ws), -1) if g_s.is_3d else None
            images = g_s.synthesize(ws, labels).image
        found = Person(ws[:1], {}, ws[1:] if other_photos else None, None, None if labels is None else labels[1:], images,
                       None if labels is None else labels[:1])
    names = {'perceptual': 'poor', 'recogniser': 'loss', 'measuring': 'other'}
    judges = Judges(PoorMansLpips(), poor_mans_recogniser, other_recogniser, names)
    options = {'precision': 'fp32', 'inversion': 'w+', **config}
    return Evidence(None, None, g_s, g_u, found, judges, {'loss': poor_mans_recogniser, 'other': other_recogniser}, 'loss',
                    WORLD if of_world else None,
                    Config(network='', outdir='', **options))
