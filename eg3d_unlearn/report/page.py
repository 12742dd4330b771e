"""The page: what ``templates/page.html`` is filled with.

Sections come in the order in which a reader asks; each is left out where there is nothing to show.
"""
from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path
from types import SimpleNamespace as Section

import jinja2
from markupsafe import Markup

from eg3d_unlearn.evaluation.audit.utility import DAMAGED, RUINED
from eg3d_unlearn.evaluation.pictures import BeforeAfter, Pictures
from eg3d_unlearn.evaluation.summary import nearer_to_others
from eg3d_unlearn.report import audit, comparison, formatting, results
from eg3d_unlearn.report.files import RunFiles
from eg3d_unlearn.run_folder import NETWORK
from eg3d_unlearn.worlds.registry import REGISTERED
from torch_utils_ext.user_files import is_number

TITLE = 'What the unlearned generator still shows'
ALWAYS = 'Whoever has this file and a photo can probably make it show the person again; keep the file private.'
GIVEN = {'seed': 'by the number of a generated face', 'latent': 'by the code of a face', 'image': 'by a photo'}
TEMPLATES = Path(__file__).with_name('templates')
# What steers a terminal or turns the direction of reading, and half characters; of a page such letters are written as escapes.
STEERING = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')


def page(
    run: RunFiles,
    pictures: Pictures,
    written: str,                    # when, as it is to be read
) -> str:
    """The whole file."""
    sections = [
        comparison.likeness(run), comparison.photos(run, pictures), comparison.neighbours(run, pictures),
        comparison.people(run, pictures), comparison.recognisers(run), results.metrics(run.metrics),
        audit.attacks(run.audit), Section(key='limits', title='What this does and does not show', lead=None), results.curves(run.stats),
        results.final_figures(run), results.settings(run)]
    checksum, given_as = run.network('out').get('sha256'), run.person.get('given_as', '')
    text = templates().get_template('page.html').render(
        title=TITLE, written=written, style=inlined('style.css'), script=inlined('page.js'), run=run, pictures=pictures,
        checksum=f'{str(checksum)[:16]}…' if checksum else None, version=(run.report.get('versions') or {}).get('eg3d_unlearn'),
        untrained='MEANING' in run.report, attacks=audit.outcome(run.audit), nearer_to_others=nearer_to_others(run.summary),
        given=GIVEN.get('image' if given_as in REGISTERED else given_as, ''), shows_photo=shows_photo(run, pictures),
        views=[view(one) for one in pictures.views], middle=len(pictures.views) // 2,
        sections=[section for section in sections if section is not None])
    return STEERING.sub(lambda letter: letter[0].encode('unicode_escape').decode('ascii'), text)


@functools.cache
def templates() -> jinja2.Environment:
    """Where the templates lie; whatever is put into one is escaped, unless it is `Markup`, and None is nothing."""
    found = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                               lstrip_blocks=True, finalize=lambda value: '' if value is None else value)
    found.filters |= {name: getattr(formatting, name) for name in ('counted', 'entries', 'figure', 'interval', 'listed', 'number', 'percent',
                                                                   'plain')}
    found.filters['sha256'] = sha256
    found.tests['number'] = is_number
    found.globals |= {'ALWAYS': ALWAYS, 'DAMAGED': DAMAGED, 'RUINED': RUINED, 'NETWORK': NETWORK}
    return found


@functools.cache
def inlined(name: str) -> Markup:
    """The page's style or script, as it stands in the page."""
    return Markup((TEMPLATES / name).read_text(encoding='utf-8'))


def sha256(text: str) -> str:
    """The checksum by which a Content-Security-Policy knows a style or a script."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def view(shown: BeforeAfter) -> dict:
    """One view of the person, with the place of its camera in words."""
    name = 'frontal view' if not shown.yaw else f'{abs(shown.yaw):g} degrees from the {"right" if shown.yaw > 0 else "left"}'
    return {'before': shown.before, 'after': shown.after, 'target': shown.target, 'name': name,
            'side': '' if shown.yaw is None else f', {name}', 'heading': None if shown.yaw is None else name.capitalize(),
            'likeness': shown.likeness if is_number(shown.likeness) else None}


def shows_photo(run: RunFiles, pictures: Pictures) -> bool:
    """Whether a photo of the person is on the page."""
    if pictures.sheet is not None:   # the run put photos into it where they might be shown
        return bool(run.config.get('keep_source')) or run.person.get('given_as') in REGISTERED
    return pictures.photo is not None or any(shown.photo for shown in pictures.other_photos)
