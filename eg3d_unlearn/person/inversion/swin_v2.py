"""Swin Transformer V2 as a trunk: tokens of four resolutions, attention in shifted windows.

Sources: Liu et al., Swin V2 (CVPR 2022, arXiv 2111.09883: post-norm, cosine attention, log-spaced continuous position
bias); Liu et al., Swin (ICCV 2021, arXiv 2103.14030: shifted windows, patch merging).  Parameter names are those of the
published models.  Tokens keep their place in the picture, [N, rows, columns, C], all the way.
"""
from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

PATCH = 4                            # pixels a side that become one token
BIAS_HIDDEN = 512                    # width of the network that makes position biases
BIAS_PEAK = 16.0                     # position biases lie between 0 and this


def log_offsets(
    window: int,      # tokens a side of the window
    pretrained: int,  # tokens a side of the window in pre-training
) -> Tensor:          # [1, 2 * window - 1, 2 * window - 1, 2] float32, rows and columns
    """Every offset between two tokens of a window, log-spaced, in units of the pre-training window."""
    offset = torch.arange(1 - window, window, dtype=torch.float32) * 8 / (pretrained - 1)
    # Eq. 4: sign(Δ) log(1 + |Δ|); as published to the base 8, with Δ in eighths of the window.
    offset = offset.sign() * offset.abs().add(1).log2() / math.log2(8)
    return torch.stack(torch.meshgrid(offset, offset, indexing='ij'), dim=-1)[None]


def offset_index(
    window: int,  # tokens a side of the window
) -> Tensor:      # [window ** 2, window ** 2] int64
    """For each pair of tokens of a window, where `log_offsets`, flattened, holds their offset."""
    place = torch.arange(window)
    offset = place[:, None] - place + window - 1  # [window, window], along one axis
    rows, columns = offset[:, None, :, None], offset[None, :, None, :]
    return (rows * (2 * window - 1) + columns).reshape(window ** 2, window ** 2)


class WindowAttention(nn.Module):
    """Multi-head attention among the tokens of a window, by cosine and position (eq. 2), in torchvision's hands."""

    def __init__(self, channels: int, window: int, shift: int, heads: int, pretrained: int):
        super().__init__()
        self.window, self.shift, self.heads = window, shift, heads
        self.logit_scale = nn.Parameter(torch.full([heads, 1, 1], math.log(10)))
        self.q_bias = nn.Parameter(torch.zeros(channels))
        self.v_bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer('relative_coords_table', log_offsets(window, pretrained))
        self.register_buffer('relative_position_index', offset_index(window))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, BIAS_HIDDEN), nn.ReLU(), nn.Linear(BIAS_HIDDEN, heads, bias=False))
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)

    def position_bias(self) -> Tensor:  # [heads, window ** 2, window ** 2], 0 to 16
        """Eq. 3: a small network of the offset between two tokens."""
        table = self.cpb_mlp(self.relative_coords_table).flatten(0, 2)
        return BIAS_PEAK * table[self.relative_position_index].permute(2, 0, 1).sigmoid()

    def forward(self, x: Tensor) -> Tensor:  # [N, H, W, C]
        from torchvision.models.swin_transformer import shifted_window_attention  # slow to import
        return shifted_window_attention(
            x, self.qkv.weight, self.proj.weight, self.position_bias(), [self.window] * 2, self.heads, [self.shift] * 2,
            qkv_bias=torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias]), proj_bias=self.proj.bias,
            logit_scale=self.logit_scale, training=False)


class Block(nn.Module):
    """Attention in windows, then two linear layers; the norm comes last in either branch (section 3.2)."""

    def __init__(self, channels: int, grid: int, heads: int, window: int, shift: int, pretrained: int):
        super().__init__()
        # A picture no larger than one window is that window, and there is nothing to shift.
        window, shift = min(window, grid), shift if grid > window else 0
        # The published files hold it; torchvision makes its own.
        self.register_buffer('attn_mask', torch.zeros((grid // window) ** 2, window ** 2, window ** 2) if shift else None)
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, window, shift, heads, pretrained)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(OrderedDict(fc1=nn.Linear(channels, 4 * channels), act=nn.GELU(), fc2=nn.Linear(4 * channels, channels)))

    def forward(self, x: Tensor) -> Tensor:  # [N, grid, grid, C]
        x = x + self.norm1(self.attn(x))
        return x + self.norm2(self.mlp(x))


class PatchMerging(nn.Module):
    """Four neighbouring tokens become one of twice the width."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(2 * channels)

    def forward(self, x: Tensor) -> Tensor:  # [N, H, W, C] -> [N, H/2, W/2, 2 * C]
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # [N, H/2, row, W/2, column, C]
        # The published weights take the four in the order of columns: upper left, lower left, upper right, lower right.
        return self.norm(self.reduction(x.permute(0, 1, 3, 4, 2, 5).flatten(3)))


class Stage(nn.Module):
    """Blocks at one resolution, every second one with shifted windows, and the step to the next resolution."""

    def __init__(self, channels: int, grid: int, depth: int, heads: int, window: int, pretrained: int, merge: bool):
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(channels, grid, heads, window, window // 2 * (index % 2), pretrained) for index in range(depth))
        self.downsample = PatchMerging(channels) if merge else None

    def forward(self, x: Tensor) -> Tensor:  # [N, grid, grid, C] -> the same, or [N, grid/2, grid/2, 2 * C]
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """Tokens from pixels."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(3, channels, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> Tensor:  # [N, 3, H, W] -> [N, H/4, W/4, C]
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class SwinV2(nn.Module):
    """The trunk without a classifier; the defaults are Swin V2-B at 256 pixels, fine-tuned from 192."""

    def __init__(
        self,
        image_size: int = 256,                                  # pixels a side
        channels: int = 128,                                    # width of the first stage, doubled by each further one
        depths: tuple[int, ...] = (2, 2, 18, 2),                # blocks in each stage
        heads: tuple[int, ...] = (4, 8, 16, 32),                # attention heads in each stage
        window: int = 16,                                       # tokens a side of a window
        pretrained_windows: tuple[int, ...] = (12, 12, 12, 6),  # tokens a side of a window in pre-training, by stage
    ):
        super().__init__()
        last = len(depths) - 1
        self.patch_embed = PatchEmbed(channels)
        self.layers = nn.ModuleList(
            Stage(channels << i, image_size // PATCH >> i, depths[i], heads[i], window, pretrained_windows[i], i < last)
            for i in range(len(depths)))
        self.norm = nn.LayerNorm(channels << last)

    def forward(
        self,
        images: Tensor,      # [N, 3, image_size, image_size] float32
    ) -> list[Tensor]:       # what enters each stage, then the result: [N, tokens, C], tokens row by row
        x, tokens = self.patch_embed(images), []
        for stage in self.layers:
            tokens.append(x.flatten(1, 2))
            x = stage(x)
        return [*tokens, self.norm(x).flatten(1, 2)]
