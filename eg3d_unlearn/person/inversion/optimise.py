"""Inversion by optimisation in W or W+ with LPIPS and L2, for every family of generators.

Source: the projector of StyleGAN2 (arXiv 1912.04958, appendix D: learning-rate ramps, noise that fades) and Image2StyleGAN
(arXiv 1904.03189: one latent a layer, W+).
"""
from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field, replace
from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from eg3d_unlearn.generators.generator import Backbone, Generator
from eg3d_unlearn.judges.identity import identity_distance
from eg3d_unlearn.judges.perceptual import Perceptual
from eg3d_unlearn.person.inversion.camera import Turns
from eg3d_unlearn.person.inversion.lbfgs import Coordinates, gradients_of_picture, minimise, single_precision
from torch_utils_ext.errors import InputError

RAMP_UP, RAMP_DOWN = 0.05, 0.25      # shares of the steps in which the learning rate rises and falls
NOISE, NOISE_SHARE = 0.05, 0.75      # exploration noise in units of the latent spread; share of the steps that it lasts
PIXEL_SIZE = 256                     # L2 and LPIPS see at most this many pixels a side: detail beyond only slows the way
WINDOW, GAIN = 40, 0.01              # no gain of so much in so many steps: it is time to come to an end
TURN_EVERY = 5                       # steps between two trials of another camera

Recogniser = Callable[[Tensor], Tensor]


@dataclass
class Inversion:
    """Latents and how well they show their pictures."""
    ws: Tensor                       # [N, num_ws, w_dim]
    lpips: Tensor | None             # [N] distance of the reconstruction; None: there was no LPIPS
    psnr: Tensor                     # [N] dB, on [-1, 1] pictures at the generator's resolution
    camera: Tensor | None = None     # [N, 25] where it was refined
    generator: Generator | None = None  # the network that shows ``ws``, where it was tuned (pivotal tuning)
    steps: int = 0                   # that were taken
    notes: dict = field(default_factory=dict)  # of published encoders: weights, checksum, mean latent; perhaps a warning


