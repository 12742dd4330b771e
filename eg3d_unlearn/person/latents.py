"""Who is to be forgotten: a photo, a latent file, or a seed."""
from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.generators.generator import Generator
from torch_utils_ext.errors import InputError
from torch_utils_ext.tensor_file import read_tensors
from torch_utils_ext.user_files import is_file, read_bytes, shown

MAX_LATENT_BYTES = 1 << 30           # of a latent file; one of 18 layers has 37 kB
NAMES = ('w', 'ws', 'latent', 'latents')  # of the array that counts where a file holds several


def read_latent(path: Path, generator: Generator) -> Tensor:
    """The latents [K, num_ws, w_dim] float32 of an .npy, .npz or .pt file, W ([512], [1, 512]) or W+ ([K, num_ws, 512]).

    NVIDIA's projector writes .npz files with the key ``w``; a single array under any key will do.
    """
    if not os.path.exists(path):     # False, too, for names that the system cannot look for
        raise InputError(f'The latent file {shown(path, 300)} is not there; --latent takes an .npy, .npz or .pt file.')
    return latents_of(load_array(path), f'The latent in {shown(path, 300)}', generator).to(generator.device)


def latents_of(
    value: object,                   # of a file: a tensor or an array, else it is refused
    name: str,                       # how the sentence of an error begins
    generator: Generator,
) -> Tensor:                         # [K, num_ws, w_dim] float32, on the CPU
    """Latents of ``generator`` from numbers in W or W+."""
    num_ws, w_dim = generator.num_ws, generator.w_dim
    shapes = f'[{w_dim}], [1, {w_dim}], [{num_ws}, {w_dim}] or [1, {num_ws}, {w_dim}]'
    if isinstance(value, Tensor):    # numpy knows no bfloat16
        value = (value.detach().float() if value.is_floating_point() else value).numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in 'fiu':
        raise InputError(f'{name} holds {shown(getattr(value, "dtype", type(value).__name__))} values, expected numbers of shape {shapes}.')
    array = value[None] if value.ndim == 2 else value[None, None] if value.ndim < 2 else value
    if array.ndim != 3 or len(array) == 0 or array.shape[1:] not in ((1, w_dim), (num_ws, w_dim)):
        raise InputError(f'{name} has shape {shown(list(value.shape))}, but this network takes {shapes}; of several photos of one person '
                         f'[photos, {num_ws}, {w_dim}].')
    with np.errstate(over='ignore'):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f'{name} holds NaN or infinite values. Was its inversion finished?')
    return torch.from_numpy(array).expand(-1, num_ws, -1).clone()


def load_array(path: Path, what: str = 'latent file') -> Tensor | np.ndarray:
    """The one array of an .npy, .npz or .pt file, read without running code from it."""
    content = read_tensors(path, what, NAMES, MAX_LATENT_BYTES)
    while isinstance(content, dict):
        arrays = {key: value for key, value in content.items() if isinstance(value, (Tensor, np.ndarray, list, dict))}
        key = next((name for name in NAMES if name in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
        if key is None:
            raise InputError(f'The {what} {shown(path, 300)} holds {len(arrays)} arrays ({named(arrays)}); expected one, or one called w. '
                             'Save the one that counts, with numpy.save.')
        content = arrays[key]
        if isinstance(content, list):
            content = last_step(content, path)
    if not isinstance(content, (Tensor, np.ndarray)):
        raise InputError(f'The {what} {shown(path, 300)} holds a value of the type {type(content).__name__}; expected an array of numbers.')
    return content


def last_step(steps: list, path: Path) -> object:
    """Of the latents that ReStyle's encoders find for a photo, step by step, the last."""
    shapes = {tuple(step.shape) for step in steps if isinstance(step, (Tensor, np.ndarray))}
    if len(shapes) != 1 or len(steps) != sum(isinstance(step, (Tensor, np.ndarray)) for step in steps):
        raise InputError(f'The latent file {shown(path, 300)} holds a list of {len(steps)} entries that are not the latents of one photo, step '
                         'by step. Save the one that counts, with numpy.save.')
    return steps[-1]


def named(arrays: dict, limit: int = 5) -> str:
    """The names of a file's entries, for an error."""
    more = f' and {len(arrays) - limit} more' if len(arrays) > limit else ''
    return (', '.join(shown(key, 40) for key in list(arrays)[:limit]) or 'none') + more


def digest(kind: str, given: list[str]) -> str:
    """A fingerprint of what was given, to tell whether a folder belongs to the same person; kept only until a run ends.

    ``given``: names of files, or what stands for a person itself (a seed, a person of the demo world).
    """
    found = hashlib.sha256(kind.encode())
    for value in given:
        found.update(read_bytes(value) if kind != 'latent_seed' and is_file(value) else os.fsencode(value))
    return found.hexdigest()
