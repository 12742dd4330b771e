"""One run on several GPUs: torchrun starts a process for each, the pairs of a step are split among them, the first one writes.

    torchrun --nproc_per_node=4 unlearn.py --network=ffhq.pkl --image=face.png --outdir=out --method=guide
"""
from __future__ import annotations

import os
from typing import Sequence, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar('T')


def begin() -> None:
    """Meet the other processes of a torchrun; nothing happens where there are none."""
    if int(os.environ.get('WORLD_SIZE', '1')) > 1 and not dist.is_initialized():
        dist.init_process_group('cpu:gloo,cuda:nccl' if torch.cuda.is_available() else 'gloo')


def rank() -> int:
    """The number of this process; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def from_first(content: T) -> T:
    """What the first process has, on all of them; tensors in it must be on the CPU."""
    if ranks() == 1:
        return content
    box = [content]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their sums over all processes, in one go."""
    if ranks() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten().float() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def anybody(asked: bool) -> bool:
    """Whether any of the processes says so."""
    flag = torch.tensor([float(asked)])
    add_up([flag])
    return bool(flag > 0)
