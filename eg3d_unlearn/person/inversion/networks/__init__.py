"""Inversion encoders, pictures in and latents out, with the parameter names of the published weights."""
from __future__ import annotations

from torch import nn

from eg3d_unlearn.person.inversion.networks.e4e import E4EEncoder
from eg3d_unlearn.person.inversion.networks.goae import GOAEEncoder
from eg3d_unlearn.person.inversion.networks.psp import PSPEncoder

ENCODERS: dict[str, type[nn.Module]] = {'goae': GOAEEncoder, 'e4e': E4EEncoder, 'psp': PSPEncoder}

__all__ = ['ENCODERS', 'E4EEncoder', 'GOAEEncoder', 'PSPEncoder']
