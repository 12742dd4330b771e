"""What a run's folder holds: its report, its curves, and what metrics and audit left beside the network."""
from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from eg3d_unlearn.run_folder import REPORT, STATS
from torch_utils_ext.errors import InputError

AUDIT = 'audit.json'
PAGE, VIDEO = 'report.html', 'before-after.mp4'


@dataclass
class Found:
    """All that a page is written from, apart from pictures."""
    report: dict                     # report.json
    stats: list[dict] = field(default_factory=list)    # lines of stats.jsonl
    metrics: list[dict] = field(default_factory=list)  # of each metric the last line of its metric-*.jsonl
    audit: dict | None = None        # audit.json
    notes: list[str] = field(default_factory=list)     # files that could not be read, results about another network


def read_folder(
    folder: Path,
    report: dict | None = None,      # of a run that has not written its report.json yet; None: read it
    audit: Path | None = None,       # audit.json, or its folder; None: in the run's folder, or in the folder `audit` there
) -> Found:
    """The files of a run; a damaged or missing one is noted, only ``report.json`` must be there.

    Raises:
        InputError: no folder, no finished run in it.
    """
    if report is None:
        report = read_report(folder)
    found = Found(report)
    found.stats = [line for line in read_lines(folder / STATS, found.notes) if is_number(line.get('step'))]
    for path in sorted(folder.glob('metric-*.jsonl')):
        lines = [line for line in read_lines(path, found.notes) if isinstance(line.get('name'), str)]
        found.metrics += lines[-1:]
    found.audit = read_audit(folder, audit, found.notes)
    leave_out_other_networks(found)
    return found


def read_audit(folder: Path, given: Path | None, notes: list[str]) -> dict | None:
    """``audit.json``, wherever it lies; one that was named must be there."""
    places = [folder / AUDIT, folder / 'audit' / AUDIT] if given is None else [given / AUDIT if given.is_dir() else given]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        if given is not None:
            raise InputError(f'--audit={given} holds no {AUDIT}. Name the --outdir of a finished audit.')
        return None
    try:
        audit = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        audit = None
    if isinstance(audit, dict) and isinstance(audit.get('tiers'), list):
        return audit
    if given is not None:
        raise InputError(f'{path} is no audit.json of evaluate.py audit, or is damaged.')
    notes.append(f'{AUDIT} cannot be read and is left out.')
    return None


def read_report(folder: Path) -> dict:
    """``report.json`` of a finished run."""
    if not folder.is_dir():
        raise InputError(f'--run={folder} is no folder. Name the --outdir of a finished run.')
    path = folder / REPORT
    if not path.is_file():
        began = (folder / 'training_options.json').is_file()
        raise InputError(f'--run={folder} holds no {REPORT}: '
                         + ('its run is not finished. Run the same unlearn.py command again, it goes on.' if began else
                            'name the --outdir of a finished run.'))
    try:
        report = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        report = None
    if not isinstance(report, dict) or not isinstance(report.get('networks'), dict):
        raise InputError(f'{path} is no report of unlearn.py, or is damaged. Name the --outdir of a finished run.')
    return report


def read_lines(path: Path, notes: list[str]) -> list[dict]:
    """The json objects of a file with one in each line; what is damaged is counted in ``notes``."""
    if not path.is_file():
        return []
    lines, damaged = [], 0
    for text in path.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict):
            lines.append(line)
        elif text.strip():
            damaged += 1
    if damaged:
        notes.append(f'{damaged} damaged line{"s" * (damaged > 1)} of {path.name} {"are" if damaged > 1 else "is"} left out.')
    return lines


def leave_out_other_networks(found: Found) -> None:
    """Take out what was measured on other networks than the run's, and say so: it says nothing here."""
    networks = found.report['networks']
    mine = {side: (networks.get(place) or {}).get('sha256') for side, place in (('before', 'in'), ('after', 'out'))}

    def is_other(what: str, result: dict) -> bool:
        for side, own in mine.items():
            theirs = (result.get('networks') or {}).get(side)
            theirs = theirs.get('sha256') if isinstance(theirs, dict) else theirs
            if own and theirs and theirs != own:
                found.notes.append(f'{what} was measured on another network {side} ({str(theirs)[:12]}…) than this run has '
                                   f'({own[:12]}…) and is left out.')
                return True
        return False
    found.metrics = [metric for metric in found.metrics if not is_other(f'Metric {metric["name"]}', metric)]
    if found.audit and is_other('The audit', found.audit):
        found.audit = None


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
