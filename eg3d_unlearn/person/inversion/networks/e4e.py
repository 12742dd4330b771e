"""The encoder of e4e: a latent for all layers and a small offset for each, read from three maps of the picture.

Sources: Tov et al., e4e (SIGGRAPH 2021, arXiv 2102.02766, section 4); Richardson et al., pSp (CVPR 2021, arXiv 2008.00951, section 3.1
and figure 2), whose network it is; Lin et al., feature pyramid networks (CVPR 2017, arXiv 1612.03144), here with bilinear enlargement.
Parameter names are those of ``e4e_ffhq_encode.pt`` behind the prefix ``encoder.``.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.generators.networks.layers import FullyConnectedLayer
from eg3d_unlearn.judges.identity.arcface import IRSE50_BLOCKS
from eg3d_unlearn.judges.identity.iresnet import STAGE_WIDTHS, residual_body, stem

INPUT_SIZE = 256                     # pixels
CHANNELS = STAGE_WIDTHS[-1]          # of every map, and of a latent
COARSE, MIDDLE = 3, 4                # latents read from the coarse and from the middle map; the rest from the fine one


class StyleBlock(nn.Module):
    """Reads one latent from a map: strided convolutions until one pixel is left, then a linear layer with equalised learning rate."""

    def __init__(self, size: int):   # pixels a side of the map, a power of two
        super().__init__()
        halvings = size.bit_length() - 1
        self.convs = nn.Sequential(*(layer for _ in range(halvings) for layer in (
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1), nn.LeakyReLU(0.01))))
        self.linear = FullyConnectedLayer(CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:  # [N, 512, size, size] -> [N, 512]
        return self.linear(self.convs(x).flatten(1))


class E4EEncoder(nn.Module):
    """[N, 3, 256, 256] in [-1, 1], FFHQ-aligned -> [N, num_ws, 512], to be added to the mean latent."""

    def __init__(
        self,
        num_ws: int = 18,                                   # latents of the generator: 18 at 1024 pixels, 16 at 512
        image_size: int = INPUT_SIZE,                       # pixels, a power of two
        blocks: tuple[int, int, int, int] = IRSE50_BLOCKS,  # residual units in each stage of the trunk
    ):
        super().__init__()
        self.blocks = blocks
        self.input_layer = stem()
        self.body = residual_body(blocks, squeeze_excite=True)
        fine = max(num_ws - COARSE - MIDDLE, 0)
        sizes = [image_size // 16] * COARSE + [image_size // 8] * MIDDLE + [image_size // 4] * fine
        self.styles = nn.ModuleList(StyleBlock(size) for size in sizes[:num_ws])
        # Projections of the second and third stage; last, as in the published files.
        self.latlayer1 = nn.Conv2d(STAGE_WIDTHS[2], CHANNELS, 1)
        self.latlayer2 = nn.Conv2d(STAGE_WIDTHS[1], CHANNELS, 1)
        self.eval().requires_grad_(False)

    def maps(
        self,
        images: Tensor,                  # [N, 3, S, S] float32 in [-1, 1], RGB
    ) -> tuple[Tensor, Tensor, Tensor]:  # [N, 512, S/16, S/16], [N, 512, S/8, S/8], [N, 512, S/4, S/4]
        """Coarse, middle and fine map: the last three stages, each finer one with the coarser map added."""
        x, stages, first = self.input_layer(images), [], 0
        for count in self.blocks:
            x = self.body[first:first + count](x)
            stages.append(x)
            first += count
        _, second, third, coarse = stages
        middle = enlarge(coarse, third) + self.latlayer1(third)
        fine = enlarge(middle, second) + self.latlayer2(second)
        return coarse, middle, fine

    def forward(
        self,
        images: Tensor,  # [N, 3, image_size, image_size] float32 in [-1, 1], RGB
    ) -> Tensor:         # [N, num_ws, 512] float32, offset from the mean latent
        coarse, middle, fine = self.maps(images)
        seen = [coarse] * COARSE + [middle] * MIDDLE + [fine] * max(len(self.styles) - COARSE - MIDDLE, 0)
        read = torch.stack([style(x) for style, x in zip(self.styles, seen, strict=False)], dim=1)
        # Section 4.2: E(x) = (w, w + Δ_1, ..., w + Δ_(N-1)); training switched the Δ on one by one, all are on now.
        w, deltas = read[:, :1], read[:, 1:]
        return torch.cat([w, w + deltas], dim=1)


def enlarge(
    x: Tensor,     # [N, C, h, w]
    like: Tensor,  # [N, C', H, W]
) -> Tensor:       # [N, C, H, W]
    """Bilinear, the corner pixels kept in place."""
    return F.interpolate(x, size=like.shape[2:], mode='bilinear', align_corners=True)