class Optimisation:
    """Descent on the latent, from the mean latent or from where it is told; in W+ the layers part as they need to.

    With ``optimiser='lbfgs'`` a step is an evaluation, as it is with Adam; 24 projections of the picture's gradient, on which its
    coordinates rest, come on top, for all photos together.
    """

    def __init__(
        self,
        space: str = 'w+',           # 'w' = one vector for all layers, 'w+' = one for each
        steps: int = 300,            # optimisation steps, at most
        lr: float = 0.1,             # peak learning rate, of L-BFGS the length of the first step, in units of the latent spread
        lambda_l2: float = 1.0,      # weight of the pixel term (mean squared error)
        lambda_lpips: float = 1.0,   # weight of LPIPS
        lambda_id: float = 0.0,      # weight of the identity term, 0 = off
        seed: int = 0,               # of the exploration noise
        early_stop: bool = False,    # begin to end when nothing is gained any more
        refine_camera: bool = False,  # 3D networks: turn the camera along
        optimiser: str = 'adam',     # of `config.OPTIMISERS`
    ):
        check_optimiser(optimiser, refine_camera)
        self.space, self.steps, self.lr = space, steps, lr
        self.lambda_l2, self.lambda_lpips, self.lambda_id, self.seed = lambda_l2, lambda_lpips, lambda_id, seed
        self.early_stop, self.refine_camera, self.optimiser = early_stop, refine_camera, optimiser

    def __call__(
        self,
        generator: Generator,
        images: Tensor,              # [N, 3, H, W] in [-1, 1], H = W = the generator's resolution
        camera: Tensor | None,       # [1 or N, 25], None = frontal / 2D
        perceptual: Perceptual,
        progress: Callable[[int, dict], None] = lambda step, figures: None,
        recogniser: Recogniser | None = None,  # for the identity term
        starts: list[Tensor] | None = None,  # each [N, num_ws, w_dim]; the best end of each photo counts; None = the mean latent
    ) -> Inversion:
        """Latents whose pictures from ``camera`` look like ``images``."""
        with single_precision(generator) if self.optimiser == 'lbfgs' else contextlib.nullcontext():
            return self._invert(generator, images, camera, perceptual, progress, recogniser, starts)

    def _invert(self, generator: Generator, images: Tensor, camera: Tensor | None, perceptual: Perceptual,
                progress: Callable[[int, dict], None], recogniser: Recogniser | None, starts: list[Tensor] | None) -> Inversion:
        count = len(images)
        fresh = starts is None
        starts = [generator.w_avg.expand(count, -1, -1)] if fresh else starts
        begin = torch.cat(starts).to(images)
        wanted = Wanted(images.repeat(len(starts), 1, 1, 1), perceptual, recogniser if self.lambda_id else None)
        if camera is not None:
            camera = camera.to(images).expand(count, -1).repeat(len(starts), 1)
        if self.optimiser == 'lbfgs':
            ws, steps = self._descend_by_lbfgs(generator, begin, wanted, camera, progress)
        else:
            ws, camera, steps = self._descend(generator, begin, wanted, camera, progress, fresh)
        with torch.no_grad():
            losses = self.distance(generator.synthesize(ws, camera).image, wanted).view(len(starts), count)
        best = losses.argmin(0) * count + torch.arange(count, device=losses.device)
        ws, camera = ws[best], None if camera is None else camera[best]
        found = reconstruction(generator, ws, images, camera, perceptual)
        return Inversion(ws, *found, camera=camera if self.refine_camera else None, steps=steps)

    def distance(self, shown: Tensor, wanted: Wanted) -> Tensor:  # [N, 3, H, W] -> [N]
        small = shrink(shown)
        wanted.l2 = (small - wanted.small).square().flatten(1).mean(dim=1)
        wanted.lpips = wanted.perceptual.compare(wanted.perceptual.features(small), wanted.features)
        loss = self.lambda_l2 * wanted.l2 + self.lambda_lpips * wanted.lpips
        if wanted.identity is not None:
            loss = loss + self.lambda_id * identity_distance(wanted.recogniser(shown), wanted.identity)
        return loss

    def _descend(self, generator: Generator, begin: Tensor, wanted: Wanted, camera: Tensor | None,
                 progress: Callable[[int, dict], None], fresh: bool) -> tuple[Tensor, Tensor | None, int]:
        rng = torch.Generator().manual_seed(self.seed)
        spread = latent_spread(generator, rng)
        if self.space == 'w':
            begin = begin.mean(dim=1, keepdim=True)
        offset = torch.zeros_like(begin).requires_grad_(True)
        optimiser = torch.optim.Adam([offset], betas=(0.9, 0.999))
        turns = Turns(camera) if self.refine_camera and generator.is_3d and camera is not None else None
        history: list[float] = []
        end, step = self.steps, 0
        while step < end:
            optimiser.param_groups[0]['lr'] = self.lr * learning_rate(step, end, self.steps)
            # Where the start is only the mean, noise keeps the way open; from a good start it would lead away.
            fade = NOISE * max(0.0, 1 - step / self.steps / NOISE_SHARE) ** 2 * fresh
            noise = torch.randn(offset.shape, generator=rng).to(offset) * fade
            ws = (begin + spread * (offset + noise)).expand(-1, generator.num_ws, -1)
            pass_ = generator.backbone(ws)
            shown = generator.render(pass_, camera)
            loss = self.distance(shown.image, wanted)
            if not torch.isfinite(loss).all():
                raise InputError(f'The inversion diverged at step {step}. Lower its learning rate with --inversion-lr (now {self.lr:g}).')
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimiser.step()
            step += 1
            history.append(loss.detach().sum().item())
            progress(step, {'lpips': wanted.lpips.mean().item(), 'l2': wanted.l2.mean().item()})
            if turns is not None and step % TURN_EVERY == 0:
                camera = self._turn(generator, pass_, turns, wanted)
            if self.early_stop and end == self.steps and stalled(history):
                end = min(self.steps, step + round(RAMP_DOWN * self.steps))
        return (begin + spread * offset.detach()).expand(-1, generator.num_ws, -1).contiguous(), camera, step

    def _descend_by_lbfgs(self, generator: Generator, begin: Tensor, wanted: Wanted, camera: Tensor | None,
                          progress: Callable[[int, dict], None]) -> tuple[Tensor, int]:
        spread = latent_spread(generator, torch.Generator().manual_seed(self.seed))
        gradients = gradients_of_picture(generator, shrink, camera, self.seed)
        if self.space == 'w':
            begin, gradients = begin.mean(dim=1, keepdim=True), gradients.sum(dim=1, keepdim=True)
        coordinates, history = Coordinates(gradients), []

        def ws_at(x: Tensor) -> Tensor:
            return (begin + spread * coordinates.offset(x)).expand(-1, generator.num_ws, -1)

        def loss(x: Tensor) -> tuple[Tensor, Tensor]:
            x = x.detach().requires_grad_(True)
            losses = self.distance(generator.render(generator.backbone(ws_at(x)), camera).image, wanted)
            return losses.detach(), torch.autograd.grad(losses.sum(), x)[0]

        def watch(step: int, losses: Tensor) -> bool:
            if not torch.isfinite(losses).all():
                raise InputError('The inversion cannot begin: its loss is not finite. Is the photo broken, or the latent that the encoder '
                                 'found?')
            history.append(losses.sum().item())
            progress(step, {'lpips': wanted.lpips.mean().item(), 'l2': wanted.l2.mean().item()})
            return self.early_stop and stalled(history)

        x, steps = minimise(loss, torch.zeros_like(begin), self.steps, self.lr, watch=watch)
        return ws_at(x).detach().contiguous(), steps

    @torch.no_grad()
    def _turn(self, generator: Generator, pass_: Backbone, turns: Turns, wanted: Wanted) -> Tensor:  # [N, 25]
        """The camera after a trial in each direction; the planes stay, so that a trial costs a rendering only."""
        still = Backbone(pass_.ws.detach(), [feature.detach() for feature in pass_.features])
        return turns.improve(lambda camera: self.distance(generator.render(still, camera).image, wanted))


