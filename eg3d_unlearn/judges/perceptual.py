"""LPIPS, the learned perceptual distance of Zhang et al. (CVPR 2018, arXiv 1801.03924), version 0.1.

The linear heads come with the package ``lpips``; the trunk is torchvision's classifier, whose weight file
``weights.find`` looks for.  Results and gradients equal the package's.  What the package lacks: the features of a
constant target can be kept, only pictures collect gradients, and a pixel without any feature has gradient 0, not NaN.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eg3d_unlearn.judges import weights as weight_files
from eg3d_unlearn.judges.resample import resample
from torch_utils_ext.errors import InputError

NETS = {'vgg': 'vgg16', 'alex': 'alexnet', 'squeeze': 'squeezenet'}  # name here -> name in the weight registry

# ImageNet's mean and standard deviation, carried over from [0, 1] to pictures in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10  # beside the norm that features are divided by


class Perceptual(Protocol):
    """What `Lpips` offers: features once, compared as often as needed."""
    def features(self, images: Tensor) -> list[Tensor]: ...
    def compare(self, a: list[Tensor], b: list[Tensor]) -> Tensor: ...


class Lpips(nn.Module):
    """The distance as a frozen module.

    Attributes:
        net: 'vgg', 'alex' or 'squeeze'.
        resolution: pixels to which pictures are brought first; None = as they come.
        source: the file of the trunk's weights; None for an untrained trunk.
    """

    def __init__(
        self,
        net: str = 'vgg',                   # trunk: 'vgg' | 'alex' | 'squeeze'
        weights: str | Path | None = None,  # file of the trunk's weights; None = the cache, else a checked download
        resolution: int | None = None,      # pixels; pictures are resampled to this side first; None = as they come
        device: torch.device | str = 'cpu',
        random_weights: bool = False,       # untrained trunk: for tests and timings, the distance means nothing
        seed: int = 0,                      # of the untrained trunk
        download: bool = True,              # fetch a missing trunk where a checked address is known
    ):
        super().__init__()
        if net not in NETS:
            raise InputError(f'--lpips-net={net} is not known; expected {", ".join(NETS)}.')
        self.net, self.resolution = net, resolution
        self.trunk = _TRUNKS[net]().to_empty(device='cpu')
        self.source = None
        if random_weights:
            _fill_randomly(self.trunk, seed)
        else:
            self.source = weight_files.find(NETS[net], weights, download)
            state = weight_files.load_state(self.source)
            weight_files.load_into(self.trunk, state, self.source, ignore=('classifier.',))
        self.register_buffer('shift', torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer('scale', torch.tensor(SCALE).view(1, 3, 1, 1))
        self.heads = nn.ParameterList(_load_heads(net))
        # Channels-last saves oneDNN a reordering around every convolution.
        self.eval().requires_grad_(False).to(device=device, memory_format=torch.channels_last)

    def features(
        self,
        images: Tensor,  # [N, 3, H, W] float in [-1, 1], RGB
    ) -> list[Tensor]:   # per tapped layer [N, C, H', W'] float32, unit norm over C
        """What a constant side of a comparison needs to compute only once (under ``torch.no_grad()``)."""
        dtype = self.shift.dtype
        images = resample(images, self.resolution) if self.resolution else images
        tapped = self.trunk((images.to(dtype) - self.shift) / self.scale)
        # Under autocast the trunk answers in half precision, where a sum of squares may overflow.
        return [_UnitNorm.apply(feature.to(dtype)) for feature in tapped]

    def compare(
        self,
        a: list[Tensor],  # features of N pictures
        b: list[Tensor],  # features of N pictures
    ) -> Tensor:          # [N] float32, >= 0
        """Sum over layers of the weighted squared difference, averaged over pixels (equation 1 of the paper)."""
        return torch.stack([_Distance.apply(*layer) for layer in zip(a, b, self.heads, strict=True)]).sum(0)

    def forward(
        self,
        a: Tensor,  # [N, 3, H, W] float in [-1, 1], RGB
        b: Tensor,  # [N, 3, H, W] the same
    ) -> Tensor:    # [N] float32, >= 0; 0 for equal pictures
        """LPIPS of pairs of pictures.  A side that needs no gradient is computed without one."""
        return self.compare(self._side(a), self._side(b))

    def _side(self, images: Tensor) -> list[Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
            return self.features(images)


class _UnitNorm(torch.autograd.Function):
    """Features divided by their norm over the channels, with gradient 0 where all of them are 0."""

    @staticmethod
    def forward(ctx, x):
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        ctx.save_for_backward(x, norm)
        return x / (norm + EPSILON)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, norm = ctx.saved_tensors
        inverse = 1 / (norm + EPSILON)
        along = (grad * x).sum(1, keepdim=True) * inverse.square() / norm.clamp(min=torch.finfo(norm.dtype).tiny)
        return (grad * inverse).addcmul_(x, along, value=-1)


class _Distance(torch.autograd.Function):
    """Weighted squared difference of two feature maps, averaged over pixels, in few passes over memory."""

    @staticmethod
    def forward(ctx, a, b, head):
        difference = a - b
        ctx.save_for_backward(difference, head)
        return torch.einsum('nchw,c->n', difference.square(), head) / difference[0, 0].numel()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        difference, head = ctx.saved_tensors
        factor = 2 / difference[0, 0].numel() * grad.view(-1, 1, 1, 1) * head.view(1, -1, 1, 1)
        to_a = difference * factor
        return to_a if ctx.needs_input_grad[0] else None, -to_a if ctx.needs_input_grad[1] else None, None


class _Trunk(nn.Module):
    """The convolutional part of a torchvision classifier, its layers numbered as in torchvision's weight files."""

    def __init__(self, layers: list[nn.Module], taps: tuple[int, ...]):
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.taps = taps

    def forward(
        self,
        x: Tensor,        # [N, 3, H, W] standardised
    ) -> list[Tensor]:    # per tap [N, C, H', W'] >= 0
        tapped = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                tapped.append(x)
        return tapped


