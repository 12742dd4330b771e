"""Latents of photos of other people, which come with each demo network: what an inversion makes of anybody's photo.

    python -m eg3d_unlearn.worlds.demo.reference --network=demo-eg3d
"""

from __future__ import annotations

import click
import torch
from torch import Tensor

from eg3d_unlearn.console import command
from eg3d_unlearn.judges.weights import load_state
from eg3d_unlearn.worlds.demo.recipes import NETWORKS
from eg3d_unlearn.worlds.demo.shipped import FOLDER, pack

PEOPLE = 48
FIRST_PERSON = 500_000               # of the held-out range; nobody who is erased or measured


def reference_latents(name: str) -> Tensor | None:     # [N, num_ws or 1, w_dim] float32
    """The latents that come with the demo network ``name``; None where there are none."""
    path = FOLDER / f'{name}-people.pt'
    return load_state(path)['w'].float() if path.is_file() else None


@command()
@click.option('--network', help='Of which demo network.', type=click.Choice(list(NETWORKS)), required=True)
def main(network: str) -> None:
    """Invert one photo each of 48 people as the demo network's photos are inverted, and put the latents beside the network."""
    from eg3d_unlearn.bench.tables.world import World
    from eg3d_unlearn.person import person as finding
    from eg3d_unlearn.unlearning.presets import resolve
    from eg3d_unlearn.worlds.demo.photo import Photos, photos_of
    world = World(network, 'cpu')
    taken = [photos_of(FIRST_PERSON + number, 1, world.g_s.img_resolution, first=1) for number in range(PEOPLE)]
    photos = Photos(torch.cat([one.images for one in taken]), torch.cat([one.cameras for one in taken]))
    labels = photos.cameras if world.g_s.is_3d else None
    found, _ = finding.invert(resolve(world.given, world.demo), world.g_s, world.judges, photos.images, labels, click.echo, f'{PEOPLE} photos')
    ws = found.ws if (found.ws != found.ws[:, :1]).any() else found.ws[:, :1]
    pack({'w': ws.cpu().contiguous()}, FOLDER / f'{network}-people.pt')


if __name__ == '__main__':
    main()
