"""How numbers are multiplied: single precision, or faster and coarser."""
from __future__ import annotations

import contextlib
from typing import Iterator

import torch

from eg3d_unlearn.worlds.registry import World
from torch_utils_ext.errors import InputError

MKLDNN = ('conv', 'matmul')


def cpu_takes_bf16() -> bool:
    """Whether torch can be told to multiply in bfloat16 on a CPU (torch 2.9); processors without it then do as before."""
    return all(hasattr(getattr(torch.backends.mkldnn, name, None), 'fp32_precision') for name in MKLDNN)


def choose_precision(asked: str | None, world: World | None, device: torch.device) -> str:
    """The precision of a run: what was asked for, else the one that the network's world prefers on a CPU, else 'fp32'."""
    if asked is None:
        return world.precision or 'fp32' if world is not None and device.type == 'cpu' and cpu_takes_bf16() else 'fp32'
    if asked == 'bf16' and device.type == 'cpu':
        if not cpu_takes_bf16():
            raise InputError(f'--precision=bf16 on a CPU needs torch 2.9 or newer; this is {torch.__version__}. Use --precision=fp32.')
    elif asked != 'fp32' and device.type != 'cuda':
        raise InputError(f'--precision={asked} needs a CUDA GPU; this is {device.type}. Use --precision=fp32'
                         f'{" or bf16" if device.type == "cpu" else ""}.')
    return asked


@contextlib.contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Convolutions and matrix products inside multiply in ``precision``; sums and all else stay in float32.

    On a GPU 'bf16' and 'fp16' are the generator's business (autocast, its own half-precision blocks): nothing is done here.
    """
    if device.type == 'cuda':
        places = [(torch.backends.cuda.matmul, 'allow_tf32'), (torch.backends.cudnn, 'allow_tf32')]
        value = precision == 'tf32'
    elif device.type == 'cpu' and cpu_takes_bf16():
        places = [(getattr(torch.backends.mkldnn, name), 'fp32_precision') for name in MKLDNN]
        value = 'bf16' if precision == 'bf16' else 'ieee'
    else:
        places, value = [], None
    before = [getattr(place, name) for place, name in places]
    try:
        for place, name in places:
            setattr(place, name, value)
        yield
    finally:
        for (place, name), old in zip(places, before, strict=True):
            setattr(place, name, old)
