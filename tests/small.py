"""Small networks and cheap judges, so that a test of the machinery takes a moment."""
from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import nn
from torch.nn import functional as F

from eg3d_unlearn.bench.sizes import RENDERING
from eg3d_unlearn.config import LossOptions
from eg3d_unlearn.generators.build import build_network, wrap
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.unlearning.presets import GUIDE
from torch_utils_ext.network_save import save_network_pickle

SMALL = {
    'eg3d': ('training.triplane.TriPlaneGenerator', dict(
        z_dim=16, c_dim=25, w_dim=512, img_resolution=128, img_channels=3, mapping_kwargs={'num_layers': 1}, channel_base=256,
        channel_max=8, rendering_kwargs={
            **RENDERING, 'superresolution_module': 'training.superresolution.SuperresolutionHybrid2X', 'depth_resolution': 4,
            'depth_resolution_importance': 4})),
    'stylegan2': ('training.networks.Generator', dict(
        z_dim=16, c_dim=0, w_dim=24, img_resolution=32, img_channels=3, mapping_kwargs={'num_layers': 2},
        synthesis_kwargs=dict(channel_base=256, channel_max=16))),
    'stylegan3': ('training.networks_stylegan3.Generator', dict(
        z_dim=16, c_dim=0, w_dim=24, img_resolution=32, img_channels=3, mapping_kwargs={'num_layers': 2}, channel_base=256,
        channel_max=8, num_layers=6)),
    'mobilestylegan': ('eg3d_unlearn.MobileStyleGAN', dict(
        z_dim=16, c_dim=0, w_dim=64, img_resolution=64, img_channels=3, small_resolution=32, channels=[16, 16, 8, 8],
        mapping_kwargs={'num_layers': 2, 'lr_multiplier': 1.0})),
}


def small_generator(family: str, seed: int = 0, **options) -> Generator:
    """A network of ``family`` with random weights behind its adapter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(*SMALL[family]).requires_grad_(False)
    if family == 'eg3d':
        network.neural_rendering_resolution = 16
    if family == 'mobilestylegan':   # a small picture that depends on all styles, as after a fit
        for buffer in network.preview.buffers():
            buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(seed)) / buffer.shape[-1] ** 0.5)
    return wrap(network, family, **options)


def copied(generator: Generator) -> Generator:
    """The same network once more, nothing of it shared."""
    other = copy.copy(generator)
    other.network = copy.deepcopy(generator.network)
    return other


def save_small(path: Path, family: str, network: nn.Module | None = None) -> Path:
    """The pickle of a small network: of ``network`` where it is given."""
    network = small_generator(family).network if network is None else network
    attributes = {'neural_rendering_resolution': 16, 'rendering_kwargs': network.rendering_kwargs} if family == 'eg3d' else None
    save_network_pickle(path, *SMALL[family], network.state_dict(), attributes)
    return path


def save_noise(path: Path, size: int = 64, seed: int = 0) -> Path:
    """A picture of noise: a photo of nobody."""
    PIL.Image.fromarray(np.random.RandomState(seed).randint(0, 255, (size, size, 3), np.uint8)).save(path)
    return path


class PoorMansLpips:
    """Squared difference of 8 x 8 thumbnails behind LPIPS's interface."""

    def features(self, images):
        return [F.adaptive_avg_pool2d(images, 8)]

    def compare(self, a, b):
        return (a[0] - b[0]).square().flatten(1).mean(dim=1)


def poor_mans_recogniser(images):
    """Unit vectors from 4 x 4 thumbnails."""
    return F.normalize(F.adaptive_avg_pool2d(images, 4).flatten(1), dim=1)


def poor_mans_judges(recogniser=poor_mans_recogniser) -> Judges:
    """What a loss sees with."""
    return Judges(PoorMansLpips(), recogniser, None, {})


def guide_loss(group: type = LossOptions, **changes) -> LossOptions:
    """The published settings of the loss, with ``changes``."""
    published = {field.name: GUIDE[field.name] for field in dataclasses.fields(group) if field.name in GUIDE}
    return group(**{**published, 'alpha_max': 15.0, **changes})
