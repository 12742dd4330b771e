"""`Found no NVIDIA driver` (or `Torch not compiled with CUDA enabled`): the script insists on CUDA.

Cause: the scripts say `torch.device('cuda')` with no option to change it.
Fix: where there is no CUDA device, every PyTorch call that names CUDA as a device gets the CPU (or MPS) instead:
devices and strings such as `'cuda:0'`, in factories, `.to()`, `.cuda()`; `.pin_memory()` does nothing; events, streams
and memory figures of `torch.cuda` are stand-ins.  `torch.cuda.is_available()` still says the truth.
Report: https://github.com/NVlabs/stylegan2-ada-pytorch/issues/105
"""

from __future__ import annotations

import re
import time

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .runner import Run


def needed() -> bool:
    return not torch.cuda.is_available()


def apply(run: Run) -> None:
    run.say(f'no CUDA device: running on {"the CPU" if run.device == "cpu" else run.device.upper()}')
    for name, value in STAND_INS.items():
        setattr(torch.cuda, name, value)
    CudaMeans(torch.device(run.device)).__enter__()  # never left


class CudaMeans(TorchFunctionMode):
    """Within this context a PyTorch call that names CUDA as a device uses `device`."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.pin_memory:
            return args[0]  # pages are pinned for copies to CUDA alone
        if func is Tensor.cuda:
            return args[0].to(self.device)
        return func(*[self.redirect(a) for a in args], **{k: self.redirect(v) for k, v in (kwargs or {}).items()})

    def redirect(self, value: object) -> object:
        """Return the device in the place of a CUDA device, all else as it is."""
        if isinstance(value, torch.device) and value.type == 'cuda':
            return self.device
        if isinstance(value, str) and re.fullmatch(r'cuda(:\d+)?', value):
            return str(self.device)
        return value


class Stream:
    """Stands for a CUDA stream: all work is done when a call returns."""

    def __init__(self, *args, **kwargs):
        pass

    def synchronize(self) -> None:
        pass

    def wait_stream(self, stream: Stream) -> None:
        pass


class Event:
    """Stands for a CUDA event: its time is the wall clock's."""

    def __init__(self, *args, **kwargs):
        self.seconds = None

    def record(self, stream: Stream | None = None) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Event) -> float:
        """Return the milliseconds from this event to `end`."""
        return (end.seconds - self.seconds) * 1000


_STREAM = Stream()

# In `torch.cuda`; all that NVIDIA's scripts use of it.
STAND_INS = {
    'Event': Event,
    'Stream': Stream,
    'current_stream': lambda device=None: _STREAM,
    'default_stream': lambda device=None: _STREAM,
    'current_device': lambda: 0,
    'set_device': lambda device: None,
    'synchronize': lambda device=None: None,
    'empty_cache': lambda: None,
    'reset_peak_memory_stats': lambda device=None: None,
    'memory_allocated': lambda device=None: 0,
    'memory_reserved': lambda device=None: 0,
    'max_memory_allocated': lambda device=None: 0,
    'max_memory_reserved': lambda device=None: 0,
}
