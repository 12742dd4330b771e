"""What a page shows and does not show, for a reader from the field; the sentences depend on the figures."""
from __future__ import annotations

from types import SimpleNamespace as Section

from markupsafe import Markup

from eg3d_unlearn.evaluation.metrics.registry import find
from eg3d_unlearn.report.audit import attacks_of, found_out
from eg3d_unlearn.report.files import RunFiles
from eg3d_unlearn.report.formatting import counted, interval, listed, number
from torch_utils_ext.user_files import is_number


def limits(run: RunFiles) -> Section:
    """Honest words; they depend on the figures."""
    return Section(key='limits', title='What this does and does not show', lead=None, parts=[
        ('It shows', shows(run)), ('It does not show', does_not_show(run))])


def point(title: str, text: object) -> Markup:
    return Markup('<b>{}</b> {}').format(title, text)


def shows(run: RunFiles) -> list[str]:
    """What the figures carry."""
    said = [point('That the photo was not reconstructed.', doubt) for doubt in run.doubts]
    if back := [tier.key for tier, answer in attacks_of(run.audit) if answer is not False]:
        attacks = Markup('{} of the audit, with the budget “{}”, brought the person back, always or at times.')
        said.append(point('That the person can come back.', attacks.format(listed(back), budget_of(run.audit))))
    if found_out(run.audit):
        said.append(point('That it can be found out who was erased.', 'An attack of the audit ranks the person first of all candidates.'))
    if run.likeness is not None:
        return [*said, *likenesses(run.likeness, run.moves_neighbours)]
    if measured(run):
        return [*said, 'The figures that the run measured itself, and nothing beyond them.']
    return [*said, 'Pictures, and nothing that was measured on them: neither a recogniser nor a perceptual distance took part.']


def likenesses(likeness: dict, moves_neighbours: bool) -> list[Markup]:
    """What the recogniser that decides found, against what is usual between two people."""
    views, people, usual = likeness['same_photo'], likeness['other_people'], likeness['different_people']
    most = Markup('at most {} over {}').format(number(views['highest']), counted(views['of'], 'view'))
    said = [Markup('At the very latent that was erased, the likeness of before and after is {}. Two different people of this generator have {} '
                   'on average, 95 % of {} between {} and {}.').format(
        most if views['of'] > 1 else number(views['value']), number(usual['mean']), counted(usual['pairs'], 'pair'), number(usual['low']),
        number(usual['high']))]
    if 'neighbours' in likeness and moves_neighbours:
        near = likeness['neighbours']
        said.append(Markup('{} of {} around the person’s, within the distance that was to be erased, still show the face they showed '
                           'before.').format(number(near['recognised']), counted(near['of'], 'latent')))
    share = people['share_recognised']
    said.append(Markup('{} of {} are recognised as themselves. That is a share of {} with an interval of {}: up to {} of all people whom the '
                       'generator can make may have become somebody else without this sample showing it.').format(
        number(people['recognised']), counted(people['of'], 'random person', 'random people'), number(share['value']), interval(share),
        percent(1 - share['low'])))
    return said


def percent(share: float) -> str:
    return f'{100 * share:.0f} %' if share >= 0.095 else f'{100 * share:.1f} %'


def measured(run: RunFiles) -> bool:
    """Whether a judge looked at any picture."""
    parts = [run.summary, *(part for part in (run.report.get('figures') or {}).values() if isinstance(part, dict))]
    return bool(run.evidence.get('lpips')) or any(
        is_number(part.get(name)) for part in parts for name in ('erased_same_photo', 'lpips', 'identity_cosine'))


def does_not_show(run: RunFiles) -> list[Markup]:
    """What a reader might take from the page that it does not say."""
    said = []
    if 'MEANING' in run.report or run.config.get('random_metric_weights'):
        said.append(point('Anything.', 'Recogniser and perceptual distance have random weights: every figure here is meaningless.'))
    said += [*never_again(run.audit),
             point('Anything about the old file.', 'The original network still shows the person, wherever copies of it are kept.')]
    if not run.evidence:
        said.append(point('Views, neighbours, chance.', 'This page was written from the run’s own figures: few pictures and no intervals.'))
    elif run.likeness is not None:
        said += [every_photo(run.likeness), every_recogniser(run.evidence)]
    if not any((metric := find(str(line.get('name')))) and metric.counts == 'pictures' for line in run.metrics):
        said.append(point('How good all pictures still are.', 'No metric of samples of the two networks (FID, KID, precision) is in the '
                          'folder.'))
    if run.is_demo:
        said.append(point('Anything about real faces.', 'Network, people and recognisers belong to a synthetic world, in which identity is '
                          'known exactly and easier to judge.'))
    of_file = run.network('in').get('notes')
    of_file = [note for note in of_file if isinstance(note, str)] if isinstance(of_file, list) else []
    return [*said, *(point('Note.', note) for note in [*of_file, *run.notes])]


def never_again(audit: dict | None) -> list[Markup]:
    """Why it is not shown that the person cannot come back."""
    title = 'That the person cannot come back.'
    if audit is None:
        return [point(title, 'No attack was made here. Who holds the weights and a photo can invert the photo anew, or train the person back '
                      'in; how much work that is was not measured.')]
    if any(answer is not False for _, answer in attacks_of(audit)):
        return []                    # the contrary is among what it shows
    return [point(title, f'The attacks had the budget “{budget_of(audit)}”. Longer or cleverer ones were not made.')]


def budget_of(audit: dict | None) -> object:
    return (audit or {}).get('budget', 'unknown')


def every_photo(likeness: dict) -> Markup:
    if 'other_photos' not in likeness:
        return point('Other photos of the person.', 'None was given; the figures are about one latent.')
    return point('Every photo of the person.', Markup('{} cannot stand for all; another light, age or expression may lead to latents that were '
                                                      'not looked at.').format(counted(likeness['other_photos']['of'], 'other photo')))


def every_recogniser(evidence: dict) -> Markup:
    """Why it is not shown that every recogniser would say the same."""
    if evidence['measured_by'] == evidence['trained_with']:
        return point('An independent verdict.', f'The recogniser {evidence["measured_by"]} measures here and was part of the loss, so that its '
                     'figures flatter. Another one can be given with --recogniser.')
    return point('What every recogniser would say.', f'The verdict is that of {evidence["measured_by"]}, which the loss did not use. Another '
                 'recogniser, or somebody who knows the face, may see what it does not.')
