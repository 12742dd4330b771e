"""Sections of what the run wrote itself: metrics, curves, settings, checksums."""
from __future__ import annotations

from pathlib import Path

from eg3d_unlearn.report import charts
from eg3d_unlearn.report.files import Found, is_number
from eg3d_unlearn.report.markup import Markup, tag
from eg3d_unlearn.report.numbers import MISSING, figure, interval, number, plain
from eg3d_unlearn.report.section import GROUPS, Section, pairs, table

CURVES = {                           # of stats.jsonl: what they are called
    'loss': 'total loss', 'local': 'local: the person', 'adj': 'adjacency: latents around the person', 'global': 'global: everybody else',
    'id': 'identity: 1 − cosine to the target', 'lpips': 'LPIPS to the target', 'l2': 'features to the target, squared distance',
}
SUMMARY = {                          # of report.json: before against after
    'erased_same_photo': 'the erased person, this photo', 'erased_other_photos': 'the erased person, other photos',
    'other_people': 'other people', 'different_people_mean': 'two different people',
}
COMPARED = {
    'unlearned_against_source': 'the person after, against before', 'unlearned_against_target': 'the person after, against the target',
    'source_against_target_before': 'the person before, against the target', 'others_before_against_after': 'other people after, against before',
}
METRICS = {                          # beginnings of names: what a metric is
    'id_others': 'likeness of other photos of the person, before against after, over views',
    'id': 'likeness of the erased person, before against after, over views',
    'fid_pre': 'Fréchet distance between pictures before and after',
    'dfid_real': 'Fréchet distance to real pictures, after less before',
    'kid_pre': 'kernel distance between pictures before and after',
    'pr_pre': 'precision: share of pictures after that lie among those before',
    'retain': 'likeness of other people, before against after',
    'targets_apart': 'likeness between the faces that several erased people became',
}


def metrics(lines: list[dict]) -> Section | None:
    """metric-*.jsonl of the folder."""
    if not lines:
        return None
    rows = []
    for line in lines:
        about = next((what for start, what in METRICS.items() if line['name'].startswith(start)), None)
        value = line.get('value') if isinstance(line.get('value'), dict) else {'value': line.get('value')}
        meaning = tag('small', 'random weights: means nothing') if 'MEANING' in line else None
        rows.append([[tag('code', line['name']), tag('small', about) if about else None, meaning], number(value.get('value'), 3),
                     interval(value, 3) or MISSING, number(value.get('samples')), line.get('better', MISSING)])
    lead = ('Figures of evaluate.py metrics for this network; a name fixes its protocol. Intervals hold 95 %; how they come about stands in '
            'the protocol.')
    head = ['metric', 'value', 'interval', 'samples', 'better is']
    return Section('metrics', 'Metrics', lead, table(head, rows, 'Metrics with intervals.'), [folded(line) for line in lines],
                   [retained(line) for line in lines])


def folded(line: dict) -> Markup:
    """How a metric was taken and what else it found, folded away."""
    rest = {name: value for name, value in line.items() if name not in ('name', 'value', 'better')}
    return tag('details', tag('summary', tag('code', line['name']), ': protocol and details'), pairs(rest))


def retained(line: dict) -> Markup | None:
    """Where a metric looked at other people: each of them over the distance to the erased one."""
    sampled = line.get('sampled') if isinstance(line.get('sampled'), dict) else {}
    points = (sampled.get('curve') or {}).get('points') or {}
    pairs_ = list(zip(points.get('distance') or [], points.get('cosine') or [], strict=False))
    if not pairs_:
        return None
    chart = charts.scatter(
        f'Likeness of {len(pairs_)} random people, before against after, over the distance of their latents from the erased one.',
        [(x, y, 3, f'{x:.1f} away, likeness {plain(y, 2)}') for x, y in pairs_], charts.Scale(0, max(x for x, _ in pairs_) * 1.03),
        charts.Scale(charts.likeness_scale([y for _, y in pairs_]).low, 1.05, flipped=True))
    title = f'{line["name"]}: likeness of random people, before against after (up), over the distance from the erased latent (across).'
    return tag('figure', tag('figcaption', title), chart, class_='plot')


