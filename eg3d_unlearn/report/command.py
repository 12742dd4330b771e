"""Write ``report.html`` for a finished run.

    python evaluate.py report --run=out
    python evaluate.py report --run=out --image=demo
"""
from __future__ import annotations

import math
from pathlib import Path

import click
from click.core import ParameterSource

from eg3d_unlearn.config import OPTIONS
from eg3d_unlearn.console import PATH, command
from eg3d_unlearn.evaluation.options import evidence_from, evidence_options, names_somebody
from eg3d_unlearn.evaluation.same_person import another_likeness, another_person
from eg3d_unlearn.options import about
from eg3d_unlearn.run_folder import NETWORK, REPORT, write_json
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_url import PUBLISHED
from torch_utils_ext.user_files import dict_at, shown

# What the run itself knows, where the user says nothing: numbers, choices and flags.  Who the person is it does not, and what
# could name a file or a place, or let code run, is the user's to say.
OF_THE_RUN = tuple(name for name, field in OPTIONS.items() if about(field).of_run)


@command(stopped='Nothing was written; run the same command again.')
@click.option('--run', 'folder', help='Folder of a finished run: the --outdir of unlearn.py. report.html goes there, and report.json gains the figures.', type=PATH, metavar='DIR', required=True)
@evidence_options
@click.option('--audit', help="audit.json of evaluate.py audit, or its folder.  [default: in --run, or its folder audit]", type=PATH, metavar='FILE|DIR')
@click.option('--people', help='Random people who are measured.', metavar='INT', type=click.IntRange(min=8), default=40, show_default=True)
@click.option('--show-photo', help="Put the person's photos into the page.", is_flag=True)
@click.option('--video', help='Also write before-after.mp4: the person turns (EG3D), or walks to the target (2D), before and after.', is_flag=True)
@click.pass_context
def main(ctx: click.Context, folder: str, audit: str | None, people: int, show_photo: bool, video: bool, **options) -> None:
    """Write report.html for a finished run: one file that opens without a network.

    With the person (--image, --latent or --latent-seed) both networks are looked at again: views, other photos, neighbours, other
    people. Without, the page is written from the folder's files. metric-*.jsonl and audit.json in the folder become sections.

    \b
    Examples:
      python evaluate.py report --run=out --image=demo
      python evaluate.py report --run=out --before=ffhqrebalanced512-128.pkl --image=face.png --video
    """
    write(Path(folder), None if audit is None else Path(audit), people, show_photo, video, options, {
        name for name in options if ctx.get_parameter_source(name) == ParameterSource.DEFAULT})


for parameter in main.params:
    if parameter.name in ('before', 'after'):  # the run knows both
        parameter.required = False
        parameter.show_default = {'before': "the run's", 'after': f'{NETWORK} of --run'}[parameter.name]


def write(folder: Path, audit: Path | None, people: int, show_photo: bool, video: bool, options: dict, defaults: set[str]) -> None:
    """The command, once its options are read; ``defaults`` names those that the user did not give."""
    from eg3d_unlearn.report.files import PAGE, VIDEO, read_audit, read_report, settings_of
    report = read_report(folder)
    read_audit(folder, audit, [])    # one that cannot be read is refused before anything slow
    if not names_somebody(options):
        person = [f'--{name.replace("_", "-")}' for name, given in (('show_photo', show_photo), ('video', video)) if given]
        if person:
            raise InputError(f'{person[0]} needs the person: add --image, --latent or --latent-seed.')
    if video:
        from eg3d_unlearn.report.video import check_video
        check_video()
    evidence = None
    if names_somebody(options):
        evidence = evidence_from(completed(options, defaults, report, folder), log=click.echo, needs_lpips=False)
        check_networks(evidence, report)
    from eg3d_unlearn.report import write_report  # heavy: pictures and networks
    if evidence is None:
        click.echo('No person was named, so that the page is written from the folder alone. For pictures of views, neighbours and other people '
                   'add --image, --latent or --latent-seed.')
        write_report(folder, report=report, audit=audit, log=click.echo)
    else:
        from eg3d_unlearn.evaluation.comparison import Plan, compare
        settings = settings_of(report)
        plan = Plan(people=people, show_photo=show_photo or bool(settings.get('keep_source')), seed=options['seed'])
        pictures, measured = compare(evidence, settings, plan)
        doubt = another_person(report.get('person'), evidence.person.notes) or another_likeness(report.get('summary'), measured)
        report = {**report, 'evidence': measured}
        write_report(folder, pictures, report, audit, [f'WARNING: {doubt}'] if doubt else [], click.echo)
        write_json(folder / REPORT, report)
    if video:
        from eg3d_unlearn.report.video import write_video
        write_video(folder / VIDEO, evidence, settings_of(report))
    click.echo(f'Wrote {folder / PAGE}{f" and {folder / VIDEO}" if video else ""}.')


