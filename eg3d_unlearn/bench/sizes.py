"""Networks by name: class and init arguments as NVIDIA's training script would choose them, for benchmarks and trials."""
from __future__ import annotations

RENDERING = dict(
    disparity_space_sampling=False, clamp_mode='softplus', superresolution_noise_mode='none', decoder_lr_mul=1.0, sr_antialias=True,
    ray_start=2.25, ray_end=3.3, box_warp=1, avg_camera_radius=2.7, avg_camera_pivot=[0, 0, 0.2], c_gen_conditioning_zero=False, c_scale=1.0)


def eg3d(resolution: int, module: str, samples: int, channel_base: int, channel_max: int, raw: int) -> dict:
    """Class, init arguments and neural rendering resolution of an EG3D network."""
    rendering = {**RENDERING, 'image_resolution': resolution, 'superresolution_module': f'training.superresolution.{module}',
                 'depth_resolution': samples, 'depth_resolution_importance': samples}
    return dict(upstream_class='training.triplane.TriPlaneGenerator', family='eg3d', raw=raw, init_kwargs=dict(
        z_dim=512, c_dim=25, w_dim=512, img_resolution=resolution, img_channels=3, mapping_kwargs={'num_layers': 2},
        channel_base=channel_base, channel_max=channel_max, fused_modconv_default='inference_only', num_fp16_res=0, sr_num_fp16_res=4,
        conv_clamp=None, rendering_kwargs=rendering, sr_kwargs={'channel_base': channel_base, 'channel_max': channel_max,
                                                                'fused_modconv_default': 'inference_only'}))


def stylegan2(resolution: int, channel_base: int) -> dict:
    """Class and init arguments of a StyleGAN2 network."""
    return dict(upstream_class='training.networks.Generator', family='stylegan2', raw=None, init_kwargs=dict(
        z_dim=512, c_dim=0, w_dim=512, img_resolution=resolution, img_channels=3, mapping_kwargs={'num_layers': 8},
        synthesis_kwargs=dict(channel_base=channel_base, channel_max=512, num_fp16_res=4, conv_clamp=256)))


FULL = {
    'tiny': eg3d(128, 'SuperresolutionHybrid2X', 12, 2048, 64, 32),
    'ffhq512': eg3d(512, 'SuperresolutionHybrid8XDC', 48, 32768, 512, 128),
    'sg2-256': stylegan2(256, 16384),
    'sg2-1024': stylegan2(1024, 32768),
}

# Small ones of each family that a laptop trains in seconds.
TRIAL = {
    'eg3d': FULL['tiny'],
    'stylegan2': dict(upstream_class='training.networks.Generator', family='stylegan2', raw=None, init_kwargs=dict(
        z_dim=512, c_dim=0, w_dim=512, img_resolution=64, img_channels=3, mapping_kwargs={'num_layers': 2},
        synthesis_kwargs=dict(channel_base=2048, channel_max=64, num_fp16_res=0, conv_clamp=None))),
    'stylegan3': dict(upstream_class='training.networks_stylegan3.Generator', family='stylegan3', raw=None, init_kwargs=dict(
        z_dim=512, c_dim=0, w_dim=512, img_resolution=64, img_channels=3, mapping_kwargs={'num_layers': 2}, channel_base=2048,
        channel_max=64)),
}
