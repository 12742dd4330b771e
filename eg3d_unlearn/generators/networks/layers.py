"""What the synthesis networks are made of: equalised layers, the mapping network and modulated convolution.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), called SG2 below.  Parameter names, their
order and their initial distribution are those of NVIDIA's networks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_utils_ext.ops import bias_act, conv2d_resample, setup_filter
from torch_utils_ext.ops.autocast import without_autocast


def normalize_2nd_moment(x: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:   # [...] -> the same
    """x / rms(x) along ``dim``."""
    return x * (x.square().mean(dim, keepdim=True) + eps).rsqrt()


class FullyConnectedLayer(nn.Module):
    """[N, in_features] -> [N, out_features], with the learning rate equalised by gains at run time."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str = 'linear',  # a name in torch_utils_ext.ops.activation_funcs
        lr_multiplier: float = 1,
        bias_init: float = 0,
    ):
        super().__init__()
        self.in_features, self.out_features, self.activation = in_features, out_features, activation
        self.weight = nn.Parameter(torch.randn([out_features, in_features]).div_(lr_multiplier))
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init))) if bias else None
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:   # [N, in_features] -> [N, out_features]
        weight = self.weight.to(x.dtype).t()
        # The gains go into the matrix product, so that no scaled copy of the weights is made.
        if self.bias is None:
            x = torch.addmm(x.new_zeros(1), x, weight, beta=0, alpha=self.weight_gain)
        else:
            x = torch.addmm(self.bias.to(x.dtype), x, weight, beta=self.bias_gain, alpha=self.weight_gain)
        return x if self.activation == 'linear' else bias_act(x, act=self.activation)


class MappingNetwork(nn.Module):
    """Latent z and label c to the intermediate latent w, one copy for each layer of the synthesis network."""

    def __init__(
        self,
        z_dim: int,  # 0: no latent
        c_dim: int,  # 0: no label
        w_dim: int,
        num_ws: int | None,  # None: one w, not repeated
        num_layers: int = 8,
        embed_features: int | None = None,  # size of the embedded label; None: w_dim
        layer_features: int | None = None,  # None: w_dim
        activation: str = 'lrelu',
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.998,  # of the mean of w that training tracks; None: no mean
    ):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers = num_layers
        embedded = 0 if c_dim == 0 else (w_dim if embed_features is None else embed_features)
        hidden = w_dim if layer_features is None else layer_features
        sizes = [z_dim + embedded] + [hidden] * (num_layers - 1) + [w_dim]
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embedded)
        for i in range(num_layers):
            layer = FullyConnectedLayer(sizes[i], sizes[i + 1], activation=activation, lr_multiplier=lr_multiplier)
            self.add_module(f'fc{i}', layer)
        if num_ws is not None and w_avg_beta is not None:
            self.register_buffer('w_avg', torch.zeros([w_dim]))

    def forward(
        self,
        z: Tensor | None,  # [N, z_dim]
        c: Tensor | None,  # [N, c_dim]; not read when c_dim is 0
        truncation_psi: float = 1,  # 1: w as it is; 0: the mean
        truncation_cutoff: int | None = None,  # truncate only this many of the first ws; None: all
    ) -> Tensor:  # [N, num_ws, w_dim] float32
        with without_autocast(self.fc0.weight):
            x = self._map(z, c)
        if self.num_ws is not None:
            x = x.unsqueeze(1).repeat(1, self.num_ws, 1)
        if truncation_psi == 1:
            return x
        truncated = self.w_avg.lerp(x, truncation_psi)
        if self.num_ws is None or truncation_cutoff is None:
            return truncated
        return torch.cat([truncated[:, :truncation_cutoff], x[:, truncation_cutoff:]], dim=1)

    def _map(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        parts = []
        if self.z_dim > 0:
            parts.append(normalize_2nd_moment(z.to(torch.float32)))
        if self.c_dim > 0:
            parts.append(normalize_2nd_moment(self.embed(c.to(torch.float32))))
        x = torch.cat(parts, dim=1)
        for i in range(self.num_layers):
            x = getattr(self, f'fc{i}')(x)
        return x


class Conv2dLayer(nn.Module):
    """The shortcut of residual blocks: a 1x1 convolution with equalised learning rate, and upsampling."""
    # Of upstream's, which can do more.
    activation, act_gain, conv_clamp, down, padding = 'linear', 1.0, None, 1, 0

    def __init__(self, in_channels: int, out_channels: int, up: int, resample_filter, channels_last: bool):
        super().__init__()
        self.up, self.weight_gain = up, 1 / math.sqrt(in_channels)
        self.weight = random_kernel(out_channels, in_channels, 1, channels_last)
        self.register_buffer('resample_filter', setup_filter(resample_filter))

    def forward(self, x: Tensor, gain: float) -> Tensor:   # [N, in_channels, H, W] -> [N, out_channels, H * up, W * up]
        weight = (self.weight * self.weight_gain).to(x.dtype)
        return bias_act(conv2d_resample(x, weight, self.resample_filter, up=self.up, flip_weight=self.up == 1), gain=gain)


def random_kernel(out_channels: int, in_channels: int, size: int, channels_last: bool) -> nn.Parameter:
    weight = torch.randn([out_channels, in_channels, size, size])
    return nn.Parameter(weight.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format))


