"""What a run's folder holds: its report, its curves, and what metrics and audit left beside the network."""
from __future__ import annotations

import os
import typing
from dataclasses import dataclass, field
from pathlib import Path

from eg3d_unlearn.config import CLOSED_FORM, Config
from eg3d_unlearn.evaluation.metrics.registry import find
from eg3d_unlearn.evaluation.summary import doubts
from eg3d_unlearn.run_folder import REPORT, STATS
from eg3d_unlearn.worlds.registry import REGISTERED, known_networks, world_named
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import MAX_JSON_BYTES, is_file, is_number, parse_json, read_bytes, read_json, shown

AUDIT = 'audit.json'
PAGE, VIDEO = 'report.html', 'before-after.mp4'


@dataclass
class RunFiles:
    """All that a page is written from, apart from pictures."""
    report: dict                     # report.json
    stats: list[dict] = field(default_factory=list)    # lines of stats.jsonl
    metrics: list[dict] = field(default_factory=list)  # of each metric the last line of its metric-*.jsonl
    audit: dict | None = None        # audit.json
    notes: list[str] = field(default_factory=list)     # files that could not be read, results about another network

    @property
    def config(self) -> dict:
        return self.report.get('config') or {}

    @property
    def person(self) -> dict:
        return self.report.get('person') or {}

    @property
    def summary(self) -> dict:
        """What the run measured by itself at its end."""
        return self.report.get('summary') or {}

    @property
    def evidence(self) -> dict:
        """What was measured for a page; {}: nobody has looked at both networks."""
        return self.report.get('evidence') or {}

    @property
    def likeness(self) -> dict | None:
        """By the recogniser that decides; None where nothing was recognised."""
        by = self.evidence.get('measured_by')
        return None if by is None else self.evidence['likeness'][by]

    def network(self, side: str) -> dict:
        """What is known of the network that went 'in' or came 'out'."""
        return self.report['networks'].get(side) or {}

    @property
    def doubts(self) -> list[str]:
        """Why the face that was erased may be another one than the photo's, as the run said it; technical."""
        return doubts(self.person)

    @property
    def all_notes(self) -> list[str]:
        """What is to be known of the network's file and of those of the run."""
        of_file = self.network('in').get('notes')
        return [note for note in of_file if isinstance(note, str)] + self.notes if isinstance(of_file, list) else self.notes

    @property
    def is_made_up(self) -> bool:
        """Whether network and people belong to a world in which nobody is real; earlier versions only said whether there was a world."""
        name, network = self.report.get('world') or self.person.get('given_as'), str(self.config.get('network'))
        world = world_named(name) if name in REGISTERED else known_networks().get(network)
        return bool(self.report.get('demo_world')) if world is None else world.is_made_up

    @property
    def is_measured(self) -> bool:
        """Whether a judge looked at any picture."""
        parts = [self.summary, *(part for part in (self.report.get('figures') or {}).values() if isinstance(part, dict))]
        return bool(self.evidence.get('lpips')) or any(
            is_number(part.get(name)) for part in parts for name in ('erased_same_photo', 'lpips', 'identity_cosine'))

    @property
    def compares_samples(self) -> bool:
        """Whether a metric compares many pictures of both networks."""
        return any((found := find(str(metric.get('name')))) and found.counts == 'pictures' for metric in self.metrics)

    @property
    def moves_neighbours(self) -> bool:
        """Whether the method moves latents around the person's: by a loss of their own, or all latents by one formula."""
        method = str(self.config.get('method'))
        return method.startswith(CLOSED_FORM) or bool(self.config.get('lambda_adj', 1) and self.config.get('n_adj', 1))

    @property
    def photos_took_part(self) -> bool:
        """Whether the person's other photos were erased along, so that they are no test."""
        return self.config.get('forget_from', 'first') != 'first'


def read_folder(
    folder: Path,
    report: dict | None = None,      # of a run that has not written its report.json yet; None: read it
    audit: Path | None = None,       # audit.json, or its folder; None: in the run's folder, or in the folder `audit` there
) -> RunFiles:
    """The files of a run; a damaged or missing one is noted, only ``report.json`` must be there.

    Raises:
        InputError: no folder, no finished run in it.
    """
    if report is None:
        report = read_report(folder)
    run = RunFiles(report)
    run.stats = [line for line in read_lines(folder / STATS, run.notes) if is_number(line.get('step'))]
    for path in sorted(folder.glob('metric-*.jsonl')):
        lines = [line for line in read_lines(path, run.notes) if isinstance(line.get('name'), str)]
        run.metrics += lines[-1:]
    run.audit = read_audit(folder, audit, run.notes)
    leave_out_other_networks(run)
    return run


