"""StyleGAN3's generator, configurations T and R, under the parameter names of NVIDIA's network pickles.

Source: Karras et al., Alias-Free Generative Adversarial Networks (arXiv 2106.12423); letters and appendices cited below are
that paper's.  A picture is a sampled continuous signal: frequencies are in cycles per picture width.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eg3d_unlearn.generators.networks.layers import FullyConnectedLayer, demodulation
from eg3d_unlearn.generators.networks.stylegan2 import Generator as StyleGAN2Generator
from torch_utils_ext.errors import InputError
from torch_utils_ext.ops.autocast import without_autocast
from torch_utils_ext.ops.filtered_lrelu import filtered_lrelu


@dataclass(frozen=True)
class Signal:
    """What runs between two layers."""

    channels: int
    size: int                        # samples along each side, margin included
    sampling_rate: int               # s: samples per picture width
    cutoff: float                    # f_c: where the filters begin to fall
    half_width: float                # f_h: half of their transition band


def plan_signals(
    img_resolution: int,
    img_channels: int,
    channel_base: int,
    channel_max: int,
    num_layers: int,
    num_critical: int,
    first_cutoff: float,
    first_stopband: float,
    last_stopband_rel: float,
    margin_size: int,
) -> list[Signal]:
    """The outputs of the layers, ToRGB last: ``num_layers + 1`` signals (appendix C.2)."""
    if num_critical >= num_layers or first_cutoff >= first_stopband:
        raise InputError(f'num_critical={num_critical} of num_layers={num_layers} and first_cutoff={first_cutoff:g} of first_stopband='
                         f'{first_stopband:g} are given; expected the first of each to be the smaller one.')
    progress = np.minimum(np.arange(num_layers + 1) / (num_layers - num_critical), 1)
    last_cutoff = img_resolution / 2
    cutoffs = first_cutoff * (last_cutoff / first_cutoff) ** progress
    stopbands = first_stopband * (last_cutoff * last_stopband_rel / first_stopband) ** progress
    # The next power of two that holds the stopband, but never more than the picture itself has.
    rates = np.exp2(np.ceil(np.log2(np.minimum(2 * stopbands, img_resolution))))
    half_widths = np.maximum(stopbands, rates / 2) - cutoffs
    channels = np.rint(np.minimum(channel_base / 2 / cutoffs, channel_max)).astype(int)
    # The margin hides the picture's border from the filters; the last layer and ToRGB are cropped to the picture.
    sizes = [int(rate) + 2 * margin_size for rate in rates[:-2]] + [img_resolution] * 2
    channels[-1] = img_channels
    if channels.min() < 1 or half_widths.min() <= 0:
        raise InputError('The synthesis network has layers without channels, or filters without a transition band; expected a larger '
                         'channel_base and stopbands above the cutoffs.')
    return [Signal(int(c), size, int(rate), float(cutoff), float(half_width))
            for c, size, rate, cutoff, half_width in zip(channels, sizes, rates, cutoffs, half_widths, strict=True)]


class SynthesisInput(nn.Module):
    """Fourier features on a grid that the latent rotates and shifts; the first signal."""

    def __init__(self, w_dim: int, signal: Signal):
        super().__init__()
        self.signal = signal
        # Frequencies are uniform in the disc of radius f_c: the square root makes equal areas equally likely.
        angle = 2 * math.pi * torch.rand(signal.channels)
        radius = signal.cutoff * torch.rand(signal.channels).sqrt()
        self.weight = nn.Parameter(torch.randn(signal.channels, signal.channels))
        self.register_buffer('transform', torch.eye(3))      # the user's: picture coordinates to canvas coordinates
        self.register_buffer('freqs', radius.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], dim=1))
        self.register_buffer('phases', torch.rand(signal.channels) - 0.5)
        self.affine = FullyConnectedLayer(w_dim, 4)
        # At first every latent gives the identity: cosine 1, sine 0, no shift.
        nn.init.zeros_(self.affine.weight)
        self.affine.bias.data.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))

    def forward(
        self,
        w: Tensor,                   # [N, w_dim] float32
    ) -> Tensor:                     # [N, channels, size, size] float32
        freqs, phases = self.placed_waves(w)
        half_band = self.signal.sampling_rate / 2
        # A user's transform may enlarge frequencies beyond what the sampling carries: these fade out.
        excess = (freqs.norm(dim=2) - self.signal.cutoff) / (half_band - self.signal.cutoff)
        amplitudes = (1 - excess).clamp(0, 1)
        size = self.signal.size
        position = (torch.arange(size, device=w.device) + 0.5 - size / 2) / self.signal.sampling_rate
        horizontal = freqs[:, :, 0, None, None] * position
        vertical = freqs[:, :, 1, None, None] * position.unsqueeze(1)
        waves = torch.sin(2 * math.pi * (horizontal + vertical + phases[:, :, None, None]))
        waves = waves * amplitudes[:, :, None, None]
        mixed = (self.weight / math.sqrt(self.signal.channels)) @ waves.flatten(2)
        return mixed.reshape(len(w), self.signal.channels, size, size)

    def placed_waves(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Frequencies [N, channels, 2] and phases [N, channels] after the user's transform, the shift and the rotation."""
        t = self.affine(w)
        cosine, sine, shift_x, shift_y = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(dim=1)
        rotation = torch.stack([cosine, -sine, sine, cosine], dim=1).reshape(-1, 2, 2)
        shift = torch.stack([shift_x, shift_y], dim=1).unsqueeze(2)
        matrix = rotation @ (self.transform[:2] - shift * self.transform[2])             # [N, 2, 3]
        phases = self.phases + (self.freqs @ matrix[:, :, 2:]).squeeze(2)
        return self.freqs @ matrix[:, :, :2], phases


