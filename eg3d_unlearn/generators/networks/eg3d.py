"""EG3D's generator: a StyleGAN2 that makes tri-planes, a volume renderer, a super-resolution network.

Chan et al., "Efficient Geometry-aware 3D Generative Adversarial Networks" (2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.networks.rendering import COLOR_FEATURES, Draws, ImportanceRenderer, TriplaneDecoder, camera_rays, check_options
from eg3d_unlearn.generators.networks.stylegan2 import Generator
from eg3d_unlearn.generators.networks.superresolution import MODULES
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

PLANE_RESOLUTION = 256


class TriPlaneGenerator(nn.Module):
    """``training.triplane.TriPlaneGenerator``."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,  # 25: camera to world [4, 4] and intrinsics [3, 3], row by row
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        sr_num_fp16_res: int = 0,
        mapping_kwargs: dict | None = None,
        rendering_kwargs: dict | None = None,
        sr_kwargs: dict | None = None,  # options of the super-resolution module
        **synthesis_kwargs,  # options of the backbone's synthesis network
    ):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.rendering_kwargs = dict(rendering_kwargs or {})
        check_options(self.rendering_kwargs)
        self.renderer = ImportanceRenderer()
        self.backbone = Generator(
            z_dim, c_dim, w_dim, PLANE_RESOLUTION, 3 * COLOR_FEATURES, mapping_kwargs, **synthesis_kwargs
        )
        self.superresolution = self._superresolution(img_resolution, sr_num_fp16_res, sr_kwargs or {})
        self.decoder = TriplaneDecoder(COLOR_FEATURES, COLOR_FEATURES, self.rendering_kwargs.get('decoder_lr_mul', 1))
        self.neural_rendering_resolution = 64
        self.num_ws = self.backbone.num_ws

    def _superresolution(self, img_resolution: int, sr_num_fp16_res: int, sr_kwargs: dict) -> nn.Module:
        name = self.rendering_kwargs.get('superresolution_module')
        if not isinstance(name, str) or name not in MODULES:
            raise InputError(f"superresolution_module is {shown(repr(name))}; known are {', '.join(MODULES)}.")
        antialias = self.rendering_kwargs.get('sr_antialias', False)
        return MODULES[name](COLOR_FEATURES, img_resolution, sr_num_fp16_res, antialias, **sr_kwargs)

    def mapping(
        self,
        z: Tensor,  # [N, z_dim]
        c: Tensor,  # [N, c_dim] camera that the generator is told of
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
    ) -> Tensor:  # [N, num_ws, w_dim] float32
        if self.rendering_kwargs.get('c_gen_conditioning_zero', False):
            c = torch.zeros_like(c)
        c = c * self.rendering_kwargs.get('c_scale', 0)
        return self.backbone.mapping(z, c, truncation_psi, truncation_cutoff)

    def planes(
        self,
        ws: Tensor,  # [N, num_ws, w_dim]
        noise_mode: str = 'random',  # 'random', 'const' or 'none'
        force_fp32: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # [N, 96, 256, 256] float32: the planes XY, XZ, ZX of 32 features each
        return self.backbone.synthesis(ws, noise_mode=noise_mode, force_fp32=force_fp32, generator=generator)

    def render(
        self,
        planes: Tensor,  # [N, 96, H, W]
        ws: Tensor,  # [N, num_ws, w_dim]; read by the super-resolution only
        c: Tensor,  # [N, 25] camera of the picture
        neural_rendering_resolution: int | None = None,  # rays along each side; None: as last set
        superresolve: bool = True,  # False: 'image' is None
        generator: torch.Generator | None = None,
        jitter: str = 'random',  # 'fixed': no random numbers in the renderer, see rendering.Draws
        force_fp32: bool = False,
    ) -> dict[str, Tensor | None]:
        """Picture of the planes from one camera each.

        ``image`` [N, 3, img_resolution, img_resolution] and ``image_raw`` [N, 3, R, R] about -1 to 1, ``image_depth``
        [N, 1, R, R] in units of the scene, all float32.
        """
        if neural_rendering_resolution is not None:
            self.neural_rendering_resolution = neural_rendering_resolution
        side = self.neural_rendering_resolution
        origins, directions = camera_rays(c[:, :16].view(-1, 4, 4), c[:, 16:25].view(-1, 3, 3), side)
        draws = Draws(jitter, generator)
        rendering = self.renderer(planes, self.decoder, origins, directions, self.rendering_kwargs, draws)
        features = rendering.features.transpose(1, 2).unflatten(2, (side, side)).contiguous()
        image = None
        if superresolve:
            noise_mode = self.rendering_kwargs.get('superresolution_noise_mode', 'none')
            image = self.superresolution(features[:, :3], features, ws, noise_mode=noise_mode, force_fp32=force_fp32, generator=generator)
        depth = rendering.depth.transpose(1, 2).unflatten(2, (side, side))
        return {'image': image, 'image_raw': features[:, :3], 'image_depth': depth}

    def synthesis(
        self,
        ws: Tensor,  # [N, num_ws, w_dim]
        c: Tensor,  # [N, 25]
        neural_rendering_resolution: int | None = None,
        noise_mode: str = 'random',
        force_fp32: bool = False,
        generator: torch.Generator | None = None,
        jitter: str = 'random',
        superresolve: bool = True,
    ) -> dict[str, Tensor | None]:
        """`planes`, then `render`."""
        planes = self.planes(ws, noise_mode, force_fp32, generator)
        return self.render(planes, ws, c, neural_rendering_resolution, superresolve, generator, jitter, force_fp32)
