"""The command `python -m eg3d_unlearn.delta`: what is done with deltas.

    python -m eg3d_unlearn.delta inspect anna.safetensors
    python -m eg3d_unlearn.delta merge anna.safetensors ben.safetensors --outfile=both.safetensors
    python -m eg3d_unlearn.delta withdraw both.safetensors --person=1 --outfile=ben.safetensors
    python -m eg3d_unlearn.delta apply --network=demo-eg3d --delta=both.safetensors --outfile=network-unlearned.pkl
"""
from __future__ import annotations

import functools
import json
import os
from typing import TYPE_CHECKING

import click

from eg3d_unlearn.config import NetworkOptions, borrow
from eg3d_unlearn.console import PATH, Command, Group, command, refuse_existing
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

if TYPE_CHECKING:
    from eg3d_unlearn.delta import Delta
    from eg3d_unlearn.generators.generator import Generator
    from torch_utils_ext.network_pickle import NetworkPickle

WHO = ('A delta holds the latents of the erased people: whoever has the source network can show their faces with it. The unlearned network tells the '
       'same person who was erased, by comparison with the source (audit tier T7). Keep a delta as you keep photos of these people.')
OUTFILE = click.option('--outfile', help='The new delta, readable by you only; an existing file is not overwritten.', type=PATH, metavar='FILE', required=True)


@command(cls=Group, epilog=WHO)
def main() -> None:
    """Erase people by a delta: the edit of --method=closed-form as a file of kilobytes.

    A delta belongs to the network that it was made for. Applied to that network it gives the unlearned network, the same as the run gave.
    """


part = functools.partial(main.command, cls=Command, epilog=WHO)


@part(stopped='Nothing was written; run the same command again.')
@borrow('network', help='The source network, for which the deltas were made: a path, a URL, a published name, demo-eg3d or demo-stylegan2.')
@click.option('--delta', 'files', help='A delta. May be given more than once.', type=PATH, metavar='FILE', multiple=True, required=True)
@click.option('--outfile', help='The unlearned network; an existing file is not overwritten.', type=PATH, metavar='FILE', required=True)
@borrow('upstream', evaluate=True)
@borrow('trust_pickle')
def apply(network: str, files: tuple[str, ...], outfile: str, upstream: str | None, trust_pickle: bool) -> None:
    """Erase the people of deltas from the source network.

    Several deltas are applied together, which gives the same network as erasing all the people at once. The source itself stays as it is.

    \b
    Example:
      python -m eg3d_unlearn.delta apply --network=demo-eg3d --delta=person.safetensors --outfile=network-unlearned.pkl
    """
    refuse_existing(outfile)
    delta = joined(files)
    from eg3d_unlearn.unlearning.closed_form import affine_names, fold
    from torch_utils_ext.network_pickle import check_writable, copies_elsewhere, write_unlearned_pickle
    pickle, generator = load_source(network, delta, upstream, trust_pickle)
    changing = generator.freeze_except(affine_names(generator)).keys()
    generator.network.requires_grad_(False)
    check_writable(pickle, generator.network.state_dict(), changing)
    # Not the generator's own notes: they are about photos and cameras.
    for note in getattr(generator.network, 'notes', []) + pickle.notes + copies_elsewhere(pickle, changing):
        click.echo(f'WARNING: {note}')
    changed = fold(generator, delta.edit())
    for note in write_unlearned_pickle(pickle, outfile, generator.network.state_dict()):
        click.echo(note)
    click.echo(f'Wrote {outfile}: {delta.counted()} erased, {len(changed)} layers changed. {WHO}')


