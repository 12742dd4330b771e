"""Independent implementations of NVIDIA's generators, with upstream's parameter names."""
