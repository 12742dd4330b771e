"""Keep the steps that need float32 out of a caller's ``torch.autocast``."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Context in which operations keep the dtype of their inputs on x's device; free where autocast is off anyway."""
    device = x.device.type
    if device in ('cpu', 'cuda') and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
