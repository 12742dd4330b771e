"""The demo networks that come with the package: half-precision tensors here, NVIDIA network pickles for everybody else.

    python -m eg3d_unlearn.worlds.demo.export --network=demo-eg3d --outfile=demo-eg3d.pkl
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch
from torch import Tensor

from eg3d_unlearn.judges.weights import load_state
from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.worlds.demo.recipes import NETWORKS
from torch_utils_ext.download import default_cache, make_folder, recorded, sha256_once, write_record
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_save import save_network_pickle

FOLDER = Path(__file__).parent / 'networks'
WORLD = 'eg3d_unlearn.demo'          # the "data set" that a demo network's pickle names; in files of users, so it stays


def pack(state_dict: dict[str, Tensor], path: Path) -> None:
    """Write a network's tensors in half precision."""
    halves = {name: tensor.detach().half() if tensor.is_floating_point() else tensor for name, tensor in state_dict.items()}
    write_whole(path, lambda file: torch.save(halves, file))


def shipped_state(name: str) -> dict[str, Tensor]:
    """The tensors of the demo network ``name``, float32."""
    path = FOLDER / f'{name}.pt'
    if not path.is_file():
        raise InputError(f'{path} is missing from this installation. Install the package again, or remake it: '
                         f"python -m eg3d_unlearn.worlds.demo.train {name.removeprefix('demo-')} --outdir=DIR --ship")
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in load_state(path).items()}


def write_pickle(name: str, path: Path, state_dict: dict[str, Tensor] | None = None) -> None:
    """Write a demo network as a pickle that unmodified NVIDIA tools open; ``state_dict`` None: the shipped one."""
    recipe = NETWORKS[name]
    attributes = {}
    if recipe['raw'] is not None:
        attributes = {'neural_rendering_resolution': recipe['raw'], 'rendering_kwargs': recipe['init_kwargs']['rendering_kwargs']}
    data_set = {'class_name': 'training.dataset.ImageFolderDataset', 'path': WORLD, 'resolution': recipe['init_kwargs']['img_resolution'],
                'use_labels': recipe['init_kwargs']['c_dim'] > 0, 'max_size': None, 'xflip': False}
    save_network_pickle(path, recipe['upstream_class'], recipe['init_kwargs'], state_dict or shipped_state(name), attributes, data_set)


def network_path(name: str) -> Path:
    """The pickle of a demo network in the user's cache, written on first use, and again where it was changed since."""
    source = FOLDER / f'{name}.pt'
    content = source.read_bytes() if source.is_file() else b''
    # What the package ships may change with its version: the name tells which it was made from.
    mark = hashlib.sha256(content + repr(NETWORKS[name]).encode()).hexdigest()[:12]
    path = default_cache() / f'{name}-{mark}.pkl'
    if path.is_file():
        if (checksum := recorded(path)) and sha256_once(path) == checksum:
            return path
        if checksum is not None:
            print(f'{path} is not what this package wrote there (its checksum differs) and is made anew.', file=sys.stderr)
    state = shipped_state(name)
    make_folder(path.parent)
    write_pickle(name, path, state)
    write_record(path)
    return path


def encoder_path(name: str) -> Path:
    """The encoder that comes with the demo network ``name``."""
    return FOLDER / f'{name}-encoder.pt'


def people_path(name: str) -> Path:
    """Latents of other people's photos that come with the demo network ``name``."""
    return FOLDER / f'{name}-people.pt'
