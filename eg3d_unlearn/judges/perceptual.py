"""LPIPS, the learned perceptual distance of Zhang et al. (CVPR 2018, arXiv 1801.03924), version 0.1.

The linear heads come with the package ``lpips``; the trunk is torchvision's classifier.  Results and gradients equal the
package's.  What the package lacks: its weights are read without unpickling, the features of a constant target can be kept,
only pictures collect gradients, and a pixel without any feature has gradient 0, not NaN.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from eg3d_unlearn.judges import weights as weight_files
from eg3d_unlearn.judges.resample import resample
from eg3d_unlearn.judges.weights import WeightFile
from torch_utils_ext.errors import InputError


def _weights(filename: str, name: str, size: int, sha256: str) -> WeightFile:
    return WeightFile(filename, f'trunk of LPIPS (--lpips-net={name})',
                      'torchvision: BSD-3-Clause; trained on ImageNet (non-commercial research terms)', '--lpips-weights',
                      url=f'https://download.pytorch.org/models/{filename}', size=size, sha256=sha256, torch_cache=True)


class Net(NamedTuple):
    """A trunk: a classifier of torchvision's, of whose convolutions some layers are compared."""
    classifier: str            # in torchvision.models
    taps: tuple[int, ...]      # of its ``features``: the last layer before each pooling; of SqueezeNet also the last units
    weights: WeightFile


NETS = {
    'vgg': Net('vgg16', (3, 8, 15, 22, 29), _weights(
        'vgg16-397923af.pth', 'vgg', 553_433_881, '397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0')),
    'alex': Net('alexnet', (1, 4, 7, 9, 11), _weights(
        'alexnet-owt-7be5be79.pth', 'alex', 244_408_911, '7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02')),
    'squeeze': Net('squeezenet1_1', (1, 4, 7, 9, 10, 11, 12), _weights(
        'squeezenet1_1-b8a52dc0.pth', 'squeeze', 4_958_839, 'b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b')),
}

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
    ):
        super().__init__()
        if net not in NETS:
            raise InputError(f'--lpips-net={net} is not known; expected {", ".join(NETS)}.')
        self.net, self.resolution = net, resolution
        self.trunk = _Trunk(NETS[net]).to_empty(device='cpu')
        self.source = None
        if random_weights:
            _fill_randomly(self.trunk)
        else:
            self.source = weight_files.find(NETS[net].weights, weights)
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
        return [unit_norm(feature.to(dtype)) for feature in tapped]

    def compare(
        self,
        a: list[Tensor],  # features of N pictures
        b: list[Tensor],  # features of N pictures
    ) -> Tensor:          # [N] float32, >= 0
        """Sum over layers of the weighted squared difference, averaged over pixels (equation 1 of the paper)."""
        return torch.stack([distance(*layer) for layer in zip(a, b, self.heads, strict=True)]).sum(0)

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


def unit_norm(
    x: Tensor,     # [N, C, H, W]
) -> Tensor:       # [N, C, H, W]
    """Features divided by their norm over the channels; 0, with gradient 0, where all of them are 0."""
    return x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + EPSILON)


def distance(
    a: Tensor,     # [N, C, H, W] unit norm over C
    b: Tensor,     # [N, C, H, W] the same
    head: Tensor,  # [C] >= 0
) -> Tensor:       # [N] >= 0
    """Weighted squared difference of two feature maps, averaged over pixels."""
    return torch.einsum('nchw,c->n', (a - b).square(), head) / a[0, 0].numel()


class _Trunk(nn.Module):
    """The convolutional part of a torchvision classifier, named as in torchvision's weight files, without values."""

    def __init__(self, net: Net):
        super().__init__()
        import torchvision  # takes a while

        with torch.device('meta'):
            self.features = getattr(torchvision.models, net.classifier)(weights=None).features[:net.taps[-1] + 1]
        self.taps = net.taps

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


@torch.no_grad()
def _fill_randomly(trunk: nn.Module):
    """He-scaled weights and no biases: every layer's features keep their size."""
    generator = torch.Generator().manual_seed(0)
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
