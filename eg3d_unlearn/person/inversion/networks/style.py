"""The small network that reads one latent from a feature map.

Source: Richardson et al., pSp (CVPR 2021, arXiv 2008.00951, figure 2: map2style).
"""
from __future__ import annotations

from torch import Tensor, nn

from eg3d_unlearn.generators.networks.layers import FullyConnectedLayer


class StyleBlock(nn.Module):
    """Strided convolutions until one pixel is left, then a linear layer with StyleGAN's equalised learning rate."""

    def __init__(
        self,
        channels: int,  # of the map and of the latent
        size: int,      # pixels a side of the map, a power of two
    ):
        super().__init__()
        halvings = size.bit_length() - 1
        self.convs = nn.Sequential(*(layer for _ in range(halvings) for layer in (
            nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.LeakyReLU(0.01))))
        self.linear = FullyConnectedLayer(channels, channels)

    def forward(
        self,
        x: Tensor,  # [N, channels, size, size]
    ) -> Tensor:    # [N, channels]
        return self.linear(self.convs(x).flatten(1))
