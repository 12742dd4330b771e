"""The encoder of pSp: every latent of W+ read from the picture by its own small network.

Source: Richardson et al., pSp (CVPR 2021, arXiv 2008.00951, section 3.1).  Parameter names are those of
``psp_ffhq_encode.pt`` behind the prefix ``encoder.``.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from eg3d_unlearn.judges.identity.arcface import IRSE50_BLOCKS
from eg3d_unlearn.person.inversion.networks.pyramid import CHANNELS, FeaturePyramid
from eg3d_unlearn.person.inversion.networks.style import StyleBlock

INPUT_SIZE = 256                     # pixels
COARSE, MIDDLE = 3, 4                # latents read from the coarse and from the middle map; the rest from the fine one


class PSPEncoder(FeaturePyramid):
    """[N, 3, 256, 256] in [-1, 1], FFHQ-aligned -> [N, num_ws, 512], to be added to the mean latent."""

    def __init__(
        self,
        num_ws: int = 18,                                   # latents of the generator: 18 at 1024 pixels, 16 at 512
        image_size: int = INPUT_SIZE,                       # pixels, a power of two
        blocks: tuple[int, int, int, int] = IRSE50_BLOCKS,  # residual units in each stage of the trunk
    ):
        super().__init__(blocks)
        fine = max(num_ws - COARSE - MIDDLE, 0)
        sizes = [image_size // 16] * COARSE + [image_size // 8] * MIDDLE + [image_size // 4] * fine
        self.styles = nn.ModuleList(StyleBlock(CHANNELS, size) for size in sizes[:num_ws])
        self.add_laterals()
        self.eval().requires_grad_(False)

    def forward(
        self,
        images: Tensor,  # [N, 3, image_size, image_size] float32 in [-1, 1], RGB
    ) -> Tensor:         # [N, num_ws, 512] float32, offset from the mean latent
        coarse, middle, fine = self.maps(images)
        seen = [coarse] * COARSE + [middle] * MIDDLE + [fine] * max(len(self.styles) - COARSE - MIDDLE, 0)
        return torch.stack([style(x) for style, x in zip(self.styles, seen, strict=False)], dim=1)
