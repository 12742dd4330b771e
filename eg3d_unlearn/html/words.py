"""What a page says in words.  Every sentence is chosen by figures, and none says more than they do."""
from __future__ import annotations

import re

from eg3d_unlearn.html.exhibits import Exhibits
from eg3d_unlearn.html.files import Found, is_number
from eg3d_unlearn.html.markup import Markup, markup, tag
from eg3d_unlearn.html.numbers import counted, interval, listed, number
from eg3d_unlearn.run_folder import NETWORK

FAMILIES = {'eg3d': 'EG3D, a 3D face generator', 'stylegan2': 'StyleGAN2', 'stylegan3': 'StyleGAN3'}


def deciding(evidence: dict | None) -> dict | None:
    """Likeness by the recogniser that decides; None where nothing was recognised."""
    if not evidence or evidence.get('measured_by') is None:
        return None
    return evidence['likeness'][evidence['measured_by']]


def summary(found: Found) -> list[Markup]:
    """The answer for a reader who wants no paper: what was done, what is gone, what is left, who else was touched, who attacked."""
    likeness = deciding(found.report.get('evidence'))
    sentences = [what_was_done(found)]
    if likeness is not None:
        sentences += [this_photo(likeness), other_photos(likeness, took_part(found)), other_people(likeness)]
    else:
        sentences += from_the_run(found)
    return [*sentences, attacks(found.audit)]


def what_was_done(found: Found) -> Markup:
    given = {'seed': 'by the seed of a generated face', 'latent': 'by a latent code', 'image': 'by a photo', 'demo': 'by a photo (a person of '
             'the synthetic demo world)'}.get((found.report.get('person') or {}).get('given_as'), '')
    network = (found.report['networks'].get('in') or {}).get('file', 'a face generator')
    return markup(['A person, given ', given, ', was to be removed from the face generator ', tag('b', network), '.'])


def this_photo(likeness: dict) -> Markup:
    """Whether the erased latent still shows the person."""
    views, usual = likeness['same_photo'], likeness['different_people']
    shown = f'in {"all" if views["of"] > 1 else "the"} {views["of"]} views' if views['of'] > 1 else 'in the picture'
    if views['recognised'] == 0:
        verdict: list = ['the recogniser takes it for the person in none of ', counted(views['of'], 'view')] if views['of'] > 1 else [
            'the recogniser does not take it for the person']
        first = ['Asked for this person again, the changed generator shows something else: ', verdict]
    elif views['recognised'] == views['of']:
        first = ['Asked for this person again, the changed generator ', tag('b', 'still shows the person'), ': the recogniser sees them ', shown]
    else:
        first = ['Asked for this person again, the changed generator ', tag('b', 'still shows the person from some sides'),
                 ': the recogniser sees them in ', number(views['recognised']), ' of ', counted(views['of'], 'view')]
    return markup([first, ' (likeness ', number(views['value']), '; 1 is the same person, ', number(usual['mean']),
                   ' is usual between two different people).'])


def moves_neighbours(found: Found) -> bool:
    """Whether the method had a loss on latents around the person's."""
    config = found.report.get('config') or {}
    return bool(config.get('lambda_adj', 1) and config.get('n_adj', 1))


def took_part(found: Found) -> bool:
    """Whether the person's other photos were erased along, so that they are no test."""
    return (found.report.get('config') or {}).get('forget_from', 'first') != 'first'


def other_photos(likeness: dict, took_part: bool) -> Markup:
    """What other photos of the person still bring back."""
    photos, usual = likeness.get('other_photos'), likeness['different_people']
    if photos is None:
        return markup('Whether other photos of the person bring the face back was not measured, because no other photo was given.')
    count = [counted(photos['of'], 'other photo'), ', which took part in the erasure,' if took_part else None]
    bounds = interval(photos)
    measured = [' (likeness ', number(photos['value']), Markup(' ') if bounds else None, bounds, ')']
    if photos['recognised'] == photos['of']:
        return markup(['From ', count, ' of the person ', tag('b', 'the face still comes back'), measured, '.'])
    if photos['recognised']:
        return markup(['From ', count, ' of the person the face ', tag('b', 'still comes back'), ' in ', number(photos['recognised']), measured,
                       '.'])
    if photos['value'] > usual['high']:
        return markup(['From ', count, ' of the person the face is not recognised either, but ', tag('b', 'something of it is left'), measured,
                       ': it is more alike than 97.5 % of pairs of different people.'])
    return markup(['From ', count, ' of the person the face is not recognised either', measured, '.'])


