"""Where the person is moved to, Un-identifying Face On Latent Space (UFO, GUIDE section 3.2), and how far: by the network's own latent space."""
from __future__ import annotations

import torch
from torch import Tensor

from eg3d_unlearn.config import TrainingOptions
from eg3d_unlearn.generators.generator import Generator
from torch_utils_ext.errors import InputError

# d and α_max of the published code [units of W+], for the network that they were chosen on: EG3D FFHQ-512.
PUBLISHED_DISTANCES = 30.0, 15.0
# The same for any other network, in mean distances of a random latent from the mean latent.
RELATIVE_DISTANCES = 0.5, 0.25
RADIUS_SAMPLES = 1000


def frobenius(difference: Tensor) -> Tensor:         # [N, num_ws, w_dim] -> [N, 1, 1]
    """The norm over the whole [num_ws, w_dim] latent of each sample, as the published code takes it."""
    return difference.flatten(1).norm(dim=1)[:, None, None]


def ufo_target(
    ws_source: Tensor,               # [N, num_ws, w_dim] the person's latents w_u
    w_avg: Tensor,                   # [num_ws, w_dim] the mean latent
    distance: float = PUBLISHED_DISTANCES[0],  # d, how far beyond the mean; 0 = the mean itself; negative = towards the person
) -> Tensor:                         # [N, num_ws, w_dim]
    """The extrapolated target: from the mean latent, away from the person by ``distance``."""
    identity = ws_source - w_avg
    norm = frobenius(identity)
    if (norm < 1e-6).any():
        raise InputError('The latent to forget is the mean latent itself, so there is no direction away from it. Give '
                         'another --image, --latent or --latent-seed, or use --target=mean.')
    # Eq. 3: w_id = w_u - w_avg,  w_t = w_avg - d * w_id / ||w_id||_2.
    return w_avg - distance * identity / norm


def mean_target(
    ws_source: Tensor,               # [N, num_ws, w_dim]
    w_avg: Tensor,                   # [num_ws, w_dim]
) -> Tensor:                         # [N, num_ws, w_dim]
    """The baseline's target: the mean latent for everybody (``ufo_target`` at distance 0)."""
    return w_avg.expand_as(ws_source).clone()


@torch.no_grad()
def latent_radius(generator: Generator) -> float:
    """Mean distance of random latents from the mean latent, over the whole [num_ws, w_dim] as d is measured."""
    rng = torch.Generator(generator.device if generator.device.type == 'cuda' else 'cpu').manual_seed(0)
    return frobenius(generator.sample(RADIUS_SAMPLES, rng) - generator.w_avg).mean().item()


def distances(options: TrainingOptions, generator: Generator) -> tuple[float, float, str]:
    """d and α_max in units of W+, and where they come from.

    The published ones belong to the latent space of EG3D FFHQ-512. Another network's may be ten times wider or narrower, so that there
    they are fractions of its own radius.
    """
    radius = latent_radius(generator)
    is_ffhq = generator.family == 'eg3d' and generator.img_resolution == 512 and generator.num_ws == 14 and generator.trained_on.is_ffhq
    usual = PUBLISHED_DISTANCES if is_ffhq else tuple(radius * share for share in RELATIVE_DISTANCES)
    given = options.target_d, options.alpha_max
    d, alpha_max = (default if value is None else value for value, default in zip(given, usual, strict=True))
    origin = ', '.join(f'{name} {"as given" if value is not None else "as published" if is_ffhq else "by the network"}'
                       for name, value in zip(('d', 'alpha_max'), given, strict=True))
    return d, alpha_max, f'd = {d:.1f}, alpha_max = {alpha_max:.1f} ({origin}; a random latent lies {radius:.1f} from the mean)'
