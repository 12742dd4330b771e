"""Attacks on the weights: a copy of a network learns to show photos at given latents."""
from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.perceptual import Perceptual
from eg3d_unlearn.person.inversion.optimise import Wanted
from torch_utils_ext.progress import tqdm


def learning_copy(
    generator: Generator,
    part: str | None = None,         # prefix of the parameters that learn, or 'all'; None = what unlearning trains
) -> tuple[Generator, list[nn.Parameter]]:
    """A copy whose learning part is its own, and the parameters of that part; ``generator`` stays frozen."""
    generator.freeze_except([part or generator.trainable])
    copy = generator.twin()
    generator.network.requires_grad_(False)
    return copy, [parameter for parameter in copy.network.parameters() if parameter.requires_grad]


def tuned(
    generator: Generator,            # frozen; stays as it is
    ws: Tensor,                      # [N, num_ws, w_dim] the latents that shall show the photos
    images: Tensor,                  # [N, 3, H, W] in -1 to 1
    cameras: Tensor | None,          # [N, 25]; None for 2D networks
    perceptual: Perceptual,
    steps: int,
    lr: float,                       # Adam's
    half: bool = False,              # EG3D: half the rays along each side
    batch: int = 2,                  # photos of a step, at most
    seed: int = 0,                   # of their choice
    desc: str | None = None,         # of a progress bar; None = the caller has one
    after_step: Callable[[int, Generator], object] = lambda step, copy: None,  # also called before the first step, with 0
) -> Generator:
    """Adam on the part that unlearning trained, with the loss of pivotal tuning (arXiv 2106.05744, Eq. 3): LPIPS and L2."""
    copy, parameters = learning_copy(generator)
    optimiser = torch.optim.Adam(parameters, lr=lr)
    rng = torch.Generator().manual_seed(seed)
    after_step(0, copy)
    for step in tqdm(range(steps), desc=desc, unit='step', dynamic_ncols=True, disable=desc is None):
        chosen = torch.randperm(len(ws), generator=rng)[:batch].to(ws.device)
        camera = None if cameras is None else cameras[chosen]
        shown = copy.render(copy.backbone(ws[chosen]), camera, half=half and copy.has_half).image
        distance = Wanted(images[chosen], perceptual, shown.shape[-1]).distance(shown).mean()
        optimiser.zero_grad(set_to_none=True)
        if torch.isfinite(distance):  # a network that is broken is not taught anything, and its pictures say so
            distance.backward()
            optimiser.step()
        after_step(step + 1, copy)
    copy.network.requires_grad_(False)
    return copy
