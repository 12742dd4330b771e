"""StyleGAN3, alias-free."""
from __future__ import annotations

from torch import nn

from eg3d_unlearn.generators.families.stylegan2 import StyleGAN2, Trusted2D
from eg3d_unlearn.generators.generator import NetworkClass
from eg3d_unlearn.generators.networks import arguments
from eg3d_unlearn.generators.networks.arguments import Table
from eg3d_unlearn.generators.networks.stylegan3 import Generator as AliasFreeGenerator


class StyleGAN3(StyleGAN2):
    """The same for alias-free networks."""
    family = 'stylegan3'
    classes = {'training.networks_stylegan3.Generator': NetworkClass('StyleGAN3', AliasFreeGenerator, Table(
        {**arguments.SIZES, **arguments.ALIAS_FREE, 'img_resolution': arguments.whole(4, 4096), 'mapping_kwargs': arguments.MAPPING},
        required=tuple(arguments.SIZES)))}
    features_are = ('the output of each synthesis layer: one chain without skips, whose maps only together fix the picture at '
                    'every frequency')

    @classmethod
    def trusted(cls, network: nn.Module) -> nn.Module | None:
        fits = hasattr(network, 'mapping') and hasattr(network, 'synthesis') and hasattr(network.synthesis, 'layer_names')
        return TrustedAliasFree(network) if fits else None


class TrustedAliasFree(Trusted2D):
    """The same of a network with layers in a chain."""

    def _parts(self) -> list[nn.Module]:
        """The layers but ToRGB."""
        return [getattr(self.inner.synthesis, name) for name in self.inner.synthesis.layer_names[:-1]]
