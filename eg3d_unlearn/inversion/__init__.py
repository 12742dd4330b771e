"""From pictures to latents.  Every inverter maps images [N, 3, H, W] and cameras to ws [N, num_ws, w_dim]; one file each."""
from __future__ import annotations

from eg3d_unlearn.inversion.optimise import Optimisation

INVERTERS = {'w': 'one latent for all layers, by optimisation', 'w+': 'one latent for each layer, by optimisation'}


def make_inverter(name: str, **options) -> Optimisation:
    """The inverter called ``name`` (a key of `INVERTERS`)."""
    return Optimisation(space=name, **options)
