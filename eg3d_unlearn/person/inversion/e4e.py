"""Inversion of StyleGAN2 by e4e's encoder (weights: ``e4e_ffhq_encode.pt``): nearer to W than pSp, at some loss of likeness.

Source: Tov et al., e4e (SIGGRAPH 2021, arXiv 2102.02766).  The file is of the same form as pSp's.
"""
from __future__ import annotations

from eg3d_unlearn.person.inversion.networks.e4e import E4EEncoder
from eg3d_unlearn.person.inversion.psp import PSP


class E4E(PSP):
    """One latent for all layers and an offset for each, one pass."""
    name = 'e4e'
    network = E4EEncoder
