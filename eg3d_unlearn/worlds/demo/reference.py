"""Latents of photos of other people, which come with each demo network: what an inversion makes of anybody's photo.

    python -m eg3d_unlearn.worlds.demo.reference --network=demo-eg3d
"""

from __future__ import annotations

from dataclasses import replace

import click
import torch

from eg3d_unlearn.config import Config
from eg3d_unlearn.console import command
from eg3d_unlearn.worlds.demo.recipes import NETWORKS
from eg3d_unlearn.worlds.demo.shipped import pack, people_path
from eg3d_unlearn.worlds.demo.world import WORLD

PEOPLE = 48
FIRST_PERSON = 500_000               # of the held-out range; nobody who is erased or measured


@command()
@click.option('--network', help='Of which demo network.', type=click.Choice(list(NETWORKS)), required=True)
def main(network: str) -> None:
    """Invert one photo each of 48 people as the demo network's photos are inverted, and put the latents beside the network."""
    from eg3d_unlearn.generators.loading import load_generator
    from eg3d_unlearn.judges.judges import load_judges
    from eg3d_unlearn.person.person import encoder_of, invert
    from eg3d_unlearn.unlearning.presets import resolve
    given, family = Config(network=network, outdir='', device='cpu'), WORLD.networks[network]
    config = resolve(given, WORLD, family)
    _, generator = load_generator(config, torch.device('cpu'))
    config = replace(config, encoder=encoder_of(config, generator), precision='bf16')
    generator.precision = config.precision
    taken = [WORLD.photos_of(FIRST_PERSON + number, 1, generator.img_resolution, first=1) for number in range(PEOPLE)]
    images, labels = (torch.cat([getattr(one, part) for one in taken]) for part in ('images', 'cameras'))
    judges = load_judges(config, generator, generator.device)
    ws, _ = invert(config, generator, judges, images, labels if generator.is_3d else None, click.echo, f'{PEOPLE} photos')
    ws = ws if (ws != ws[:, :1]).any() else ws[:, :1]
    pack({'w': ws.cpu().contiguous()}, people_path(network))


if __name__ == '__main__':
    main()
