"""Memory: how many latents go through at once, and the habits of the process on Linux."""
from __future__ import annotations

import ctypes
import sys

from eg3d_unlearn.generators.generator import Generator

# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for the next step instead of handing it back to the kernel; True where that was done.

    Every step frees and allocates the same large tensors (a set of tri-planes is 25 MB).  By default each of them is
    mapped anew and its pages are faulted in one by one, which costs more than some of the arithmetic.
    """
    if not sys.platform.startswith('linux'):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:           # a C library without it, musl for one
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 100 * 2**20, M_ARENA_MAX: 1}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def batch_size(
    generator: Generator,
    asked: int = 0,                  # 0: by device
) -> int:
    """Latents that go through at once: what was asked for, else by device."""
    if asked:
        return asked
    # A GPU wants full batches and halves them by itself when memory is short. On a CPU two latents at EG3D's 512 px take
    # 6 GB, and each of them two thirds of the time of one alone.
    return 8 if generator.device.type == 'cuda' or generator.img_resolution <= 128 else 2
