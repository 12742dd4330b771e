"""Face recognisers: pictures in, unit vectors out; frozen, so that gradients reach the pictures only.

A recogniser is a file here and its name in `NAMES`.  The file's ``NETWORK`` is a module class with ``input_size`` [pixels],
``box`` (alignment -> the part of a picture that it looks at), ``weights``, its `WeightFile`, and ``load_published``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.judges import weights as weight_files
from eg3d_unlearn.judges.identity import crop
from eg3d_unlearn.judges.resample import Box, resample
from eg3d_unlearn.judges.torchscript import Unoptimised, load_program, try_out
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

NAMES = ('facenet', 'arcface', 'curricularface')
ALIGNMENTS = ('eg3d', 'ffhq', 'full')


class Recogniser(nn.Module):
    """A frozen face recogniser together with the crop that it was trained on.

    Attributes:
        name: 'facenet', 'arcface', 'curricularface' or the path of a TorchScript file.
        input_size: pixels, height = width of the pictures that the network takes.
        source: the file that the weights came from; None for untrained weights.
    """

    def __init__(
        self,
        name: str,                     # what the report calls it
        network: nn.Module,            # [N, 3, input_size, input_size] in [-1, 1] -> [N, D]
        input_size: int,               # pixels
        box: Callable[[str], Box],     # alignment -> the face's box in the picture
        source: Path | None = None,    # file of the weights; None = untrained
    ):
        super().__init__()
        self.name, self.input_size, self.source = name, input_size, source
        self.network = network
        self.box = box
        self.eval().requires_grad_(False)

    def forward(
        self,
        faces: Tensor,  # [N, 3, input_size, input_size] float32 in [-1, 1], RGB
    ) -> Tensor:        # [N, D] float32, unit norm
        """Embeddings of pictures that are already cropped."""
        return F.normalize(self.network(faces))

    def embed(
        self,
        images: Tensor,  # [N, 3, H, W] float in [-1, 1], RGB, any size
        alignment: str,  # 'eg3d' | 'ffhq': how the pictures are aligned; 'full': the picture is the face crop
    ) -> Tensor:         # [N, D] float32, unit norm
        """Crop the face out, bring it to the network's size, embed it.  Wrap a constant side in ``torch.no_grad()``."""
        return self(resample(images, self.input_size, self.box(alignment)))


def load_identity(
    name_or_path: str | Path,              # 'facenet' | 'arcface' | 'curricularface' | 'none' | a TorchScript file
    weights: str | Path | None = None,     # file of the weights; None = the cache, else a checked download
    device: torch.device | str = 'cpu',
    random_weights: bool = False,          # untrained: for tests and timings, the numbers mean nothing
    trust: bool = False,                   # load a TorchScript file, WHICH RUNS CODE OF ITS AUTHOR
    option: str = '--id-network',          # that named it, for errors
) -> Recogniser | None:                    # None for 'none'
    """A recogniser by name, or any TorchScript module [N, 3, 112, 112] in [-1, 1] -> [N, D] by path.

    A TorchScript file is a program that may read and write any file: it is loaded with ``trust`` only.  It sees the same
    crop as ArcFace.

    Raises:
        InputError: unknown name, missing or foreign weights, a TorchScript file without ``trust``, a module that does not map
            pictures to vectors.
    """
    name = str(name_or_path)
    if name == 'none':
        return None
    if name not in NAMES:
        return _load_torchscript(name, device, trust, option)
    kind = network_class(name)
    source = None if random_weights else weight_files.find(kind.weights, weights)
    with torch.device('meta'):       # initial values would take a second and draw from the global generator
        network = kind()
    network = network.to_empty(device='cpu').eval()
    if source is None:
        _fill_randomly(network, kind.input_size)
    else:
        network.load_published(weight_files.load_state(source), source)
    # On a CPU channels-last saves oneDNN a reordering before and after each convolution.
    network = network.to(memory_format=torch.channels_last)
    return Recogniser(name, network, kind.input_size, kind.box, source).to(device)


def network_class(
    name: str,                       # one of NAMES
) -> Any:                            # a module class with the attributes that are named above
    """What the recogniser's file offers."""
    return importlib.import_module(f'{__name__}.{name}').NETWORK


def identity_distance(
    embedding_u: Tensor,             # [N, D] unit norm
    embedding_t: Tensor,             # [N, D] unit norm
) -> Tensor:                         # [N] in [0, 2]
    """1 - cos(id(x_u), id(x_t)) of Eq. 4."""
    return 1 - (embedding_u * embedding_t).sum(dim=1)


@torch.no_grad()
def _fill_randomly(network: nn.Module, input_size: int):
    """He-scaled weights, then the BatchNorms measured on noise pictures, so that embeddings differ between pictures."""
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for name, tensor in network.named_parameters():
        if tensor.ndim >= 2:
            fan_in = tensor[0].numel()
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / fan_in) ** 0.5)
        else:
            tensor.fill_(0 if name.endswith('bias') else 0.25)  # the slope of PReLU
    for norm in norms:
        norm.reset_running_stats()
        if norm.affine:
            norm.weight.fill_(1)
        norm.momentum = None  # running statistics = those of the one batch below
        norm.train()
    coarse = torch.rand(4, 3, 14, 14, generator=generator) * 2 - 1
    network(resample(coarse, input_size))
    network.eval()


def _load_torchscript(path: str, device: torch.device | str, trust: bool, option: str) -> Recogniser:
    """A user's own recogniser, tried at once on two pictures."""
    size = crop.ARCFACE_SIZE
    module = load_program(path, option, (*NAMES, 'none'), 'a file of weights belongs to --id-weights', device, trust)
    source = Path(os.path.expanduser(path))
    recogniser = Recogniser(str(source), Unoptimised(module), size, crop.arcface_box, source).to(device)
    faces = torch.linspace(-1, 1, 2 * 3 * size * size, device=device).sin().reshape(2, 3, size, size).requires_grad_()
    named = f'{option}={shown(path, 300)}'
    with torch.enable_grad():
        out = try_out(recogniser.network, faces, named,
                      f'expected [N, 3, {size}, {size}] in [-1, 1] -> [N, D], a finite float vector for each picture')
    if not out.requires_grad:
        raise InputError(f'{named} passes no gradient to its pictures, so that the identity loss could not work. Save it without '
                         'torch.no_grad() or detach().')
    return recogniser
