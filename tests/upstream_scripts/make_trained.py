"""Makes a pickle as training leaves it, with NVIDIA's code: make_trained.py KIND OUT.pkl [CLASS] (inside a checkout).

KIND is eg3d, stylegan2-ada, stylegan2 or stylegan3-t.  CLASS makes a fork of the generator under that name: it has a
learned tint that the original has not, and its source is in no checkout, only in the pickle.
"""

import copy
import importlib
import pickle
import sys
import tempfile
from pathlib import Path

import dnnlib
import numpy as np
import torch
from make import RENDERING
from show import CAMERA
from training.augment import AugmentPipe

FORK_EG3D = """
import torch
from torch_utils import persistence
from training.triplane import TriPlaneGenerator as Original

@persistence.persistent_class
class {name}(Original):
    def __init__(self, **options):
        super().__init__(**options)
        self.tint = torch.nn.Parameter(torch.full([1, 3, 1, 1], 0.2))

    def synthesis(self, *inputs, **options):
        shown = super().synthesis(*inputs, **options)
        return dict(shown, image=shown['image'] + self.tint)
"""
FORK_2D = """
import torch
from torch_utils import persistence
from training.{module} import Generator as Original, SynthesisNetwork

@persistence.persistent_class
class TintedSynthesis(SynthesisNetwork):
    def __init__(self, **options):
        super().__init__(**options)
        self.tint = torch.nn.Parameter(torch.full([1, 3, 1, 1], 0.2))

    def forward(self, *inputs, **options):
        return super().forward(*inputs, **options) + self.tint

@persistence.persistent_class
class {name}(Original):
    def __init__(self, **options):
        super().__init__(**options)
        self.synthesis = TintedSynthesis(**self.synthesis.init_kwargs)
"""

MODULES = {'eg3d': 'triplane', 'stylegan2-ada': 'networks', 'stylegan2': 'networks_stylegan2'}


def options_of(kind: str) -> dict:
    """Arguments of a small generator: 128 pixels for EG3D, 64 for the others."""
    mapping, widths = dict(num_layers=2), dict(channel_base=1024, channel_max=32, num_fp16_res=4, conv_clamp=256)
    if kind == 'eg3d':
        rendering = dict(RENDERING, depth_resolution=8, depth_resolution_importance=8)
        narrow = dict(channel_base=1024, channel_max=16, fused_modconv_default='inference_only')
        return dict(
            z_dim=512, w_dim=512, c_dim=25, img_resolution=128, img_channels=3, mapping_kwargs=mapping, num_fp16_res=0,
            sr_num_fp16_res=4, sr_kwargs=narrow, rendering_kwargs=rendering, **narrow,
        )
    sizes = dict(z_dim=64, w_dim=64, c_dim=0, img_resolution=64, img_channels=3, mapping_kwargs=mapping)
    if kind == 'stylegan2-ada':
        return dict(sizes, synthesis_kwargs=widths)
    return dict(sizes, **widths, **(dict(num_layers=8) if kind == 'stylegan3-t' else {}))


def generator_class(kind: str, fork: str) -> type:
    module = MODULES.get(kind, 'networks_stylegan3')
    if not fork:
        name = 'TriPlaneGenerator' if kind == 'eg3d' else 'Generator'
        return getattr(importlib.import_module(f'training.{module}'), name)
    source = (FORK_EG3D if kind == 'eg3d' else FORK_2D).format(name=fork, module=module)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / 'only_in_the_pickle.py').write_text(source)
        sys.path.insert(0, folder)
        try:
            return getattr(importlib.import_module('only_in_the_pickle'), fork)
        finally:
            sys.path.remove(folder)


def discriminator(kind: str) -> torch.nn.Module:
    widths = dict(channel_base=512, channel_max=16)
    if kind == 'eg3d':
        from training.dual_discriminator import DualDiscriminator

        return DualDiscriminator(c_dim=25, img_resolution=128, img_channels=3, disc_c_noise=1.0, **widths)
    networks = importlib.import_module(f"training.{'networks' if kind == 'stylegan2-ada' else 'networks_stylegan2'}")
    return networks.Discriminator(c_dim=0, img_resolution=64, img_channels=3, **widths)


@torch.no_grad()
def train(network: torch.nn.Module) -> None:
    """What training does to the numbers that begin at zero: noise strengths, biases and the mean latent."""
    for name, parameter in network.named_parameters():
        if name.endswith(('noise_strength', 'bias')):
            parameter.add_(0.1 * torch.randn_like(parameter))
        if name.startswith("synthesis.") and name.endswith("torgb.weight"):
            parameter.mul_(0.3)  # StyleGAN2 begins glaring
    if hasattr(network, 'synthesis') and hasattr(network.synthesis, 'layer_names'):
        getattr(network.synthesis, network.synthesis.layer_names[-1]).weight.mul_(8)  # StyleGAN3 begins nearly grey
    z = torch.from_numpy(np.random.RandomState(0).randn(256, network.z_dim))
    c = torch.tensor([CAMERA]).repeat(256, 1) if network.c_dim else torch.zeros(256, 0)
    mapping = network.mapping if not hasattr(network, 'backbone') else network.backbone.mapping
    mapping.w_avg.copy_(mapping(z, c)[:, 0].mean(0))


if __name__ == '__main__':
    kind, out, *fork = sys.argv[1:]
    torch.manual_seed(0)
    generator = generator_class(kind, *fork or [''])(**dnnlib.EasyDict(options_of(kind)))
    train(generator)
    average = copy.deepcopy(generator)
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for network in (generator, average):
        if kind == 'eg3d':
            # At 64, upstream's super-resolution writes its colours into the rendering: a trap for gradients, kept for
            # the fork, whose code runs in training; otherwise the rendering is wanted for comparison.
            network.neural_rendering_resolution = 64 if fork else 32
    networks = dict(G=generator, D=discriminator(kind), G_ema=average)
    settings = dict(class_name='training.dataset.ImageFolderDataset', path='/data', use_labels=kind == 'eg3d')
    pipe = AugmentPipe(xflip=1, rotate90=1, xint=1, scale=1, brightness=1, contrast=1)
    pipe.p.fill_(0.3)
    contents = dict(
        {key: copy.deepcopy(value).eval().requires_grad_(False) for key, value in networks.items()},
        training_set_kwargs=settings,
        augment_pipe=copy.deepcopy(pipe).eval().requires_grad_(False),
    )
    with open(out, 'wb') as file:
        pickle.dump(contents, file)
