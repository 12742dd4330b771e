"""Run an unmodified script of NVIDIA's EG3D, StyleGAN2-ADA or StyleGAN3 on today's Python, PyTorch, numpy and scipy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eg3d_unlearn.console import guarded, make_output_safe
from torch_utils_ext.errors import InputError

from . import registry

if TYPE_CHECKING:
    from .runner import Run


def _names(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    return [name for value in values for name in value.split(',') if name]


@click.command(context_settings=dict(allow_interspersed_args=False))
@click.argument('script', required=False)
@click.argument('args', nargs=-1, type=click.UNPROCESSED, metavar='[-- SCRIPT OPTIONS]')
@click.option('--list', 'show_list', is_flag=True,
              help='Show the patches, whether this machine needs them, and what fails without')
@click.option('--only', multiple=True, callback=_names, metavar='NAME',
              help='Use these patches alone (comma separated, or repeated)')
@click.option('--skip', multiple=True, callback=_names, metavar='NAME', help='Leave these patches out')
@click.option('--device', type=click.Choice(['auto', 'cuda', 'cpu', 'mps']), default='auto', show_default=True,
              help='What stands for CUDA in the script; auto is CUDA if there is one, else the CPU')
@click.option('--verbose', is_flag=True, help='Say which patches were applied, and to which module')
def main(script, args, show_list, only, skip, device, verbose):
    """Run SCRIPT, an unmodified script in a checkout of EG3D, StyleGAN2-ADA or StyleGAN3, with patches.

    The options of this command stand before SCRIPT, those of the script behind it.

    \b
    # Render a video on a machine without a GPU.
    python -m patches.run ~/eg3d/eg3d/gen_videos.py -- --network=ffhq.pkl --seeds=0-3 --grid=2x2 --outdir=out
    """
    make_output_safe()
    with guarded():
        names = registry.choose(only, skip)
        if show_list:
            print_list(names)
            return
        if script is None:
            raise InputError('no script was given. Example: python -m patches.run DIR/gen_videos.py -- --help')
        run = prepared(find_script(script), args[1:] if args[:1] == ('--',) else args, names, device, verbose)
    from .runner import execute
    try:
        execute(run)                 # its own errors are for the script's user, as they are
    except InputError as error:
        raise click.ClickException(str(error)) from None


def print_list(names: tuple[str, ...]) -> None:
    """Print one line a patch."""
    click.echo(f'{"patch":<21} {"needed here":<12} without it')
    for name in names:
        patch = registry.load(name)
        click.echo(f'{name:<21} {"yes" if patch.needed() else "no":<12} {registry.symptom(patch)}')


def find_script(path: str) -> Path:
    """Return the absolute path of a script, or raise InputError."""
    script = Path(path).expanduser()
    if script.is_dir():
        raise InputError(f'{path} is a folder, not a script. Name a script in it, such as {script / "gen_videos.py"}')
    if not script.is_file():
        raise InputError(f'there is no script {path}. Give the path of a script in a checkout, such as '
                         '~/eg3d/eg3d/gen_videos.py')
    if script.suffix != '.py':
        raise InputError(f'{path} is not a Python script (.py). Options of the script stand behind the script.')
    return script.absolute()


def prepared(script: Path, args: tuple[str, ...], names: tuple[str, ...], device: str, verbose: bool) -> Run:
    """Patch this process for a script."""
    if device in ('cpu', 'mps'):
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # before PyTorch looks
    import torch

    from .runner import Run, prepare

    if device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device=cuda, but PyTorch sees no CUDA device. --device=cpu runs the script on the CPU.')
    if device == 'mps' and not torch.backends.mps.is_available():
        raise InputError('--device=mps, but PyTorch sees no MPS device. --device=cpu runs the script on the CPU.')
    run = Run(script, tuple(args), names, device='mps' if device == 'mps' else 'cpu', verbose=verbose)
    prepare(run)
    return run


if __name__ == '__main__':
    main()
