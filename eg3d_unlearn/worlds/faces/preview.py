"""Fits the small picture of MobileStyleGAN: what its whole picture is when it is shrunk, from the features of the middle of the network.

The teacher had such a picture at every resolution; the published network lost all but the last.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from eg3d_unlearn.generators.networks.mobilestylegan import MobileStyleGAN, Preview, wavelet
from torch_utils_ext.progress import tqdm

PIXELS = 3000                        # of each picture take part
HELD_OUT = 8                         # pictures that do not, which say how good the fit is
STEPS, PICTURES, PIXELS_AT_ONCE = 1000, 8, 750   # of the fit; pictures of a step, pixels of each
RATE, DECAY = 2e-3, ('reduce', 'gain', 'inner', 'inner_style')   # the learning rate; what decays


def fit_preview(network: MobileStyleGAN, samples: int, rng: torch.Generator, steps: int = STEPS) -> float:
    """Fit ``network.preview`` to ``samples`` pictures; its error on others [dB, PSNR of pictures in -1 to 1]."""
    data = [sampled(network, rng) for _ in tqdm(range(samples + HELD_OUT), desc='pictures for the fit', unit='picture')]
    features, wanted, later = (torch.stack(part) for part in zip(*data, strict=True))
    fit(network.preview, features[HELD_OUT:], wanted[HELD_OUT:], later[HELD_OUT:], steps, rng)
    # Four coefficients make four pixels, each with the errors of all four.
    error = 4 * (network.preview.coefficients(features[:HELD_OUT].float(), later[:HELD_OUT]) - wanted[:HELD_OUT]).square().mean().item()
    return 10 * math.log10(4 / max(error, 1e-12))


@torch.no_grad()
def sampled(network: MobileStyleGAN, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:   # [C, P] half, [12, P], [D]
    """Features, coefficients of the shrunk whole picture, and later styles of one random person, at random pixels."""
    w = network.mapping(torch.randn([1, network.z_dim], generator=rng), None)
    # From nearer the mean, too, where photos and edits lie.
    w = network.mapping.w_avg.lerp(w, 0.6 + 0.4 * torch.rand([], generator=rng).item())
    x, later = network.synthesis.trunk(w)[-1], network.synthesis.later(w)
    whole = F.interpolate(network.synthesis.whole(x, later), size=network.small_resolution, mode='area')
    chosen = torch.randperm(x.shape[2] * x.shape[3], generator=rng)[:PIXELS]
    return x[0].flatten(1)[:, chosen].half(), wavelet(whole)[0].flatten(1)[:, chosen], torch.cat(later, dim=1)[0]


def fit(preview: Preview, features: Tensor, wanted: Tensor, later: Tensor, steps: int, rng: torch.Generator) -> None:
    """Fit by features [N, C, P], coefficients [N, 12, P] and later styles [N, D] of N pictures."""
    mean, spread = later.mean(0), later.std(0) + 1e-3
    later = (later - mean) / spread
    begin(preview, features, wanted, rng)
    descend(preview, features, wanted, later, steps, rng)
    preview.reduce.div_(spread)
    preview.reduce_bias.sub_(preview.reduce @ mean)


def begin(preview: Preview, features: Tensor, wanted: Tensor, rng: torch.Generator) -> None:
    """The best linear map; the network beside it adds nothing yet."""
    x, y = (part.transpose(0, 1).flatten(1).float() for part in (features, wanted))   # [C, N P], [12, N P]
    ones = torch.cat([x, torch.ones_like(x[:1])])
    moment = (ones @ ones.T).double()
    found = torch.linalg.solve(moment + 1e-6 * moment.trace() / len(moment) * torch.eye(len(moment)), (ones @ y.T).double()).float().T
    preview.linear.copy_(found[:, :-1])
    preview.bias.copy_(found[:, -1])
    preview.gain_bias.fill_(1)
    preview.reduce.copy_(torch.randn(preview.reduce.shape, generator=rng) / preview.reduce.shape[1] ** 0.5)
    preview.inner.copy_(torch.randn(preview.inner.shape, generator=rng) / (x.std(1) + 1e-6) / len(x) ** 0.5)


def descend(preview: Preview, features: Tensor, wanted: Tensor, later: Tensor, steps: int, rng: torch.Generator) -> None:
    """Adam on the squared error of the coefficients."""
    tensors = dict(preview.named_buffers())
    for tensor in tensors.values():
        tensor.requires_grad_(True)
    # What follows styles has few pictures to learn from, and decays.
    optimiser = torch.optim.AdamW([{'params': [tensor], 'weight_decay': 0.1 * (name in DECAY)} for name, tensor in tensors.items()])
    for step in tqdm(range(steps), desc='fitting the small picture', unit='step'):
        for group in optimiser.param_groups:
            group['lr'] = RATE * min(1.0, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        rows = torch.randperm(len(features), generator=rng)[:PICTURES]
        pixels = torch.randperm(features.shape[2], generator=rng)[:PIXELS_AT_ONCE]
        error = (preview.coefficients(features[rows][:, :, pixels].float(), later[rows]) - wanted[rows][:, :, pixels]).square().mean()
        optimiser.zero_grad(set_to_none=True)
        error.backward()
        optimiser.step()
    for tensor in tensors.values():
        tensor.requires_grad_(False)
