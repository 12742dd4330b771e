"""Independent implementations of NVIDIA's generators, with upstream's parameter names."""

from eg3d_unlearn.networks.build import KNOWN, build

__all__ = ['KNOWN', 'build']