def other_people(likeness: dict) -> Markup:
    """Whether others were touched."""
    people = likeness['other_people']
    kept = [number(people['recognised']), ' of ', counted(people['of'], 'other person', 'other people'),
            ' drawn at random are still recognised as themselves'] if people['recognised'] < people['of'] else [
        'All ', counted(people['of'], 'other person', 'other people'), ' drawn at random are still recognised as themselves']
    return markup([kept, ' (likeness ', number(people['value']), Markup(' '), interval(people), '; the one who changed most has ',
                   number(people['lowest']), ').'])


def from_the_run(found: Found) -> list[Markup]:
    """The same from what the run itself measured, where nobody has looked closer."""
    figures = found.report.get('summary') or {}
    if not is_number(figures.get('erased_same_photo')):
        return [markup('No recogniser judged the result, so it is not known whether the face is still the person.')]
    said = [markup(['Asked for this person again, the changed generator shows a face whose likeness to the old one is ',
                    number(figures['erased_same_photo']), ' (1 is the same person, ', number(figures.get('different_people_mean')),
                    ' is usual between two different people).'])]
    if is_number(figures.get('erased_other_photos')):
        said.append(markup(['From ', counted(figures['other_photos'], 'other photo'), ' of the person the likeness is ',
                            number(figures['erased_other_photos']), '.']))
    said.append(markup([counted(figures.get('others', 0), 'other person', 'other people'), ' kept a likeness of ',
                        number(figures.get('other_people')), ' to themselves on average.']))
    return said


def attacks(audit: dict | None) -> Markup:
    """What attackers got, or that there were none."""
    if audit is None:
        return markup('Nobody has attacked the changed generator for this report: whether someone who holds its file, or another photo, can '
                      'bring the person back was not tested.')
    tiers = [tier for tier in audit['tiers'] if isinstance(tier, dict)]
    tried = ['Of ', counted(len(tiers), 'kind'), ' of attack that were tried, ']
    back, at_times = ([tier for tier in tiers if brings_back(tier) is answer] for answer in (True, None))
    if not back and not at_times:
        return markup([tried, 'none brought the person back.'])
    said = [[tag('b', [number(len(back)), ' brought the person back']), ' (', listed([named(tier) for tier in back]), ')'] if back else None,
            [number(len(at_times)), ' did so at times (', listed([named(tier) for tier in at_times]), ')'] if at_times else None]
    easiest = (back or at_times)[0].get('attacker')
    needs = [f'. The first of them is open to whoever {plainly(easiest)}'] if easiest else None
    return markup([tried, listed([part for part in said if part]), needs, '.'])


def plainly(text: str) -> str:
    """Without what stands in brackets, for readers who are no specialists."""
    return re.sub(r' \([^()]*\)', '', str(text))


def named(tier: dict) -> str:
    return f'{tier.get("tier", "")} {tier.get("title", "")}'.strip()


def brings_back(tier: dict) -> bool | None:
    """Whether most of what an attack shows is taken for the person; None where the interval leaves it open.

    Relearning (T4) is judged at the mean latent, but also brings back who is recognised at the latent that was erased.
    """
    details = tier.get('details') if isinstance(tier.get('details'), dict) else {}
    erased = details.get('erased_latent') if isinstance(details.get('erased_latent'), dict) else {}
    if (erased.get('steps') or {}).get('person') is not None:
        return True
    share = (details.get('verification') or {}).get('after') or {}
    if not is_number(share.get('low')) or not is_number(share.get('high')):
        return False
    return True if share['low'] > 0.5 else False if share['high'] < 0.5 else None


