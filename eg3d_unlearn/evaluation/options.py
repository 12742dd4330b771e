"""The options that every command of `evaluate.py` shares: the two networks, the person, the judges; once for all of them.

    @click.command()
    @evidence_options
    @click.option('--outdir')
    def main(outdir, **options):
        evidence = evidence_from(options)
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import click

from eg3d_unlearn.config import OF_EVALUATION, WHO, take
from eg3d_unlearn.console import PATH, Option
from torch_utils_ext.errors import InputError

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

# What Config has not: the other network, and judges that the loss did not use.
OWN = (
    click.option('--before', help='The network before: a path, a URL, a published name, demo-eg3d, demo-stylegan2 or faces.', type=PATH, metavar='PATH|URL|NAME', required=True, cls=Option, group='Network'),
    click.option('--after', help='The network after: network-unlearned.pkl of the run.', type=PATH, metavar='FILE', required=True, cls=Option, group='Network'),
    click.option('--recogniser', 'recognisers', help="A further recogniser that measures, which the loss did not use: facenet, arcface, curricularface, or a TorchScript file ([N, 3, 112, 112] in [-1, 1] -> [N, D]; a program: --trust-file). May be given more than once.", type=PATH, metavar='NAME|FILE', multiple=True, cls=Option, group='Judges'),
)
OPTIONS = (*OWN[:2], *(take(name, evaluate=True) for name in OF_EVALUATION), OWN[2])
NAMES = ('before', 'after', 'recognisers', *OF_EVALUATION)


def evidence_options(command: Callable) -> Callable:
    """Decorator: the shared options, in the order of `OPTIONS`, as keyword arguments of the command."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def evidence_from(
    options: dict,                   # what click gave to the command; further options are left alone
    log: Callable[[str], None] = click.echo,
    needs_person: bool = True,       # False: the networks alone are looked at
    needs_lpips: bool = True,        # False: the command leaves out what LPIPS would say
) -> Evidence:
    """The evidence that the shared options name.

    Raises:
        InputError: as `evidence.gather` does; no LPIPS where it is needed.
    """
    if needs_lpips and options['lpips_net'] == 'none':
        raise InputError('--lpips-net=none goes with evaluate.py report only; here LPIPS is needed. Leave it out, or use --lpips-net=squeeze, '
                         'which is small.')
    from eg3d_unlearn.evaluation.evidence import gather  # heavy: only when there is work to do
    return gather(**{name: options[name] for name in NAMES if options[name] is not None}, log=log, needs_person=needs_person)


def names_somebody(options: dict) -> bool:
    """Whether the options say who was erased."""
    return any(options.get(name) not in (None, ()) for name in WHO)
