"""Inversion by optimisation in W or W+ with LPIPS and L2, for every family of generators.

Source: the projector of StyleGAN2 (arXiv 1912.04958, appendix D: learning-rate ramps, noise that fades) and Image2StyleGAN
(arXiv 1904.03189: one latent a layer, W+).
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.identity import identity_distance
from eg3d_unlearn.judges.judges import Embed
from eg3d_unlearn.judges.perceptual import Perceptual
from eg3d_unlearn.person.inversion.inverter import PIXEL_SIZE, Encoder, Inversion, Progress, reconstruction, shrink
from torch_utils_ext.errors import InputError

RAMP_UP, RAMP_DOWN = 0.05, 0.25      # shares of the steps in which the learning rate rises and falls
NOISE, NOISE_SHARE = 0.05, 0.75      # exploration noise in units of the latent spread; share of the steps that it lasts


class Optimisation:
    """Adam on the latent, from the mean latent or from what an encoder says; in W+ the layers part as they need to."""

    def __init__(
        self,
        space: str = 'w+',           # 'w' = one vector for all layers, 'w+' = one for each
        encoder: Encoder | None = None,  # where it starts; None = the mean latent
        steps: int = 300,            # optimisation steps
        lr: float = 0.1,             # peak learning rate in units of the latent spread
        seed: int = 0,               # of the exploration noise
        lambda_id: float = 0.0,      # weight of the identity term
        recogniser: Embed | None = None,  # that it is by
    ):
        self.space, self.encoder, self.steps, self.lr, self.seed = space, encoder, steps, lr, seed
        self.lambda_id, self.recogniser = lambda_id, recogniser

    def __call__(
        self,
        generator: Generator,
        images: Tensor,              # [N, 3, H, W] in [-1, 1], H = W = the generator's resolution
        camera: Tensor | None,       # [1 or N, 25], None = frontal / 2D
        perceptual: Perceptual,
        progress: Progress = lambda step, figures: None,
        start: Tensor | None = None,  # [N, num_ws, w_dim] instead of the encoder's
    ) -> Inversion:
        """Latents whose pictures from ``camera`` look like ``images``."""
        notes = {}
        if start is None and self.encoder is not None:
            start, notes = self.encoder.encode(generator, images, camera)
        if camera is not None:
            camera = camera.to(images).expand(len(images), -1)
        ws = self._descend(generator, images, camera, perceptual, progress, start)
        return Inversion(ws, *reconstruction(generator, ws, images, camera, perceptual), notes=notes)

    def _descend(self, generator: Generator, images: Tensor, camera: Tensor | None, perceptual: Perceptual, progress: Progress,
                 start: Tensor | None) -> Tensor:      # [N, num_ws, w_dim]
        rng = torch.Generator().manual_seed(self.seed)
        spread = latent_spread(generator, rng)
        begin = (generator.w_avg.expand(len(images), -1, -1) if start is None else start).to(images)
        if self.space == 'w':
            begin = begin.mean(dim=1, keepdim=True)
        # In one memory layout, wherever the photos come from: another one gives other last digits.
        wanted = Wanted(images.contiguous(), perceptual, generator.resolution(generator.searches_by_half), self.lambda_id, self.recogniser)
        offset = torch.zeros_like(begin).requires_grad_(True)
        optimiser = torch.optim.Adam([offset], betas=(0.9, 0.999))
        for step in range(self.steps):
            optimiser.param_groups[0]['lr'] = self.lr * learning_rate(step, self.steps)
            # Where the start is only the mean, noise keeps the way open; from a good start it would lead away.
            fade = NOISE * max(0.0, 1 - step / self.steps / NOISE_SHARE) ** 2 * (start is None)
            noise = torch.randn(offset.shape, generator=rng).to(offset) * fade
            ws = (begin + spread * (offset + noise)).expand(-1, generator.num_ws, -1)
            shown = generator.render(generator.backbone(ws), camera, half=generator.searches_by_half)
            loss = wanted.distance(shown.image)
            if not torch.isfinite(loss).all():
                raise InputError(f'The inversion diverged at step {step}. Lower its learning rate with --inversion-lr (now {self.lr:g}).')
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimiser.step()
            progress(step + 1, wanted.figures())
        return (begin + spread * offset.detach()).expand(-1, generator.num_ws, -1).contiguous()


class Wanted:
    """The photos, and how far pictures are from them; remembers the last terms for the progress bar."""

    def __init__(
        self,
        images: Tensor,              # [N, 3, H, W] in [-1, 1]
        perceptual: Perceptual,
        resolution: int = PIXEL_SIZE,  # of the pictures that are compared with them
        lambda_id: float = 0.0,      # weight of the identity term
        recogniser: Embed | None = None,
    ):
        with torch.no_grad():
            self.small = shrink(images, min(resolution, PIXEL_SIZE))
            self.features = perceptual.features(self.small)
            self.faces = recogniser(images) if recogniser is not None and lambda_id else None
        self.lambda_id, self.recogniser = lambda_id, recogniser
        self.perceptual, self.l2, self.lpips = perceptual, torch.zeros(()), torch.zeros(())

    def distance(self, shown: Tensor) -> Tensor:      # [N, 3, H, W] -> [N]
        """The loss of every inversion that learns: mean squared error plus LPIPS, and an identity term where one is asked for."""
        small = shrink(shown, self.small.shape[-1])
        self.l2 = (small - self.small).square().flatten(1).mean(dim=1)
        self.lpips = self.perceptual.compare(self.perceptual.features(small), self.features)
        loss = self.l2 + self.lpips
        return loss if self.faces is None else loss + self.lambda_id * identity_distance(self.recogniser(shown), self.faces)

    def figures(self) -> dict[str, float]:
        """The last terms, in the mean over the photos."""
        return {'lpips': self.lpips.mean().item(), 'l2': self.l2.mean().item()}


@torch.no_grad()
def latent_spread(generator: Generator, rng: torch.Generator) -> Tensor:
    """How far random latents lie from their mean: root mean square over their numbers."""
    return (generator.sample(256, rng)[:, 0] - generator.w_avg[0]).square().mean().sqrt()


def learning_rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: it rises at the start, and falls over the last quarter."""
    rise = (step + 1) / steps / RAMP_UP
    fall = (steps - step) / steps / RAMP_DOWN
    return 0.5 - 0.5 * math.cos(math.pi * min(1.0, rise) * min(1.0, fall))
