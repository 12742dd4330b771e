"""The command `python evaluate.py audit`."""
from __future__ import annotations

import click

from eg3d_unlearn.console import PATH, command
from eg3d_unlearn.evaluation.audit import TIERS
from eg3d_unlearn.evaluation.audit.budget import BUDGETS
from eg3d_unlearn.evaluation.options import evidence_from, evidence_options
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

LIST = '\n'.join(f'      {tier.key}  {tier.title}: the attacker {tier.attacker}' for tier in TIERS.values())
SPENT = '\n\n    '.join(budget.describe(TIERS.values()) for budget in BUDGETS.values())
HELP = f"""Attack an unlearned network, and report what attackers get back.

    Every attack is made on the network before, on the network after, and on control people whom nobody asked to forget: what
    counts is the excess over the controls. audit.json holds a sentence a tier, figures with intervals, and first of all whether
    the network was ruined. The same command on the same folder goes on after the last tier that was done.

    \b
    The tiers:
{LIST}

    Budgets, with minutes on demo-eg3d and two CPU cores:

    {SPENT}

    \b
    Example:
      python evaluate.py audit --before=demo-eg3d --after=out/network-unlearned.pkl --image=demo --outdir=audit
    """


def tiers_of(given: str | None) -> list[str] | None:
    """The keys that ``--tiers`` names, in the order of `TIERS`; None = all."""
    if given is None:
        return None
    keys = [key.strip().upper() for key in given.split(',')]
    unknown = [key for key in keys if key not in TIERS]
    if unknown or not keys:
        raise InputError(f'--tiers={shown(given)} names {shown(unknown[0]) or "nothing"!r}, which is no tier. Expected some of '
                         f'{",".join(TIERS)}.')
    return [key for key in TIERS if key in keys]


@command('audit', help=HELP, stopped='Run the same command again to go on after the last tier that was done.')
@evidence_options
@click.option('--outdir', help='Folder of the audit. The same command on the same folder goes on.', type=PATH, metavar='DIR', required=True)
@click.option('--budget', help='How hard attackers try.', type=click.Choice(list(BUDGETS)), default='quick', show_default=True)
@click.option('--tiers', help='Only these tiers, as T0,T3.  [default: all]', metavar='LIST')
@click.option('--controls', type=PATH, metavar='DIR', help='Photos of control people, one subfolder each, two photos or more.  [default: '
              'held-out people of the demo world; else random people of the network]')
def main(outdir: str, budget: str, tiers: str | None, controls: str | None, **options) -> None:
    # Heavy imports only when there is work to do.
    from eg3d_unlearn.evaluation.audit.context import check_recognisers
    from eg3d_unlearn.evaluation.audit.runner import AUDIT, AuditFolder, run_audit
    from eg3d_unlearn.evaluation.audit.subjects import check_controls
    chosen = tiers_of(tiers)
    folder = AuditFolder(outdir)
    folder.refuse_finished()
    check_controls(controls)
    check_recognisers([name for name in (options['id_network'] or 'by the network', *options['recognisers']) if name != 'none'])
    evidence = evidence_from(options)
    content = run_audit(evidence, BUDGETS[budget], outdir, chosen, controls, options['seed'], click.echo)
    click.echo('')
    for sentence in content['verdict']:
        click.echo(sentence)
    if 'MEANING' in content:
        click.echo(content['MEANING'])
    if any('recovered' in tier for tier in content['tiers']):
        click.echo(f'{AUDIT} holds a picture of the person as an attack brought them back: treat it as you would treat a photo.')
    click.echo(f'{content["seconds"]:.0f} s. Wrote {folder.path / AUDIT}.')
