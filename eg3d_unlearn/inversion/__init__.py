"""From pictures to latents.  Every inverter maps images [N, 3, H, W] and cameras to ws [N, num_ws, w_dim]; one file each."""
from __future__ import annotations

from eg3d_unlearn.inversion.e4e import E4E
from eg3d_unlearn.inversion.goae import GOAE
from eg3d_unlearn.inversion.optimise import Optimisation
from eg3d_unlearn.inversion.psp import PSP
from eg3d_unlearn.inversion.published import PublishedEncoder

PUBLISHED: dict[str, type[PublishedEncoder]] = {'goae': GOAE, 'e4e': E4E, 'psp': PSP}
INVERTERS = {
    'w': 'one latent for all layers, by optimisation',
    'w+': 'one latent for each layer, by optimisation',
    'goae': "GOAE's encoder, for EG3D FFHQ",
    'e4e': "e4e's encoder, for StyleGAN2 FFHQ",
    'psp': "pSp's encoder, for StyleGAN2 FFHQ",
}


def make_inverter(name: str, **options) -> Optimisation | PublishedEncoder:
    """The inverter called ``name`` (a key of `INVERTERS`), with the options of its class."""
    if name in PUBLISHED:
        return PUBLISHED[name](**options)
    return Optimisation(space=name, **options)
