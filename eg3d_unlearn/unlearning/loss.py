"""GUIDE's losses (CVPR 2024, section 3.3): local, adjacency-aware and global, each term unreduced until weighted."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eg3d_unlearn.config import Config
from eg3d_unlearn.unlearning.target import frobenius


@dataclass(frozen=True)
class Weights:
    """λ of every term; 0 switches a term off, and its work with it."""
    local: float = 1.0               # λ_local
    adj: float = 1.0                 # λ_adj, on the sum over the N_a neighbours
    glob: float = 1.0                # λ_global, on the sum over the N_g random people
    l2: float = 1e-2                 # λ_L2 on the features F
    lpips: float = 1.0               # λ_per
    id: float = 0.1                  # λ_id

    @classmethod
    def of(cls, config: Config) -> Weights:
        """Those of a resolved configuration."""
        return cls(config.lambda_local, config.lambda_adj, config.lambda_global, config.lambda_l2, config.lambda_lpips, config.lambda_id)


def feature_distance(
    features_u: list[Tensor],        # each [N, C, H, W] float32
    features_t: list[Tensor],        # the same shapes
) -> Tensor:                         # [N], >= 0
    """MSE(F_u, F_t) of Eq. 4, averaged over the feature maps (EG3D has one: the tri-planes)."""
    distances = [in_memory_order(u - t).flatten(1).square().mean(dim=1) for u, t in zip(features_u, features_t, strict=True)]
    return torch.stack(distances).mean(dim=0)


def in_memory_order(x: Tensor) -> Tensor:  # [N, C, H, W] -> the same, or [N, H, W, C]
    """``x`` so that to flatten it is no copy: where the order does not matter, channels may come last."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else x


def adjacent_offsets(
    ws_random: Tensor,               # [N_a, num_ws, w_dim] latents of random people, w_ra
    ws_source: Tensor,               # [1, num_ws, w_dim] the person, w_u
    alpha: Tensor,                   # [N_a] drawn from U(0, α_max), units of W+
) -> Tensor:                         # [N_a, num_ws, w_dim]
    """Steps from the person towards random people, of length ``alpha`` (Eq. 5)."""
    direction = ws_random - ws_source
    # Eq. 5: Δ_i = α_i (w_ra_i - w_u) / ||w_ra_i - w_u||_2, the norm taken for each sample.
    return alpha[:, None, None] * direction / frobenius(direction)


def local_loss(
    l2: Tensor,                      # [N] feature distance
    lpips: Tensor,                   # [N] perceptual distance
    identity: Tensor,                # [N] identity distance
    weights: Weights,
) -> Tensor:                         # [N]
    """L_local(u, t) for each pair."""
    # Eq. 4: λ_L2 MSE(F_u, F_t) + λ_per LPIPS(x_u, x_t) + λ_id (1 - cos(id(x_u), id(x_t))).
    return weights.l2 * l2 + weights.lpips * lpips + weights.id * identity


def total_loss(
    local: Tensor,                   # [1] L_local of the person
    adjacent: Tensor,                # [N_a] L_local of the neighbours
    retained: Tensor,                # [N_g] LPIPS of random people
    weights: Weights,
) -> Tensor:                         # []
    """The whole objective: sums over neighbours and random people, as published (the paper's 1/N are in λ)."""
    # Eq. 6-9: λ_local L_local + λ_adj Σ_i L_local(w_u + Δ_i, w_t + Δ_i) + λ_global Σ_i LPIPS(w_rg_i).
    return weights.local * local.sum() + weights.adj * adjacent.sum() + weights.glob * retained.sum()
