"""Sections of what both networks show of the same latents: pictures, and the figures that were measured on them.

A section is what its template needs: ``templates/KEY.html``.
"""
from __future__ import annotations

from types import SimpleNamespace as Section

from markupsafe import Markup

from eg3d_unlearn.evaluation.pictures import Pictures
from eg3d_unlearn.report import charts
from eg3d_unlearn.report.files import RunFiles
from eg3d_unlearn.report.formatting import counted, number, plain

GROUPS = {                           # of `evaluation.comparison`: what they are called
    'same_photo': 'this photo, all views', 'other_photos': 'other photos of the person', 'neighbours': 'latents around the person',
    'strangers': 'photos of other people', 'other_people': 'random people',
}
KEPT = 'strangers', 'other_people'


def likeness(run: RunFiles) -> Section | None:
    """All likenesses on one line: the figure that the words at the top are read from."""
    measured = run.likeness
    if measured is None:
        return None
    usual, groups = measured['different_people'], [group for group in GROUPS if group in measured]
    scale = charts.likeness_scale([value for group in groups for value in measured[group]['values']])
    rows = []
    for group in groups:
        here = measured[group]
        name = GROUPS[group] if here['of'] > 1 or group != 'same_photo' else 'this photo'
        label = f'{name}: mean {plain(here["value"], 2)}, from {plain(here["lowest"], 2)} to {plain(here["highest"], 2)}.'
        chart = charts.strip(scale, label, here['values'], here['value'], (here['low'], here['high']), (usual['low'], usual['high']),
                             usual['threshold'])
        rows.append({'kind': 'kept' if group in KEPT else 'erased', 'name': name, 'figure': here, 'mean': here['value'], 'chart': chart,
                     'recognised': here['recognised'], 'of': here['of']})
    pairs, threshold, samples = counted(usual['pairs'], 'pair'), number(usual['threshold']), number(run.evidence['protocol']['interval_from'])
    legend = [
        ('band', Markup('95 % of {} of different people').format(pairs)),
        ('threshold', Markup('from here on two pictures count as one person ({}; 1 in 1000 of those pairs lies above)').format(threshold)),
        ('one', 'one picture'), ('mean', Markup('mean, with its 95 % interval from {} independent samples on').format(samples))]
    lead = Markup('Likeness of the same latent before against after, by <b>{}</b>. The erased should lie left, everybody else right.')
    return Section(key='likeness', title='Who is still recognised', lead=lead.format(run.evidence['measured_by']), rows=rows, legend=legend,
                   axis=charts.axis(scale, [(usual['mean'], 'different people'), (1.0, 'same person')]))


def photos(run: RunFiles, pictures: Pictures) -> Section | None:
    """Whether a person was erased or a single picture."""
    if not pictures.other_photos:
        return None
    lead = 'Latents of other photos of the erased person' + (
        '. They took part in the erasure, so that they are no test of it.' if run.photos_took_part else
        ', which the method did not see. They tell whether a person was erased or a single picture.')
    return Section(key='photos', title='Other photos of the person', lead=lead, shown=pictures.other_photos)


def neighbours(run: RunFiles, pictures: Pictures) -> Section | None:
    """How far the change reaches."""
    if not pictures.neighbours:
        return None
    lead = 'Latents near the person’s, towards random people. ' + (
        'Up to the distance of 100 % the method moves them, too; farther away people should stay.' if run.moves_neighbours else
        'The method left them alone.')
    chart, legend = distances(run)
    return Section(key='neighbours', title='Around the person', lead=lead, shown=pictures.neighbours, chart=chart, legend=legend)


def distances(run: RunFiles) -> tuple[dict | None, list]:
    """Likeness over the distance from the erased latent, and what its marks mean; None where nothing was recognised."""
    measured, reach = run.likeness, run.evidence.get('reach')
    if measured is None or reach is None:
        return None, []
    kinds = ('same_photo', 'neighbours', 'other_photos', 'other_people')
    drawn = [group for group in kinds if group in measured]
    points = [(x, y, kinds.index(group), f'{GROUPS[group]}: about {x:.0f} away, likeness about {plain(y, 2)}')
              for group in drawn for x, y in reach[group]]
    low = charts.likeness_scale([y for _, y, *_ in points]).low
    chart = charts.scatter('Likeness before against after over the distance of a latent from the erased one.', points,
                           charts.Scale(0, max(x for x, *_ in points) * 1.03), charts.Scale(low, 1.05, flipped=True),
                           measured['different_people']['threshold'])
    return chart, [(f'kind{kinds.index(group)}', GROUPS[group]) for group in drawn]


def people(run: RunFiles, pictures: Pictures) -> Section | None:
    """Everybody else."""
    if not (pictures.first_drawn or pictures.strangers):
        return None
    lead = 'People whom nobody asked to forget. They should be the same before and after.'
    if run.likeness is not None:
        lead += ' The number below each is their likeness.'
    total = run.evidence.get('protocol', {}).get('people', len(pictures.first_drawn))
    return Section(key='people', title='Everybody else', lead=lead, total=total)



def recognisers(run: RunFiles) -> Section | None:
    """How far the recognisers agree."""
    measured = run.evidence.get('likeness') or {}
    if not measured:
        return None
    groups = [group for group in GROUPS if all(group in likeness for likeness in measured.values())]
    names = list(measured)
    scale = charts.likeness_scale([measured[name][group]['value'] for name in names for group in groups])
    rows = []
    for group in groups:
        said = {name: f'{name} {plain(measured[name][group]["value"], 2)}' for name in names}
        rows.append((GROUPS[group], charts.marks(scale, f'{GROUPS[group]}: {", ".join(said.values())}',
                                                 [(measured[name][group]['value'], kind, said[name]) for kind, name in enumerate(names)])))
    return Section(key='recognisers', title='Do recognisers agree',
                   lead='One recogniser may be fooled where another is not. One that the loss used flatters the result.',
                   rows=rows if len(names) > 1 else [], axis=charts.axis(scale), groups={group: GROUPS[group] for group in groups},
                   legend=[(f'kind{kind % charts.SHAPES}', name) for kind, name in enumerate(names)])
