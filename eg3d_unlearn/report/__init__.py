"""``report.html``: one self-contained page about an erasure, for a privacy officer and for a reviewer."""
from __future__ import annotations

import base64
import re
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Iterable

from jinja2 import TemplateError

from eg3d_unlearn.evaluation.pictures import Picture, Pictures, jpeg
from eg3d_unlearn.person.photo.files import MOST_BYTES, decode
from eg3d_unlearn.report.audit import tiers_of
from eg3d_unlearn.report.files import PAGE, RunFiles, read_folder
from eg3d_unlearn.report.page import page
from eg3d_unlearn.run_folder import PICTURE, REPORT, STATS, write_whole
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import dict_at, read_bytes, shown

MOST_ENTRIES = 200                   # of report.json, that are looked at one by one where something is wrong with it


def write_report(
    folder: Path,                    # of the run; `report.html` goes there
    pictures: Pictures | None = None,  # of both networks, whose figures are in the report; None: what the folder holds is written up
    report: dict | None = None,      # of a run that has not written its report.json yet; None: read it
    audit: Path | None = None,       # audit.json, or its folder; None: in the run's folder, if there
    notes: Iterable[str] = (),       # what else the page says of itself
    log: Callable[[str], None] = print,
) -> None:
    """Write the page of a run.

    Raises:
        InputError: no finished run in the folder, or the page cannot be written.
    """
    run = usable(read_folder(folder, report, audit), Pictures())
    run.notes += notes
    if pictures is None:
        pictures = Pictures()
        if (folder / PICTURE).is_file():
            pictures.sheet = picture_of(read_bytes(folder / PICTURE, 'picture', MOST_BYTES), 1024, f'The picture {PICTURE}', run.notes)
    pictures.recovered = recovered_face(run)
    for note in run.notes:
        log(note)
    text = page(usable(run, pictures), pictures, time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()))
    write_whole(folder / PAGE, lambda file: file.write(text.encode('utf-8', 'replace')))


def picture_of(content: bytes, side: int, name: str, notes: list[str]) -> Picture | None:
    """A picture that this package wrote, as a JPEG of at most ``side`` pixels; a damaged one is noted."""
    try:
        return jpeg(decode(content, name)[0], side)
    except InputError as error:      # as with the other files of the folder: the page says what is missing
        notes.append(str(error))
        return None


def recovered_face(run: RunFiles) -> Picture | None:
    """The person as the first attack of the audit that succeeded shows them; None where nobody came back."""
    for tier in tiers_of(run.audit):
        uri = dict_at(tier, 'recovered').get('picture')
        if isinstance(uri, str) and (given := re.fullmatch(r'data:image/jpeg;base64,([A-Za-z0-9+/]{4,1000000}={0,2})', uri)):
            content = given[1] + '=' * (-len(given[1]) % 4)
            return picture_of(base64.b64decode(content), 256, 'The picture of the audit', run.notes)
    return None


def usable(run: RunFiles, pictures: Pictures) -> RunFiles:
    """What of ``run`` a page can be written from; the rest is left out and noted.

    These are files that somebody may have sent, with values of any kind where a figure or a name should be.
    """
    if can_be_shown(run, pictures):
        return run
    networks = {side: {key: value for key, value in about.items() if isinstance(value, str)}
                for side, about in run.report['networks'].items() if isinstance(about, dict)}
    kept = RunFiles({'networks': networks}, notes=run.notes)

    def add(title: str, **part: Any) -> None:
        nonlocal kept
        if can_be_shown(trial := replace(kept, **part), pictures):
            kept = trial
        else:
            kept.notes.append(f'{title} is not as this package writes it and is left out.')

    for name in islice(run.report, MOST_ENTRIES):
        if name != 'networks':
            add(f'The entry {shown(name)} of {REPORT}', report={**kept.report, name: run.report[name]})
    for metric in run.metrics:
        add(f'Metric {shown(metric["name"])}', metrics=[*kept.metrics, metric])
    add('The audit', audit=run.audit)
    add(STATS, stats=run.stats)
    return kept


def can_be_shown(run: RunFiles, pictures: Pictures) -> bool:
    """Whether a page can be made of what the files hold."""
    try:
        page(run, pictures, '').encode()
        return True
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, StopIteration, TemplateError):
        return False
