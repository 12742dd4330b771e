"""Write ``report.html`` for a finished run.

    python evaluate.py report --run=out
    python evaluate.py report --run=out --image=demo
"""
from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from eg3d_unlearn.console import PATH, command
from eg3d_unlearn.evidence_options import NAMES, evidence_from, evidence_options, names_somebody
from eg3d_unlearn.run_folder import NETWORK, REPORT, write_json
from torch_utils_ext.errors import InputError

# What the run itself knows, where the user says nothing; who the person is it does not.
OF_THE_USER = ('before', 'after', 'image', 'latent', 'latent_seed', 'camera', 'recognisers', 'encoder', 'device', 'precision', 'upstream',
               'trust_pickle')
OF_THE_RUN = tuple(name for name in NAMES if name not in OF_THE_USER)


@command(stopped='Nothing was written; run the same command again.')
@click.option('--run', 'folder', help='Folder of a finished run: the --outdir of unlearn.py. report.html goes there, and report.json gains the figures.', type=PATH, metavar='DIR', required=True)
@evidence_options
@click.option('--audit', help="audit.json of evaluate.py audit, or its folder.  [default: in --run, or its folder audit]", type=PATH, metavar='FILE|DIR')
@click.option('--people', help='Random people who are measured.', metavar='INT', type=click.IntRange(min=8), default=40, show_default=True)
@click.option('--masks', help='Random masks of the saliency maps (RISE), a multiple of 4; 0: none.', metavar='INT', type=click.IntRange(min=0), default=800, show_default=True)
@click.option('--show-photo', help="Put the person's photos into the page.", is_flag=True)
@click.option('--video', help='Also write before-after.mp4: the person turns (EG3D), or walks to the target (2D), before and after.', is_flag=True)
@click.pass_context
def main(ctx: click.Context, folder: str, audit: str | None, people: int, masks: int, show_photo: bool, video: bool, **options) -> None:
    """Write report.html for a finished run: one file that opens without a network.

    With the person (--image, --latent or --latent-seed) both networks are looked at again: views, other photos, neighbours, other
    people, maps. Without, the page is written from the folder's files. metric-*.jsonl and audit.json in the folder become sections.

    \b
    Examples:
      python evaluate.py report --run=out --image=demo
      python evaluate.py report --run=out --before=ffhqrebalanced512-128.pkl --image=face.png --video
    """
    write(Path(folder), None if audit is None else Path(audit), people, masks, show_photo, video, options, {
        name for name in options if ctx.get_parameter_source(name) == ParameterSource.DEFAULT})


for parameter in main.params:
    if parameter.name in ('before', 'after'):  # the run knows both
        parameter.required = False
        parameter.help += {'before': "  [default: the run's]", 'after': f"  [default: {NETWORK} of --run]"}[parameter.name]


def write(folder: Path, audit: Path | None, people: int, masks: int, show_photo: bool, video: bool, options: dict, defaults: set[str]) -> None:
    """The command, once its options are read; ``defaults`` names those that the user did not give."""
    from eg3d_unlearn.html.files import PAGE, VIDEO, read_audit, read_report
    report = read_report(folder)
    read_audit(folder, audit, [])    # one that cannot be read is refused before anything slow
    if masks % 4:
        raise InputError(f'--masks={masks} is no multiple of 4.')
    if not names_somebody(options):
        person = [f'--{name.replace("_", "-")}' for name, given in (('show_photo', show_photo), ('video', video)) if given]
        if person:
            raise InputError(f'{person[0]} needs the person: add --image, --latent or --latent-seed.')
    if video:
        from eg3d_unlearn.html.video import check_video
        check_video()
    evidence = None
    if names_somebody(options):
        evidence = evidence_from(completed(options, defaults, report, folder), log=click.echo)
        check_networks(evidence, report)
    from eg3d_unlearn.html import write_report  # heavy: pictures and networks
    plan = None
    if evidence is not None:
        from eg3d_unlearn.html.looking import Plan
        plan = Plan(people=people, masks=masks, show_photo=show_photo or bool((report.get('config') or {}).get('keep_source')),
                    seed=options['seed'])
    else:
        click.echo('No person was named, so that the page is written from the folder alone. For pictures of views, neighbours and other people '
                   'add --image, --latent or --latent-seed.')
    gained = write_report(folder, evidence, report, plan, audit=audit, log=click.echo)
    if gained:
        write_json(folder / REPORT, {**report, **gained})
    if video:
        from eg3d_unlearn.html.video import write_video
        write_video(folder / VIDEO, evidence, report.get('config') or {})
    click.echo(f'Wrote {folder / PAGE}{f" and {folder / VIDEO}" if video else ""}.')


def completed(options: dict, defaults: set[str], report: dict, folder: Path) -> dict:
    """The options, with what the run knows where the user said nothing."""
    config = report.get('config') or {}
    whole = dict(options)
    for name in OF_THE_RUN:
        if name in defaults and config.get(name) is not None:
            whole[name] = config[name]
    whole['before'] = options['before'] or config.get('network')
    whole['after'] = options['after'] or str(folder / NETWORK)
    if not whole['before']:
        raise InputError(f'{folder / REPORT} does not say which network went in. Name it with --before.')
    return whole


def check_networks(evidence, report: dict) -> None:
    """Refuse networks that are not the run's: the page would mix two results."""
    for side, pickle, option in (('in', evidence.before, '--before'), ('out', evidence.after, '--after')):
        theirs, mine = (report['networks'].get(side) or {}).get('sha256'), pickle.sha256()
        if theirs and theirs != mine:
            raise InputError(f'{option}={pickle.path} is not the network of this run: its SHA-256 is {mine[:16]}…, that in report.json '
                             f'{theirs[:16]}….')
