"""What a page says in words.  Every sentence is chosen by figures, and none says more than they do."""
from __future__ import annotations

from eg3d_unlearn.config import CLOSED_FORM
from eg3d_unlearn.evaluation.estimate import stands_first
from eg3d_unlearn.evaluation.pictures import Pictures
from eg3d_unlearn.report.files import Found, is_number
from eg3d_unlearn.report.markup import Markup, markup, tag
from eg3d_unlearn.report.numbers import counted, interval, listed, number
from eg3d_unlearn.run_folder import NETWORK


def deciding(evidence: dict | None) -> dict | None:
    """Likeness by the recogniser that decides; None where nothing was recognised."""
    if not evidence or evidence.get('measured_by') is None:
        return None
    return evidence['likeness'][evidence['measured_by']]


# ---- the part that everybody reads: plain words only ----

ALWAYS = 'Whoever has this file and a photo can probably make it show the person again; keep the file private.'
ATTACKS = {                          # of the audit: what somebody does, for readers who are no specialists
    'T0': 'asking for the person as before', 'T1': 'giving the changed file other photos of the person',
    'T2': 'letting the computer search the changed file for the face of a photo', 'T3': 'training the changed file on one photo',
    'T4': 'teaching the changed file the face of a photo again', 'T5': 'training the changed file on other people',
    'T6': 'drawing random faces until one fits', 'T8': 'trying faces close to the person’s',
}
FOUND_OUT = {'change': 'from the old and the new file', 'misfit': 'from the new file alone', 'mirror': 'from the new file alone'}
SPOILT, KEPT = 0.5, 0.9              # shares of other people who are still recognised, as in the audit


def verdict(found: Found) -> list[Markup]:
    """What was found, in a sentence or a few, before anything else; how it is to be taken is `ALWAYS`."""
    report, likeness = found.report, deciding(found.report.get('evidence'))
    if 'MEANING' in report:
        said: list[object] = ['There is no verdict: the software that compares faces was not trained in this run, which was a test.']
    elif doubts(report):
        said = ['There is no verdict about the person of the photo: what was erased was probably another face.']
    elif likeness is not None:
        said = [*by_itself(likeness, took_part(found)), *spoilt(likeness)]
    else:
        said = [by_the_run(report.get('summary') or {})]
    if any(answer is not False for _, answer in attacks_of(found.audit)):
        said.append('Attacks on the changed file show that the person can come back.')
    if ways := found_out(found.audit):
        said.append(['Who was erased can be found out without any photo, ', listed(ways), '.'])
    return [markup(sentence) for sentence in said]


def by_itself(likeness: dict, took_part: bool) -> list[object]:
    """Whether the changed generator shows the person without anybody's doing."""
    views, photos = likeness['same_photo'], likeness.get('other_photos')
    if views['recognised']:
        return ['The changed generator still shows the person' + ('.' if views['recognised'] == views['of'] else ' from some sides.')]
    if photos is not None and photos['recognised'] and not took_part:
        return ['From the photo that was given the changed generator no longer shows the person, but from other photos it still does.']
    return ['By itself the changed generator no longer shows the person.']


def spoilt(likeness: dict) -> list[object]:
    """Whether others were changed along with the person."""
    people = likeness['other_people']
    share = people['recognised'] / people['of'] if people['of'] else 1.0
    if share >= KEPT:
        return []
    return ['Most other people are somebody else now, too.' if share < SPOILT else 'Some other people are somebody else now, too.']


def by_the_run(figures: dict) -> str:
    """The same from the run's own figures: nearer to two different people, or to one and the same."""
    person, different = figures.get('erased_worst', figures.get('erased_same_photo')), figures.get('different_people_mean')
    if not is_number(person) or not is_number(different):
        return 'It is not known whether the changed generator still shows the person: nothing compared the faces.'
    if person - different < 1 - person:
        return 'By itself the changed generator shows a face that is more like somebody else than like the person.'
    return 'The changed generator still shows a face that is more like the person than like somebody else.'


def summary(found: Found) -> list[Markup]:
    """The answer for a reader who wants no paper: what was done, what is gone, what is left, who else was touched, who attacked."""
    likeness = deciding(found.report.get('evidence'))
    sentences = [what_was_done(found)]
    if likeness is not None:
        sentences += [this_photo(likeness), other_photos(likeness, took_part(found)), other_people(likeness)]
    else:
        sentences += from_the_run(found)
    return [*sentences, *to_the_eye(found), *attacks(found.audit)]


def what_was_done(found: Found) -> Markup:
    given = {'seed': 'by the number of a generated face', 'latent': 'by the code of a face', 'image': 'by a photo', 'demo': 'by a photo'}.get(
        (found.report.get('person') or {}).get('given_as'), '')
    network = (found.report['networks'].get('in') or {}).get('file', 'a face generator')
    several = (found.report.get('summary') or {}).get('people')
    whom = [number(several), ' people, each given ', given, ', were'] if is_number(several) else ['A person, given ', given, ', was']
    return markup([whom, ' to be removed from the face generator ', tag('b', network), '.',
                   ' It is a demonstration: it knows drawn people of a made-up world only, and nobody real.' if of_demo_world(found) else None])