def shows(found: Found) -> list[Markup]:
    """What the figures carry."""
    evidence = found.report.get('evidence')
    likeness = deciding(evidence)
    if likeness is None:
        return [markup('The figures that the run measured itself, and nothing beyond them.')]
    said = []
    views, people, usual = likeness['same_photo'], likeness['other_people'], likeness['different_people']
    several = [' at most ', number(views['highest']), ' over ', counted(views['of'], 'view')]
    over = several if views['of'] > 1 else [' ', number(views['value'])]
    said.append(markup(['At the very latent that was erased, the likeness of before and after is', over, '. Two different people of this '
                        'generator have ', number(usual['mean']), ' on average, 95 % of ', counted(usual['pairs'], 'pair'), ' between ',
                        number(usual['low']), ' and ', number(usual['high']), '.']))
    if 'neighbours' in likeness and moves_neighbours(found):
        near = likeness['neighbours']
        said.append(markup([number(near['recognised']), ' of ', counted(near['of'], 'latent'), ' around the person’s, within the distance that '
                            'was to be erased, still show the face they showed before.']))
    share = people['share_recognised']
    said.append(markup([number(people['recognised']), ' of ', counted(people['of'], 'random person', 'random people'),
                        ' are recognised as themselves. That is a share of ', number(share['value']), ' with an interval of ', interval(share),
                        ': up to ', percent(1 - share['low']), ' of all people whom the generator can make may have become somebody else '
                        'without this sample showing it.']))
    return said


def does_not_show(found: Found) -> list[Markup]:
    """What a reader might take from the page that it does not say."""
    report, evidence = found.report, found.report.get('evidence')
    config = report.get('config') or {}
    said = []
    if 'MEANING' in report or config.get('random_metric_weights'):
        said.append(point('Anything.', 'Recogniser and perceptual distance have random weights: every figure here is meaningless.'))
    said += [never_again(found.audit),
             point('Anything about the old file.', 'The original network still shows the person, wherever copies of it are kept.')]
    if evidence is None:
        said.append(point('Views, neighbours, chance.', 'This page was written from the run’s own figures: few pictures and no intervals.'))
    elif deciding(evidence) is not None:
        said += [every_photo(deciding(evidence)), every_recogniser(evidence)]
    if not any(str(metric.get('name', '')).startswith(('fid', 'dfid', 'kid')) for metric in found.metrics):
        said.append(point('How good all pictures still are.', 'No Fréchet or kernel distance between samples of the two networks is in the '
                          'folder.'))
    if report.get('demo_world') or str(config.get('network', '')).startswith('demo-') or (report.get('person') or {}).get('given_as') == 'demo':
        said.append(point('Anything about real faces.', 'Network, people and recognisers belong to a synthetic world, in which identity is '
                          'known exactly and easier to judge.'))
    of_file = (report['networks'].get('in') or {}).get('notes')
    of_file = [note for note in of_file if isinstance(note, str)] if isinstance(of_file, list) else []
    return [*said, *(point('Note.', note) for note in [*of_file, *found.notes])]


def point(title: str, *text: object) -> Markup:
    return markup([tag('b', title), ' ', text])


def never_again(audit: dict | None) -> Markup:
    title = 'That the person cannot come back.'
    if audit is None:
        return point(title, 'No attack was made. Who holds the weights and a photo can try to train the person back in; how much work that is '
                     'was not measured.')
    return point(title, 'The attacks above had the budget “', audit.get('budget', 'unknown'), '”. Longer or cleverer ones were not made.')


def every_photo(likeness: dict) -> Markup:
    if 'other_photos' not in likeness:
        return point('Other photos of the person.', 'None was given; the figures are about one latent.')
    return point('Every photo of the person.', counted(likeness['other_photos']['of'], 'other photo'), ' cannot stand for all; another light, '
                 'age or expression may lead to latents that were not looked at.')


def every_recogniser(evidence: dict) -> Markup:
    if evidence['measured_by'] == evidence['trained_with']:
        return point('An independent verdict.', 'The recogniser ', evidence['measured_by'], ' measures here and was part of the loss, so that '
                     'its figures flatter. Another one can be given with --recogniser.')
    return point('What every recogniser would say.', 'The verdict is that of ', evidence['measured_by'], ', which the loss did not use. Another '
                 'recogniser, or somebody who knows the face, may see what it does not.')


def percent(share: float) -> str:
    return f'{100 * share:.0f} %' if share >= 0.095 else f'{100 * share:.1f} %'


def treat_accordingly(found: Found, exhibits: Exhibits) -> str:
    """How to keep the page; only of what it does hold."""
    photo = exhibits.photo is not None or any(shown.photo for shown in exhibits.other_photos)
    if exhibits.sheet is not None:   # the run put photos into it where they might be shown
        report = found.report
        photo = bool((report.get('config') or {}).get('keep_source')) or (report.get('person') or {}).get('given_as') == 'demo'
    return ('This page shows pictures of the erased person, made by the original network'
            + (', and photos of them' if photo else '; it holds no photo of them')
            + f', and no latent code. Treat it as you would treat a photo. It is about the {NETWORK} beside it.')
