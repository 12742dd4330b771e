"""A checkout of NVIDIA's code beside this package: finding it, importing from it, taking CUDA kernels from it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from torch_utils_ext.errors import InputError

ENVIRONMENT = 'EG3D_DIR'
# What every checkout has: the operations, and the package that they import.
MARKS = (Path('torch_utils') / 'ops' / 'bias_act.py', Path('dnnlib') / '__init__.py')
# The kernels are not compiled for other types, bfloat16 among them.
KERNEL_DTYPES = (torch.float16, torch.float32, torch.float64)

_kernels: dict[str, Callable] = {}


def find_upstream(folder: str | os.PathLike | None) -> Path | None:
    """The checkout in ``folder``, else the one that EG3D_DIR names, else None.

    EG3D's own repository keeps the code one folder down; its top is accepted, too.  Raises InputError where the named
    folder is no checkout.
    """
    source, name = '--upstream', folder
    if not folder:
        source, name = ENVIRONMENT, os.environ.get(ENVIRONMENT)
    if not name:
        return None
    for candidate in (Path(name), Path(name) / 'eg3d'):
        if all((candidate / mark).is_file() for mark in MARKS):
            return candidate.resolve()
    what = 'has neither' if Path(name).is_dir() else 'is no folder; there is neither'
    raise InputError(
        f'{source}={name} {what} {MARKS[0].as_posix()} nor {MARKS[1].as_posix()}: expected a checkout of EG3D (its '
        f'folder eg3d), StyleGAN2-ADA or StyleGAN3.'
    )


@contextlib.contextmanager
def importing(folder: Path) -> Iterator[None]:
    """Here ``import`` finds the checkout first, and what newer Python packages dropped has a stand-in."""
    stand_ins = {name: module for name, module in _stand_ins().items() if not _importable(name)}
    sys.path.insert(0, str(folder))
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        for name in stand_ins:
            sys.modules.pop(name, None)


def import_upstream(folder: Path, name: str) -> ModuleType:
    """Module ``name`` of the checkout, e.g. ``torch_utils.ops.bias_act``; ImportError if another is in its place."""
    with importing(folder):
        module = importlib.import_module(name)
    origin = Path(getattr(module, '__file__', None) or '').resolve()
    if folder.resolve() not in origin.parents:
        raise ImportError(f'{name} comes from {origin}, not from {folder}')
    return module


def kernel(name: str, x: Tensor | None = None) -> Callable | None:
    """Upstream's operation ``name`` if `ops.select_ops` chose it and it can work on ``x``, else None."""
    if name not in _kernels:
        return None
    if x is not None and (not x.is_cuda or x.dtype not in KERNEL_DTYPES):
        return None
    if torch.is_autocast_enabled('cuda') and torch.get_autocast_dtype('cuda') not in KERNEL_DTYPES:
        return None
    return _kernels[name]


def use_kernels(kernels: dict[str, Callable]) -> None:
    """Replace what `kernel` gives; an empty dictionary goes back to plain PyTorch."""
    _kernels.clear()
    _kernels.update(kernels)


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _stand_ins() -> dict[str, ModuleType]:
    """The two functions that upstream takes from packages that are gone."""
    from torch.torch_version import TorchVersion

    distutils, util, resources = ModuleType('distutils'), ModuleType('distutils.util'), ModuleType('pkg_resources')
    util.__dict__['strtobool'] = lambda text: int(text.lower() in ('y', 'yes', 't', 'true', 'on', '1'))
    distutils.__dict__['util'] = util
    resources.__dict__['parse_version'] = TorchVersion
    return {'distutils': distutils, 'distutils.util': util, 'pkg_resources': resources}
