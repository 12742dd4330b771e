"""Inversion by optimisation in W or W+ with LPIPS and L2, for every family of generators.

Source: the projector of StyleGAN2 (arXiv 1912.04958, appendix D: learning-rate ramps, noise that fades) and Image2StyleGAN
(arXiv 1904.03189: one latent a layer, W+).
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from eg3d_unlearn.generator import Generator
from eg3d_unlearn.loss import Perceptual
from torch_utils_ext.errors import InputError

RAMP_UP, RAMP_DOWN = 0.05, 0.25      # shares of the steps in which the learning rate rises and falls
NOISE, NOISE_SHARE = 0.05, 0.75      # exploration noise in units of the latent spread; share of the steps that it lasts
PIXEL_SIZE = 256                     # L2 and LPIPS see at most this many pixels a side: detail beyond only slows the way


@dataclass
class Inversion:
    """A latent and how well it shows its picture."""
    ws: Tensor                       # [N, num_ws, w_dim]
    lpips: Tensor                    # [N] distance of the reconstruction
    psnr: Tensor                     # [N] dB, on [-1, 1] pictures at the generator's resolution


class Optimisation:
    """Adam on the latent, from the mean latent; in W+ the layers start together and part as the noise fades."""

    def __init__(
        self,
        space: str = 'w+',           # 'w' = one vector for all layers, 'w+' = one for each
        steps: int = 300,            # optimisation steps
        lr: float = 0.1,             # peak learning rate, in units of the latent spread
        lambda_l2: float = 1.0,      # weight of the pixel term (mean squared error)
        lambda_lpips: float = 1.0,   # weight of LPIPS
        seed: int = 0,               # of the exploration noise
    ):
        self.space, self.steps, self.lr = space, steps, lr
        self.lambda_l2, self.lambda_lpips, self.seed = lambda_l2, lambda_lpips, seed

    def __call__(
        self,
        generator: Generator,
        images: Tensor,              # [N, 3, H, W] in [-1, 1], H = W = the generator's resolution
        camera: Tensor | None,       # [1 or N, 25], None = frontal / 2D
        perceptual: Perceptual,
        progress: Callable[[int, dict], None] = lambda step, figures: None,
    ) -> Inversion:
        """Latents whose pictures from ``camera`` look like ``images``."""
        rng = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            wanted = shrink(images)
            wanted_features = perceptual.features(wanted)
            spread = (generator.sample(256, rng)[:, 0] - generator.w_avg[0]).square().mean().sqrt()
        layers = 1 if self.space == 'w' else generator.num_ws
        start = generator.w_avg[:layers].expand(len(images), -1, -1)
        offset = torch.zeros_like(start).requires_grad_(True)
        optimiser = torch.optim.Adam([offset], betas=(0.9, 0.999))
        for step in range(self.steps):
            done = step / self.steps
            ramp = min(1.0, (done + 1 / self.steps) / RAMP_UP) * min(1.0, (1 - done) / RAMP_DOWN)
            optimiser.param_groups[0]['lr'] = self.lr * (0.5 - 0.5 * math.cos(math.pi * ramp))
            noise = torch.randn(offset.shape, generator=rng).to(offset) * NOISE * max(0.0, 1 - done / NOISE_SHARE) ** 2
            ws = (start + spread * (offset + noise)).expand(-1, generator.num_ws, -1)
            shown = shrink(generator.synthesize(ws, camera).image)
            l2 = (shown - wanted).square().flatten(1).mean(dim=1)
            lpips = perceptual.compare(perceptual.features(shown), wanted_features)
            loss = (self.lambda_l2 * l2 + self.lambda_lpips * lpips).sum()
            if not torch.isfinite(loss):
                raise InputError(f'The inversion diverged at step {step}. Lower its learning rate with --inversion-lr (now {self.lr:g}).')
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            progress(step + 1, {'lpips': lpips.mean().item(), 'l2': l2.mean().item()})
        ws = (start + spread * offset.detach()).expand(-1, generator.num_ws, -1).contiguous()
        return Inversion(ws, *reconstruction(generator, ws, images, camera, perceptual))


def shrink(images: Tensor) -> Tensor:                 # [N, 3, H, W] -> at most [N, 3, 256, 256]
    if images.shape[-1] <= PIXEL_SIZE:
        return images
    return F.interpolate(images, size=(PIXEL_SIZE, PIXEL_SIZE), mode='area')


@torch.no_grad()
def reconstruction(generator: Generator, ws: Tensor, images: Tensor, camera: Tensor | None,
                   perceptual: Perceptual) -> tuple[Tensor, Tensor]:
    """LPIPS [N] and PSNR [N] (dB) between the pictures of ``ws`` and ``images``."""
    shown = generator.synthesize(ws, camera).image.clamp(-1, 1)
    lpips = perceptual.compare(perceptual.features(shrink(shown)), perceptual.features(shrink(images)))
    mse = (shown - images).square().flatten(1).mean(dim=1)
    return lpips, 10 * torch.log10(4 / mse.clamp_min(1e-12))
