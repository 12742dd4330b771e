"""The command `python unlearn.py`: its options, and what becomes of errors."""
from __future__ import annotations

import dataclasses
import json

import click

from eg3d_unlearn.config import from_command, take_all
from eg3d_unlearn.console import Option, command


@command(stopped='Run the same command again to go on from the last saved state.')
@take_all
@click.option('-n', '--dry-run', cls=Option, group='Run', help='Read and check everything that a run would (network, photo, latents, judges), print all options as they would be used and how long it would take, as JSON, and exit. Nothing is written; a network named by URL or published name is fetched into the cache.', is_flag=True)
def main(dry_run: bool, **options) -> None:
    """Make a pretrained face generator unable to generate a given person.

    Reads an EG3D, StyleGAN2 or StyleGAN3 network pickle without running code from it, and writes one that NVIDIA's
    unmodified tools open. The folder gets network-unlearned.pkl, before-after.png, report.html, report.json,
    training_options.json and log.txt; where a method trains, stats.jsonl, too.

    \b
    Examples:
      # A minute, nothing to fetch: a person of the demo world.
      python unlearn.py --network=demo-eg3d --image=demo --outdir=out
      # A photo of a person, the published EG3D network.
      python unlearn.py --network=ffhqrebalanced512-128.pkl --image=face.png --outdir=out
      # A random person (seed 7), StyleGAN2, 200 steps.
      python unlearn.py --network=stylegan2-ffhq-256x256.pkl --latent-seed=7 --iters=200 --outdir=out
    """
    config = from_command(options)
    # Heavy imports only when there is work to do.
    from eg3d_unlearn.run import check, how_long, unlearn
    if dry_run:
        run = check(config, fetch=False)
        click.echo(json.dumps({**dataclasses.asdict(run.config), 'dry_run': [*run.about, *how_long(run)]}, indent=2, ensure_ascii=False))
        return
    unlearn(config)
