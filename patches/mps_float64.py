"""`Cannot convert a MPS Tensor to float64 dtype` at the first latent.

Cause: the scripts draw latents with `numpy.random.RandomState.randn`, which is float64, and send them to the device
as they are; Apple's GPUs have no float64.
Fix: float64 tensors become float32 on their way to MPS.
Report: https://github.com/NVlabs/stylegan2-ada-pytorch/issues/230
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .runner import Run

# Device types that have no float64.
WITHOUT_FLOAT64 = ('mps',)


def needed() -> bool:
    return torch.backends.mps.is_available()


def apply(run: Run | None = None) -> None:
    Float32OnTheWay().__enter__()  # never left


class Float32OnTheWay(TorchFunctionMode):
    """Within this context a float64 tensor that is sent to a device without float64 arrives as float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if any(_lacks_float64(value) for value in (*args, *kwargs.values())):
            if func is Tensor.to and args[0].dtype == torch.float64:
                args = (args[0].float(), *args[1:])
            elif func in (torch.tensor, torch.as_tensor) and torch.as_tensor(args[0]).dtype == torch.float64:
                kwargs.setdefault('dtype', torch.float32)
        return func(*args, **kwargs)


def _lacks_float64(value: object) -> bool:
    if not isinstance(value, (str, torch.device)):
        return False
    return str(value).split(':')[0] in WITHOUT_FLOAT64
