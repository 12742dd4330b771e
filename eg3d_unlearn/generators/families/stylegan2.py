"""StyleGAN2, by the code of stylegan2-ada-pytorch and that of stylegan3 and EG3D: GUIDE-SG2."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Backbone, Generator, NetworkClass, Output
from eg3d_unlearn.generators.networks import arguments
from eg3d_unlearn.generators.networks.arguments import Table
from eg3d_unlearn.generators.networks.stylegan2 import AdaGenerator
from eg3d_unlearn.generators.networks.stylegan2 import Generator as FlatGenerator
from eg3d_unlearn.generators.trusted import Trusted
from torch_utils_ext.errors import InputError


class StyleGAN2(Generator):
    """GUIDE-SG2."""
    family = 'stylegan2'
    classes = {
        'training.networks.Generator': NetworkClass('StyleGAN2-ADA', AdaGenerator, Table({
            **arguments.SIZES,
            'mapping_kwargs': arguments.MAPPING,
            'synthesis_kwargs': Table({name: kind for name, kind in arguments.SYNTHESIS.items() if name != 'fused_modconv_default'}),
        }, required=tuple(arguments.SIZES))),
        'training.networks_stylegan2.Generator': NetworkClass('StyleGAN2', FlatGenerator, Table(
            {**arguments.SIZES, **arguments.SYNTHESIS, 'mapping_kwargs': arguments.MAPPING}, required=tuple(arguments.SIZES))),
    }
    trainable = 'synthesis'
    features_are = ('the feature map that leaves each resolution block: with skip connections every block paints a part of '
                    'the picture itself, so no single map carries the whole person')

    @classmethod
    def trusted(cls, network: nn.Module) -> nn.Module | None:
        fits = hasattr(network, 'mapping') and hasattr(network, 'synthesis') and not hasattr(network.synthesis, 'layer_names')
        return Trusted2D(network) if fits else None

    def backbone(self, ws: Tensor) -> Backbone:        # [N, num_ws, w_dim]
        with self._casts():
            image, features = self.network.synthesis(ws, noise_mode='const', force_fp32=self._force_fp32, return_features=True)
        return Backbone(ws, [feature.float() for feature in features], image.float())

    def render(self, backbone: Backbone, camera: Tensor | None = None, rng: torch.Generator | None = None,
               raw: bool = False, half: bool = False) -> Output:
        if raw or half:
            raise InputError('--loss-resolution=raw, half and mixed need a neural rendering, which 2D networks have not. Use '
                             '--loss-resolution=full.')
        return super().render(backbone, camera, rng)


class Trusted2D(Trusted):
    """A 2D generator whose feature maps are read by hooks: the same ones that our own networks return."""

    @property
    def synthesis(self):
        return self._synthesise

    def _synthesise(self, ws: Tensor, noise_mode: str, force_fp32: bool, return_features: bool) -> tuple[Tensor, list[Tensor]]:
        features = []

        def note(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
            features.append((output[0] if isinstance(output, tuple) else output).float())
        hooks = [part.register_forward_hook(note) for part in self._parts()]
        try:
            image = self.inner.synthesis(ws, noise_mode=noise_mode, force_fp32=force_fp32)
        finally:
            for hook in hooks:
                hook.remove()
        return image, [feature for feature in features if feature.ndim == 4]

    def _parts(self) -> list[nn.Module]:
        """The blocks, which return features and picture."""
        return list(self.inner.synthesis.children())
