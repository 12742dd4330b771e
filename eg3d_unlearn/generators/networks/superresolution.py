"""From the neural rendering to the final picture: two StyleGAN2 blocks (Chan et al. 2022, section 4.3)."""

from __future__ import annotations

from torch import Tensor, nn

from eg3d_unlearn.generators.networks.layers import interpolate
from eg3d_unlearn.generators.networks.stylegan2 import SynthesisBlock
from torch_utils_ext.errors import InputError
from torch_utils_ext.ops import setup_filter

W_DIM = 512


class SynthesisBlockNoUp(SynthesisBlock):
    """A block whose input has its resolution already.  Its picture is a new tensor: the neural rendering stays."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, up=1, **kwargs)


class Superresolution(nn.Module):
    """Colour features and picture at ``input_resolution`` to a picture at ``output_resolution``."""

    output_resolution: int
    input_resolution: int
    channels: tuple[int, int]  # of the two blocks
    own_filter = True  # has a filter of its own in the state dict, which nothing reads

    def __init__(
        self,
        channels: int,  # colour features
        img_resolution: int,
        sr_num_fp16_res: int,  # above 0: both blocks use float16 on CUDA
        sr_antialias: bool = False,
        num_fp16_res: int = 4,  # upstream hands these four over and ignores them
        conv_clamp: float | None = None,
        channel_base: int | None = None,
        channel_max: int | None = None,
        **block_kwargs,  # options of SynthesisBlock
    ):
        super().__init__()
        if img_resolution != self.output_resolution:
            raise InputError(
                f'{type(self).__name__} makes pictures of {self.output_resolution} pixels; img_resolution is '
                f'{img_resolution}.'
            )
        half = sr_num_fp16_res > 0
        self.sr_antialias = sr_antialias
        block = {'w_dim': W_DIM, 'img_channels': 3, 'use_fp16': half, 'conv_clamp': 256 if half else None}
        first, second = self.channels
        # The first block doubles the resolution, too, where there are two doublings from input to output.
        doubles = self.output_resolution == 4 * self.input_resolution
        kind = SynthesisBlock if doubles else SynthesisBlockNoUp
        resolution = self.output_resolution // 2
        self.block0 = kind(channels, first, resolution=resolution, is_last=False, **block, **block_kwargs)
        self.block1 = SynthesisBlock(
            first, second, resolution=self.output_resolution, is_last=True, **block, **block_kwargs
        )
        if self.own_filter:
            self.register_buffer('resample_filter', setup_filter([1, 3, 3, 1]))

    def forward(
        self,
        rgb: Tensor,  # [N, 3, H, H] -1 to 1
        x: Tensor,  # [N, channels, H, H]
        ws: Tensor,  # [N, num_ws, 512]; the last one styles all layers
        **block_kwargs,  # noise_mode, force_fp32, generator
    ) -> Tensor:  # [N, 3, output_resolution, output_resolution] float32
        ws = ws[:, -1:].expand(-1, 3, -1)
        if x.shape[-1] != self.input_resolution:
            x = interpolate(x, self.input_resolution, self.sr_antialias)
            rgb = interpolate(rgb, self.input_resolution, self.sr_antialias)
        x, rgb = self.block0(x, rgb, ws, **block_kwargs)
        return self.block1(x, rgb, ws, **block_kwargs)[1]


class SuperresolutionHybrid8X(Superresolution):
    output_resolution, input_resolution, channels = 512, 128, (128, 64)


class SuperresolutionHybrid4X(Superresolution):
    output_resolution, input_resolution, channels = 256, 128, (128, 64)


class SuperresolutionHybrid2X(Superresolution):
    output_resolution, input_resolution, channels = 128, 64, (128, 64)


class SuperresolutionHybridDeepfp32(Superresolution):
    """As 4X, for old networks.  It never filters against aliasing; upstream's takes no such option."""

    output_resolution, input_resolution, channels = 256, 128, (128, 64)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sr_antialias = False


class SuperresolutionHybrid8XDC(Superresolution):
    output_resolution, input_resolution, channels = 512, 128, (256, 128)
    own_filter = False


MODULES: dict[str, type[Superresolution]] = {
    f'training.superresolution.{kind.__name__}': kind
    for kind in (
        SuperresolutionHybrid8XDC, SuperresolutionHybrid8X, SuperresolutionHybrid4X, SuperresolutionHybrid2X,
        SuperresolutionHybridDeepfp32,
    )
}
