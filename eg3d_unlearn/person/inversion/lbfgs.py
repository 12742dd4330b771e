"""L-BFGS on many latents at once, in coordinates in which every step changes the picture alike.

Source: L-BFGS with backtracking after J. Nocedal, S. Wright, Numerical Optimization (2nd edition, algorithms 3.1 and 7.4).
The coordinates are a preconditioner of our own, from a sketch of the picture's Gauss-Newton matrix.
"""
from __future__ import annotations

import contextlib
from typing import Callable, Iterator

import torch
from torch import Tensor

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.precision import arithmetic

PROBES = 24                          # random projections of the picture whose gradients are looked at
PROBES_AT_ONCE, LARGE = 4, 128       # how many together; of networks larger than so many pixels one by one: they fill the memory
FLOOR = 0.5                          # what is added to the sketch's eigenvalues, in units of their mean
BY_LAYER, WEAKEST = 0.7, 0.05        # power of a layer's own sensitivity; the least share of the mean that counts
SUFFICIENT = 1e-4                    # share of the promised descent that a step has to bring (Armijo)

# Offsets [N, L, D] -> losses [N] and their gradients [N, L, D].
Loss = Callable[[Tensor], tuple[Tensor, Tensor]]


def minimise(
    loss: Loss,
    begin: Tensor,                   # [N, L, D], N problems that have nothing to do with one another
    steps: int,                      # evaluations of ``loss``
    length: float,                   # of the first step: root mean square over its numbers
    memory: int = 50,                # pairs of differences that are kept
    watch: Callable[[int, Tensor], bool] = lambda step, losses: False,  # told the losses [N] so far; true ends it
) -> tuple[Tensor, int]:
    """Where each loss is least, [N, L, D], and the steps that were taken. A loss never rises; one that is not finite is no step."""
    history: list[tuple[Tensor, Tensor, Tensor]] = []
    x, (value, gradient) = begin, loss(begin)
    scale = length / gradient.flatten(1).square().mean(dim=1).sqrt().clamp_min(1e-20)     # [N]
    way, t = -wide(scale) * gradient, torch.ones_like(value)
    taken = 1
    while taken < steps and not watch(taken, value):
        trial = x + wide(t) * way
        there, slope_there = loss(trial)
        taken += 1
        slope = dot(gradient, way)
        good = there.isfinite() & (there <= value + SUFFICIENT * t * slope)
        s, y = torch.where(wide(good), trial - x, 0.0), torch.where(wide(good), slope_there - gradient, 0.0)
        sy, yy = dot(s, y), dot(y, y)
        curved = sy > 1e-10 * yy     # where not, the pair says nothing
        history = [*history, (s, y, torch.where(curved, 1 / sy, 0.0))][-memory:]
        scale = torch.where(curved, sy / yy, scale)
        # A step too long is shortened to where a parabola through what is known has its least.
        least = -slope * t.square() / (2 * (there - value - slope * t))
        shorter = torch.where(there.isfinite(), least.clamp(min=0.1 * t, max=0.5 * t), 0.1 * t)
        x, value = torch.where(wide(good), trial, x), torch.where(good, there, value)
        gradient = torch.where(wide(good), slope_there, gradient)
        way = torch.where(wide(good), descent(gradient, history, scale), way)
        t = torch.where(good, torch.ones_like(t), shorter)
    watch(taken, value)
    return x, taken


def descent(gradient: Tensor, history: list[tuple[Tensor, Tensor, Tensor]], scale: Tensor) -> Tensor:  # [N, L, D]
    """The two-loop recursion for all problems; a pair whose weight is 0 takes no part."""
    q, shares = gradient, []
    for s, y, rho in reversed(history):
        shares.append(rho * dot(s, q))
        q = q - wide(shares[-1]) * y
    q = wide(scale) * q
    for (s, y, rho), share in zip(history, reversed(shares), strict=True):
        q = q + wide(share - rho * dot(y, q)) * s
    return -q


def dot(a: Tensor, b: Tensor) -> Tensor:              # [N, L, D] -> [N]
    return (a * b).flatten(1).sum(dim=1)


def wide(numbers: Tensor) -> Tensor:                  # [N] -> [N, 1, 1]
    return numbers[:, None, None]


class Coordinates:
    """Latent offsets from coordinates in which each direction, and each layer, changes the picture more nearly alike.

    The directions that the picture answers to most are found from gradients of random projections of it: their covariance is
    a sketch of the Gauss-Newton matrix of the pixels.  Offsets are coordinates times its power -1/4, half of the way to
    Newton's step, and times the layer's own sensitivity to the power -0.7; on average they have the coordinates' size.
    """

    def __init__(self, gradients: Tensor):            # [probes, L, D] of projections of the picture
        count, layers, width = gradients.shape
        _, values, self.directions = torch.linalg.svd(gradients.transpose(0, 1), full_matrices=False)  # [L, R], [L, R, D]
        squares = values.square()
        total = squares.sum(dim=1, keepdim=True)
        share = squares * width / total.clamp_min(1e-30)
        power = (share + FLOOR) ** -0.25
        elsewhere = FLOOR ** -0.25
        size = ((power.square().sum(dim=1) + (width - power.shape[1]) * elsewhere**2) / width).sqrt()
        sensitivity = total[:, 0].sqrt()
        layer = (sensitivity / sensitivity.mean().clamp_min(1e-30)).clamp_min(WEAKEST) ** -BY_LAYER
        self.elsewhere = (layer * elsewhere / size)[:, None]                 # [L, 1]
        self.along = (layer / size)[:, None] * (power - elsewhere)           # [L, R]

    def offset(self, x: Tensor) -> Tensor:            # [N, L, D] -> [N, L, D]
        seen = torch.einsum('nld,lrd->nlr', x, self.directions)
        return self.elsewhere * x + torch.einsum('nlr,lrd->nld', self.along * seen, self.directions)


def gradients_of_picture(
    generator: Generator,
    shrink: Callable[[Tensor], Tensor],  # pictures to the size at which they are compared
    camera: Tensor | None,           # [N, 25], taken in turns
    seed: int,
) -> Tensor:                         # [PROBES, num_ws, w_dim]
    """How random projections of the mean latent's picture change with it; one projection, one camera."""
    rng = torch.Generator().manual_seed(seed)
    found, together = [], PROBES_AT_ONCE if generator.img_resolution <= LARGE else 1
    for first in range(0, PROBES, together):
        numbers = torch.arange(first, first + together)
        ws = generator.w_avg.expand(together, generator.num_ws, -1).detach().clone().requires_grad_(True)
        label = None if camera is None else camera[numbers.to(camera.device) % len(camera)]
        picture = shrink(generator.render(generator.backbone(ws), label).image)
        projection = torch.randn(picture.shape, generator=rng).to(picture)
        found.append(torch.autograd.grad((picture * projection).sum() / picture[0].numel() ** 0.5, ws)[0])
    return torch.cat(found)


@contextlib.contextmanager
def single_precision(generator: Generator) -> Iterator[None]:
    """Differences of gradients need all their digits: in bf16 the search for a step comes to a halt."""
    before, generator.precision = generator.precision, 'fp32'
    try:
        with arithmetic('fp32', generator.device):
            yield
    finally:
        generator.precision = before