def modulated_conv2d(
    x: Tensor,                       # [N, in_channels, H, W] float32 or float16
    weight: Tensor,                  # [out_channels, in_channels, kernel, kernel] float32
    styles: Tensor,                  # [N, in_channels] float32
    input_gain: Tensor,              # [] float32: what brings the input to unit magnitude
    demodulate: bool,                # bring the outputs back to unit magnitude
) -> Tensor:                         # [N, out_channels, H + kernel - 1, W + kernel - 1]
    """Convolution whose input channels the styles scale.

    Styles and demodulation scale the activations, so one convolution serves the whole batch.
    """
    norms = None
    with without_autocast(x):
        if demodulate:
            # Unit norm per output channel, unit mean square per sample: both cancel, but keep float16 in its range.
            weight = weight * weight.square().sum(dim=[1, 2, 3], keepdim=True).rsqrt()
            styles = styles * styles.square().mean(dim=1, keepdim=True).rsqrt()
            norms = demodulation(weight, styles)
        x = x * (styles * input_gain).to(x.dtype)[:, :, None, None]
    x = F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] - 1)
    return x if norms is None else x * norms.to(x.dtype)[:, :, None, None]


def design_lowpass(
    taps: int,                       # length of the filter; 1 = no filter
    cutoff: float,                   # where the response falls to one half
    width: float,                    # width of the transition band
    sampling_rate: float,            # all three in cycles per picture width
    radial: bool = False,            # True: a disc in the frequency plane, else a square, applied along each axis
) -> Tensor | None:                  # [taps], radial [taps, taps], float32, sum 1; None for one tap
    """A low-pass filter with linear phase and unit gain at frequency zero (appendix C.1).

    The ideal response is a sinc in one dimension and a jinc (J1(r) / r) in two; a Kaiser window cuts it to length.
    """
    if taps == 1:
        return None
    if torch.empty(0).is_meta:       # of a network without numbers only the shape is asked
        return torch.empty([taps, taps] if radial else [taps])
    from scipy import signal, special

    window = np.kaiser(taps, signal.kaiser_beta(signal.kaiser_atten(taps, 2 * width / sampling_rate)))
    position = (np.arange(taps) - (taps - 1) / 2) / sampling_rate
    if radial:
        radius = np.maximum(2 * math.pi * cutoff * np.hypot(position[:, None], position[None, :]), 1e-9)   # 0 / 0 is 1 / 2
        response = special.j1(radius) / radius * np.outer(window, window)
    else:
        response = np.sinc(2 * cutoff * position) * window
    return torch.from_numpy(response / response.sum()).float()


