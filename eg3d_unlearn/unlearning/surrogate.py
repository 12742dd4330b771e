"""A learned target: where the person goes is trained, not extrapolated.

Source: SUGAR (arXiv 2512.06562): w_t = w_avg - d Φ(w_id) / ||Φ(w_id)||_2 with a small network Φ, trained on the frozen source
network so that the identity moves away while the picture stays plausible.  Written for one person.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.unlearning.target import frobenius
from torch_utils_ext.progress import tqdm

STEPS, LR, WIDTH = 60, 1e-3, 128
PLAUSIBLE = 0.5                      # weight of the distance to the mean latent's picture


class Surrogate(nn.Module):
    """Φ: a residual bottleneck on each layer's latent; at the start it is the identity, and the target GUIDE's."""

    def __init__(self, w_dim: int, seed: int):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.down = nn.Parameter(torch.randn(w_dim, WIDTH, generator=rng) / w_dim ** 0.5)
        self.up = nn.Parameter(torch.zeros(WIDTH, w_dim))

    def forward(
        self,
        identity: Tensor,            # [N, num_ws, w_dim] w_id
    ) -> Tensor:                     # [N, num_ws, w_dim]
        return identity + torch.tanh(identity @ self.down) @ self.up


def surrogate_target(
    ws_source: Tensor,               # [K, num_ws, w_dim]
    generator: Generator,            # G_s, frozen
    judges: Judges,
    distance: float,                 # d, units of W+
    seed: int = 0,
) -> Tensor:                         # [K, num_ws, w_dim]
    """w_t by a Φ that was trained for this person."""
    phi = Surrogate(generator.w_dim, seed).to(ws_source)
    optimiser = torch.optim.Adam(phi.parameters(), lr=LR)
    identity = ws_source - generator.w_avg

    def target() -> Tensor:
        moved = phi(identity)
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
