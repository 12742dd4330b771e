"""Sections of what the run, its metrics and its settings say: metrics, curves, figures at the end, checksums."""
from __future__ import annotations

import statistics
from pathlib import Path
from types import SimpleNamespace as Section

from eg3d_unlearn.evaluation.metrics.registry import find
from eg3d_unlearn.report import charts
from eg3d_unlearn.report.comparison import GROUPS
from eg3d_unlearn.report.files import RunFiles
from eg3d_unlearn.report.formatting import MISSING, entries, interval, number, plain, short
from eg3d_unlearn.unlearning.loss import curves as loss_curves
from torch_utils_ext.user_files import dict_at, is_number

SUMMARY = {                          # of report.json: before against after
    'erased_same_photo': 'the erased person, this photo', 'erased_other_photos': 'the erased person, other photos',
    'other_people': 'other people', 'different_people_mean': 'two different people',
}
COMPARED = {
    'unlearned_against_source': 'the person after, against before', 'unlearned_against_target': 'the person after, against the target',
    'source_against_target_before': 'the person before, against the target', 'others_before_against_after': 'other people after, against before',
}
PARTS = {                            # of report.json, as they are
    'config': 'Settings of the run', 'person': 'How the person was found', 'hardware': 'Machine', 'versions': 'Versions',
    'peak_memory': 'Highest memory',
}


def metrics(lines: list[dict]) -> Section | None:
    """metric-*.jsonl of the folder."""
    if not lines:
        return None
    lead = ('Figures of evaluate.py metrics for this network; a name fixes its protocol. Intervals hold 95 %; how they come about stands in '
            'the protocol.')
    return Section(key='metrics', title='Metrics', lead=lead, metrics=[metric(line) for line in lines],
                   charts=[chart for line in lines if (chart := retained(line)) is not None])


def metric(line: dict) -> dict:
    """One metric: its figure, how it was taken and what else it found."""
    value = dict_at(line, 'value') or {'value': line.get('value')}
    return {'name': line['name'], 'about': getattr(find(line['name']), 'title', None),
            'untrained': 'MEANING' in line, 'value': value.get('value'), 'interval': interval(value, 3) or MISSING,
            'samples': value.get('samples'), 'better': line.get('better', MISSING),
            'details': entries({name: value for name, value in line.items() if name not in ('name', 'value', 'better')})}


def retained(line: dict) -> tuple[str, dict] | None:
    """Where a metric looked at other people: each of them over the distance to the erased one; title and chart."""
    points = (dict_at(line, 'sampled').get('curve') or {}).get('points') or {}
    pairs = list(zip(points.get('distance') or [], points.get('cosine') or [], strict=False))
    if not pairs:
        return None
    chart = charts.scatter(
        f'Likeness of {len(pairs)} random people, before against after, over the distance of their latents from the erased one.',
        [(x, y, 3, f'{x:.1f} away, likeness {plain(y, 2)}') for x, y in pairs], charts.Scale(0, max(x for x, _ in pairs) * 1.03),
        charts.Scale(charts.likeness_scale([y for _, y in pairs]).low, 1.05, flipped=True))
    return f'{line["name"]}: likeness of random people, before against after (up), over the distance from the erased latent (across).', chart


def curves(stats: list[dict]) -> Section | None:
    """Losses over the steps."""
    drawn = []
    for name, title in loss_curves().items():
        lines = [line for line in stats if is_number(line.get(name))]
        if len(lines) < 2:
            continue
        steps, values = [line['step'] for line in lines], [line[name] for line in lines]
        half = max(3, len(values) // 15) // 2
        smooth = [statistics.median(values[max(0, i - half):i + half + 1]) for i in range(len(values))]
        label = f'{title} over {len(values)} steps: median {short(smooth[0])} at first, {short(smooth[-1])} at last.'
        drawn.append((title, charts.curve(steps, [('each', values), ('smooth', smooth)], label)))
    if not drawn:
        return None
    lead = 'A step sees other people and another camera each time, so that losses jump; the strong line is a running median.'
    return Section(key='curves', title='How it was learned', lead=lead, curves=drawn)


def final_figures(run: RunFiles) -> Section | None:
    """What the run measured by itself at its end."""
    summary, compared = run.summary, run.report.get('figures') or {}
    rows = [[title, 'likeness', number(summary[name], 4)] for name, title in SUMMARY.items() if is_number(summary.get(name))]
    for name, title in COMPARED.items():
        rows += [[title, {'identity_cosine': 'likeness, recogniser of the loss', 'lpips': 'LPIPS'}.get(kind, kind), number(value, 4)]
                 for kind, value in dict_at(compared, name).items()]
    if not rows:
        return None
    counts = [f'{summary[name]} {what}' for name, what in (('other_photos', 'other photos'), ('others', 'other people')) if summary.get(name)]
    over = f', over {" and ".join(counts)}' if counts else ''
    return Section(key='run', title='Figures of the run itself', rows=rows,
                   lead=f'What the run printed at its end{over}. The figures further up look at more.')


def settings(run: RunFiles) -> Section:
    """Everything that one needs to do it again."""
    parts = [(title, entries(without_places(run.report[key]))) for key, title in PARTS.items()
             if isinstance(run.report.get(key), dict) and run.report[key]]
    return Section(key='settings', title='Settings and checksums', lead='What it takes to do it again, and to know that it is the same file.',
                   parts=parts, groups=GROUPS)


def without_places(settings: dict) -> dict:
    """Settings without folders, whose names may be the person's: of files the name is kept."""
    return {name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
            for name, value in settings.items() if name != 'outdir'}
