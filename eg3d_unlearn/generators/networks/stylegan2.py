"""StyleGAN2 generators.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020).  Two upstream classes differ only in how
their options are given and in some defaults: ``training.networks.Generator`` (stylegan2-ada-pytorch) and
``training.networks_stylegan2.Generator`` (stylegan3, EG3D).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.networks.layers import (
    Conv2dLayer,
    FullyConnectedLayer,
    MappingNetwork,
    modulated_conv2d,
    pixel_noise,
    random_kernel,
)
from torch_utils_ext.errors import InputError
from torch_utils_ext.ops import activation_funcs, bias_act, setup_filter, upsample2d
from torch_utils_ext.ops.autocast import without_autocast

FILTER = (1, 3, 3, 1)
NOISE_MODES = ('random', 'const', 'none')
ARCHITECTURES = ('orig', 'skip', 'resnet')
CHANNELS_LAST_FROM = 16  # so many channels a CPU handles faster with channels last: those of tri-planes, not colours


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise, bias, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,  # pixels of the output
        *,
        up: int,  # 2: the input has half the resolution
        resample_filter,
        conv_clamp: float | None,
        channels_last: bool,
        kernel_size: int = 3,
        use_noise: bool = True,
        activation: str = 'lrelu',
    ):
        super().__init__()
        self.resolution, self.up, self.use_noise, self.activation = resolution, up, use_noise, activation
        self.conv_clamp, self.padding, self.act_gain = conv_clamp, kernel_size // 2, activation_funcs[activation].gain
        self.register_buffer('resample_filter', setup_filter(resample_filter))
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = random_kernel(out_channels, in_channels, kernel_size, channels_last)
        if use_noise:
            self.register_buffer('noise_const', torch.randn([resolution, resolution]))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))

    def forward(
        self,
        x: Tensor,  # [N, in_channels, resolution / up, resolution / up] float32 or float16
        w: Tensor,  # [N, w_dim] float32
        noise_mode: str = 'random',  # 'random', 'const' (the stored noise) or 'none'
        gain: float = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # [N, out_channels, resolution, resolution], dtype of x
        with without_autocast(w):
            styles = self.affine(w)
        x = modulated_conv2d(x, self.weight, styles, self.up, self.padding, self.resample_filter)
        noise = self._noise(len(w), noise_mode, generator, x.device)
        if noise is not None:
            x = x.add_(noise.to(x.dtype))  # x is new here, and no gradient needs it as it was
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return bias_act(x, self.bias.to(x.dtype), act=self.activation, gain=self.act_gain * gain, clamp=clamp)

    def _noise(self, n: int, mode: str, generator: torch.Generator | None, device: torch.device) -> Tensor | None:
        if mode not in NOISE_MODES:
            raise InputError(f"noise_mode is {mode!r}; expected one of {', '.join(NOISE_MODES)}.")
        if not self.use_noise or mode == 'none':
            return None
        if mode == 'const':
            return self.noise_const * self.noise_strength
        return pixel_noise((n, 1, self.resolution, self.resolution), generator, device) * self.noise_strength


class ToRGBLayer(nn.Module):
    """Modulated 1x1 convolution to colours, without demodulation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        kernel_size: int = 1,
        conv_clamp: float | None = None,
        channels_last: bool = False,
    ):
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = random_kernel(out_channels, in_channels, kernel_size, channels_last)
        self.bias = nn.Parameter(torch.zeros([out_channels]))
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)

    def forward(
        self,
        x: Tensor,  # [N, in_channels, H, W]
        w: Tensor,  # [N, w_dim] float32
        img: Tensor | None = None,  # [N, out_channels, H, W] float32: what the colours are added to
        overwrite: bool = False,  # img may become the result
    ) -> Tensor:  # [N, out_channels, H, W] float32
        with without_autocast(w):
            styles = self.affine(w) * self.weight_gain
        if x.device.type == 'cpu' and self.weight[0, 0].numel() == 1:
            return self._add_product(x, styles, img, overwrite)
        x = modulated_conv2d(x, self.weight, styles, demodulate=False)
        x = bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)
        x = x.to(dtype=torch.float32, memory_format=torch.contiguous_format)
        return x if img is None else img + x

    def _add_product(self, x: Tensor, styles: Tensor, img: Tensor | None, overwrite: bool) -> Tensor:
        """The 1x1 convolution as a matrix product, which adds to the picture while it is written."""
        last = len(self.weight) >= CHANNELS_LAST_FROM
        weight = self.weight.flatten(1) * styles[:, None]  # [N, out_channels, in_channels]
        if last:
            # [N, H * W, channels]: tri-planes are read pixel by pixel, and so they are written.
            colors, weight, bias = pixels(x), weight.transpose(1, 2), self.bias
            img = None if img is None else pixels(img)
        else:
            colors, bias = x.flatten(2), self.bias[:, None]
            img = None if img is None else img.flatten(2)
        factors = (colors.to(torch.float32), weight) if last else (weight, colors.to(torch.float32))
        with without_autocast(x):
            if self.conv_clamp is not None or img is None:
                y = torch.baddbmm(bias, *factors)
                y = y if self.conv_clamp is None else y.clamp(-self.conv_clamp, self.conv_clamp)
                y = y if img is None else img + y
            elif overwrite and not torch.is_grad_enabled():
                y = img.baddbmm_(*factors).add_(bias)
            else:  # in place on a view, autograd would copy the gradient several times
                y = torch.baddbmm(img, *factors).add_(bias)
        return y.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2) if last else y.unflatten(2, x.shape[2:])