def demodulation(
    weight: Tensor,  # [C_out, C_in, k, k]
    styles: Tensor,  # [N, C_in]
) -> Tensor:  # [N, C_out]
    """1 / the norm that each output channel's modulated weights have."""
    # SG2 equation 3; the squares are summed over the kernel first, so that no weights per sample are made
    return (styles.square() @ weight.square().sum((2, 3)).t() + 1e-8).rsqrt()


def modulated_conv2d(
    x: Tensor,  # [N, C_in, H, W]
    weight: Tensor,  # [C_out, C_in, k, k]
    styles: Tensor,  # [N, C_in] float32
    up: int = 1,
    padding: int = 0,
    resample_filter: Tensor | None = None,
    demodulate: bool = True,
    fused: bool | None = None,  # scale the weights (True) or the activations (False); None: what is faster
) -> Tensor:  # [N, C_out, H * up, W * up]
    """Convolution whose input channels are scaled per sample, SG2 equations 1 to 3.

    Kernels of upsampling layers are stored turned by 180 degrees.  Scaling the weights and scaling the activations
    before and after a plain convolution give the same result.  On a CPU the second is faster for every size that was
    measured; on a GPU the first saves two passes over the activations of a single sample.
    """
    if x.dtype == torch.float16 and demodulate:
        # Demodulation undoes any scale of weights and styles, so both may shrink to keep float16 from overflowing.
        weight = weight / (weight.abs().amax((1, 2, 3), keepdim=True) * math.sqrt(weight[0].numel()))
        styles = styles / styles.abs().amax(1, keepdim=True)
    scale = demodulation(weight, styles) if demodulate else None
    if fused is None:
        fused = x.is_cuda and x.shape[0] == 1
    if fused:
        return _conv_with_scaled_weights(x, weight, styles, scale, up, padding, resample_filter)
    x = x * styles.to(x.dtype)[:, :, None, None]
    x = conv2d_resample(x, weight.to(x.dtype), resample_filter, up=up, padding=padding, flip_weight=up == 1)
    return x if scale is None else x * scale.to(x.dtype)[:, :, None, None]


def _conv_with_scaled_weights(x, weight, styles, scale, up, padding, resample_filter) -> Tensor:
    n = x.shape[0]
    scales = styles[:, None, :] if scale is None else scale[:, :, None] * styles[:, None, :]  # [N, C_out or 1, C_in]
    weight = (weight * scales[..., None, None]).flatten(0, 1).to(x.dtype)
    x = x.reshape(1, -1, *x.shape[2:])
    x = conv2d_resample(x, weight, resample_filter, up=up, padding=padding, groups=n, flip_weight=up == 1)
    return x.unflatten(1, (n, -1)).squeeze(0) if n > 1 else x


def pixel_noise(
    shape: tuple[int, ...],
    generator: torch.Generator | None,  # draws on its own device; None: torch's global generator of `device`
    device: torch.device,
) -> Tensor:
    """Standard normal noise."""
    if generator is None:
        return torch.randn(shape, device=device)
    return torch.randn(shape, generator=generator, device=generator.device).to(device)


def interpolate(x: Tensor, size: int, antialias: bool) -> Tensor:
    """[N, C, H, W] -> [N, C, size, size], bilinear, pixel centres at half integers."""
    return F.interpolate(x, size=(size, size), mode='bilinear', align_corners=False, antialias=antialias)