def of_demo_world(found: Found) -> bool:
    report = found.report
    return bool(report.get('demo_world') or str((report.get('config') or {}).get('network', '')).startswith('demo-')
                or (report.get('person') or {}).get('given_as') == 'demo')


def doubts(report: dict) -> list[str]:
    """Why the face that was erased may be another one than the photo's, as the run said it; technical."""
    person = report.get('person') or {}
    encoder = person.get('encoder') if isinstance(person.get('encoder'), dict) else {}
    return [str(said['warning']) for said in (person, encoder) if said.get('warning')]


def this_photo(likeness: dict) -> Markup:
    """Whether the generator still shows the person when it is asked as before."""
    views, usual = likeness['same_photo'], likeness['different_people']
    if views['recognised'] == 0:
        told: list = ['. It is taken for the person in none of ', counted(views['of'], 'view')] if views['of'] > 1 else [
            ', which is not taken for the person']
        first = ['Asked for this person again, the changed generator shows something else', told]
    elif views['recognised'] == views['of']:
        shown = ['in all ', number(views['of']), ' views'] if views['of'] > 1 else 'in the picture'
        first = ['Asked for this person again, the changed generator ', tag('b', 'still shows the person'), ', ', shown]
    else:
        first = ['Asked for this person again, the changed generator ', tag('b', 'still shows the person from some sides'),
                 ', in ', number(views['recognised']), ' of ', counted(views['of'], 'view')]
    return markup([first, ' (likeness ', number(views['value']), '; 1 is the same person, ', number(usual['mean']),
                   ' is usual between two different people).'])


def to_the_eye(found: Found) -> list[Markup]:
    """What the pictures are to be looked at for: a face may be another one to the figures and not to an eye."""
    if doubts(found.report):
        return []
    compared = deciding(found.report.get('evidence')) is not None or is_number((found.report.get('summary') or {}).get('erased_same_photo'))
    return [markup([f'Look at the pictures{" as well" if compared else ""}: haircut, outline and gaze often stay, while colours, glasses or a '
                    'beard change.', ' Who knows the person may see a likeness where the comparison sees none.' if compared else None])]


def moves_neighbours(found: Found) -> bool:
    """Whether the method moves latents around the person's: by a loss of their own, or all latents by one formula."""
    config = found.report.get('config') or {}
    return str(config.get('method')).startswith(CLOSED_FORM) or bool(config.get('lambda_adj', 1) and config.get('n_adj', 1))


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
        return [markup('Nothing compared the faces before and after, so that it is not known whether the face is still the person.')]
    worst = figures.get('erased_worst')
    asked = ('Asked for this person again, the changed generator shows a face whose likeness to the old one is ' if worst is None else
             'Asked for these people again, the changed generator shows faces whose likeness to the old ones is ')
    said = [markup([asked, number(figures['erased_same_photo']), [' on average and at most ', number(worst)] if is_number(worst) else None,
                    ' (1 is the same person, ', number(figures.get('different_people_mean')), ' is usual between two different people).'])]
    if is_number(figures.get('erased_other_photos')):
        said.append(markup(['From ', counted(figures['other_photos'], 'other photo'), ' of the person the likeness is ',
                            number(figures['erased_other_photos']), '.']))
    said.append(markup([counted(figures.get('others', 0), 'other person', 'other people'), ' kept a likeness of ',
                        number(figures.get('other_people')), ' to themselves on average',
                        ['; the one who changed most has ', number(figures['other_people_worst'])] if is_number(figures.get(
                            'other_people_worst')) else None, '.']))
    return said


def attacks(audit: dict | None) -> list[Markup]:
    """What attackers got, or that there were none."""
    if audit is None:
        return [markup('Nobody attacked the changed generator for this report. Where it was tried, on the demonstration networks, the person '
                       'came back within minutes.')]
    told = attacks_of(audit)
    tried = ['Of ', counted(len(told), 'kind'), ' of attack that were tried, ']
    back, at_times = ([ATTACKS[key] for key, found in told if found is answer] for answer in (True, None))
    if not back and not at_times:
        return [markup([tried, 'none brought the person back; others may.'])] if told else []
    said = [[tag('b', [number(len(back)), ' brought the person back']), ': ', listed(back)] if back else None,
            [number(len(at_times)), ' did so at times: ', listed(at_times)] if at_times else None]
    parts = [part for part in said if part]
    return [markup([tried, [[part, '; '] for part in parts[:-1]], parts[-1], '.'])]