def _vgg16() -> _Trunk:
    """13 convolutions of 3x3 (Simonyan and Zisserman 2015, table 1 D), tapped before each pooling."""
    layers, channels = [], 3
    with torch.device('meta'):
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
    return _Trunk(layers, taps=(3, 8, 15, 22, 29))


def _alexnet() -> _Trunk:
    """Five convolutions (Krizhevsky 2014, 'one weird trick'), each tapped."""
    with torch.device('meta'):
        layers = [
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True)]
    return _Trunk(layers, taps=(1, 4, 7, 9, 11))


class _Fire(nn.Module):
    """SqueezeNet's unit: a 1x1 convolution to few channels, then 1x1 and 3x3 ones side by side."""

    def __init__(self, channels: int, narrow: int, wide: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, wide, 1)
        self.expand3x3 = nn.Conv2d(narrow, wide, 3, padding=1)

    def forward(
        self,
        x: Tensor,  # [N, C, H, W]
    ) -> Tensor:    # [N, 2 * wide, H, W] >= 0
        x = self.squeeze(x).relu_()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu_()


def _squeezenet() -> _Trunk:
    """SqueezeNet 1.1 (Iandola et al. 2016), tapped before each pooling and after each of the last four units."""
    with torch.device('meta'):
        layers = [
            nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True),
            _Fire(64, 16, 64), _Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True),
            _Fire(128, 32, 128), _Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True),
            _Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256)]
    return _Trunk(layers, taps=(1, 4, 7, 9, 10, 11, 12))


_TRUNKS = {'vgg': _vgg16, 'alex': _alexnet, 'squeeze': _squeezenet}


@torch.no_grad()
def _fill_randomly(trunk: nn.Module, seed: int):
    """He-scaled weights and no biases: every layer's features keep their size."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in trunk.parameters():
        if parameter.ndim == 1:
            parameter.zero_()
        else:
            fan_in = parameter[0].numel()
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5)


def _load_heads(
    net: str,         # 'vgg' | 'alex' | 'squeeze'
) -> list[Tensor]:    # per tapped layer [C] float32, >= 0
    """The linear heads out of the installed package ``lpips``, which need not be imported for it."""
    package = importlib.util.find_spec('lpips')
    if package is None:
        raise InputError('The perceptual distance needs the package lpips. Install it with: pip install lpips')
    path = Path(package.origin).parent / 'weights' / 'v0.1' / f'{net}.pth'
    if not path.is_file():
        raise InputError(f'The package lpips lacks {path}. Reinstall it with: pip install --force-reinstall lpips')
    state = weight_files.load_state(path)
    return [state[f'lin{index}.model.1.weight'].flatten() for index in range(len(state))]
