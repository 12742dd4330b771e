"""The demo networks: class and init arguments, such that an unmodified NVIDIA checkout opens them."""

from __future__ import annotations

from eg3d_unlearn.worlds.demo.people import Z_DIM
from eg3d_unlearn.worlds.demo.scene import FAR, NEAR, PIVOT

CHANNELS = {'channel_base': 4096, 'channel_max': 128}
# z to w is a plain function here, which is fitted before all else.
MAPPING = {'num_layers': 3, 'lr_multiplier': 1.0}
# Pictures are a function of the latent alone: no noise inputs.
LAYERS = {'num_fp16_res': 0, 'conv_clamp': None, 'use_noise': False, 'fused_modconv_default': 'inference_only'}

RENDERING = {
    'image_resolution': 128, 'superresolution_module': 'training.superresolution.SuperresolutionHybrid2X',
    'disparity_space_sampling': False, 'clamp_mode': 'softplus', 'superresolution_noise_mode': 'none',
    'decoder_lr_mul': 1.0, 'sr_antialias': True, 'white_back': True,
    # Who is rendered depends on z only.
    'c_gen_conditioning_zero': True, 'c_scale': 0, 'gpc_reg_prob': None,
    'density_reg': 0.25, 'density_reg_p_dist': 0.004, 'reg_type': 'l1',
    'depth_resolution': 12, 'depth_resolution_importance': 12, 'ray_start': NEAR, 'ray_end': FAR, 'box_warp': 0.75,
    'avg_camera_radius': 2.7, 'avg_camera_pivot': PIVOT,
}

EG3D = {
    'upstream_class': 'training.triplane.TriPlaneGenerator', 'family': 'eg3d', 'raw': 64,
    'init_kwargs': {
        'z_dim': Z_DIM, 'c_dim': 25, 'w_dim': 512, 'img_resolution': 128, 'img_channels': 3, 'sr_num_fp16_res': 0,
        'mapping_kwargs': {**MAPPING, 'embed_features': 1}, 'rendering_kwargs': RENDERING,
        'sr_kwargs': {**CHANNELS, 'use_noise': False, 'fused_modconv_default': 'inference_only'}, **CHANNELS, **LAYERS,
    },
}

STYLEGAN2 = {
    'upstream_class': 'training.networks_stylegan2.Generator', 'family': 'stylegan2', 'raw': None,
    'init_kwargs': {
        'z_dim': Z_DIM, 'c_dim': 0, 'w_dim': 512, 'img_resolution': 64, 'img_channels': 3, 'mapping_kwargs': MAPPING,
        'channel_base': 8192, 'channel_max': 160, **LAYERS,
    },
}

NETWORKS = {'demo-eg3d': EG3D, 'demo-stylegan2': STYLEGAN2}
