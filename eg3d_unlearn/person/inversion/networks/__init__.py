"""Inversion encoders, pictures in and latents out, with the parameter names of the published weights."""
