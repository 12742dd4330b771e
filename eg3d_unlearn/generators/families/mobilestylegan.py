"""MobileStyleGAN: a small generator distilled from StyleGAN2, in the latent space of its teacher."""
from __future__ import annotations

import torch
from torch import Tensor

from eg3d_unlearn.generators.generator import Backbone, Generator, NetworkClass, Output
from eg3d_unlearn.generators.networks import arguments
from eg3d_unlearn.generators.networks.arguments import Kind, Table
from eg3d_unlearn.generators.networks.mobilestylegan import MobileStyleGAN as Network
from torch_utils_ext.errors import InputError

CHANNELS = Kind('a list of 3 to 10 whole numbers, divisible by 4', lambda value: isinstance(value, list) and 3 <= len(value) <= 10 and all(
    type(count) is int and 4 <= count <= 4096 and count % 4 == 0 for count in value))


class MobileStyleGAN(Generator):
    """A small generator distilled from StyleGAN2."""
    family = 'mobilestylegan'
    classes = {'eg3d_unlearn.MobileStyleGAN': NetworkClass('MobileStyleGAN', Network, Table(
        {**arguments.SIZES, 'c_dim': arguments.one_of(0), 'img_channels': arguments.one_of(3), 'mapping_kwargs': arguments.MAPPING,
         'small_resolution': arguments.POWER_OF_TWO, 'channels': CHANNELS}, required=(*arguments.SIZES, 'small_resolution', 'channels')))}
    trainable = 'synthesis'
    features_are = ('the feature map that leaves each block as far as the small picture reads them: one chain, of which what follows '
                    'only makes the picture larger')
    about = ("The network is MobileStyleGAN, distilled from NVIDIA's StyleGAN2 of FFHQ by others, with NVIDIA's own mapping network. It is no "
             "network of NVIDIA's: their scripts open its file only where eg3d_unlearn is installed.")
    has_half = searches_by_half = True

    def backbone(self, ws: Tensor) -> Backbone:        # [N, num_ws, w_dim]
        with self._casts():
            return Backbone(ws, [feature.float() for feature in self.network.synthesis.trunk(ws)])

    def resolution(self, half: bool = False) -> int:
        return self.network.small_resolution if half or self.is_light else self.img_resolution

    def render(self, backbone: Backbone, camera: Tensor | None = None, rng: torch.Generator | None = None,
               raw: bool = False, half: bool = False) -> Output:
        if raw:
            raise InputError('--loss-resolution=raw and mixed need a neural rendering, which 2D networks have not. Use --loss-resolution=half.')
        with self._casts():
            later = self.network.synthesis.later(backbone.ws)
            image = (self.network.preview if half or self.is_light else self.network.synthesis.whole)(backbone.features[-1], later)
        return Output(image.float(), backbone.features)
