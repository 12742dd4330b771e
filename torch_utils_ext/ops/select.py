"""Choose between upstream's CUDA kernels and plain PyTorch, and say which and why."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import torch

from torch_utils_ext import upstream

OPERATIONS = ('bias_act', 'upfirdn2d', 'filtered_lrelu')  # the last one is not in StyleGAN2-ADA
LOCK_SECONDS = 600  # a build takes one or two minutes; an older lock was left by one that was stopped
TOLERANCE = 1e-4  # largest difference from plain PyTorch on numbers of unit size


class _NotUsable(Exception):
    """Why upstream's kernels cannot be used here, in a few words."""


def select_ops(
    upstream_dir: str | os.PathLike | None,  # --upstream; None: the environment variable EG3D_DIR
    device: torch.device | str,
) -> str:
    """Use upstream's kernels if a checkout is named, the device is a GPU and they build; plain PyTorch otherwise.

    Returns one line for the log.  Raises InputError only for a folder that is no checkout.
    """
    upstream.use_kernels({})
    folder = upstream.find_upstream(upstream_dir)
    if torch.device(device).type != 'cuda' or not torch.cuda.is_available():
        return 'operations: plain PyTorch (no GPU)'
    if folder is None:
        return 'operations: plain PyTorch (no NVIDIA checkout named; --upstream=DIR uses its CUDA kernels)'
    try:
        kernels = _build(folder)
    except _NotUsable as reason:
        return f'operations: plain PyTorch ({reason})'
    except Exception as error:  # a compiler fails in many ways; none of them should stop the run
        return f'operations: plain PyTorch (the CUDA kernels of {folder} failed: {_first_line(error)})'
    upstream.use_kernels(kernels)
    return f"operations: CUDA kernels of {folder} ({', '.join(kernels)})"


def _build(folder: Path) -> dict[str, Callable]:
    if not _has_compiler():
        raise _NotUsable('no nvcc: install the CUDA toolkit or set CUDA_HOME to use the CUDA kernels')
    custom_ops = upstream.import_upstream(folder, 'torch_utils.custom_ops')
    custom_ops.__dict__['verbosity'] = 'none'
    kernels = {}
    for name in OPERATIONS:
        if not (folder / 'torch_utils' / 'ops' / f'{name}.py').is_file():
            continue
        _wait_for_lock(f'{name}_plugin')
        module = upstream.import_upstream(folder, f'torch_utils.ops.{name}')
        # Upstream empties this variable for the whole process.
        with _environment_kept('TORCH_CUDA_ARCH_LIST'), upstream.importing(folder):
            module._init()
        if getattr(module, '_plugin', None) is None:
            raise _NotUsable(f"{name} of {folder} did not build; see the compiler's warnings above")
        _compare(name, module)
        kernels[name] = getattr(module, name)
    return kernels


def _has_compiler() -> bool:
    homes = [os.environ.get(name) for name in ('CUDA_HOME', 'CUDA_PATH')] + ['/usr/local/cuda']
    folders = [os.path.join(home, 'bin') for home in homes if home]
    return any(shutil.which('nvcc', path=path) for path in [None, *folders])


def _wait_for_lock(plugin: str) -> None:
    """Let another build end; without this check, torch waits for ever for one that was stopped."""
    from torch.utils.cpp_extension import _get_build_directory

    try:
        folder = Path(_get_build_directory(plugin, verbose=False))
    except OSError as error:
        raise _NotUsable(f'{error}; set TORCH_EXTENSIONS_DIR to a folder that can be written') from error
    while locks := [path for path in (folder / 'lock', *folder.glob('*/lock')) if path.exists()]:
        if _age(locks[0]) > LOCK_SECONDS:
            raise _NotUsable(f'stale lock {locks[0]}: a build was stopped; delete the file to build again')
        time.sleep(1)


def _age(path: Path) -> float:
    """Seconds since the file was written; 0 if it is gone by now."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextlib.contextmanager
def _environment_kept(name: str) -> Iterator[None]:
    value = os.environ.get(name)
    try:
        yield
    finally:
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _compare(name: str, module: ModuleType) -> None:
    """Hold a kernel against plain PyTorch on the CPU."""
    from torch_utils_ext.ops import bias_act, setup_filter, upfirdn2d
    from torch_utils_ext.ops.filtered_lrelu import filtered_lrelu

    x = torch.randn([2, 3, 9, 7], generator=torch.Generator().manual_seed(0))
    b, f, taps = x[0, :, 0, 0].clone(), setup_filter([1, 3, 3, 1]), setup_filter([1, 2, 3, 4, 4, 3, 2, 1])
    examples: dict[str, tuple[Callable, list, dict]] = {
        'bias_act': (bias_act, [x, b], {'act': 'lrelu', 'clamp': 1.0}),
        'upfirdn2d': (upfirdn2d, [x, f], {'up': 2, 'padding': [2, 1, 2, 1], 'gain': 4}),
        'filtered_lrelu': (filtered_lrelu, [x, taps, taps, b], {'up': 2, 'down': 2, 'padding': [7, 6, 7, 6]}),
    }
    plain, arguments, options = examples[name]
    there = getattr(module, name)(*[a.cuda() for a in arguments], **options).cpu()
    difference = (there - plain(*arguments, **options)).abs().max().item()
    if not difference <= TOLERANCE:
        raise _NotUsable(f'{name} of the CUDA kernels differs from plain PyTorch by {difference:.1e}')


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f'{type(error).__name__}: {text[0]}' if text else type(error).__name__
