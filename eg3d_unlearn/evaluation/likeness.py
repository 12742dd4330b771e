"""What judges say of pictures, in batches: embeddings and cosines by a recogniser, LPIPS by the perceptual distance."""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.cache import Cache, checksum
from eg3d_unlearn.evaluation.rendering import to_floats
from eg3d_unlearn.judges.judges import Embed

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence
    from eg3d_unlearn.evaluation.rendering import Pair
    from eg3d_unlearn.judges.perceptual import Perceptual

EMBEDDED_AT_ONCE, COMPARED_AT_ONCE = 32, 8   # pictures that a judge sees at once


@torch.no_grad()
def embeddings(
    embed: Embed,
    pictures: Tensor,                # [..., 3, H, W] float32 in -1 to 1, or uint8
    device: torch.device | None = None,  # of the recogniser; None = where the pictures are
) -> Tensor:                         # [..., D] float32, unit norm, on the CPU
    """What a recogniser makes of pictures, a few at a time."""
    parts = pictures.flatten(0, -4).split(EMBEDDED_AT_ONCE)
    found = torch.cat([embed(to_floats(part.to(device or pictures.device))).float().cpu() for part in parts])
    return found.unflatten(0, pictures.shape[:-3])


def embedded(
    evidence: Evidence,
    recogniser: str,                 # one of those of the evidence
    pictures: Tensor,                # [..., 3, H, W], as of `embeddings`
    cache: Cache,
) -> Tensor:                         # [..., D]
    """`embeddings`, kept in memory."""
    key = {'what': 'embeddings', 'recogniser': recogniser, 'pictures': checksum(pictures)}
    return cache.get(key, lambda: embeddings(evidence.recognisers[recogniser], pictures, evidence.device))


def likeness(evidence: Evidence, recogniser: str, pair: Pair, cache: Cache) -> Tensor:   # [N]
    """Identity cosine before against after of each latent of a pair."""
    return cosines(*(embedded(evidence, recogniser, pictures, cache) for pictures in (pair.before, pair.after)))


def cosines(a: Tensor, b: Tensor) -> Tensor:           # [..., D] each, or broadcast -> [...]
    """Identity cosines of embeddings."""
    return (a * b).sum(-1)


@torch.no_grad()
def lpips(
    perceptual: Perceptual,
    before: Tensor,                  # [N, 3, H, W] float32 in -1 to 1, or uint8
    after: Tensor,                   # [N, 3, H, W]
    device: torch.device | None = None,  # of the judge; None = where the pictures are
) -> Tensor:                         # [N] float32, on the CPU
    """The perceptual distance of each two pictures."""
    found = []
    for pair in zip(before.split(COMPARED_AT_ONCE), after.split(COMPARED_AT_ONCE), strict=True):
        features = [perceptual.features(to_floats(part.to(device or part.device))) for part in pair]
        found.append(perceptual.compare(*features).float().cpu())
    return torch.cat(found)
