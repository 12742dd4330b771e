"""A user's own network as a TorchScript file.  Such a file is a program of its author: it may read and write any file, and so
it is loaded only where the user says so."""
from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import did_you_mean, is_file, open_file, shown

TRUST = '--trust-file'


class Unoptimised(nn.Module):
    """Runs TorchScript as written: its optimiser changes roundings after the first calls; a resumed run must not."""

    def __init__(self, module: nn.Module, **options):
        super().__init__()
        self.module, self.options = module, options

    def forward(self, pictures: Tensor) -> Tensor:
        with torch.jit.optimized_execution(False):
            return self.module(pictures, **self.options)


def load_program(
    path: str | Path,
    option: str,                     # that named the file, for the error: '--id-network'
    names: tuple[str, ...],          # what else the option takes, for the error
    weights: str,                    # where files of weights belong, for the error
    device: torch.device | str,
    trust: bool,                     # the user's word that the file's code may run
) -> nn.Module:
    """The module of a TorchScript file.

    Raises:
        InputError: no such file, another kind of file, one that the user did not say to trust.
    """
    path = Path(os.path.expanduser(path))
    named = f'{option}={shown(path, 300)}'
    if not is_file(path):
        raise InputError(f'{named} is neither one of {", ".join(names)}, nor a file. Expected a TorchScript file '
                         f'(torch.jit.save).{did_you_mean(str(path), names)}')
    if not is_torchscript(path):
        raise InputError(f'{named} is not a TorchScript file. Save the network with torch.jit.script or torch.jit.trace and torch.jit.save; '
                         f'{weights}.')
    if not trust:
        raise InputError(f'{named} is a TorchScript file, which is a program: loading it runs code of its author, who could read and write your '
                         f'files. Add {TRUST} if you trust it.')
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='.*torch.jit.load')  # new torch calls the format deprecated
            return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise InputError(f'{named} cannot be loaded: {reason_of(error)}.') from None


def is_torchscript(path: Path) -> bool:
    """Whether a file is a zip with code in it, as torch.jit.save writes."""
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            return any('/code/' in name for name in archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def try_out(
    network: Callable[[Tensor], Tensor],
    pictures: Tensor,                # [2, 3, H, W]
    named: str,                      # option and file, for the error
    expected: str,                   # what the network should do, for the error
) -> Tensor:                         # [2, D]
    """What the network makes of two pictures; InputError unless these are two finite vectors."""
    shape = list(pictures.shape)
    try:
        out = network(pictures)
    except Exception as error:       # whatever the user's program raises
        raise InputError(f'{named} fails on pictures {shape} ({reason_of(error)}); {expected}.') from None
    if not isinstance(out, Tensor) or out.ndim != 2 or out.shape[0] != 2 or not out.is_floating_point():
        got = f'{out.dtype} {list(out.shape)}' if isinstance(out, Tensor) else type(out).__name__
        raise InputError(f'{named} maps {shape} to {got}; {expected}.')
    if not out.isfinite().all() or (out == 0).all(1).any():
        raise InputError(f'{named} gives NaN, infinite or zero vectors; {expected}.')
    return out


def reason_of(error: Exception) -> str:
    """The last line of what a program complained about."""
    lines = str(error).strip().splitlines()
    return shown(lines[-1], 200) if lines else type(error).__name__
