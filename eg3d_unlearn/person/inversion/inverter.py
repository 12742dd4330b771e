"""What every inversion is: photos [N, 3, H, W] and cameras go in, latents [N, num_ws, w_dim] and how well they show the photos come out."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.perceptual import Perceptual

PIXEL_SIZE = 256                     # L2 and LPIPS see at most this many pixels a side: detail beyond only slows the way

Progress = Callable[[int, dict], None]   # told how far it is, and figures


@dataclass
class Inversion:
    """Latents and how well they show their pictures."""
    ws: Tensor                       # [N, num_ws, w_dim]
    lpips: Tensor | None             # [N] distance of the reconstruction; None: there was no LPIPS
    psnr: Tensor                     # [N] dB, on [-1, 1] pictures at the generator's resolution
    generator: Generator | None = None  # the network that shows ``ws``, where it was tuned (pivotal tuning)
    notes: dict = field(default_factory=dict)  # of encoders: weights, checksum, mean latent; perhaps a warning


class Encoder:
    """An inversion in one look; subclasses say how."""

    def check(self, generator: Generator) -> None:
        """Raise InputError unless the encoder belongs to such a generator."""
        raise NotImplementedError

    def encode(
        self,
        generator: Generator,
        images: Tensor,              # [N, 3, H, W] in [-1, 1]
        camera: Tensor | None,       # [1 or N, 25], None for 2D networks
    ) -> tuple[Tensor, dict]:        # ws [N, num_ws, w_dim], notes
        """Latents of the pictures and what is to be recorded."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(
        self,
        generator: Generator,
        images: Tensor,              # [N, 3, H, W] in [-1, 1], H = W = the generator's resolution
        camera: Tensor | None,       # [1 or N, 25] where reconstructions are judged from, None = frontal / 2D
        perceptual: Perceptual | None,
        progress: Progress = lambda step, figures: None,
    ) -> Inversion:
        """Latents of ``images`` in one pass."""
        ws, notes = self.encode(generator, images, camera)
        progress(len(images), {})
        return Inversion(ws, *reconstruction(generator, ws, images.to(ws), camera, perceptual), notes=notes)


@torch.no_grad()
def reconstruction(generator: Generator, ws: Tensor, images: Tensor, camera: Tensor | None,
                   perceptual: Perceptual | None) -> tuple[Tensor | None, Tensor]:
    """LPIPS [N] and PSNR [N] (dB) between the pictures of ``ws`` and ``images``."""
    shown = generator.synthesize(ws, camera).image.clamp(-1, 1)
    images = shrink(images, shown.shape[-1])
    lpips = None if perceptual is None else perceptual.compare(*(perceptual.features(shrink(side)) for side in (shown, images)))
    mse = (shown - images).square().flatten(1).mean(dim=1)
    return lpips, 10 * torch.log10(4 / mse.clamp_min(1e-12))


def shrink(images: Tensor, size: int = PIXEL_SIZE) -> Tensor:   # [N, 3, H, W] -> at most [N, 3, size, size]
    if images.shape[-1] <= size:
        return images
    return F.interpolate(images, size=(size, size), mode='area')
