"""Who is to be forgotten: a photo, a latent file, or a seed."""
from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.generator import Generator
from torch_utils_ext.errors import InputError


def read_latent(path: Path, generator: Generator) -> Tensor:
    """The latents [K, num_ws, w_dim] float32 of an .npy, .npz or .pt file, W ([512], [1, 512]) or W+ ([K, num_ws, 512]).

    NVIDIA's projector writes .npz files with the key ``w``; a single array under any key will do.
    """
    if not path.is_file():
        raise InputError(f'The latent file {path} is not there; --latent takes an .npy, .npz or .pt file.')
    array = load_array(path)
    num_ws, w_dim = generator.num_ws, generator.w_dim
    shapes = f'[{w_dim}], [1, {w_dim}], [{num_ws}, {w_dim}] or [1, {num_ws}, {w_dim}]'
    got = list(array.shape)
    if array.dtype.kind not in 'fiu':
        raise InputError(f'The latent in {path} holds {array.dtype} values, expected numbers of shape {shapes}.')
    if array.ndim < 3:
        array = array[None] if array.ndim == 2 else array[None, None]
    if array.ndim != 3 or len(array) == 0 or array.shape[1:] not in ((1, w_dim), (num_ws, w_dim)):
        raise InputError(f'The latent in {path} has shape {got}, but this network takes {shapes}; of several photos of '
                         f'one person [photos, {num_ws}, {w_dim}].')
    if not np.isfinite(array).all():
        raise InputError(f'The latent in {path} holds NaN or infinite values. Was its inversion finished?')
    return torch.from_numpy(array.astype(np.float32)).expand(-1, num_ws, -1).clone().to(generator.device)


def load_array(path: Path) -> np.ndarray:
    """The one array of an .npy, .npz or .pt file, read without running code from it."""
    try:
        if path.suffix in ('.pt', '.pth'):
            content = torch.load(path, map_location='cpu', weights_only=True)
            arrays = {'': content} if isinstance(content, Tensor) else {k: v for k, v in dict(content).items() if isinstance(v, Tensor)}
            arrays = {key: tensor.detach().float().numpy() for key, tensor in arrays.items()}
        else:
            content = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
            arrays = {'': content} if isinstance(content, np.ndarray) else dict(content.items())
    except MemoryError:
        raise InputError(f'The latent file {path} does not fit into memory.') from None
    except OSError as error:
        raise InputError(f'The latent file {path} cannot be read: {error.strerror or error}.') from None
    except Exception as error:  # a damaged file can fail in any way inside numpy, zipfile or torch
        raise InputError(f'The latent file {path} is no .npy, .npz or .pt file with plain numbers '
                         f'({type(error).__name__}).') from None
    for key in ('w', 'ws', 'latent', 'latents'):
        if key in arrays:
            return arrays[key]
    if len(arrays) != 1:
        raise InputError(f'The latent file {path} holds {len(arrays)} arrays ({", ".join(arrays) or "none"}); expected one, or one '
                         'called w.')
    return next(iter(arrays.values()))


def digest(kind: str, given: list[str]) -> str:
    """A fingerprint of what was given, to tell whether a folder belongs to the same person; kept only until a run ends.

    ``given``: names of files, or what stands for a person itself (a seed, a person of the demo world).
    """
    found = hashlib.sha256(kind.encode())
    for value in given:
        is_file = kind != 'latent_seed' and Path(value).is_file()
        found.update(Path(value).read_bytes() if is_file else value.encode())
    return found.hexdigest()
