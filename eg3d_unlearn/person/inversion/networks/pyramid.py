"""Three maps of a picture, from coarse to fine: IR-SE50 with a feature pyramid, the trunk of pSp and e4e.

Sources: Richardson et al., pSp (CVPR 2021, arXiv 2008.00951, section 3.1 and figure 2); Lin et al., feature pyramid
networks (CVPR 2017, arXiv 1612.03144), here with bilinear enlargement.
"""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.judges.identity.arcface import IRSE50_BLOCKS
from eg3d_unlearn.judges.identity.iresnet import STAGE_WIDTHS, residual_body, stem

CHANNELS = STAGE_WIDTHS[-1]          # of every map of the pyramid


class FeaturePyramid(nn.Module):
    """The last three stages of a residual network; each finer map is a projection of its stage plus the coarser map."""

    def __init__(
        self,
        blocks: tuple[int, int, int, int] = IRSE50_BLOCKS,  # residual units in each stage
    ):
        super().__init__()
        self.blocks = blocks
        self.input_layer = stem()
        self.body = residual_body(blocks, squeeze_excite=True)

    def add_laterals(self):
        """The projections of the second and third stage; apart, because the published files name them last."""
        self.latlayer1 = nn.Conv2d(STAGE_WIDTHS[2], CHANNELS, 1)
        self.latlayer2 = nn.Conv2d(STAGE_WIDTHS[1], CHANNELS, 1)

    def maps(
        self,
        images: Tensor,                  # [N, 3, S, S] float32 in [-1, 1], RGB
    ) -> tuple[Tensor, Tensor, Tensor]:  # [N, 512, S/16, S/16], [N, 512, S/8, S/8], [N, 512, S/4, S/4]
        """Coarse, middle and fine map."""
        x, stages, first = self.input_layer(images), [], 0
        for count in self.blocks:
            x = self.body[first:first + count](x)
            stages.append(x)
            first += count
        _, second, third, coarse = stages
        middle = enlarge(coarse, third) + self.latlayer1(third)
        fine = enlarge(middle, second) + self.latlayer2(second)
        return coarse, middle, fine


def enlarge(
    x: Tensor,     # [N, C, h, w]
    like: Tensor,  # [N, C', H, W]
) -> Tensor:       # [N, C, H, W]
    """Bilinear, the corner pixels kept in place."""
    return F.interpolate(x, size=like.shape[2:], mode='bilinear', align_corners=True)
