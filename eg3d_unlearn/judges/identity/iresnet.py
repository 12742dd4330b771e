"""Improved residual networks for faces: IR-SE50 (ArcFace) and IR-101 (CurricularFace), for inference only.

``IResNet`` has the published parameter names and is what a weight file loads into.  ``IResNet.fold()`` gives the same
function with every BatchNorm merged into its neighbours, which is what runs.

Sources: Deng et al., ArcFace (arXiv 1801.07698, section 3.2.2: BN-conv-PReLU-conv-BN blocks, output BN-FC-BN);
Hu et al., Squeeze-and-Excitation (arXiv 1709.01507).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.judges.weights import load_into

INPUT_SIZE = 112  # pixels; three of the four stages and one more halve it: 112 -> 56 -> 28 -> 14 -> 7
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

    def __init__(
        self,
        blocks: tuple[int, int, int, int],  # residual units in each stage
        squeeze_excite: bool,               # channel gates at the end of each unit
        output_affine: bool,                # scale and shift in the last BatchNorm
    ):
        super().__init__()
        self.input_layer = stem()
        pixels = (INPUT_SIZE // 16) ** 2
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

    def fold(self) -> FoldedIResNet:
        """The same function (to rounding) with the BatchNorms merged away: a tenth less time on a CPU."""
        return FoldedIResNet(self)


def affine_of(
    norm: nn.Module,         # BatchNorm in evaluation mode
) -> tuple[Tensor, Tensor]:  # scale [C], shift [C], float64
    """A BatchNorm in evaluation mode is ``scale * x + shift``."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return scale, shift


def fold_after(
    conv: nn.Conv2d,         # without a bias
    norm: nn.BatchNorm2d,    # the norm behind it
) -> tuple[Tensor, Tensor]:  # weight [C', C, k, k], bias [C'], float32
    """``norm(conv(x))`` as one convolution: exact, because the norm sees what the convolution has already padded."""
    scale, shift = affine_of(norm)
    return (conv.weight.double() * scale.view(-1, 1, 1, 1)).float(), shift.float()


def fold_before(
    norm: nn.BatchNorm2d,    # the norm in front of it
    conv: nn.Conv2d,         # 3x3, zero padding 1, stride 1, without a bias
    size: int,               # pixels, height = width of the input
) -> tuple[Tensor, Tensor]:  # weight [C', C, 3, 3], bias map [1, C', size, size], float32
    """``conv(norm(x))`` as one convolution and a constant map.

    The zeros are padded *behind* the norm, so that at the picture's edge fewer shifts reach the output: the shift
    becomes a map over the pixels, constant inside and different on the outermost ring, and no mere bias.
    """
    scale, shift = affine_of(norm)
    shifts = shift.view(1, -1, 1, 1).expand(1, -1, size, size)
    bias_map = F.conv2d(shifts, conv.weight.double(), padding=1)
    return (conv.weight.double() * scale.view(1, -1, 1, 1)).float(), bias_map.float()


class FoldedBlock(nn.Module):
    """A ``Block`` at a known input size without its BatchNorms."""

    def __init__(self, block: Block, size: int):
        super().__init__()
        norm1, conv1, prelu, conv2, norm2, *gates = block.res_layer
        self.stride = block.stride
        weight1, bias_map = fold_before(norm1, conv1, size)
        weight2, bias2 = fold_after(conv2, norm2)
        self.register_buffer('weight1', weight1)
        self.register_buffer('bias_map', bias_map)
        self.register_buffer('slope', prelu.weight.detach().clone())
        self.register_buffer('weight2', weight2)
        self.register_buffer('bias2', bias2)
        shortcut = (None, None) if block.shortcut_layer is None else fold_after(*block.shortcut_layer)
        self.register_buffer('weight_shortcut', shortcut[0])
        self.register_buffer('bias_shortcut', shortcut[1])
        self.gates = gates[0] if gates else None

    def forward(
        self,
        x: Tensor,  # [N, C, H, W]
    ) -> Tensor:    # [N, C', H/stride, W/stride]
        residual = F.prelu(F.conv2d(x, self.weight1, padding=1) + self.bias_map, self.slope)
        residual = F.conv2d(residual, self.weight2, self.bias2, stride=self.stride, padding=1)
        if self.weight_shortcut is not None:
            shortcut = F.conv2d(x, self.weight_shortcut, self.bias_shortcut, stride=self.stride)
        else:
            shortcut = x[:, :, ::self.stride, ::self.stride]
        if self.gates is None:
            return shortcut + residual
        return torch.addcmul(shortcut, residual, self.gates(residual))


class FoldedIResNet(nn.Module):
    """An ``IResNet`` with its BatchNorms merged into the convolutions and its output layer into one linear map."""

    @torch.no_grad()
    def __init__(self, net: IResNet):
        super().__init__()
        conv, norm, prelu = net.input_layer
        weight, bias = fold_after(conv, norm)
        self.register_buffer('weight_in', weight)
        self.register_buffer('bias_in', bias)
        self.register_buffer('slope_in', prelu.weight.detach().clone())
        blocks, size = [], INPUT_SIZE
        for block in net.body:
            blocks.append(FoldedBlock(block, size))
            size //= block.stride
        self.body = nn.Sequential(*blocks)
        self._fold_output(net.output_layer)
        # On a CPU channels-last saves oneDNN a reordering before and after each convolution: 6 % at N = 1.
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def _fold_output(self, layers: nn.Sequential):
        """BN, flatten, linear, BN: four affine maps in a row are one."""
        norm2d, _, _, linear, norm1d = layers
        scale2d, shift2d = affine_of(norm2d)
        scale1d, shift1d = affine_of(norm1d)
        weight = linear.weight.double().unflatten(1, (scale2d.numel(), -1))  # [512, C, H*W]
        bias = linear.bias.double() + torch.einsum('ocp,c->o', weight, shift2d)
        weight = torch.einsum('ocp,c,o->ocp', weight, scale2d, scale1d)
        self.register_buffer('weight_out', weight.flatten(1).float())
        self.register_buffer('bias_out', (bias * scale1d + shift1d).float())

    def forward(
        self,
        faces: Tensor,  # [N, 3, 112, 112] float32 in [-1, 1], RGB
    ) -> Tensor:        # [N, 512] float32, unit norm
        x = F.prelu(F.conv2d(faces, self.weight_in, self.bias_in, padding=1), self.slope_in)
        return F.normalize(F.linear(self.body(x).flatten(1), self.weight_out, self.bias_out))