class Started:
    """Optimisation from where encoders say, perhaps from the mean latent as well."""

    def __init__(
        self,
        optimisation: Optimisation,
        encoders: list,              # each with ``encode(generator, images, camera)``; None = the mean latent
    ):
        self.optimisation, self.encoders = optimisation, encoders

    def __call__(
        self,
        generator: Generator,
        images: Tensor,              # [N, 3, H, W] in [-1, 1], H = W = the generator's resolution
        camera: Tensor | None,       # [1 or N, 25], None = frontal / 2D
        perceptual: Perceptual,
        progress: Callable[[int, dict], None] = lambda step, figures: None,
        recogniser: Recogniser | None = None,
    ) -> Inversion:
        """Of each photo the best end."""
        starts, notes = [], {}
        for encoder in self.encoders:
            if encoder is None:
                starts.append(generator.w_avg.expand(len(images), -1, -1))
            else:
                ws, notes = encoder.encode(generator, images, camera)
                starts.append(ws)
        found = self.optimisation(generator, images, camera, perceptual, progress, recogniser, starts)
        return replace(found, notes=notes)


class Wanted:
    """The photos as the losses need them, and the last terms for the progress bar."""

    def __init__(self, images: Tensor, perceptual: Perceptual, recogniser: Recogniser | None):
        with torch.no_grad():
            self.small = shrink(images)
            self.features = perceptual.features(self.small)
            self.identity = recogniser(images) if recogniser else None
        self.perceptual, self.recogniser = perceptual, recogniser
        self.l2 = self.lpips = torch.zeros(len(images))


def check_optimiser(optimiser: str, refine_camera: bool) -> None:
    """Refuse what cannot go together."""
    if refine_camera and optimiser == 'lbfgs':
        raise InputError('--refine-camera turns the camera on the way, where L-BFGS needs a loss that stays as it is. Leave it out, or use '
                         '--inversion-optimiser=adam.')


@torch.no_grad()
def latent_spread(generator: Generator, rng: torch.Generator) -> Tensor:
    """How far random latents lie from their mean: root mean square over their numbers."""
    return (generator.sample(256, rng)[:, 0] - generator.w_avg[0]).square().mean().sqrt()


def learning_rate(step: int, end: int, steps: int) -> float:
    """Share of the peak learning rate: it rises at the start, and falls over the last quarter before ``end``."""
    rise = (step + 1) / steps / RAMP_UP
    fall = (end - step) / steps / RAMP_DOWN
    return 0.5 - 0.5 * math.cos(math.pi * min(1.0, rise) * min(1.0, fall))


def stalled(history: list[float]) -> bool:
    """Whether the last losses are hardly better than those before."""
    if len(history) < 2 * WINDOW:
        return False
    before, now = sum(history[-2 * WINDOW:-WINDOW]), sum(history[-WINDOW:])
    return now >= (1 - GAIN) * before


def shrink(images: Tensor) -> Tensor:                 # [N, 3, H, W] -> at most [N, 3, 256, 256]
    if images.shape[-1] <= PIXEL_SIZE:
        return images
    return F.interpolate(images, size=(PIXEL_SIZE, PIXEL_SIZE), mode='area')


@torch.no_grad()
def reconstruction(generator: Generator, ws: Tensor, images: Tensor, camera: Tensor | None,
                   perceptual: Perceptual | None) -> tuple[Tensor | None, Tensor]:
    """LPIPS [N] and PSNR [N] (dB) between the pictures of ``ws`` and ``images``."""
    shown = generator.synthesize(ws, camera).image.clamp(-1, 1)
    lpips = None if perceptual is None else perceptual.compare(*(perceptual.features(shrink(side)) for side in (shown, images)))
    mse = (shown - images).square().flatten(1).mean(dim=1)
    return lpips, 10 * torch.log10(4 / mse.clamp_min(1e-12))
