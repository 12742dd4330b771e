"""Swin Transformer V2 as a trunk: tokens of four resolutions, attention in shifted windows.

Sources: Liu et al., Swin V2 (CVPR 2022, arXiv 2111.09883: post-norm, cosine attention, log-spaced continuous position
bias); Liu et al., Swin (ICCV 2021, arXiv 2103.14030: shifted windows, patch merging).  Parameter names are those of the
published models.  Tokens keep their place in the picture, [N, rows, columns, C], all the way.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 4                            # pixels a side that become one token
BIAS_HIDDEN = 512                    # width of the network that makes position biases
BIAS_PEAK = 16.0                     # position biases lie between 0 and this
MAX_LOGIT_SCALE = math.log(100.0)    # section 3.3: the temperature τ never falls below 0.01
FORBIDDEN = -100.0                   # added to the logit of tokens that only the cyclic shift made neighbours


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


def shift_mask(
    grid: int,    # tokens a side of the picture
    window: int,  # tokens a side of a window
    shift: int,   # tokens by which the picture was rolled up and to the left
) -> Tensor:      # [windows, window ** 2, window ** 2] float32: 0 or FORBIDDEN
    """Keeps apart, in the last windows, what the roll brought there from the picture's other side."""
    wrapped = (torch.arange(grid) >= grid - shift).float()
    region = (2 * wrapped[:, None] + wrapped).reshape(1, grid, grid, 1)
    region = into_windows(region, window).flatten(1)  # [windows, window ** 2]
    return (region[:, :, None] != region[:, None, :]).float() * FORBIDDEN


def into_windows(
    x: Tensor,    # [N, H, W, C]
    window: int,  # divides H and W
) -> Tensor:      # [N * windows, window ** 2, C]
    """Tokens by window, windows row by row."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))  # [N, rows, window, columns, window, C]
    return x.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def from_windows(
    x: Tensor,    # [N * windows, window ** 2, C]
    window: int,
    grid: int,    # tokens a side of the picture
) -> Tensor:      # [N, grid, grid, C]
    """The inverse of `into_windows`."""
    side = grid // window
    x = x.reshape(-1, side, side, window, window, x.shape[-1])
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class WindowAttention(nn.Module):
    """Multi-head attention among the tokens of a window, by cosine and position."""

    def __init__(self, channels: int, window: int, heads: int, pretrained: int):
        super().__init__()
        self.heads = heads
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

    def forward(
        self,
        x: Tensor,            # [N * windows, T, C]
        mask: Tensor | None,  # [windows, T, T], added to the logits; None = all may see each other
    ) -> Tensor:              # [N * windows, T, C]
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [N * windows, heads, T, C / heads]
        scale = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        # Eq. 2: cos(q, k) / τ + B
        logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * scale + self.position_bias()
        if mask is not None:
            logits = (logits.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
        return self.proj((logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with GELU between them, for each token by itself."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:  # [..., C] -> [..., C]
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention in windows, then the MLP; the norm comes last in either branch (section 3.2)."""

    def __init__(self, channels: int, grid: int, heads: int, window: int, shift: int, pretrained: int):
        super().__init__()
        # A picture no larger than one window is that window, and there is nothing to shift.
        self.grid, self.window, self.shift = grid, min(window, grid), shift if grid > window else 0
        self.register_buffer('attn_mask', shift_mask(grid, window, shift) if self.shift else None)
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, self.window, heads, pretrained)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, 4 * channels)

    def forward(self, x: Tensor) -> Tensor:  # [N, grid, grid, C]
        rolled = x.roll((-self.shift, -self.shift), (1, 2)) if self.shift else x
        seen = from_windows(self.attn(into_windows(rolled, self.window), self.attn_mask), self.window, self.grid)
        x = x + self.norm1(seen.roll((self.shift, self.shift), (1, 2)) if self.shift else seen)
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
