"""Distances between two sets of features, by torch-fidelity, and how sure they are.

FID: Heusel et al. (arXiv 1706.08500).  KID: Bińkowski et al. (arXiv 1801.01401).  Precision and recall: Kynkäänniemi et al.
(arXiv 1904.06991).  Intervals: the delete-a-group jackknife (Shao and Tu, The Jackknife and Bootstrap, 1995, section 2.3).
A bootstrap would put samples in twice, which makes every FID too large: of its 95 % percentile intervals (200 samples, 32
dimensions) 17 % held the mean of repetitions, of the jackknife's 93 %.  Both are about FID at this number of samples.
"""
from __future__ import annotations

import importlib.metadata
import re
from typing import Sequence

import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.evaluation.estimate import Estimate, Z, fraction
from torch_utils_ext.errors import InputError

LIBRARY = (0, 4)                     # of torch-fidelity, at least
GROUPS = 20                          # of the jackknife
NEIGHBOURS = 3                       # of precision and recall
BLOCK = 2000                         # samples of a block of kernel values


def check_library() -> None:
    """Refuse to begin without torch-fidelity, or with one that lacks half of what is needed.

    Raises:
        InputError: it is not installed, or too old.
    """
    try:
        version = importlib.metadata.version('torch-fidelity')
    except importlib.metadata.PackageNotFoundError:
        raise InputError('FID, KID, precision and recall need the package torch-fidelity. Install it with: pip install '
                         "'torch-fidelity>=0.4'") from None
    if tuple(int(part) for part in re.findall(r'\d+', version)[:2]) < LIBRARY:
        raise InputError(f'torch-fidelity {version} is too old: it lacks precision and recall. Install a newer one with: pip install '
                         "'torch-fidelity>=0.4'")


def fid(
    a: Tensor,                       # [N, D]
    b: Tensor,                       # [M, D]
) -> float:                          # >= 0
    """The Fréchet distance of the normal distributions that fit the features, squared: |μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½)."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    statistics = [fid_features_to_statistics(features.double()) for features in (a, b)]
    return max(0.0, fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def fid_symmetric(
    a: Tensor,                       # [N, D]
    b: Tensor,                       # [M, D]
) -> float:
    """The same number by symmetric matrices, for the many evaluations of the jackknife."""
    means, covariances = [a.double().mean(0), b.double().mean(0)], [torch.cov(a.double().T), torch.cov(b.double().T)]
    values, vectors = torch.linalg.eigh(covariances[0])
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    trace = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    return ((means[0] - means[1]).square().sum() + covariances[0].trace() + covariances[1].trace() - 2 * trace).item()


def fid_pre(
    u: Tensor,                       # [N, D] of G_u
    s: Tensor,                       # [N, D] of G_s, from the same latents and cameras
    seed: int = 0,
) -> Estimate:
    """FID between what two networks make of the same latents."""
    leave_outs = [[fid_symmetric(u[keep], s[keep]) for keep in kept(len(u), seed)]]
    return interval(fid(u, s), leave_outs, len(u), seed, least=0.0)


def fid_difference(
    u: Tensor,                       # [N, D] of G_u
    s: Tensor,                       # [N, D] of G_s, from the same latents and cameras
    real: Tensor,                    # [M, D] of real pictures
    seed: int = 0,
) -> Estimate:
    """ΔFID_real = FID(G_u, real) - FID(G_s, real): generated pictures are left out in pairs, real ones for themselves."""
    generated = [fid_symmetric(u[keep], real) - fid_symmetric(s[keep], real) for keep in kept(len(u), seed)]
    pictures = [fid_symmetric(u, real[keep]) - fid_symmetric(s, real[keep]) for keep in kept(len(real), seed)]
    return interval(fid(u, real) - fid(s, real), [generated, pictures], min(len(u), len(real)), seed)


def kid_pre(
    u: Tensor,                       # [N, D] of G_u
    s: Tensor,                       # [N, D] of G_s, from the same latents and cameras
    seed: int = 0,
) -> Estimate:
    """Squared MMD with torch-fidelity's cubic kernel; 0 in the mean where both networks make the same pictures.

    Pairs from one latent are left out between the networks as they are within each (the u-statistic, Gretton et al. 2012,
    Lemma 7): with them the estimate of two equal networks would be below 0.
    """
    sums = kernel_sums(u, s, groups_of(len(u), seed))
    counts = torch.bincount(groups_of(len(u), seed), minlength=GROUPS).double()

    def value(within: Tensor, count: Tensor | float) -> float:
        return float(within / (count * (count - 1)))
    whole = value(sums.sum(), float(len(u)))
    without = sums.sum() - sums.sum(0) - sums.sum(1) + sums.diagonal()
    leave_outs = [[value(without[group], len(u) - counts[group]) for group in range(GROUPS)]]
    return interval(whole, leave_outs, len(u), seed)


def kernel_sums(u: Tensor, s: Tensor, groups: Tensor) -> Tensor:   # [N, D], [N, D], [N] -> [GROUPS, GROUPS] float64
    """k(u_i, u_j) + k(s_i, s_j) - k(u_i, s_j) - k(s_i, u_j) over i != j, summed for each pair of groups."""
    from torch_fidelity.metric_kid import kernel_poly
    u, s = u.double().numpy(), s.double().numpy()
    belongs = np.eye(GROUPS)[groups.numpy()]
    sums = np.zeros([GROUPS, GROUPS])
    for i in range(0, len(u), BLOCK):
        for j in range(0, len(u), BLOCK):
            a, b = slice(i, i + BLOCK), slice(j, j + BLOCK)
            kernel = kernel_poly(u[a], u[b]) + kernel_poly(s[a], s[b]) - kernel_poly(u[a], s[b]) - kernel_poly(s[a], u[b])
            if i == j:
                np.fill_diagonal(kernel, 0)
            sums += belongs[a].T @ kernel @ belongs[b]
    return torch.from_numpy(sums)


def precision_recall(
    u: Tensor,                       # [N, D] of G_u
    s: Tensor,                       # [N, D] of G_s
) -> tuple[Estimate, Estimate]:
    """The share of G_u's pictures among those that G_s can make, and of G_s's among those that G_u can make.

    Wilson's intervals, for the manifolds as they were found.
    """
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric
    found = prc_features_to_metric(u.double(), s.double(), prc_neighborhood=NEIGHBOURS, save_cpu_ram=len(u) > 5000, verbose=False)
    shares = [(found[KEY_METRIC_PRECISION], len(u)), (found[KEY_METRIC_RECALL], len(s))]
    precision, recall = (fraction(torch.arange(count) < round(share * count)) for share, count in shares)
    return precision, recall


def groups_of(count: int, seed: int) -> Tensor:        # [count] of 0 .. GROUPS - 1, as equal as can be
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)) % GROUPS


def kept(count: int, seed: int) -> list[Tensor]:
    """For each group a mask of the samples that are not in it."""
    groups = groups_of(count, seed)
    return [groups != group for group in range(GROUPS)]


def interval(
    value: float,
    leave_outs: Sequence[Sequence[float]],  # for each independent set of samples: the statistic without each group
    samples: int,
    seed: int,
    least: float = float('-inf'),    # what the statistic cannot fall below
) -> Estimate:
    """``value`` and its interval by the jackknife: variance (G - 1) / G Σ (θ_g - mean θ)², summed over independent sets."""
    variance = sum((GROUPS - 1) / GROUPS * float(np.square(np.asarray(part) - np.mean(part)).sum()) for part in leave_outs)
    half = Z * variance ** 0.5
    return Estimate(value, max(least, value - half), value + half, samples, seed)

