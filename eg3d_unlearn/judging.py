"""What pictures are judged with: the perceptual distance and the recognisers, real ones or those of the demo world."""
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Callable

import torch
from torch import Tensor

from eg3d_unlearn.config import Config
from eg3d_unlearn.demo.judges import load_judge
from eg3d_unlearn.generator import Generator
from eg3d_unlearn.identity import load_identity
from eg3d_unlearn.loss import Perceptual
from eg3d_unlearn.perceptual import Lpips


@dataclass
class Judges:
    """What the losses see pictures with."""
    perceptual: Perceptual
    recogniser: Callable[[Tensor], Tensor] | None  # [N, 3, H, W] -> [N, D] unit norm; None = no identity term
    measuring: Callable[[Tensor], Tensor] | None   # what the summary measures with; on faces the recogniser of the loss
    names: dict[str, str]            # 'perceptual', 'recogniser', 'measuring' -> which


def alignment_of(config: Config, generator: Generator) -> str:
    """Where the face is in the network's pictures: 'eg3d', 'ffhq' or, anywhere, 'full'."""
    return config.face_crop if config.face_crop != 'auto' else generator.alignment


def load_judges(config: Config, generator: Generator, device: torch.device) -> Judges:
    """LPIPS and the recogniser; a missing file is an error before anything slow begins."""
    names = {'perceptual': config.lpips_net, 'recogniser': config.id_network, 'measuring': config.id_network}
    if config.lpips_net == 'demo':
        perceptual = load_judge('demo-perceptual').to(device)
        perceptual.resolution = config.lpips_resolution
    else:
        perceptual = real_lpips(config, device)
    if config.id_network == 'demo':
        recogniser, measuring = load_judge('demo-loss').to(device), load_judge('demo-measuring').to(device)
        names.update(recogniser='demo-loss', measuring='demo-measuring')
        return Judges(perceptual, partial(recogniser.embed, alignment='full'), partial(measuring.embed, alignment='full'), names)
    recogniser = load_identity(config.id_network, weights=config.id_weights, random_weights=config.random_metric_weights,
                               trust=config.trust_file)
    if recogniser is None:
        return Judges(perceptual, None, None, names)
    embed = partial(recogniser.to(device).embed, alignment=alignment_of(config, generator))
    return Judges(perceptual, embed, embed, names)


def real_lpips(config: Config, device: torch.device) -> Lpips:
    """LPIPS as published."""
    return Lpips(config.lpips_net, weights=config.lpips_weights, random_weights=config.random_metric_weights,
                 resolution=config.lpips_resolution, device=device)
