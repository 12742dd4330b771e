"""Write a demo network as an NVIDIA network pickle."""

from __future__ import annotations

from pathlib import Path

import click

from eg3d_unlearn.console import PATH, command, refuse_existing
from eg3d_unlearn.worlds.demo.recipes import NETWORKS
from eg3d_unlearn.worlds.demo.shipped import write_pickle


@command()
@click.option('--network', help='Which one.', type=click.Choice(list(NETWORKS)), required=True)
@click.option('--outfile', help='The pickle; an existing file is not overwritten.', type=PATH, metavar='FILE', required=True)
def main(network: str, outfile: str) -> None:
    """Write a demo network as a pickle that unmodified NVIDIA tools open: gen_videos.py --network=FILE."""
    refuse_existing(outfile)
    write_pickle(network, Path(outfile))
    click.echo(f'Wrote {outfile} ({Path(outfile).stat().st_size / 2**20:.1f} MiB).')


if __name__ == '__main__':
    main()
