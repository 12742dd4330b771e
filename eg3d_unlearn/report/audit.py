"""The audit's ladder: each attacker with its verdict, its figures and, where it has one, its curve."""
from __future__ import annotations

from types import SimpleNamespace as Section
from typing import Any, Callable

from eg3d_unlearn.evaluation.audit import TIERS
from eg3d_unlearn.evaluation.summary import MEANINGLESS
from eg3d_unlearn.report import charts
from eg3d_unlearn.report.formatting import MISSING, entries, figure, number, plain, typeset
from torch_utils_ext.user_files import dict_at, is_number

FIGURES = {'before': 'before', 'after': 'after', 'controls_before': 'controls before', 'controls': 'controls after', 'excess': 'excess'}
SERIES = {'before': 'the person, before', 'after': 'the person, after', 'controls': 'people never erased, after'}
SPENT = ('threshold', 'budget', 'steps', 'seed', 'controls', 'controls_are', 'measured_by', 'trained_with', 'not_run', 'seconds', 'versions',
         'hardware')


def tiers_of(audit: dict | None) -> list[dict]:
    return [] if audit is None else [tier for tier in audit['tiers'] if isinstance(tier, dict)]


def attacks(audit: dict | None) -> Section | None:
    """audit.json of the folder."""
    if audit is None:
        return None
    tiers = tiers_of(audit)
    threshold = threshold_of(audit)
    values = [dict_at(tier, 'figures', name).get('value') for tier in tiers for name in SERIES]
    scale = charts.likeness_scale([value for value in values if is_number(value) and -1 <= value <= 1])
    legend = [(f'kind{kind}', title) for kind, title in enumerate(SERIES.values())]
    rows = [[tier.get('tier', MISSING), *(figure(dict_at(tier, 'figures', name)) for name in FIGURES), number(tier.get('seconds'), 0)]
            for tier in tiers]
    lead = ('Attackers of growing means try to get the person back: from the changed network, from the original one, and the same with people '
            'who were never erased.')
    return Section(key='audit', title='Attacks', lead=lead, untrained=MEANINGLESS if 'MEANING' in audit else None,
                   overall=[typeset(sentence) for sentence in overall(audit, tiers)],
                   legend=[*legend, ('threshold', 'counts as one person')] if threshold is not None else legend,
                   tiers=[attack(tier, scale, threshold) for tier in tiers], axis=charts.axis(scale),
                   head=['attack', *FIGURES.values(), 'seconds'], rows=rows, definition=audit.get('definition'),
                   spent=entries({name: audit.get(name) for name in SPENT}))


def overall(audit: dict, tiers: list[dict]) -> list[str]:
    """What the audit says before it comes to the tiers, each of which has its sentence below."""
    said = [sentence for sentence in audit.get('verdict') or [] if isinstance(sentence, str)]
    return [sentence for sentence in said if not any(sentence.endswith(str(tier.get('verdict'))) for tier in tiers)]


def threshold_of(audit: dict) -> float | None:
    """The cosine from which on the audit counts two pictures as one person."""
    threshold = audit.get('threshold')
    threshold = threshold.get('cosine') if isinstance(threshold, dict) else threshold
    return threshold if is_number(threshold) else None


def attack(tier: dict, scale: charts.Scale, threshold: float | None) -> dict:
    """One attack."""
    points = [(value, kind, f'{title}: {plain(value, 2)}') for kind, (name, title) in enumerate(SERIES.items())
              if is_number(value := dict_at(tier, 'figures', name).get('value'))]
    return {'name': tier.get('tier'), 'title': tier.get('title'), 'attacker': tier.get('attacker'), 'verdict': typeset(tier.get('verdict', '')),
            'chart': charts.marks(scale, '; '.join(said for *_, said in points), points, threshold) if points else None,
            'curves': curves(tier)}


def curves(tier: dict) -> list[tuple[str, dict]]:
    """Likeness over the attacker's steps, of the person and of the controls: title and chart."""
    details = dict_at(tier, 'details')
    given = [('', tier.get('curve'))]
    given += [(f', {name.replace("_", " ")}', part['curve']) for name, part in details.items() if isinstance(part, dict) and 'curve' in part
              and part['curve'] != tier.get('curve')]
    said = details.get('curve_is') or 'likeness over steps'
    return [drawn for title, curve in given if (drawn := one_curve(curve, f'{said}{title}')) is not None]


def one_curve(curve: object, title: str) -> tuple[str, dict] | None:
    """The person as a line, the controls dashed."""
    if not isinstance(curve, dict) or len(curve.get('steps') or []) < 2:
        return None
    series = [(line, curve[key]) for line, key in (('smooth', 'person'), ('dashed', 'controls'))
              if isinstance(curve.get(key), list) and len(curve[key]) == len(curve['steps'])]
    if not series:
        return None
    title = f'{title[0].upper()}{title[1:]}: the person (line), people never erased (dashes).'
    return title, charts.curve(curve['steps'], series, title, high=1.0, unit='' if curve['steps'][-1] <= 1 else ' steps')


def outcome(audit: dict | None) -> Section:
    """What the attacks that we know got: on the person, and where they looked for anybody."""
    known = [(TIERS[entry['tier']], entry) for entry in tiers_of(audit) if isinstance(entry.get('tier'), str) and entry['tier'] in TIERS]
    got = [(tier, ask(tier.back, entry, False)) for tier, entry in known if tier.exposed_by is None]
    ways = [words for tier, entry in known if tier.exposed_by is not None for words in ask(tier.exposed_by, entry, {}).values()]
    back, at_times = ([tier.plain for tier, found in got if found is answer] for answer in (True, None))
    return Section(tried=len(got), back=back, at_times=at_times, came_back=[tier.key for tier, found in got if found is not False],
                   found_out=list(dict.fromkeys(ways)), budget=(audit or {}).get('budget', 'unknown'))


def ask(question: Callable[[dict], Any], entry: dict, otherwise: Any) -> Any:
    """What a tier's own function says of its entry; ``otherwise`` where the entry, which somebody may have sent, is not as it should be."""
    try:
        return question(entry)
    except (LookupError, TypeError, ValueError, AttributeError):
        return otherwise
