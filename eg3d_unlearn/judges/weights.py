"""The weight files of other people's networks: how they are found and read.  Each network's own module says what its file is.

Nothing is looked for by bare file name in the working directory, nothing without a checksum is downloaded, and nothing
is unpickled: only plain tensors are read.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import torch

from torch_utils_ext.download import default_cache, sha256_once
from torch_utils_ext.download import download as fetch
from torch_utils_ext.errors import InputError
from torch_utils_ext.tensor_file import read_tensors
from torch_utils_ext.user_files import is_file, shown


class NotHere(InputError):
    """Weights that would have to be fetched, where nothing may be."""


_fetching = True


@contextlib.contextmanager
def fetching_nothing() -> Iterator[None]:
    """While entered, `find` raises `NotHere` instead of fetching a file."""
    global _fetching
    before, _fetching = _fetching, False
    try:
        yield
    finally:
        _fetching = before


@dataclass(frozen=True)
class WeightFile:
    """One published file of weights."""

    filename: str              # as its authors call it; the name it has in the cache
    purpose: str               # what the program needs it for
    licence: str               # what its authors say about its use
    flag: str                  # command-line option that takes its path
    url: str | None = None     # direct address; None = only a page where a person can fetch it
    page: str | None = None    # that page
    size: int | None = None    # bytes; None = not known
    sha256: str | None = None  # None = not known; such a file is never downloaded by the program
    torch_cache: bool = False  # also looked for where torchvision and facenet-pytorch keep their downloads

    def is_published(self, sha256: str) -> bool | None:
        """Whether a file with this checksum is the one that the authors published; None = theirs is not known."""
        return None if self.sha256 is None else sha256 == self.sha256


def find(
    entry: WeightFile,
    path: str | Path | None = None,  # the file itself, given by the user; None = look in the cache folders
) -> Path:                           # an existing file; from the cache its size and checksum are as published
    """Where weights lie on this machine; fetched first, announced on stderr, if a checked direct address is known.

    A file that the user names is taken as it is (people retrain networks); its keys and shapes are checked when it is
    loaded.  A file from the cache must be the published one.

    Raises:
        InputError: no such file, a damaged one, or no way to fetch it; says what to fetch and where to put it.
    """
    if path is not None:
        path = Path(os.path.expanduser(path))
        if not is_file(path):
            raise InputError(f'{entry.flag}={shown(path, 300)} is not a file. {_how_to_get(entry)}')
        return path
    for folder in _folders(entry):
        candidate = folder / entry.filename
        if is_file(candidate):
            _check(candidate, entry)
            return candidate
    dest = default_cache() / entry.filename
    if not (entry.url and entry.sha256):
        raise InputError(f'The weights of the {entry.purpose} are not on this machine. {_how_to_get(entry)}')
    if not _fetching:
        raise NotHere(f'{entry.filename}, the {entry.purpose}, is not on this machine: a run fetches it ({(entry.size or 0) / 1e6:.0f} MB) from '
                      f'{entry.url}.')
    print(f'Fetching {entry.filename} ({(entry.size or 0) / 1e6:.0f} MB) from {entry.url} to {dest}', file=sys.stderr)
    try:
        return fetch(entry.url, dest, sha256=entry.sha256, size=entry.size)
    except InputError as error:
        raise InputError(f'{error} {_how_to_get(entry)}') from None


def _folders(entry: WeightFile) -> list[Path]:
    hub = Path(torch.hub.get_dir())
    theirs = [hub / 'checkpoints', hub.parent / 'checkpoints'] if entry.torch_cache else []
    return [default_cache(), *theirs]


def _check(path: Path, entry: WeightFile):
    """Raise InputError unless size and checksum of a cached file are as published."""
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise InputError(f'{path} has {size:,} bytes, expected {entry.size:,}: an unfinished or wrong '
                         f'download. Delete it. {_how_to_get(entry)}')
    if entry.sha256 is not None and (got := sha256_once(path)) != entry.sha256:
        raise InputError(f'{path} has SHA-256 {got}, expected {entry.sha256}: not the published file. '
                         f'Delete it, or give your own file with {entry.flag}=PATH. {_how_to_get(entry)}')


def _how_to_get(entry: WeightFile) -> str:
    where = entry.url or entry.page
    also = f' (or {entry.page})' if entry.url and entry.page else ''
    untrained = '' if entry.flag == '--encoder' else (
        ' For a test without weights, --random-metric-weights uses an untrained network.')
    return (f'Fetch {entry.filename} from {where}{also} and put it at {default_cache() / entry.filename}, '
            f'or give its path with {entry.flag}=PATH.{untrained}')


def load_state(
    path: str | Path,          # a file written by torch.save
) -> dict[str, torch.Tensor]:  # name -> tensor on the CPU
    """Read a state dict without running anything that the file holds.

    Raises:
        InputError: a file that is something else: a web page, an archive, a pickled module, not tensors by name.
    """
    state = load_plain(path, 'a state dict')
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f'{shown(path, 300)} holds {describe(state)}; expected a state dict, tensors by name.')
    return {str(name): value for name, value in state.items()}


def load_plain(
    path: str | Path,  # a file written by torch.save
    expected: str,     # what it should hold, for the error
) -> object:           # tensors, numbers and text in dicts, lists and tuples
    """Read what ``torch.save`` wrote, by `torch_utils_ext.tensor_file`: nothing that the file holds is run.

    Raises:
        InputError: a file that is something else: a web page, an archive, a pickled module.
    """
    try:
        return read_tensors(path, 'file of weights')
    except InputError as error:
        raise InputError(f'{error} Expected {expected}, as torch.save writes it.') from None


def describe(state: object) -> str:
    """What a file holds, in a few words for an error."""
    if isinstance(state, dict):
        return f'a dict with the entries {_names(list(state))}' if state else 'an empty dict'
    return f'a {type(state).__name__}'


def load_into(
    module: torch.nn.Module,         # its parameters and buffers are overwritten
    state: dict[str, torch.Tensor],  # by name, as load_state gives it
    source: str | Path,              # file or what it is, for the error
    ignore: tuple[str, ...] = (),    # beginnings of names in ``state`` that the module has no use for
):
    """Load a state dict whole: every missing, unexpected or wrongly shaped entry is an error that names it.

    BatchNorm's step counter ``num_batches_tracked``, which old files lack and evaluation never reads, is the exception.
    """
    given = {name: value for name, value in state.items() if not name.startswith(ignore)}
    module.load_state_dict({name: given[name] for name in check_fit(module, given, source)}, strict=False)


def build_checked(
    make: Callable[[], torch.nn.Module],  # the network that the file says it holds
    state: dict[str, torch.Tensor],  # by name, as load_state gives it
    source: str | Path,              # file or what it is, for the error
) -> torch.nn.Module:
    """A network of a file that describes it: what the file claims takes no memory before its tensors are seen to fit."""
    try:
        with torch.device('meta'):
            claimed = make()
    except Exception as error:  # arguments of any kind fail in any way inside torch
        raise InputError(f'{shown(source, 300)} describes a network that cannot be built ({type(error).__name__}).') from None
    check_fit(claimed, state, source)
    network = make()
    load_into(network, state, source)
    return network


def check_fit(module: torch.nn.Module, given: dict[str, torch.Tensor], source: str | Path) -> list[str]:
    """The names of the tensors that ``module`` takes; InputError unless they are all there and nothing else is."""
    wanted = module.state_dict()
    counter = '.num_batches_tracked'
    missing = [name for name in wanted if name not in given and not name.endswith(counter)]
    unexpected = [name for name in given if name not in wanted and not name.endswith(counter)]
    shapes = [f'{name} {list(value.shape)} instead of {list(wanted[name].shape)}'
              for name, value in given.items() if name in wanted and value.shape != wanted[name].shape]
    broken = [name for name, value in given.items() if name in wanted and value.is_floating_point() and not value.isfinite().all()]
    types = [f'{name} {value.dtype} instead of {wanted[name].dtype}' for name, value in given.items()
             if name in wanted and not name.endswith(counter) and value.is_floating_point() != wanted[name].is_floating_point()]
    faults = [f'{what}: {_names(names)}' for what, names in
              (('missing', missing), ('unexpected', unexpected), ('wrong shape', shapes), ('wrong type', types),
               ('NaN or infinite', broken)) if names]
    if faults:
        raise InputError(f'{shown(source, 300)} does not fit {type(module).__name__}: {"; ".join(faults)}.')
    return [name for name in given if name in wanted]


def _names(names: list[str], limit: int = 5) -> str:
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(shown(name) for name in names[:limit]) + more
