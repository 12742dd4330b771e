"""Networks whose features stand for pictures in Fréchet and kernel distances: Inception, or any of a user's."""
from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor

from eg3d_unlearn.judges import weights as weight_files
from eg3d_unlearn.judges.torchscript import Unoptimised, load_program, try_out
from eg3d_unlearn.worlds.registry import REGISTERED
from torch_utils_ext.download import sha256_of
from torch_utils_ext.user_files import shown

# The Inception of the original FID, converted by mseitzer/pytorch-fid; torch-fidelity publishes the very same bytes.
INCEPTION = weight_files.WeightFile(
    'weights-inception-2015-12-05-6726825d.pth', 'feature network of FID and KID (--features=inception)',
    'TensorFlow models: Apache-2.0; trained on ImageNet (non-commercial research terms)', '--inception-weights',
    url='https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth',
    size=95_628_359, torch_cache=True, sha256='6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2')
INCEPTION_LAYER = '2048'             # the last pooling: what FID and KID are defined on


@dataclass
class Features:
    """A feature network behind one interface."""
    name: str                        # 'inception', a world's or the file's name
    sha256: str | None               # of its weights; None = untrained
    network: Callable[[Tensor], Tensor]  # [N, 3, H, W] uint8 on the device -> [N, D]
    device: torch.device

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:   # [N, 3, H, W] uint8 -> [N, D] float32 on the CPU
        return self.network(pictures.to(self.device)).float().cpu()

    def key(self) -> dict:
        return {'features': self.name, 'sha256': self.sha256}


def inception(path: str | None, random_weights: bool, device: torch.device) -> Features:
    """The Inception-v3 of 2015 as torch-fidelity runs it, with the published weights, read without unpickling code."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Empty(FeatureExtractorInceptionV3):
        """Its constructor would fetch the weights by itself, or unpickle whatever the file holds."""

        def load_state_dict(self, *arguments, **options):
            return None

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    source = None if random_weights else weight_files.find(INCEPTION, path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)         # of untrained weights
        network = Empty('inception-v3-compat', [INCEPTION_LAYER], feature_extractor_weights_path=nothing)
    network.__class__ = FeatureExtractorInceptionV3
    if source is not None:
        weight_files.load_into(network, weight_files.load_state(source), source)
    network = network.to(device)
    return Features('inception', None if source is None else sha256_of(source), lambda pictures: network(pictures)[0], device)


def torchscript(path: str, device: torch.device, trust: bool) -> Features:
    """A user's own network, [N, 3, H, W] uint8 -> [N, D], tried at once on two pictures.

    A TorchScript file is a program that may read and write any file: it is loaded with ``trust`` only.  Of NVIDIA's
    ``inception-2015-12-05.pt``, whose plain answer is class probabilities, the features are taken.
    """
    module = load_program(path, '--features', ('inception', *REGISTERED), 'weights of Inception belong to --inception-weights', device, trust)
    network = Unoptimised(module, **({'return_features': True} if 'return_features' in str(module.forward.schema) else {}))
    pictures = (torch.arange(2 * 3 * 64 * 64, device=device) * 37 % 256).to(torch.uint8).view(2, 3, 64, 64)
    expected = 'expected [N, 3, H, W] uint8 (RGB, 0 to 255) -> [N, D], a finite float vector for each picture'
    with torch.no_grad():
        try_out(network, pictures, f'--features={shown(path, 300)}', expected)
    source = Path(os.path.expanduser(path))
    return Features(source.name, sha256_of(source), network, device)