def completed(options: dict, defaults: set[str], report: dict, folder: Path) -> dict:
    """The options, with what the run knows where the user said nothing.

    Raises:
        InputError: the run says what only the user may say: a file, a path, an address, a recogniser of its own.
    """
    config = dict_at(report, 'config')
    whole = dict(options)
    for parameter in main.params:
        name = parameter.name
        if name in defaults and config.get(name) is not None:
            if name not in OF_THE_RUN:
                continue
            if parameter.type is PATH and name != 'id_network':
                raise InputError(f'{REPORT} says that the run used the file {shown(config[name])}. A file that another file names is not opened. '
                                 f'Name it yourself: {parameter.opts[0]}=FILE.')
            whole[name] = checked(parameter, config[name])
    from eg3d_unlearn.worlds.registry import known_networks
    whole['after'] = options['after'] or str(folder / NETWORK)
    whole['before'] = options['before'] or config.get('network')
    if not whole['before']:
        raise InputError(f'{folder / REPORT} does not say which network went in. Name it with --before.')
    if options['before'] is None and not (isinstance(whole['before'], str) and whole['before'] in {**known_networks(), **PUBLISHED}):
        raise InputError(f'{REPORT} says that the network {shown(whole["before"], 300)} went in. A path or an address that another file names is '
                         'not opened. Name the network yourself: --before=PATH|URL|NAME.')
    return whole


def checked(parameter: click.Parameter, value: object) -> object:
    """A value of report.json for one of the options, which must be as the command line would take it."""
    kinds = {click.types.IntParamType: int, click.types.FloatParamType: (int, float), click.types.BoolParamType: bool}
    kind = next((kind for of_click, kind in kinds.items() if isinstance(parameter.type, of_click)), str)
    try:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or not math.isfinite(0 if kind in (bool, str) else value):
            raise ValueError
        if parameter.name in ('id_network', 'lpips_net'):
            from eg3d_unlearn.judges.identity import NAMES
            from eg3d_unlearn.judges.perceptual import NETS
            from eg3d_unlearn.worlds.registry import REGISTERED
            if value not in (*(NAMES if parameter.name == 'id_network' else NETS), *REGISTERED, 'none'):
                raise ValueError
        return parameter.type.convert(value, parameter, None)
    except (ValueError, OverflowError, click.BadParameter):
        program = '=FILE --trust-file, if you trust the file, which is a program' if parameter.name == 'id_network' else ''
        raise InputError(f'{REPORT} gives {parameter.opts[0]} as {shown(value)}, which is not taken from a file. Say it yourself: '
                         f'{parameter.opts[0]}{program}.') from None


def check_networks(evidence, report: dict) -> None:
    """Refuse networks that are not the run's: the page would mix two results."""
    for side, pickle, option in (('in', evidence.before, '--before'), ('out', evidence.after, '--after')):
        theirs, mine = (report['networks'].get(side) or {}).get('sha256'), pickle.sha256()
        if theirs and theirs != mine:
            raise InputError(f'{option}={pickle.path} is not the network of this run: its SHA-256 is {mine[:16]}…, that in report.json '
                             f'{shown(theirs, 16)}.')