def pixels(x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, H * W, C]
    """A view where ``x`` has channels last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


class SynthesisBlock(nn.Module):
    """The layers of one resolution, and the picture so far."""

    def __init__(
        self,
        in_channels: int,  # 0: the first block, which starts from a constant
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        *,
        is_last: bool,
        use_fp16: bool,  # on CUDA only
        up: int = 2,  # 1: the input has the block's resolution already
        architecture: str = 'skip',  # 'orig', 'skip' or 'resnet'
        resample_filter=FILTER,
        conv_clamp: float | None = 256,  # layers' output within +-conv_clamp; None: unlimited
        fp16_channels_last: bool = False,
        fused_modconv_default: bool | str = True,  # accepted for upstream's sake: the faster way is chosen anyway
        **layer_kwargs,  # options of SynthesisLayer
    ):
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise InputError(f"architecture is {architecture!r}; expected one of {', '.join(ARCHITECTURES)}.")
        self.in_channels, self.resolution, self.up, self.architecture = in_channels, resolution, up, architecture
        self.w_dim, self.img_channels, self.is_last = w_dim, img_channels, is_last
        self.use_fp16, self.channels_last = use_fp16, use_fp16 and fp16_channels_last
        self.num_conv = 1 if in_channels == 0 else 2
        self.num_torgb = int(is_last or architecture == 'skip')
        self.register_buffer('resample_filter', setup_filter(resample_filter))
        common = {'conv_clamp': conv_clamp, 'channels_last': self.channels_last}
        layer = {'w_dim': w_dim, 'resolution': resolution, **common, **layer_kwargs}
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn([out_channels, resolution, resolution]))
        else:
            # A layer that does not resample keeps the usual filter in the state dict, whatever the others use.
            filter_ = resample_filter if up > 1 else FILTER
            self.conv0 = SynthesisLayer(in_channels, out_channels, up=up, resample_filter=filter_, **layer)
        self.conv1 = SynthesisLayer(out_channels, out_channels, up=1, resample_filter=FILTER, **layer)
        if self.num_torgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim, **common)
        if in_channels != 0 and architecture == 'resnet':
            self.skip = Conv2dLayer(in_channels, out_channels, up, resample_filter, self.channels_last)

    def forward(
        self,
        x: Tensor | None,  # [N, in_channels, resolution / up, resolution / up]; None in the first block
        img: Tensor | None,  # [N, img_channels, resolution / up, resolution / up] float32
        ws: Tensor,  # [N, num_conv + num_torgb, w_dim] float32
        force_fp32: bool = False,
        **layer_kwargs,  # noise_mode, generator
    ) -> tuple[Tensor, Tensor | None]:  # [N, out_channels, resolution, resolution], picture float32
        half = self.use_fp16 and not force_fp32 and ws.device.type == 'cuda'
        # Measured: a CPU convolves large maps a fifth faster with channels last, small ones of many channels slower.
        last = self.channels_last if half else ws.device.type == 'cpu' and self.resolution >= 32
        layout = torch.channels_last if last else torch.contiguous_format
        x = self.const.expand(len(ws), -1, -1, -1) if x is None else x
        x = x.to(dtype=torch.float16 if half else torch.float32, memory_format=layout)
        x = self._layers(x, iter(ws.unbind(1)), **layer_kwargs)
        return x, self._picture(x, img, ws[:, -1])

    def _layers(self, x: Tensor, ws, **layer_kwargs) -> Tensor:
        if self.in_channels == 0:
            return self.conv1(x, next(ws), **layer_kwargs)
        if self.architecture != 'resnet':
            return self.conv1(self.conv0(x, next(ws), **layer_kwargs), next(ws), **layer_kwargs)
        y = self.skip(x, gain=math.sqrt(0.5))
        x = self.conv0(x, next(ws), **layer_kwargs)
        return y + self.conv1(x, next(ws), gain=math.sqrt(0.5), **layer_kwargs)

    def _picture(self, x: Tensor, img: Tensor | None, w: Tensor) -> Tensor | None:
        upsamples = img is not None and self.up > 1
        if upsamples:
            img = upsample2d(img, self.resample_filter, up=self.up)
        return self.torgb(x, w, img, overwrite=upsamples) if self.num_torgb else img


class SynthesisNetwork(nn.Module):
    """ws to a picture, from 4 pixels up to ``img_resolution``."""

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,  # a power of two, at least 4
        img_channels: int,
        channel_base: int = 32768,  # channels at a resolution: channel_base / resolution, at most channel_max
        channel_max: int = 512,
        num_fp16_res: int = 4,  # the highest resolutions that use float16 on CUDA
        **block_kwargs,  # options of SynthesisBlock
    ):
        super().__init__()
        if img_resolution < 4 or img_resolution & (img_resolution - 1):
            raise InputError(f'img_resolution is {img_resolution}; expected a power of two from 4 on.')
        if channel_base < img_resolution:
            raise InputError(f'channel_base is {channel_base}; expected at least {img_resolution}, one channel at the last resolution.')
        self.w_dim, self.img_resolution, self.img_channels = w_dim, img_resolution, img_channels
        self.block_resolutions = [2**i for i in range(2, img_resolution.bit_length())]
        first_fp16 = max(img_resolution * 2 // 2**num_fp16_res, 8)
        self.num_ws, in_channels = 0, 0
        for res in self.block_resolutions:
            out_channels = min(channel_base // res, channel_max)
            block = SynthesisBlock(
                in_channels, out_channels, w_dim, res, img_channels, is_last=res == img_resolution,
                use_fp16=res >= first_fp16, **block_kwargs,
            )
            self.add_module(f'b{res}', block)
            self.num_ws += block.num_conv
            in_channels = out_channels
        self.num_ws += block.num_torgb

    def forward(
        self,
        ws: Tensor,  # [N, num_ws, w_dim]
        return_features: bool = False,
        **block_kwargs,  # noise_mode, force_fp32, generator
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """[N, img_channels, img_resolution, img_resolution] float32, about -1 to 1.

        With ``return_features`` also the feature maps [N, C, res, res] float32 after each block's last convolution,
        from 4 pixels to img_resolution.
        """
        if ws.shape[1:] != (self.num_ws, self.w_dim):
            raise InputError(f'ws has the shape {tuple(ws.shape)}; expected [N, {self.num_ws}, {self.w_dim}].')
        ws = ws.to(torch.float32)
        x = img = None
        first, features = 0, []
        for res in self.block_resolutions:
            block = getattr(self, f'b{res}')
            # The last w of a block is the first of the next one: colours take part in both.
            x, img = block(x, img, ws[:, first : first + block.num_conv + block.num_torgb], **block_kwargs)
            first += block.num_conv
            if return_features:
                features.append(x.to(torch.float32))
        return (img, features) if return_features else img


class Generator(nn.Module):
    """``training.networks_stylegan2.Generator``: options of the synthesis network among the arguments."""
    synthesis_network: type[nn.Module] = SynthesisNetwork
    mapping_layers = 8               # unless the arguments say otherwise

    def __init__(
        self,
        z_dim: int,
        c_dim: int,  # classes; 0: unconditional
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict | None = None,  # options of MappingNetwork
        **synthesis_kwargs,  # options of SynthesisNetwork and of its blocks and layers
    ):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.synthesis = self.synthesis_network(w_dim, img_resolution, img_channels, **synthesis_kwargs)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **{'num_layers': self.mapping_layers, **(mapping_kwargs or {})})

    def forward(
        self,
        z: Tensor,  # [N, z_dim]
        c: Tensor | None,  # [N, c_dim]
        truncation_psi: float = 1,
        **synthesis_kwargs,
    ) -> Tensor:  # [N, img_channels, img_resolution, img_resolution]
        return self.synthesis(self.mapping(z, c, truncation_psi), **synthesis_kwargs)


class AdaGenerator(Generator):
    """``training.networks.Generator``: options of the synthesis network in a dictionary, other defaults."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict | None = None,
        synthesis_kwargs: dict | None = None,
    ):
        super().__init__(z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs,
                         **{'num_fp16_res': 0, 'conv_clamp': None, **(synthesis_kwargs or {})})
