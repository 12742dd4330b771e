"""Where the person is moved to: Un-identifying Face On Latent Space (UFO), GUIDE section 3.2."""
from __future__ import annotations

from torch import Tensor

from torch_utils_ext.errors import InputError

PUBLISHED_DISTANCE = 30.0            # d for EG3D FFHQ-512 in GUIDE's published code [units of W+]


def frobenius(difference: Tensor) -> Tensor:         # [N, num_ws, w_dim] -> [N, 1, 1]
    """The norm over the whole [num_ws, w_dim] latent of each sample, as the published code takes it."""
    return difference.flatten(1).norm(dim=1)[:, None, None]


def ufo_target(
    ws_source: Tensor,               # [N, num_ws, w_dim] the person's latents w_u
    w_avg: Tensor,                   # [num_ws, w_dim] the mean latent
    distance: float = PUBLISHED_DISTANCE,  # d, how far beyond the mean; 0 = the mean itself; negative = towards the person
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
