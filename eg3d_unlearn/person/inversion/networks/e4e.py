"""The encoder of e4e: pSp's network, its latents taken as one latent for all layers and a small offset for each.

Source: Tov et al., e4e (SIGGRAPH 2021, arXiv 2102.02766, section 4).  Parameter names are those of
``e4e_ffhq_encode.pt`` behind the prefix ``encoder.``.
"""
from __future__ import annotations

import torch
from torch import Tensor

from eg3d_unlearn.person.inversion.networks.psp import PSPEncoder


class E4EEncoder(PSPEncoder):
    """[N, 3, 256, 256] in [-1, 1], FFHQ-aligned -> [N, num_ws, 512], to be added to the mean latent."""

    def forward(
        self,
        images: Tensor,  # [N, 3, image_size, image_size] float32 in [-1, 1], RGB
    ) -> Tensor:         # [N, num_ws, 512] float32, offset from the mean latent
        read = super().forward(images)
        # Section 4.2: E(x) = (w, w + Δ_1, ..., w + Δ_(N-1)); training switched the Δ on one by one, all are on now.
        w, deltas = read[:, :1], read[:, 1:]
        return torch.cat([w, w + deltas], dim=1)
