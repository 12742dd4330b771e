"""Improved residual networks for faces, under the published parameter names: IR-SE50 (ArcFace) and IR-101 (CurricularFace).

Sources: Deng et al., ArcFace (arXiv 1801.07698, section 3.2.2: BN-conv-PReLU-conv-BN blocks, output BN-FC-BN);
Hu et al., Squeeze-and-Excitation (arXiv 1709.01507).
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.judges.identity.crop import ARCFACE_SIZE, arcface_box
from eg3d_unlearn.judges.weights import load_into

STAGE_WIDTHS = (64, 128, 256, 512)
EMBEDDING_DIM = 512
SE_REDUCTION = 16


class SqueezeExcite(nn.Module):
    """Channel gates computed from the channels' means."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // SE_REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // SE_REDUCTION, channels, 1, bias=False)

    def forward(
        self,
        x: Tensor,  # [N, C, H, W]
    ) -> Tensor:    # [N, C, 1, 1] in (0, 1)
        return self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Block(nn.Module):
    """One residual unit: BN, 3x3 conv, PReLU, strided 3x3 conv, BN and perhaps gates, beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, squeeze_excite: bool):
        super().__init__()
        self.stride = stride
        self.shortcut_layer = None  # the picture itself, every stride-th pixel
        if in_channels != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels))
        if squeeze_excite:
            self.res_layer.append(SqueezeExcite(channels))

    def forward(
        self,
        x: Tensor,  # [N, C, H, W]
    ) -> Tensor:    # [N, C', H/stride, W/stride]
        shortcut = x[:, :, ::self.stride, ::self.stride] if self.shortcut_layer is None else self.shortcut_layer(x)
        residual = self.res_layer[:5](x)
        if len(self.res_layer) > 5:
            residual = residual * self.res_layer[5](residual)
        return residual + shortcut


def stem() -> nn.Sequential:  # [N, 3, H, W] -> [N, 64, H, W]
    """The layers before the first residual unit."""
    return nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))


def residual_body(
    blocks: tuple[int, int, int, int],  # residual units in each stage
    squeeze_excite: bool,               # channel gates at the end of each unit
) -> nn.Sequential:                     # [N, 64, H, W] -> [N, 512, H/16, W/16]
    """All residual units in a row; the first of each stage halves the picture."""
    units, in_channels = [], 64
    for channels, count in zip(STAGE_WIDTHS, blocks, strict=True):
        for index in range(count):
            units.append(Block(in_channels, channels, 2 if index == 0 else 1, squeeze_excite))
            in_channels = channels
    return nn.Sequential(*units)


class IResNet(nn.Module):
    """The network as published: names and shapes of the weight files."""
    input_size, box = ARCFACE_SIZE, staticmethod(arcface_box)

    def __init__(
        self,
        blocks: tuple[int, int, int, int],  # residual units in each stage
        squeeze_excite: bool,               # channel gates at the end of each unit
        output_affine: bool,                # scale and shift in the last BatchNorm
    ):
        super().__init__()
        self.input_layer = stem()
        pixels = (self.input_size // 16) ** 2  # 112 -> 56 -> 28 -> 14 -> 7
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(STAGE_WIDTHS[-1]),
            nn.Identity(),  # dropout in training; keeps the published numbering
            nn.Flatten(),
            nn.Linear(STAGE_WIDTHS[-1] * pixels, EMBEDDING_DIM),
            nn.BatchNorm1d(EMBEDDING_DIM, affine=output_affine))
        self.body = residual_body(blocks, squeeze_excite)
        self.eval().requires_grad_(False)

    def forward(
        self,
        faces: Tensor,  # [N, 3, 112, 112] float32 in [-1, 1], RGB
    ) -> Tensor:        # [N, 512] float32, unit norm
        return F.normalize(self.output_layer(self.body(self.input_layer(faces))))

    def load_published(
        self,
        state: dict[str, Tensor],  # the published file
        source: str | Path,        # where it came from, for the error
    ):
        """Take over a file's weights."""
        load_into(self, state, source)
