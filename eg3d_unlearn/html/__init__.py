"""``report.html``: one self-contained page about an erasure, for a privacy officer and for a reviewer."""
from __future__ import annotations

import base64
import io
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Callable

import PIL.Image

from eg3d_unlearn.html import words
from eg3d_unlearn.html.exhibits import Exhibits, Picture
from eg3d_unlearn.html.files import PAGE, Found, is_number, read_folder
from eg3d_unlearn.html.page import page
from eg3d_unlearn.run_folder import PICTURE, write_whole

SAME_LIKENESS = 0.1                  # the likeness of a latent before and after is that of the run but for this much
SAME_PSNR = 1.0                      # two inversions of one photo differ by less [dB]

if TYPE_CHECKING:
    from torch import Tensor

    from eg3d_unlearn.evidence import Evidence
    from eg3d_unlearn.html.looking import Plan


def write_report(
    folder: Path,                    # of the run; `report.html` goes there
    evidence: Evidence | None,       # networks, person and recognisers; None: only what the folder holds is written up
    report: dict | None = None,      # of a run that has not written its report.json yet; None: read it
    plan: Plan | None = None,        # how much is looked at; None: the default, photos as ``--keep-source`` said
    ws_target: Tensor | None = None,  # [1, num_ws, w_dim] where the run moved the person; None: as its settings say, where they can
    audit: Path | None = None,       # audit.json, or its folder; None: in the run's folder, if there
    log: Callable[[str], None] = print,
) -> dict:
    """Look at both networks, measure, and write the page; returns what report.json gains.

    Raises:
        InputError: no finished run in the folder, or the page cannot be written.
    """
    found = read_folder(folder, report, audit)
    for note in found.notes:
        log(note)
    gained, exhibits = {}, Exhibits()
    if evidence is not None:
        from eg3d_unlearn.html.looking import Plan, look
        settings = found.report.get('config') or {}
        exhibits, gained['evidence'] = look(evidence, settings, plan or Plan(show_photo=bool(settings.get('keep_source'))), ws_target)
        found.report = {**found.report, **gained}
        if doubt := another_person(found.report.get('person') or {}, evidence.person.notes) or another_likeness(found.report):
            found.notes.append(doubt)
            log(f'WARNING: {doubt}')
    elif (folder / PICTURE).is_file():
        exhibits.sheet = picture_at(folder / PICTURE, 1024, 'PNG', PICTURE, found.notes)
    exhibits.recovered = recovered_face(found)
    text = page(found, exhibits, time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()))
    write_whole(folder / PAGE, lambda file: file.write(text.encode('utf-8', 'replace')))
    return gained


def picture_at(file: Path | BinaryIO, side: int, kind: str, name: str, notes: list[str]) -> Picture | None:
    """A picture file that this package wrote, as a JPEG of at most ``side`` pixels; a damaged one is noted."""
    from eg3d_unlearn.html.pictures import jpeg
    try:
        with PIL.Image.open(file, formats=(kind,)) as picture:
            return jpeg(picture, side)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        notes.append(f'{name} cannot be read and is left out.')
        return None


def recovered_face(found: Found) -> Picture | None:
    """The person as the first attack of the audit that succeeded shows them; None where nobody came back."""
    for tier in [] if found.audit is None else found.audit['tiers']:
        told = tier.get('recovered') if isinstance(tier, dict) else None
        uri = told.get('picture') if isinstance(told, dict) else None
        if isinstance(uri, str) and (given := re.fullmatch(r'data:image/jpeg;base64,([A-Za-z0-9+/]{4,1000000}={0,2})', uri)):
            content = given[1] + '=' * (-len(given[1]) % 4)
            return picture_at(io.BytesIO(base64.b64decode(content)), 256, 'JPEG', 'The picture of the audit', found.notes)
    return None


def another_person(then: dict, now: dict) -> str | None:
    """A warning where the person who is looked at seems not to be the one of the run, of whom nothing but notes was kept."""
    if then.get('given_as') != now.get('given_as'):
        return (f'The run was given a person as {then.get("given_as")}, this page as {now.get("given_as")}: perhaps it is not the same '
                'person.')
    psnr = [notes.get('psnr_db') for notes in (then, now)]
    if all(map(is_number, psnr)) and abs(psnr[0] - psnr[1]) > SAME_PSNR:
        return (f'The photo looked at here was inverted to {psnr[1]:.1f} dB, that of the run to {psnr[0]:.1f} dB: perhaps it is not the same '
                'photo, or was inverted with other settings.')
    return None


def another_likeness(report: dict) -> str | None:
    """A warning where the latent that was looked at has changed otherwise than the one that was erased."""
    then, deciding = (report.get('summary') or {}).get('erased_same_photo'), words.deciding(report.get('evidence'))
    if deciding is None or not is_number(then) or (report['summary'].get('measured_by') != report['evidence']['measured_by']):
        return None
    views = deciding['same_photo']['values']
    now = sum(views[i] for i in (0, len(views) // 2, -1)) / 3      # the views of the summary
    if abs(now - then) <= SAME_LIKENESS:
        return None
    return (f'The likeness before against after is {now:.2f} here and was {then:.2f} at the end of the run: perhaps it is not the same person, '
            'or the person was found with other settings.')