class SynthesisLayer(nn.Module):
    """Convolution, then a leaky ReLU at a raised sampling rate between two low-pass filters (figure 4b)."""

    def __init__(
        self,
        w_dim: int,
        source: Signal,
        result: Signal,
        is_torgb: bool,              # 1x1, linear, unfiltered
        is_critical: bool,           # sampled at twice its cutoff: keeps a separable filter in StyleGAN3-R
        use_fp16: bool,              # half precision on CUDA
        conv_kernel: int = 3,
        filter_size: int = 6,        # taps per sample of the lower rate
        lrelu_upsampling: int = 2,   # m: the leaky ReLU's sampling rate over the higher of the two around it
        use_radial_filters: bool = False,
        conv_clamp: float | None = 256,
        magnitude_ema_beta: float = 0.999,  # read in training only
    ):
        super().__init__()
        self.source, self.result = source, result
        self.is_torgb = is_torgb
        self.use_fp16 = use_fp16
        self.conv_clamp = conv_clamp
        kernel = 1 if is_torgb else conv_kernel
        inner_rate = max(source.sampling_rate, result.sampling_rate) * (1 if is_torgb else lrelu_upsampling)
        self.up = inner_rate // source.sampling_rate
        self.down = inner_rate // result.sampling_rate
        up_taps = 1 if is_torgb or self.up == 1 else filter_size * self.up
        down_taps = 1 if is_torgb or self.down == 1 else filter_size * self.down
        radial = use_radial_filters and not is_critical

        self.weight = nn.Parameter(torch.randn(result.channels, source.channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(result.channels))
        self.register_buffer('magnitude_ema', torch.ones([]))
        self.register_buffer('up_filter', design_lowpass(up_taps, source.cutoff, 2 * source.half_width, inner_rate))
        self.register_buffer('down_filter', design_lowpass(down_taps, result.cutoff, 2 * result.half_width, inner_rate, radial))
        self.affine = FullyConnectedLayer(w_dim, source.channels, bias_init=1)

        # What the filters need to give result.size samples, less what the convolution delivers.
        needed = (result.size - 1) * self.down + up_taps + down_taps - 1
        total = needed - (source.size + kernel - 1) * self.up
        # Zeros are put behind each sample; the extra `up` moves the samples to the middle of their cells (appendix C.3).
        low = (total + self.up) // 2
        self.padding = [low, total - low] * 2

    def forward(
        self,
        x: Tensor,                   # [N, source.channels, source.size, source.size] float32 or float16
        w: Tensor,                   # [N, w_dim] float32
        force_fp32: bool = False,
    ) -> Tensor:                     # [N, result.channels, result.size, result.size]
        with without_autocast(w):
            styles = self.affine(w)
        if self.is_torgb:
            styles = styles / math.sqrt(self.weight[0].numel())
        half = self.use_fp16 and not force_fp32 and x.device.type == 'cuda'
        x = x.to(torch.float16 if half else torch.float32)
        x = modulated_conv2d(x, self.weight, styles, self.magnitude_ema.rsqrt(), demodulate=not self.is_torgb)
        if x.dtype == torch.bfloat16:
            x = x.float()            # autocast's 8 bits are too few for the filters: aliasing would come back
        return filtered_lrelu(
            x, self.up_filter, self.down_filter, self.bias.to(x.dtype), up=self.up, down=self.down, padding=self.padding,
            gain=1 if self.is_torgb else math.sqrt(2), slope=1 if self.is_torgb else 0.2, clamp=self.conv_clamp)


class SynthesisNetwork(nn.Module):
    """Latents to picture: Fourier features, ``num_layers`` layers and ToRGB, named L<index>_<size>_<channels>."""

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,         # power of two
        img_channels: int,
        channel_base: int = 32768,   # a layer has channel_base / (2 f_c) channels ...
        channel_max: int = 512,      # ... but no more than these
        num_layers: int = 14,        # without ToRGB
        num_critical: int = 2,       # last layers that are critically sampled
        first_cutoff: float = 2,
        first_stopband: float = 2 ** 2.1,
        last_stopband_rel: float = 2 ** 0.3,     # over the last cutoff
        margin_size: int = 10,       # samples outside the picture, each side
        output_scale: float = 0.25,
        num_fp16_res: int = 4,       # highest sampling rates that use half precision on CUDA
        **layer_kwargs,              # see SynthesisLayer
    ):
        super().__init__()
        self.w_dim = w_dim
        self.num_ws = num_layers + 2
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.output_scale = output_scale
        signals = plan_signals(img_resolution, img_channels, channel_base, channel_max, num_layers, num_critical,
                               first_cutoff, first_stopband, last_stopband_rel, margin_size)
        self.input = SynthesisInput(w_dim, signals[0])
        self.layer_names = []
        for index, (source, result) in enumerate(zip(signals[:1] + signals[:-1], signals, strict=True)):
            layer = SynthesisLayer(
                w_dim, source, result, is_torgb=index == num_layers, is_critical=index >= num_layers - num_critical,
                use_fp16=result.sampling_rate * 2 ** num_fp16_res > img_resolution, **layer_kwargs)
            self.layer_names.append(f'L{index}_{result.size}_{result.channels}')
            self.add_module(self.layer_names[-1], layer)

    def forward(
        self,
        ws: Tensor,                  # [N, num_ws, w_dim] float32
        noise_mode: str = 'random',  # StyleGAN3 has no noise; here so that all families are called alike
        force_fp32: bool = False,
        generator: torch.Generator | None = None,    # likewise unused
        return_features: bool = False,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """The picture [N, img_channels, img_resolution, img_resolution] float32, about -1 to 1.

        With ``return_features`` also the outputs of the layers before ToRGB, ``num_layers`` tensors [N, C, H, W] float32
        that include the margins.
        """
        if ws.shape[1:] != (self.num_ws, self.w_dim):
            raise InputError(f'ws has the shape {tuple(ws.shape)}; expected [N, {self.num_ws}, {self.w_dim}].')
        w_input, *w_layers = ws.float().unbind(dim=1)
        with without_autocast(ws):
            x = self.input(w_input)
        features = []
        for name, w in zip(self.layer_names, w_layers, strict=True):
            x = getattr(self, name)(x, w, force_fp32=force_fp32)
            features.append(x)
        image = x.float() * self.output_scale
        return (image, [feature.float() for feature in features[:-1]]) if return_features else image


class Generator(StyleGAN2Generator):
    """``training.networks_stylegan3.Generator``: latents [N, z_dim] and class labels [N, c_dim] to pictures."""
    synthesis_network, mapping_layers = SynthesisNetwork, 2
