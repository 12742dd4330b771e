"""Independent implementations of NVIDIA's generators, with upstream's parameter names."""

from eg3d_unlearn.generators.networks.build import KNOWN, build, set_attributes

__all__ = ['KNOWN', 'build', 'set_attributes']