def read_audit(folder: Path, given: Path | None, notes: list[str]) -> dict | None:
    """``audit.json``, wherever it lies; one that was named must be there."""
    places = [folder / AUDIT, folder / 'audit' / AUDIT] if given is None else [given / AUDIT if os.path.isdir(given) else given]
    path = next((place for place in places if is_file(place)), None)
    if path is None:
        if given is not None:
            raise InputError(f'--audit={shown(given, 300)} holds no {AUDIT}. Name the --outdir of a finished audit.')
        return None
    try:
        audit = read_json(path, AUDIT, dict)
    except InputError:
        audit = None
    if isinstance(audit, dict) and isinstance(audit.get('tiers'), list):
        return audit
    if given is not None:
        raise InputError(f'{shown(path, 300)} is no audit.json of evaluate.py audit, or is damaged.')
    notes.append(f'{AUDIT} cannot be read and is left out.')
    return None


def read_report(folder: Path) -> dict:
    """``report.json`` of a finished run."""
    if not os.path.isdir(folder):    # False, too, for names that the system cannot look for
        raise InputError(f'--run={shown(folder, 300)} is no folder. Name the --outdir of a finished run.')
    path = folder / REPORT
    if not is_file(path):
        began = is_file(folder / 'training_options.json')
        raise InputError(f'--run={folder} holds no {REPORT}: '
                         + ('its run is not finished. Run the same unlearn.py command again, it goes on.' if began else
                            'name the --outdir of a finished run.'))
    try:
        report = read_json(path, 'report', dict)
    except InputError:
        report = {}
    if not isinstance(report.get('networks'), dict):
        raise InputError(f'{shown(path, 300)} is no report of unlearn.py, or is damaged. Name the --outdir of a finished run.')
    return report


def read_lines(path: Path, notes: list[str]) -> list[dict]:
    """The json objects of a file with one in each line; what is damaged is counted in ``notes``."""
    if not path.exists():
        return []
    try:
        content = read_bytes(path, 'file', MAX_JSON_BYTES)
    except InputError:               # a folder or a pipe of that name
        notes.append(f'{shown(path.name)} cannot be read and is left out.')
        return []
    lines, damaged = [], 0
    for text in content.splitlines():
        try:
            lines.append(parse_json(text, 'A line', dict))
        except InputError:
            damaged += bool(text.strip())
    if damaged:
        notes.append(f'{damaged} damaged line{"s" * (damaged > 1)} of {shown(path.name)} {"are" if damaged > 1 else "is"} left out.')
    return lines


def leave_out_other_networks(run: RunFiles) -> None:
    """Take out what was measured on other networks than the run's, and say so: it says nothing here."""
    mine = {side: checksum(run.report, place) for side, place in (('before', 'in'), ('after', 'out'))}

    def is_other(what: str, result: dict) -> bool:
        for side, own in mine.items():
            theirs = checksum(result, side)
            if own and theirs and theirs != own:
                run.notes.append(f'{what} was measured on another network {side} ({shown(theirs[:12])}…) than this run has '
                                   f'({shown(own[:12])}…) and is left out.')
                return True
        return False
    run.metrics = [metric for metric in run.metrics if not is_other(f'Metric {shown(metric["name"])}', metric)]
    if run.audit and is_other('The audit', run.audit):
        run.audit = None


def checksum(content: dict, side: str) -> str | None:
    """The SHA-256 that a report or a result gives for one of its networks."""
    networks = content.get('networks')
    given = networks.get(side) if isinstance(networks, dict) else None
    given = given.get('sha256') if isinstance(given, dict) else given
    return given if isinstance(given, str) else None


def settings_of(report: dict) -> dict:
    """'config' of report.json: those options whose values are of the right type and, where numbers, of a usable size."""
    given = report.get('config')
    hints = typing.get_type_hints(Config)

    def fits(value: object, hint: object) -> bool:
        kinds = typing.get_args(hint) or (hint,)
        if isinstance(value, (bool, str)) or value is None:
            return value is None or type(value) in kinds
        return is_number(value) and bool({int, float} & set(kinds)) and abs(value) < 1 << 32
    return {name: value for name, value in given.items() if name in hints and fits(value, hints[name])} if isinstance(given, dict) else {}
