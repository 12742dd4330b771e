"""How far the target and the neighbours lie, in units of the network's own latent space."""
from __future__ import annotations

import torch
from torch import Tensor

from eg3d_unlearn.config import TrainingOptions
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.unlearning.target import frobenius

# d and α_max of the published code [units of W+], for the network that they were chosen on.
PUBLISHED_DISTANCES = 30.0, 15.0
# The same for any other network, in mean distances of a random latent from the mean latent.
RELATIVE_DISTANCES = 0.5, 0.25
RADIUS_SAMPLES = 1000


@torch.no_grad()
def latent_radius(generator: Generator) -> float:
    """Mean distance of random latents from the mean latent, over the whole [num_ws, w_dim] as d is measured."""
    rng = torch.Generator(generator.device if generator.device.type == 'cuda' else 'cpu').manual_seed(0)
    ws: Tensor = generator.sample(RADIUS_SAMPLES, rng)
    return frobenius(ws - generator.w_avg).mean().item()


def distances(options: TrainingOptions, generator: Generator) -> tuple[float, float, str]:
    """d and α_max in units of W+, and where they come from.

    The published 30 and 15 belong to the latent space of EG3D FFHQ-512.  Another network's may be ten times wider or
    narrower, so that there they are fractions of its own radius.
    """
    radius = latent_radius(generator)
    is_ffhq = generator.family == 'eg3d' and generator.img_resolution == 512 and generator.num_ws == 14 and generator.trained_on.is_ffhq
    defaults = PUBLISHED_DISTANCES if is_ffhq else tuple(radius * share for share in RELATIVE_DISTANCES)
    d = defaults[0] if options.target_d is None else options.target_d
    alpha_max = defaults[1] if options.alpha_max is None else options.alpha_max
    origin = ', '.join(f'{name} {"as given" if given is not None else "as published" if is_ffhq else "by the network"}'
                       for name, given in (('d', options.target_d), ('alpha_max', options.alpha_max)))
    return d, alpha_max, f'd = {d:.1f}, alpha_max = {alpha_max:.1f} ({origin}; a random latent lies {radius:.1f} from the mean)'
