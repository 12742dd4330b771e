"""A learned target: where the person goes is trained, not extrapolated.

Source: SUGAR (arXiv 2512.06562): w_t = w_avg - d Φ(w_id) / ||Φ(w_id)||_2 with a small network Φ, trained on the frozen source
network so that the identity moves away while the picture stays plausible.  Written for one person.
"""
from __future__ import annotations

import torch
from torch import Tensor

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.unlearning.target import frobenius
from torch_utils_ext.progress import tqdm

STEPS, LR, WIDTH = 60, 1e-3, 128
PLAUSIBLE = 0.5                      # weight of the distance to the mean latent's picture


def surrogate_target(
    ws_source: Tensor,               # [K, num_ws, w_dim]
    generator: Generator,            # G_s, frozen
    judges: Judges,
    distance: float,                 # d, units of W+
    seed: int = 0,
) -> Tensor:                         # [K, num_ws, w_dim]
    """w_t by a Φ that was trained for this person."""
    rng = torch.Generator().manual_seed(seed)
    # Φ: a residual bottleneck on each layer's latent; at the start it is the identity, and the target GUIDE's.
    down = (torch.randn(generator.w_dim, WIDTH, generator=rng) / generator.w_dim ** 0.5).to(ws_source).requires_grad_()
    up = torch.zeros(WIDTH, generator.w_dim).to(ws_source).requires_grad_()
    optimiser = torch.optim.Adam([down, up], lr=LR)
    identity = ws_source - generator.w_avg

    def target() -> Tensor:
        moved = identity + torch.tanh(identity @ down) @ up
        return generator.w_avg - distance * moved / frobenius(moved)

    with torch.no_grad():
        source = generator.synthesize(ws_source).image
        mean = judges.perceptual.features(generator.synthesize(generator.w_avg[None]).image)
        known = judges.recogniser(source) if judges.recogniser else None
        far = judges.perceptual.features(source)
    for _ in tqdm(range(STEPS), desc='target', unit='step', dynamic_ncols=True):
        shown = generator.synthesize(target()).image
        seen = judges.perceptual.features(shown)
        # Away, but to no anti-face: below a cosine of 0 nothing is gained.
        away = (judges.recogniser(shown) * known).sum(1).clamp_min(0) if known is not None else -judges.perceptual.compare(seen, far)
        plausible = judges.perceptual.compare(seen, [feature.expand(len(ws_source), -1, -1, -1) for feature in mean])
        loss = (away + PLAUSIBLE * plausible).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return target().detach()
