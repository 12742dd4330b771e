"""MobileStyleGAN (Belousov, arXiv 2104.04767): StyleGAN2's mapping network, and a synthesis network of separable convolutions and wavelets.

Each block paints wavelet coefficients of the next resolution, so that a picture comes out of one chain without skips. Demodulation was
replaced by constants when the network was distilled: a style only multiplies channels. Besides the whole picture there is a small one
(`Preview`), fitted to the shrunk whole one, which costs a fraction.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.generators.networks.layers import FullyConnectedLayer, MappingNetwork
from torch_utils_ext.errors import InputError


def inverse_wavelet(x: Tensor) -> Tensor:   # [N, 4 C, H, W] -> [N, C, 2 H, 2 W]
    """Haar, twice as large: C averages, then for each of the C channels three details: between rows, between columns, and both."""
    count, channels, height, width = x.shape
    average, details = x[:, :channels // 4], x[:, channels // 4:].reshape(count, channels // 4, 3, height, width)
    rows, columns, both = details.unbind(2)
    top, bottom, left_top, left_bottom = average + rows, average - rows, columns + both, columns - both
    pixels = torch.stack([top + left_top, top - left_top, bottom + left_bottom, bottom - left_bottom], dim=2)
    return F.pixel_shuffle(pixels.reshape(count, channels, height, width), 2)


def wavelet(x: Tensor) -> Tensor:           # [N, C, 2 H, 2 W] -> [N, 4 C, H, W]
    """The inverse of `inverse_wavelet`."""
    count, channels, height, width = x.shape
    pixels = F.pixel_unshuffle(x, 2).reshape(count, channels, 4, height // 2, width // 2)
    top_left, top_right, bottom_left, bottom_right = pixels.unbind(2)
    average = top_left + top_right + bottom_left + bottom_right
    details = [top_left + top_right - bottom_left - bottom_right, top_left - top_right + bottom_left - bottom_right,
               top_left - top_right - bottom_left + bottom_right]
    return torch.cat([average, torch.stack(details, dim=2).flatten(1, 2)], dim=1) / 4


class Styled(nn.Module):
    """What reads a latent: an affine map of it, a number for each channel that comes in."""

    def __init__(self, w_dim: int, channels: int):
        super().__init__()
        self.affine = FullyConnectedLayer(w_dim, channels, bias_init=1)


class Up(Styled):
    """Styled wavelet coefficients, made pixels of the next resolution."""

    def forward(self, x: Tensor, style: Tensor) -> Tensor:   # [N, C, H, W], [N, C] -> [N, C / 4, 2 H, 2 W]
        return inverse_wavelet(x * (style / 2)[:, :, None, None].to(x.dtype))


class StyledConvolution(Styled):
    """Style, convolution, constant noise, bias, leaky ReLU. Dense 3 x 3 in the first block; else 3 x 3 within channels, then 1 x 1."""

    def __init__(self, w_dim: int, in_channels: int, out_channels: int, resolution: int, separable: bool = True):
        super().__init__(w_dim, in_channels)
        self.separable = separable
        if separable:
            self.spatial = nn.Parameter(torch.randn([in_channels, 1, 3, 3]) / 3)
        size = 1 if separable else 3
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels, size, size]) / (in_channels ** 0.5 * size))
        self.register_buffer('noise', torch.zeros([1, 1, resolution, resolution]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:   # [N, C, H, W], [N, C] -> [N, C', H, W]
        if self.separable:
            x = mixed(F.conv2d(x, self.spatial.to(x.dtype), padding=1, groups=x.shape[1]), style, self.weight, self.bias)
        else:
            x = F.conv2d(x * style[:, :, None, None].to(x.dtype), self.weight.to(x.dtype), self.bias.to(x.dtype), padding=1)
        return F.leaky_relu_(x.add_(self.noise.to(x.dtype)), 0.2)


def mixed(x: Tensor, style: Tensor, weight: Tensor, bias: Tensor) -> Tensor:   # [N, C, H, W], [N, C], [C', C, 1, 1], [C'] -> [N, C', H, W]
    """A 1 x 1 convolution of styled channels, the style multiplied into the weights, which are fewer than the pixels."""
    weights = weight.flatten(1) * style[:, None]
    return torch.baddbmm(bias[:, None].to(x.dtype), weights.to(x.dtype), x.flatten(2)).unflatten(2, x.shape[2:])


class Block(nn.Module):
    """One resolution: styled wavelet coefficients of the block before, made pixels, then two convolutions."""

    def __init__(self, w_dim: int, in_channels: int, out_channels: int, resolution: int):
        super().__init__()
        self.up = Up(w_dim, in_channels)
        self.conv1 = StyledConvolution(w_dim, in_channels // 4, out_channels, resolution)
        self.conv2 = StyledConvolution(w_dim, out_channels, out_channels, resolution)

    def layers(self) -> list[Styled]:
        return [self.up, self.conv1, self.conv2]

    def forward(self, x: Tensor, styles: list[Tensor]) -> Tensor:   # [N, C, H, W], three styles -> [N, C', 2 H, 2 W]
        return self.conv2(self.conv1(self.up(x, styles[0]), styles[1]), styles[2])


class ToRGB(Styled):
    """Style and 1 x 1 convolution to the coefficients of a picture of twice the size."""

    def __init__(self, w_dim: int, channels: int):
        super().__init__(w_dim, channels)
        self.weight = nn.Parameter(torch.randn([12, channels, 1, 1]) / channels ** 0.5)
        self.bias = nn.Parameter(torch.zeros([12]))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return inverse_wavelet(mixed(x, style, self.weight / 2, self.bias / 2))


class Synthesis(nn.Module):
    """Latents to features of the block that the small picture is made of, and from there to the whole picture."""

    def __init__(self, w_dim: int, channels: list[int], small_resolution: int):
        super().__init__()
        self.resolutions = [4 << number for number in range(len(channels))]
        self.half_way = self.resolutions.index(small_resolution // 2)   # number of the block whose features the small picture is made of
        self.const = nn.Parameter(torch.randn([channels[0], 4, 4]))
        self.conv = StyledConvolution(w_dim, channels[0], channels[0], 4, separable=False)
        for number, resolution in enumerate(self.resolutions[1:], 1):
            self.add_module(f'b{resolution}', Block(w_dim, channels[number - 1], channels[number], resolution))
        self.torgb = ToRGB(w_dim, channels[-1])
        self.num_ws, self.first_later = len(self.layers()), 1 + 3 * self.half_way

    def blocks(self) -> list[Block]:
        return [getattr(self, f'b{resolution}') for resolution in self.resolutions[1:]]

    def layers(self) -> list[Styled]:
        """All that read a latent, in the order of the latents."""
        return [self.conv, *(layer for block in self.blocks() for layer in block.layers()), self.torgb]

    def styles(self, ws: Tensor, of: slice = slice(None)) -> list[Tensor]:   # [N, num_ws, w_dim] -> of each layer of ``of`` [N, C]
        return [layer.affine(w) for layer, w in zip(self.layers()[of], ws[:, of].unbind(1), strict=True)]

    def trunk(self, ws: Tensor) -> list[Tensor]:
        """Features of each block up to the one that the small picture is made of."""
        styles = self.styles(ws, slice(self.first_later))
        features = [self.conv(self.const[None].expand(len(ws), -1, -1, -1), styles[0])]
        for number, block in enumerate(self.blocks()[:self.half_way]):
            features.append(block(features[-1], styles[1 + 3 * number:4 + 3 * number]))
        return features

    def later(self, ws: Tensor) -> list[Tensor]:
        """The styles that the rest of the network reads."""
        return self.styles(ws, slice(self.first_later, None))

    def whole(self, x: Tensor, later: list[Tensor]) -> Tensor:   # the last features of the trunk -> [N, 3, H, W]
        for number, block in enumerate(self.blocks()[self.half_way:]):
            x = block(x, later[3 * number:3 * number + 3])
        return self.torgb(x, later[-1])

    def forward(self, ws: Tensor, noise_mode: str = 'const', **unused) -> Tensor:   # [N, num_ws, w_dim] -> [N, 3, H, W]
        return self.whole(self.trunk(ws)[-1], self.later(ws))


class Preview(nn.Module):
    """The small picture, pixel by pixel: features of the trunk, weighted by what the rest of the network reads, to wavelet coefficients.

    All are buffers: what was fitted stands for the frozen rest of the network, and never learns with it.
    """

    def __init__(self, channels: int, later: int, rank: int = 16, hidden: int = 64):
        super().__init__()
        shapes = {'reduce': [rank, later], 'reduce_bias': [rank], 'gain': [channels, rank], 'gain_bias': [channels], 'linear': [12, channels],
                  'bias': [12], 'inner': [hidden, channels], 'inner_style': [hidden, rank], 'inner_bias': [hidden], 'outer': [12, hidden]}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, x: Tensor, later: list[Tensor]) -> Tensor:   # [N, C, H, W], styles -> [N, 3, 2 H, 2 W]
        coefficients = self.coefficients(x.flatten(2), torch.cat(later, dim=1))
        return inverse_wavelet(coefficients.unflatten(2, x.shape[2:]))

    def coefficients(self, x: Tensor, later: Tensor) -> Tensor:    # [N, C, P], [N, D] -> [N, 12, P]
        """A linear map, and a small network beside it."""
        reduced = torch.addmm(self.reduce_bias, later, self.reduce.T)
        gain = torch.addmm(self.gain_bias, reduced, self.gain.T)[:, None]
        inner_bias = torch.addmm(self.inner_bias, reduced, self.inner_style.T)[:, :, None]
        inner = F.leaky_relu(torch.baddbmm(inner_bias.to(x.dtype), (self.inner * gain).to(x.dtype), x), 0.2)
        return torch.baddbmm(self.bias[:, None].to(x.dtype), (self.linear * gain).to(x.dtype), x) + self.outer.to(x.dtype) @ inner


class MobileStyleGAN(nn.Module):
    """MobileStyleGAN behind the interface of NVIDIA's generators."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,                  # 0: there are no classes
        w_dim: int,
        img_resolution: int,
        img_channels: int,           # 3
        small_resolution: int,       # of the small picture
        channels: list[int],         # of each block, from 4 pixels to half of img_resolution
        mapping_kwargs: dict | None = None,  # of `MappingNetwork`
    ):
        super().__init__()
        if img_resolution != 4 << len(channels) or not 8 <= small_resolution <= img_resolution:
            raise InputError(f'{len(channels)} blocks make pictures of {4 << len(channels)} pixels, and small ones of 8 or more, but '
                             f'img_resolution is {img_resolution} and small_resolution {small_resolution}.')
        self.z_dim, self.c_dim, self.w_dim, self.img_resolution, self.img_channels = z_dim, c_dim, w_dim, img_resolution, img_channels
        self.small_resolution = small_resolution
        self.synthesis = Synthesis(w_dim, channels, small_resolution)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **(mapping_kwargs or {}))
        later = sum(layer.affine.out_features for layer in self.synthesis.layers()[self.synthesis.first_later:])
        self.preview = Preview(channels[self.synthesis.half_way], later)

    def forward(self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1, noise_mode: str = 'const', **unused) -> Tensor:
        return self.synthesis(self.mapping(z, c, truncation_psi=truncation_psi))
