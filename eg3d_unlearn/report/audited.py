"""The audit's ladder: each attacker with its verdict, its figures and, where it has one, its curve."""
from __future__ import annotations

from eg3d_unlearn.evaluation import summary as run_report
from eg3d_unlearn.report import charts
from eg3d_unlearn.report.files import is_number
from eg3d_unlearn.report.markup import Markup, tag
from eg3d_unlearn.report.numbers import MISSING, figure, number, plain, typeset
from eg3d_unlearn.report.section import Section, legend, pairs, table

FIGURES = {'before': 'before', 'after': 'after', 'controls_before': 'controls before', 'controls': 'controls after', 'excess': 'excess'}
SERIES = {'before': 'the person, before', 'after': 'the person, after', 'controls': 'people never erased, after'}


def ladder(audit: dict | None) -> Section | None:
    """audit.json of the folder."""
    if audit is None:
        return None
    tiers = [tier for tier in audit['tiers'] if isinstance(tier, dict)]
    threshold = threshold_of(audit)
    values = [figures_of(tier).get(name, {}).get('value') for tier in tiers for name in SERIES]
    scale = charts.likeness_scale([value for value in values if is_number(value) and -1 <= value <= 1])
    parts: list[Markup | None] = [tag('p', run_report.MEANINGLESS, class_='alarm')] if 'MEANING' in audit else []
    parts += [tag('p', typeset(sentence)) for sentence in overall(audit, tiers)]
    marks = [(f'kind{kind}', title) for kind, title in enumerate(SERIES.values())]
    parts.append(legend([*marks, ('threshold', 'counts as one person')] if threshold is not None else marks))
    parts.append(tag('ol', [rung(tier, scale, threshold) for tier in tiers], class_='ladder'))
    rows = [[tier.get('tier', MISSING), *(figure(figures_of(tier).get(name), 2) for name in FIGURES), number(tier.get('seconds'), 0)]
            for tier in tiers]
    parts.append(table(['attack', *FIGURES.values(), 'seconds'], rows, 'Figures of the attacks.'))
    spent = {name: audit.get(name) for name in ('threshold', 'budget', 'steps', 'seed', 'controls', 'controls_are', 'measured_by',
                                                'trained_with', 'not_run', 'seconds', 'versions', 'hardware')}
    parts.append(tag('details', tag('summary', 'definitions, budget, seed, versions'),
                     tag('p', audit.get('definition'), class_='how definition'), pairs(spent)))
    lead = ('Attackers of growing means try to get the person back: from the changed network, from the original one, and the same with people '
            'who were never erased.')
    return Section('audit', 'Attacks', lead, *parts)


def overall(audit: dict, tiers: list[dict]) -> list[str]:
    """What the audit says before it comes to the tiers, each of which has its sentence below."""
    said = [sentence for sentence in audit.get('verdict') or [] if isinstance(sentence, str)]
    return [sentence for sentence in said if not any(sentence.endswith(str(tier.get('verdict'))) for tier in tiers)]


def threshold_of(audit: dict) -> float | None:
    """The cosine from which on the audit counts two pictures as one person."""
    threshold = audit.get('threshold')
    threshold = threshold.get('cosine') if isinstance(threshold, dict) else threshold
    return threshold if is_number(threshold) else None


def figures_of(tier: dict) -> dict[str, dict]:
    return {name: entry for name, entry in (tier.get('figures') or {}).items() if isinstance(entry, dict)}


def rung(tier: dict, scale: charts.Scale, threshold: float | None) -> Markup:
    """One attack."""
    measured = figures_of(tier)
    points = []
    for kind, (name, title) in enumerate(SERIES.items()):
        value = measured.get(name, {}).get('value')
        if is_number(value):
            points.append((value, kind, f'{title}: {plain(value, 2)}'))
    chart = charts.marks(scale, '; '.join(words_ for *_, words_ in points), points, threshold) if points else None
    chart = [chart, charts.axis(scale)] if chart else None
    return tag('li', tag('h3', tag('span', tier.get('tier', ''), class_='tier'), ' ', tier.get('title', '')),
               tag('p', tier.get('attacker', ''), class_='attacker'), tag('p', typeset(tier.get('verdict', '')), class_='verdict'), chart,
               tag('div', steps(tier), class_='multiples'))


def steps(tier: dict) -> list[Markup]:
    """Likeness over the attacker's steps, of the person and of the controls."""
    details = tier.get('details') if isinstance(tier.get('details'), dict) else {}
    drawn = [('', tier.get('curve'))]
    drawn += [(f', {name.replace("_", " ")}', part['curve']) for name, part in details.items() if isinstance(part, dict) and 'curve' in part
              and part['curve'] != tier.get('curve')]
    said = details.get('curve_is') or 'likeness over steps'
    return [chart for title, curve in drawn if (chart := one_curve(curve, f'{said}{title}')) is not None]


def one_curve(curve: object, title: str) -> Markup | None:
    """The person as a line, the controls dashed."""
    if not isinstance(curve, dict) or len(curve.get('steps') or []) < 2:
        return None
    series = [(line, curve[key]) for line, key in (('smooth', 'person'), ('dashed', 'controls'))
              if isinstance(curve.get(key), list) and len(curve[key]) == len(curve['steps'])]
    if not series:
        return None
    title = f'{title[0].upper()}{title[1:]}: the person (line), people never erased (dashes).'
    unit = '' if curve['steps'][-1] <= 1 else ' steps'
    return tag('figure', tag('figcaption', title), charts.curve(curve['steps'], series, title, high=1.0, unit=unit), class_='plot')
