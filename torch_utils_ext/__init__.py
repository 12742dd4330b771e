"""Everything that speaks NVIDIA's formats: network pickles read without running them, and the custom operations."""
