"""EG3D: tri-planes from a StyleGAN2 backbone, volume rendering, super-resolution."""
from __future__ import annotations

import contextlib
from typing import Iterator

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators import cameras
from eg3d_unlearn.generators.generator import Backbone, Generator, NetworkClass, Output
from eg3d_unlearn.generators.networks import arguments
from eg3d_unlearn.generators.networks.arguments import Table
from eg3d_unlearn.generators.networks.eg3d import TriPlaneGenerator
from eg3d_unlearn.generators.trained_on import ORBITS, TrainedOn, by_options, orbit_of
from eg3d_unlearn.generators.trusted import Trusted, seeded


class EG3D(Generator):
    """Tri-planes from a StyleGAN2 backbone, volume rendering, super-resolution."""
    family = 'eg3d'
    classes = {'training.triplane.TriPlaneGenerator': NetworkClass('EG3D', TriPlaneGenerator, Table({
        **arguments.SIZES, **arguments.SYNTHESIS,
        'w_dim': arguments.one_of(512),  # that of the super-resolution
        'sr_num_fp16_res': arguments.whole(0, 16),
        'mapping_kwargs': arguments.MAPPING,
        'rendering_kwargs': arguments.RENDERING,
        'sr_kwargs': arguments.SUPERRESOLUTION,
    }, required=(*arguments.SIZES, 'rendering_kwargs')))}
    trainable = 'backbone.synthesis'
    features_are = 'the tri-planes [96, 256, 256]: all that the renderer sees of a person passes through them'
    alignment = 'eg3d'
    is_3d = has_half = True

    def __init__(self, network: nn.Module, class_label: int | None = None, precision: str = 'fp32', data: TrainedOn | None = None,
                 fov_deg: float | None = None):
        self.fov_deg = fov_deg
        self.orbit, guessed = orbit_of(network.rendering_kwargs, by_options(network.rendering_kwargs) if data is None else data)
        super().__init__(network, class_label, precision, data, fov_deg)
        self.notes += filter(None, [guessed if fov_deg is None else None])

    @classmethod
    def has_classes(cls, network: nn.Module) -> bool:
        return network.c_dim > 0 and network.c_dim != 25     # 25: a camera

    @classmethod
    def trusted(cls, network: nn.Module) -> nn.Module | None:
        if not all(hasattr(network, name) for name in ('backbone', 'superresolution', 'rendering_kwargs')):
            return None
        network.superresolution.register_forward_pre_hook(with_a_copy_of_the_rendering)
        return TrustedEG3D(network)

    @property
    def mapping_network(self) -> nn.Module:
        return self.network.backbone.mapping

    def camera(self, yaw: float, pitch: float = cameras.PITCH) -> Tensor:  # [1, 25]
        """A camera on the network's own sphere; yaw and pitch offset in radians."""
        pivot = self.network.rendering_kwargs.get('avg_camera_pivot', [0, 0, self.orbit.height])
        return cameras.look_at(yaw, pitch, list(pivot), self.orbit.radius, self.fov_deg, self.orbit.focal).to(self.device)

    @property
    def sees_like_ffhq(self) -> bool:
        """Whether the cameras are FFHQ's, which a photo's landmarks tell of."""
        ffhq = ORBITS['FFHQ']
        return abs(self.camera(0.0)[0, 16].item() - ffhq.focal) < 0.05 and abs(self.orbit.radius - ffhq.radius) < 0.05

    def frontal(self) -> Tensor:
        return self.camera(0.0, 0.0)

    def condition(self, count: int) -> Tensor:
        return self.frontal().expand(count, -1) if self.c_dim == 25 else torch.zeros([count, self.c_dim], device=self.device)

    def backbone(self, ws: Tensor) -> Backbone:        # [N, num_ws, w_dim]
        with self._casts():
            planes = self.network.planes(ws, noise_mode='const', force_fp32=self._force_fp32)
        return Backbone(ws, [planes.float()])

    def render(self, backbone: Backbone, camera: Tensor | None = None, rng: torch.Generator | None = None,
               raw: bool = False, half: bool = False) -> Output:
        camera = self.camera(0.0) if camera is None else camera.to(self.device)
        camera = camera.expand(len(backbone.ws), -1)
        with self._casts(), self._rays(half or self.is_light):
            shown = self.network.render(backbone.features[0], backbone.ws, camera, superresolve=not raw, generator=rng,
                                        jitter='fixed' if rng is None else 'random', force_fp32=self._force_fp32)
        image = shown['image_raw'] if raw else shown['image']
        return Output(image.float(), backbone.features, shown['image_depth'])

    @contextlib.contextmanager
    def _rays(self, half: bool) -> Iterator[None]:
        usual = self.network.neural_rendering_resolution
        try:
            self.network.neural_rendering_resolution = usual // 2 if half else usual
            yield
        finally:
            self.network.neural_rendering_resolution = usual


def with_a_copy_of_the_rendering(module: nn.Module, inputs: tuple) -> tuple:
    """EG3D's super-resolution writes into the picture that it is given, a view of what the backward pass still needs."""
    return (inputs[0].clone(), *inputs[1:])


class TrustedEG3D(Trusted):
    """The split into planes and rendering that `EG3D` uses, from EG3D's cached backbone."""

    def planes(self, ws: Tensor, noise_mode: str, force_fp32: bool) -> Tensor:   # [N, num_ws, w_dim] -> [N, 96, H, W]
        return self.inner.backbone.synthesis(ws, noise_mode=noise_mode, force_fp32=force_fp32)

    def render(self, planes: Tensor, ws: Tensor, c: Tensor, superresolve: bool, generator: torch.Generator | None, jitter: str,
               force_fp32: bool) -> dict[str, Tensor]:
        self.inner._last_planes = planes
        try:
            with seeded(generator):
                # Half as many rays may have been asked of this wrapper, whose attributes are not the inner network's.
                return self.inner.synthesis(ws, c, neural_rendering_resolution=self.neural_rendering_resolution,
                                            use_cached_backbone=True, force_fp32=force_fp32)
        finally:
            self.inner._last_planes = None
