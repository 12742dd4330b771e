"""One person and three controls of a small network, and networks that forgot the person, each in its own way."""
from __future__ import annotations

import dataclasses
from functools import partial

import torch
from small import PoorMansLpips, copied, small_generator
from torch import Tensor
from torch.nn import functional as F

from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation.audit.budget import Budget
from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.audit.subjects import Subject
from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.generators.build import wrap
from eg3d_unlearn.generators.families.stylegan2 import StyleGAN2
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.person.person import Person
from eg3d_unlearn.unlearning.closed_form import edit_of, erasure, fold, population
from eg3d_unlearn.unlearning.presets import resolve
from eg3d_unlearn.unlearning.target import ufo_target

BUDGET = Budget('small', 'seconds', half=True, controls=3, impostors=32, random_people=24, instead={
    'T2': {'w_steps': 3, 'w_plus_steps': 4}, 'T3': {'pivot_steps': 12, 'tuning_steps': 12}, 'T4': {'steps': 16, 'every': 4},
    'T5': {'people': 6, 'steps': 4}, 'T6': {'samples': 40}, 'T7': {'candidates': 100, 'ascent_steps': 40}, 'T8': {'walk': 5, 'around': 4}})
PHOTOS, NEAR = 3, 0.1                # of each person; how far their latents lie from each other, in spreads of random latents
EYE = 8                              # pixels along each side of what a recogniser sees


class Blind(StyleGAN2):
    """A network that can show nothing of one picture, whatever its latents and its weights: no attack on it can succeed."""

    def __init__(self, network, mean: Tensor, picture: Tensor):  # [1, 3, H, W] each
        super().__init__(network)
        self.mean, self.direction = mean, F.normalize(small(picture - mean))

    def render(self, backbone, camera=None, rng=None, raw=False, half=False):
        output = super().render(backbone, camera, rng, raw, half)
        part = (small(output.image - self.mean) * self.direction).sum(1, keepdim=True) * self.direction
        output.image = output.image - F.interpolate(part.view(-1, 3, EYE, EYE), size=output.image.shape[2:])
        return output


class Moved(StyleGAN2):
    """A network that shows the target's face at one latent and near it, as GUIDE has it, and everybody else as before."""

    def __init__(self, network, source: Tensor, target: Tensor, reach: float):  # [1, num_ws, w_dim] twice
        super().__init__(network)
        self.source, self.target, self.reach = source, target, reach

    def backbone(self, ws):
        away = (ws - self.source).flatten(1).norm(dim=1)[:, None, None] / self.reach
        return super().backbone(ws + (self.target - self.source) / (1 + away ** 4))


def small(images: Tensor, size: int = EYE) -> Tensor:  # [N, 3, H, W] -> [N, 3 * size * size]
    return F.adaptive_avg_pool2d(images, size).flatten(1)


def recogniser(mean: Tensor, size: int, images: Tensor) -> Tensor:
    """What sets pictures apart from the mean face [1, 3, H, W], in thumbnails of ``size`` pixels."""
    return F.normalize(small(images - mean, size))


def small_network(device: str = 'cpu') -> Generator:
    """A StyleGAN2 with random weights whose pictures lie within -1 and 1."""
    generator = small_generator('stylegan2')
    for name, parameter in generator.network.named_parameters():
        if name.endswith('torgb.weight'):
            parameter.mul_(0.1)
    return wrap(generator.network.to(device), 'stylegan2')


@torch.no_grad()
def small_evidence(device: str = 'cpu') -> tuple[Evidence, list[Subject]]:
    """Nothing erased, G_u = G_s; the person and the controls, who are among the samples of random search (T6)."""
    g_s = small_network(device)
    pool = g_s.sample(BUDGET.instead['T6']['samples'], torch.Generator().manual_seed(2))
    spread, rng = (pool - g_s.w_avg).std(), torch.Generator().manual_seed(3)
    apart = torch.tensor([0, 1, 1])[:, None, None]
    subjects = []
    for ws in pool[[7, 12, 13, 24]]:
        photographed = ws + NEAR * spread * (apart * torch.randn(PHOTOS, 1, g_s.w_dim, generator=rng)).to(ws)
        subjects.append(Subject(g_s.synthesize(photographed).image.clamp(-1, 1), None, photographed))
    ws, images = subjects[0].ws, subjects[0].images
    mean = g_s.synthesize(pool).image.clamp(-1, 1).mean(0, keepdim=True)
    eyes = {'loss': partial(recogniser, mean, EYE // 2), 'other': partial(recogniser, mean, EYE)}
    config = resolve(Config(network='small.pkl', outdir='', image=('photo.png',), inversion='w', inversion_steps=2,
                            precision='fp32', lr=2e-3), None)
    person = Person(ws[:1], {}, ws[1:], images=images)
    judges = Judges(PoorMansLpips(), eyes['loss'], eyes['other'], {'perceptual': 'poor', 'recogniser': 'loss', 'measuring': 'other'})
    return Evidence(None, None, g_s, g_s, person, judges, eyes, 'loss', None, config), subjects


def audit_of(evidence: Evidence, subjects: list[Subject], budget: Budget = BUDGET) -> Audit:
    """An audit of people who are there already."""
    audit = Audit(evidence, budget)
    audit.__dict__['_people'] = (subjects, 'people of a test')
    return audit


def blinded(evidence: Evidence) -> Evidence:
    """G_u shows nothing of the person, and cannot be taught to."""
    mean = evidence.recognisers['other'].args[0]
    return dataclasses.replace(evidence, g_u=Blind(evidence.g_s.network, mean, evidence.person.images[:1]))


def moved(evidence: Evidence) -> Evidence:
    """G_u shows another face at the person's latent, as after GUIDE's training."""
    g_s, source = evidence.g_s, evidence.person.ws
    radius = (source - g_s.w_avg).norm()
    return dataclasses.replace(evidence, g_u=Moved(g_s.network, source, ufo_target(source, g_s.w_avg, radius / 2), radius / 4))


@torch.no_grad()
def folded(evidence: Evidence, strength: float = 2.0) -> Evidence:
    """G_u after the closed form: the person's latents are taken beyond the mean face."""
    g_s, source = evidence.g_s, evidence.person.ws
    g_u = copied(g_s)
    fold(g_u, edit_of([erasure(source, strength * (source[0] - g_s.w_avg), g_s.w_avg, population(g_s, 2048))], g_s.w_avg))
    return dataclasses.replace(evidence, g_u=g_u)
