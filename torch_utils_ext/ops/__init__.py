"""The operations that NVIDIA wrote CUDA kernels for.

Plain PyTorch until :func:`select_ops` finds an upstream checkout, a GPU and a compiler.
"""

from torch_utils_ext.ops.bias_act import activation_funcs, bias_act
from torch_utils_ext.ops.conv2d_resample import conv2d_resample
from torch_utils_ext.ops.select import select_ops
from torch_utils_ext.ops.upfirdn2d import setup_filter, upfirdn2d, upsample2d

__all__ = ['activation_funcs', 'bias_act', 'conv2d_resample', 'select_ops', 'setup_filter', 'upfirdn2d', 'upsample2d']