def curves(stats: list[dict]) -> Section | None:
    """Losses over the steps."""
    drawn = []
    for name, title in CURVES.items():
        lines = [line for line in stats if is_number(line.get(name))]
        if len(lines) < 2:
            continue
        steps, values = [line['step'] for line in lines], [line[name] for line in lines]
        smooth = charts.running_median(values, max(3, len(values) // 15))
        label = f'{title} over {len(values)} steps: median {charts.short(smooth[0])} at first, {charts.short(smooth[-1])} at last.'
        drawn.append(tag('figure', tag('figcaption', title), charts.curve(steps, [('each', values), ('smooth', smooth)], label)))
    if not drawn:
        return None
    lead = 'A step sees other people and another camera each time, so that losses jump; the strong line is a running median.'
    return Section('curves', 'How it was learned', lead, tag('div', drawn, class_='multiples'))


def run_figures(report: dict) -> Section | None:
    """What the run measured by itself at its end."""
    summary, compared = report.get('summary') or {}, report.get('figures') or {}
    rows = [[title, 'likeness', number(summary[name], 4)] for name, title in SUMMARY.items() if is_number(summary.get(name))]
    for name, title in COMPARED.items():
        measured = compared.get(name) if isinstance(compared.get(name), dict) else {}
        rows += [[title, {'identity_cosine': 'likeness, recogniser of the loss', 'lpips': 'LPIPS'}.get(kind, kind), number(value, 4)]
                 for kind, value in measured.items()]
    if not rows:
        return None
    counts = [f'{summary[name]} {what}' for name, what in (('other_photos', 'other photos'), ('others', 'other people')) if summary.get(name)]
    lead = ['What the run printed at its end', f', over {" and ".join(counts)}' if counts else '', '. The figures further up look at more.']
    return Section('run', 'Figures of the run itself', lead, table(['of', 'figure', 'value'], rows, 'Figures of the run.'))


def settings(found: Found) -> Section:
    """Everything that one needs to do it again."""
    report = found.report
    parts: list[Markup | None] = []
    networks = []
    for key, side in (('in', 'before'), ('out', 'after')):
        network = report['networks'].get(key) or {}
        networks.append([side, network.get('file', MISSING), tag('code', network.get('sha256', MISSING))])
    parts += [tag('h3', 'Networks'), table(['network', 'file', 'SHA-256'], networks, 'Networks and their checksums.')]
    for key, title in (('config', 'Settings of the run'), ('person', 'How the person was found'), ('hardware', 'Machine'),
                       ('versions', 'Versions'), ('peak_memory', 'Highest memory')):
        if isinstance(report.get(key), dict) and report[key]:
            parts += [tag('h3', title), pairs(without_places(report[key]))]
    if is_number(report.get('seconds')):
        parts.append(tag('p', 'The run took ', number(report['seconds'], 0), ' seconds.', class_='how'))
    taken = (report.get('evidence') or {}).get('protocol')
    if taken:
        parts += [tag('h3', 'How the figures of this page were taken'), pairs(taken)]
    lpips = (report.get('evidence') or {}).get('lpips')
    if lpips:
        rows = [[GROUPS[group], figure(lpips[group], 3), number(lpips[group]['samples'])] for group in GROUPS if group in lpips]
        parts += [tag('h3', 'LPIPS before against after'), table(['of', 'LPIPS', 'samples'], rows, 'LPIPS before against after.')]
    return Section('settings', 'Settings and checksums', 'What it takes to do it again, and to know that it is the same file.', *parts)


def without_places(settings: dict) -> dict:
    """Settings without folders, whose names may be the person's: of files the name is kept."""
    return {name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
            for name, value in settings.items() if name != 'outdir'}
