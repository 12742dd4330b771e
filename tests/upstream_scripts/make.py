"""Makes a small network pickle with NVIDIA's code: make.py KIND PROTOCOL OUT.pkl STATES.pt (inside a checkout)."""

import copy
import pickle
import sys

import dnnlib
import torch

RENDERING = dict(
    superresolution_module='training.superresolution.SuperresolutionHybrid2X',
    sr_antialias=True,
    superresolution_noise_mode='none',
    c_gen_conditioning_zero=False,
    c_scale=1.0,
    depth_resolution=4,
    depth_resolution_importance=4,
    ray_start=2.25,
    ray_end=3.3,
    box_warp=1,
    avg_camera_radius=2.7,
    avg_camera_pivot=[0, 0, 0.2],
    white_back=False,
    clamp_mode='softplus',
    disparity_space_sampling=False,
)


def make_networks(kind: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    sizes = dict(z_dim=16, w_dim=16, img_resolution=32, img_channels=3)
    widths = dict(channel_base=256, channel_max=8, num_fp16_res=4, conv_clamp=256, fp16_channels_last=True)
    mapping = dnnlib.EasyDict(num_layers=2)
    critic = dict(c_dim=0, img_resolution=32, img_channels=3, channel_base=256, channel_max=8)
    if kind == 'eg3d':
        from training.dual_discriminator import DualDiscriminator
        from training.triplane import TriPlaneGenerator

        sizes = dict(z_dim=512, w_dim=512, img_resolution=128, img_channels=3)  # its super-resolution insists on 512
        widths = dict(channel_base=256, channel_max=8, num_fp16_res=0)
        generator = TriPlaneGenerator(
            c_dim=25,
            mapping_kwargs=mapping,
            rendering_kwargs=RENDERING,
            sr_num_fp16_res=4,
            sr_kwargs=dict(widths),
            **widths,
            **sizes,
        )
        critic |= dict(c_dim=25, img_resolution=128)
        return generator, DualDiscriminator(**critic)
    if kind == 'stylegan2-ada':
        from training.networks import Discriminator, Generator

        return Generator(
            c_dim=0, mapping_kwargs=mapping, synthesis_kwargs=dnnlib.EasyDict(widths), **sizes
        ), Discriminator(**critic)
    from training.networks_stylegan2 import Discriminator

    if kind == 'stylegan2':
        from training.networks_stylegan2 import Generator

        return Generator(c_dim=0, mapping_kwargs=mapping, **widths, **sizes), Discriminator(**critic)
    from training.networks_stylegan3 import Generator

    del widths['fp16_channels_last']
    variant = dict(conv_kernel=1, use_radial_filters=True) if kind == 'stylegan3-r' else {}
    return Generator(c_dim=0, mapping_kwargs=mapping, num_layers=6, **variant, **widths, **sizes), Discriminator(
        **critic
    )


if __name__ == '__main__':
    kind, protocol, out, states = sys.argv[1:]
    torch.manual_seed(0)
    generator, discriminator = make_networks(kind)
    average = copy.deepcopy(generator)
    with torch.no_grad():
        for tensor in average.parameters():
            tensor.mul_(1.05)
    from training.augment import AugmentPipe

    networks = dict(G=generator, D=discriminator, G_ema=average)
    networks = {key: copy.deepcopy(value).eval().requires_grad_(False) for key, value in networks.items()}
    settings = dict(dnnlib.EasyDict(class_name='training.dataset.ImageFolderDataset', path='/data', use_labels=False))
    with open(out, 'wb') as file:
        pickle.dump(
            dict(networks, training_set_kwargs=settings, augment_pipe=AugmentPipe(xflip=1)),
            file,
            protocol=int(protocol),
        )
    torch.save({key: value.state_dict() for key, value in networks.items()}, states)
