"""Inversion of EG3D FFHQ by GOAE's encoder (weights: ``encoder_FFHQ.pt``), as GUIDE uses it.

Source: Yuan et al., GOAE (ICCV 2023, arXiv 2303.12326).  The encoder runs in evaluation mode; GUIDE's published code leaves
dropout on, so that the same photo gives it another latent each time.  Offsets are added to the network's own mean latent as
in GOAE's code; ``mean=w_avg_ffhqrebalanced512-128.pt`` takes GUIDE's average instead.
"""
from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges import weights as weight_files
from eg3d_unlearn.person.inversion.networks.goae import INPUT_SIZE, NUM_WS, W_DIM, GOAEEncoder
from eg3d_unlearn.person.inversion.published import PublishedEncoder

RESOLUTION = 512                     # pixels of ffhqrebalanced512-128.pkl


class GOAE(PublishedEncoder):
    """Base latent and refinements by cross-attention, one pass."""
    name = 'goae'
    takes = f'the EG3D network of FFHQ ({RESOLUTION} pixels, {NUM_WS} latents of {W_DIM} numbers)'

    def fits(self, generator: Generator) -> bool:
        return (generator.family, generator.img_resolution, generator.num_ws, generator.w_dim) == ('eg3d', RESOLUTION, NUM_WS, W_DIM)

    def architecture(self, generator: Generator) -> nn.Module:
        return GOAEEncoder()

    def read(self, source: Path, generator: Generator) -> tuple[dict[str, Tensor], None, dict]:
        return weight_files.load_state(source), None, {}

    def see(self, images: Tensor) -> Tensor:  # [N, 3, H, H] in [-1, 1] -> [N, 3, 256, 256]
        # Pillow's default, which training and GUIDE shrink with, is bicubic and antialiased; it overshoots at edges.
        size = (INPUT_SIZE, INPUT_SIZE)
        return F.interpolate(images, size=size, mode='bicubic', align_corners=False, antialias=True).clamp(-1, 1)
