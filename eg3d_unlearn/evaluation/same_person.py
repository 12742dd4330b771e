"""Whether the person who is looked at is the one of the run, of whom nothing but notes and figures was kept."""
from __future__ import annotations

from torch_utils_ext.user_files import is_number, shown

SAME_PSNR = 1.0                      # two inversions of one photo differ by less [dB]
SAME_LIKENESS = 0.1                  # two measurements of one latent, before against after, differ by less


def another_person(
    then: object,                    # what a report.json says of the person: the notes of ``Person``
    now: dict,                       # the notes of who is looked at
) -> str | None:
    """A warning where these notes differ."""
    then = then if isinstance(then, dict) else {}
    if then.get('given_as') != now.get('given_as'):
        return (f'The run was given a person as {shown(then.get("given_as"))}, this page as {now.get("given_as")}: perhaps it is not the same '
                'person.')
    before, here = then.get('psnr_db'), now.get('psnr_db')
    if is_number(before) and is_number(here) and abs(before - here) > SAME_PSNR:
        return (f'The photo looked at here was inverted to {here:.1f} dB, that of the run to {before:.1f} dB: perhaps it is not the same '
                'photo, or was inverted with other settings.')
    return None


def another_likeness(
    summary: object,                 # what a report.json says of the run: `summary.summary`
    evidence: dict,                  # what is measured now: `comparison.figures_of`
) -> str | None:
    """A warning where the likeness of the latent that was looked at, before against after, is not that of the erased one."""
    summary = summary if isinstance(summary, dict) else {}
    then, by = summary.get('erased_same_photo'), evidence['measured_by']
    if by is None or not is_number(then) or summary.get('measured_by') != by:
        return None
    views = evidence['likeness'][by]['same_photo']['values']
    now = sum(views[i] for i in (0, len(views) // 2, -1)) / 3      # the views of the summary
    if abs(now - then) <= SAME_LIKENESS:
        return None
    return (f'The likeness before against after is {now:.2f} here and was {then:.2f} at the end of the run: perhaps it is not the same person, '
            'or the person was found with other settings.')