@part()
@click.argument('files', type=PATH, metavar='FILE...', nargs=-1, required=True)
@OUTFILE
def merge(files: tuple[str, ...], outfile: str) -> None:
    """Join deltas of the same network in one file.

    The order does not matter: applied to the source network, the new delta gives the same weights as erasing all its people at once. Deltas
    of runs that were to keep different photos (--keep) erase their people, too, but others may change a little more than necessary.

    \b
    Example:
      python -m eg3d_unlearn.delta merge anna.safetensors ben.safetensors --outfile=both.safetensors
    """
    if len(files) < 2:
        raise InputError('Only one delta was given. Name at least two files to be merged.')
    refuse_existing(outfile)
    write(outfile, joined(files))


@part()
@click.argument('file', type=PATH)
@click.option('--person', 'numbers', help='Number of a person to take out, as inspect counts them, from 1. May be given more than once.', type=click.IntRange(min=1), metavar='INT', multiple=True, required=True)
@OUTFILE
def withdraw(file: str, numbers: tuple[int, ...], outfile: str) -> None:
    """Take people out of a delta, so that they are no longer erased.

    Applied to the source network, the new delta gives what erasing the others alone gives. A network that was made with the old delta stays as
    it is: apply the new one to the source network.

    \b
    Example:
      python -m eg3d_unlearn.delta withdraw both.safetensors --person=1 --outfile=ben.safetensors
    """
    from eg3d_unlearn import delta
    refuse_existing(outfile)
    write(outfile, delta.withdraw(delta.read_delta(file), numbers))


@part()
@click.argument('file', type=PATH)
def inspect(file: str) -> None:
    """Print what a delta says of itself, as JSON: never the latents."""
    from eg3d_unlearn.delta import read_delta
    click.echo(json.dumps({**read_delta(file).about(), 'bytes': os.path.getsize(file)}, indent=2))


def joined(files: tuple[str, ...]) -> Delta:
    """The people of all files."""
    from eg3d_unlearn import delta
    return delta.merge([delta.read_delta(file) for file in files], [shown(file, 300) for file in files])


def write(outfile: str, delta: Delta) -> None:
    from eg3d_unlearn.delta import write_delta
    write_delta(outfile, delta)
    click.echo(f'Wrote {outfile}: {delta.counted()}, {os.path.getsize(outfile):,} bytes. {WHO}')


def load_source(network: str, delta: Delta, upstream: str | None, trust_pickle: bool) -> tuple[NetworkPickle, Generator]:
    """The network that ``delta`` was made for, ready to be changed; no judges are needed.

    Raises:
        InputError: it is another network, or none that can be read.
    """
    import torch

    from eg3d_unlearn.generators.build import wrap
    from eg3d_unlearn.generators.families import adapters
    from eg3d_unlearn.generators.loading import file_of, is_trusted, make_network
    from torch_utils_ext.network_pickle import read_network_pickle
    if trust_pickle and not upstream:
        raise InputError("--trust-pickle hands the file to the loader of an NVIDIA checkout, which runs the file's code: name the checkout "
                         'with --upstream=DIR.')
    path = file_of(network)
    pickle = read_network_pickle(path, allow_unknown=trust_pickle)
    found = pickle.sha256()
    if found != delta.source_sha256:
        raise InputError(f'The delta is for the network with the SHA-256 {delta.source_sha256}, and that of --network={shown(network, 300)} is {found}. '
                         'Name the network from which these people were erased, as it was before.')
    options = NetworkOptions(network=network, upstream=upstream, trust_pickle=trust_pickle)
    made, family = make_network(options, pickle.records['G_ema'], path, torch.device('cpu'))
    # Which class is shown does not matter: all of them are made by the same layers.
    generator = wrap(made, family, 0 if adapters()[family].has_classes(made) else None)
    if is_trusted(generator):
        from eg3d_unlearn.generators.checkout import check_picture
        check_picture(generator)
    expected, got = tuple(delta.w_avg.shape), (generator.num_ws, generator.w_dim)
    if expected != got:
        raise InputError(f'The delta is for latents of {list(expected)} numbers, and the network has latents of {list(got)}: the delta is damaged.')
    return pickle, generator


if __name__ == '__main__':
    main()
