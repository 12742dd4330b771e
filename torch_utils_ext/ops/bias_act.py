"""Bias, activation function, gain and clamp in one step.

Same arguments and results as the operation of this name in NVIDIA's code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils_ext import upstream


class Activation(NamedTuple):
    function: Callable[[Tensor, float], Tensor]
    gain: float  # keeps the variance of a normal input
    alpha: float = 0.0  # shape parameter
    scales: bool = False  # f(g x) = g f(x) for g > 0, so that the gain can go in before the function


activation_funcs: dict[str, Activation] = {
    'linear': Activation(lambda x, alpha: x, 1.0, scales=True),
    'relu': Activation(lambda x, alpha: F.relu(x, inplace=True), math.sqrt(2), scales=True),
    'lrelu': Activation(lambda x, alpha: F.leaky_relu(x, alpha, inplace=True), math.sqrt(2), 0.2, scales=True),
    'tanh': Activation(lambda x, alpha: torch.tanh(x), 1.0),
    'sigmoid': Activation(lambda x, alpha: torch.sigmoid(x), 1.0),
    'elu': Activation(lambda x, alpha: F.elu(x), 1.0),
    'selu': Activation(lambda x, alpha: F.selu(x), 1.0),
    'softplus': Activation(lambda x, alpha: F.softplus(x), 1.0),
    'swish': Activation(lambda x, alpha: torch.sigmoid(x) * x, math.sqrt(2)),
}


def bias_act(
    x: Tensor,  # any shape, floating point
    b: Tensor | None = None,  # [size of dimension `dim`], dtype of x
    dim: int = 1,
    act: str = 'linear',  # a name in activation_funcs
    alpha: float | None = None,  # None: the activation's own
    gain: float | None = None,  # None: the activation's own
    clamp: float | None = None,  # result within [-clamp, clamp]; None: unlimited
) -> Tensor:  # shape and dtype of x
    """``clamp(gain * act(x + b))``; x is left as it is."""
    kernel = upstream.kernel('bias_act', x)
    if kernel is not None:
        return kernel(x, b, dim=dim, act=act, alpha=alpha, gain=gain, clamp=clamp)
    spec = activation_funcs[act]
    alpha = spec.alpha if alpha is None else float(alpha)
    gain = spec.gain if gain is None else float(gain)
    b = None if b is None else b.reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
    if spec.scales and gain > 0 and (alpha > 0 or act != 'lrelu'):
        # One pass for bias and gain, one in place for the activation: nothing but the result is kept for the gradient.
        x = _scaled_sum(x, b, gain, fresh=act != 'linear')
        x = spec.function(x, alpha)
    else:
        x = spec.function(_scaled_sum(x, b, 1.0, fresh=True), alpha) * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def _scaled_sum(x: Tensor, b: Tensor | None, gain: float, fresh: bool) -> Tensor:
    """gain * (x + b), never x itself where ``fresh``: the caller goes on in place."""
    if b is not None:
        return torch.add(b * gain, x, alpha=gain) if gain != 1 else x + b
    if gain != 1:
        return x * gain
    return x.clone() if fresh else x