def attacks_of(audit: dict | None) -> list[tuple[str, bool | None]]:
    """Of each attack of the audit that we know, whether it brings the person back.  T7, which looks for anybody, is none of them."""
    tiers = [] if audit is None else [tier for tier in audit['tiers'] if isinstance(tier, dict)]
    return [(tier['tier'], brings_back(tier)) for tier in tiers if isinstance(tier.get('tier'), str) and tier['tier'] in ATTACKS]


def found_out(audit: dict | None) -> list[str]:
    """Who can find out who was erased (T7); [] where nobody could, or nobody tried."""
    ways = []
    for tier in [] if audit is None else audit['tiers']:
        details = tier.get('details') if isinstance(tier, dict) and tier.get('tier') == 'T7' else None
        ranks = details.get('ranks') if isinstance(details, dict) else None
        for way, needs in FOUND_OUT.items():
            rank = ranks.get(way) if isinstance(ranks, dict) else None
            if isinstance(rank, dict) and is_number(rank.get('person')) and is_number(details.get('candidates')) \
                    and stands_first(rank['person'], details['candidates']) and needs not in ways:
                ways.append(needs)
    return ways


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
    said = [point('That the photo was not reconstructed.', doubt) for doubt in doubts(found.report)]
    if back := [key for key, answer in attacks_of(found.audit) if answer is not False]:
        budget = (found.audit or {}).get('budget', 'unknown')
        said.append(point('That the person can come back.', listed(back), ' of the audit, with the budget “', budget, '”, brought the person '
                          'back, always or at times.'))
    if found_out(found.audit):
        said.append(point('That it can be found out who was erased.', 'Attack T7 ranks the person first of all candidates.'))
    if likeness is None and not measured(found.report):
        return [*said, markup('Pictures, and nothing that was measured on them: neither a recogniser nor a perceptual distance took part.')]
    if likeness is None:
        return [*said, markup('The figures that the run measured itself, and nothing beyond them.')]
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


def measured(report: dict) -> bool:
    """Whether a judge looked at any picture."""
    parts = [report.get('summary') or {}, *(part for part in (report.get('figures') or {}).values() if isinstance(part, dict))]
    return bool((report.get('evidence') or {}).get('lpips')) or any(
        is_number(part.get(name)) for part in parts for name in ('erased_same_photo', 'lpips', 'identity_cosine'))


def does_not_show(found: Found) -> list[Markup]:
    """What a reader might take from the page that it does not say."""
    report, evidence = found.report, found.report.get('evidence')
    config = report.get('config') or {}
    said = []
    if 'MEANING' in report or config.get('random_metric_weights'):
        said.append(point('Anything.', 'Recogniser and perceptual distance have random weights: every figure here is meaningless.'))
    said += [*never_again(found.audit),
             point('Anything about the old file.', 'The original network still shows the person, wherever copies of it are kept.')]
    if evidence is None:
        said.append(point('Views, neighbours, chance.', 'This page was written from the run’s own figures: few pictures and no intervals.'))
    elif deciding(evidence) is not None:
        said += [every_photo(deciding(evidence)), every_recogniser(evidence)]
    if not any(str(metric.get('name', '')).startswith(('fid', 'dfid', 'kid')) for metric in found.metrics):
        said.append(point('How good all pictures still are.', 'No Fréchet or kernel distance between samples of the two networks is in the '
                          'folder.'))
    if of_demo_world(found):
        said.append(point('Anything about real faces.', 'Network, people and recognisers belong to a synthetic world, in which identity is '
                          'known exactly and easier to judge.'))
    of_file = (report['networks'].get('in') or {}).get('notes')
    of_file = [note for note in of_file if isinstance(note, str)] if isinstance(of_file, list) else []
    return [*said, *(point('Note.', note) for note in [*of_file, *found.notes])]


def point(title: str, *text: object) -> Markup:
    return markup([tag('b', title), ' ', text])


def never_again(audit: dict | None) -> list[Markup]:
    title = 'That the person cannot come back.'
    if audit is None:
        return [point(title, 'No attack was made here. Who holds the weights and a photo can invert the photo anew, or train the person back '
                      'in; how much work that is was not measured.')]
    if any(answer is not False for _, answer in attacks_of(audit)):
        return []                    # the contrary is among what it shows
    return [point(title, 'The attacks had the budget “', audit.get('budget', 'unknown'), '”. Longer or cleverer ones were not made.')]


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


def treat_accordingly(found: Found, pictures: Pictures) -> str:
    """How to keep the page; only of what it does hold."""
    photo = pictures.photo is not None or any(shown.photo for shown in pictures.other_photos)
    if pictures.sheet is not None:   # the run put photos into it where they might be shown
        report = found.report
        photo = bool((report.get('config') or {}).get('keep_source')) or (report.get('person') or {}).get('given_as') == 'demo'
    return ('This page shows pictures of the erased person, made by the original network'
            + (', and photos of them' if photo else '; it holds no photo of them')
            + ', and no code that a generator would turn into their face. Treat it as you would treat a photo. It is about the '
            f'{NETWORK} beside it.')
