"""Networks of classes that we do not know, loaded by the checkout's own loader when the user trusts the file to it."""
from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn

from eg3d_unlearn.generators.families import adapters
from eg3d_unlearn.generators.generator import Generator
from torch_utils_ext.errors import InputError
from torch_utils_ext.upstream import find_upstream, importing
from torch_utils_ext.user_files import shown

SIZES = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels')


def load_trusted(path: Path, upstream: str | None) -> tuple[nn.Module, str]:
    """G_ema of a pickle through ``legacy.load_network_pkl`` of the checkout, and the family that it behaves like.

    This runs code from the file: it is what ``--trust-pickle`` asks for, and nothing else calls it.
    """
    folder = find_upstream(upstream)
    if folder is None or not (folder / 'legacy.py').is_file():
        raise InputError(f'--trust-pickle needs an NVIDIA checkout with legacy.py, whose loader then runs the code of the file; '
                         f'--upstream={shown(upstream)} is none.')
    try:
        with importing(folder):
            import legacy
            with open(path, 'rb') as file:
                try:
                    network = legacy.load_network_pkl(file)['G_ema']
                except (AssertionError, KeyError):       # it insists on D and G, which a file with G_ema alone has not
                    file.seek(0)
                    network = pickle.load(file)['G_ema']
    except Exception as error:       # whatever the file's own code raises
        raise InputError(f'The loader of {folder} could not open {shown(path, 300)}: {type(error).__name__}: '
                         f'{shown(error, 300)}') from error
    network = network.eval().requires_grad_(False)
    if lacking := [name for name in SIZES if type(getattr(network, name, None)) is not int]:
        raise InputError(f'{type(network).__name__} in {shown(path)} has no {lacking[0]}, or not as one whole number: only networks that make '
                         'square pictures, with the attributes of NVIDIA\'s generators, are supported.')
    for kind in adapters().values():
        if (found := kind.trusted(network)) is not None:
            return found, kind.family
    raise InputError(f'{type(network).__name__} in {path} has neither backbone, superresolution and rendering_kwargs (EG3D) nor '
                     'mapping and synthesis (StyleGAN), so GUIDE cannot be run on it.')


@torch.no_grad()
def check_picture(generator: Generator) -> None:
    """Have one picture made, so that a fork that paints otherwise, or cannot be run in our way, is refused before anything is written."""
    side = generator.img_resolution
    try:
        shape = tuple(generator.synthesize(generator.map_seed(0)).image.shape)
    except Exception as error:       # whatever the checkout's or the file's own code raises
        raise InputError(f'The checkout\'s own code could not make a picture: {type(error).__name__}: {shown(error)}. This fork\'s generator '
                         'is called otherwise than NVIDIA\'s, and is not supported.') from error
    if shape != (1, 3, side, side):
        raise InputError(f'The network makes pictures of {" x ".join(map(str, shape[2:]))} pixels and {shape[1]} channels, with an '
                         f'img_resolution of {side}; only square pictures of 3 channels are supported.')
