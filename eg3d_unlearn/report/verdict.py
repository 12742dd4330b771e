"""The part of a page that everybody reads, in plain words.  Every sentence is chosen by figures, and none says more than they do."""
from __future__ import annotations

from markupsafe import Markup

from eg3d_unlearn.evaluation.audit.utility import DAMAGED, RUINED
from eg3d_unlearn.evaluation.pictures import Pictures
from eg3d_unlearn.evaluation.summary import nearer_to_others
from eg3d_unlearn.report.audit import attacks_of, found_out
from eg3d_unlearn.report.files import RunFiles
from eg3d_unlearn.report.formatting import counted, interval, listed, number
from eg3d_unlearn.run_folder import NETWORK
from torch_utils_ext.user_files import is_number

ALWAYS = 'Whoever has this file and a photo can probably make it show the person again; keep the file private.'
GIVEN = {'seed': 'by the number of a generated face', 'latent': 'by the code of a face', 'image': 'by a photo', 'demo': 'by a photo'}
PEOPLE = 'other person', 'other people'


def verdict(run: RunFiles) -> list[str]:
    """What was found, in a sentence or a few, before anything else; how it is to be taken is `ALWAYS`."""
    if 'MEANING' in run.report:
        said = ['There is no verdict: the software that compares faces was not trained in this run, which was a test.']
    elif run.doubts:
        said = ['There is no verdict about the person of the photo: what was erased was probably another face.']
    elif run.likeness is not None:
        said = [by_itself(run.likeness, run.photos_took_part), *spoilt(run.likeness)]
    else:
        said = [by_the_run(run.summary)]
    if any(answer is not False for _, answer in attacks_of(run.audit)):
        said.append('Attacks on the changed file show that the person can come back.')
    if ways := found_out(run.audit):
        said.append(Markup('Who was erased can be found out without any photo, {}.').format(listed(ways)))
    return said


def by_itself(likeness: dict, took_part: bool) -> str:
    """Whether the changed generator shows the person without anybody's doing."""
    views, photos = likeness['same_photo'], likeness.get('other_photos')
    if views['recognised']:
        return 'The changed generator still shows the person' + ('.' if views['recognised'] == views['of'] else ' from some sides.')
    if photos is not None and photos['recognised'] and not took_part:
        return 'From the photo that was given the changed generator no longer shows the person, but from other photos it still does.'
    return 'By itself the changed generator no longer shows the person.'


def spoilt(likeness: dict) -> list[str]:
    """Whether others were changed along with the person."""
    share = likeness['other_people']['share_recognised']['value']
    if share >= DAMAGED:
        return []
    return ['Most other people are somebody else now, too.' if share < RUINED else 'Some other people are somebody else now, too.']


def by_the_run(figures: dict) -> str:
    """The same from the run's own figures: nearer to two different people, or to one and the same."""
    nearer = nearer_to_others(figures)
    if nearer is None:
        return 'It is not known whether the changed generator still shows the person: nothing compared the faces.'
    if nearer:
        return 'By itself the changed generator shows a face that is more like somebody else than like the person.'
    return 'The changed generator still shows a face that is more like the person than like somebody else.'


# ---- the answer at length ----

def summary(run: RunFiles) -> list[str]:
    """The answer for a reader who wants no paper: what was done, what is gone, what is left, who else was touched, who attacked."""
    measured = from_the_run(run.summary) if run.likeness is None else [
        this_photo(run.likeness), other_photos(run.likeness, run.photos_took_part), other_people(run.likeness)]
    return [what_was_done(run), *measured, *to_the_eye(run), *attacks(run.audit)]


def what_was_done(run: RunFiles) -> Markup:
    """Who was to be removed from which network."""
    given = GIVEN.get(run.person.get('given_as', ''), '')
    network = run.network('in').get('file', 'a face generator')
    several = run.summary.get('people')
    whom = Markup('{} people, each given {}, were').format(number(several), given) if is_number(several) else f'A person, given {given}, was'
    world = ' It is a demonstration: it knows drawn people of a made-up world only, and nobody real.' if run.is_demo else ''
    return Markup('{} to be removed from the face generator <b>{}</b>.{}').format(whom, network, world)


def this_photo(likeness: dict) -> Markup:
    """Whether the generator still shows the person when it is asked as before."""
    views, usual = likeness['same_photo'], likeness['different_people']
    several = views['of'] > 1
    if views['recognised'] == 0:
        shown = Markup('shows something else. It is taken for the person in none of {}').format(counted(views['of'], 'view')) if several else (
            'shows something else, which is not taken for the person')
    elif views['recognised'] == views['of']:
        where = Markup('in all {} views').format(number(views['of'])) if several else 'in the picture'
        shown = Markup('<b>still shows the person</b>, {}').format(where)
    else:
        shown = Markup('<b>still shows the person from some sides</b>, in {} of {}').format(
            number(views['recognised']), counted(views['of'], 'view'))
    return Markup('Asked for this person again, the changed generator {} (likeness {}; 1 is the same person, {} is usual between two different '
                  'people).').format(shown, number(views['value']), number(usual['mean']))


def other_photos(likeness: dict, took_part: bool) -> Markup | str:
    """What other photos of the person still bring back."""
    photos, usual = likeness.get('other_photos'), likeness['different_people']
    if photos is None:
        return 'Whether other photos of the person bring the face back was not measured, because no other photo was given.'
    count = Markup('{}{}').format(counted(photos['of'], 'other photo'), ', which took part in the erasure,' if took_part else '')
    bounds = interval(photos)
    measured = Markup(' (likeness {}{}{})').format(number(photos['value']), ' ' if bounds else '', bounds)
    if photos['recognised'] == photos['of']:
        said = Markup('<b>the face still comes back</b>{}.').format(measured)
    elif photos['recognised']:
        said = Markup('the face <b>still comes back</b> in {}{}.').format(number(photos['recognised']), measured)
    elif photos['value'] > usual['high']:
        said = Markup('the face is not recognised either, but <b>something of it is left</b>{}: it is more alike than 97.5 % of pairs of '
                      'different people.').format(measured)
    else:
        said = Markup('the face is not recognised either{}.').format(measured)
    return Markup('From {} of the person {}').format(count, said)


def other_people(likeness: dict) -> Markup:
    """Whether others were touched."""
    people = likeness['other_people']
    kept = Markup('{} of').format(number(people['recognised'])) if people['recognised'] < people['of'] else 'All'
    return Markup('{} {} drawn at random are still recognised as themselves (likeness {} {}; the one who changed most has {}).').format(
        kept, counted(people['of'], *PEOPLE), number(people['value']), interval(people), number(people['lowest']))


def from_the_run(figures: dict) -> list[str]:
    """The same from what the run itself measured, where nobody has looked closer."""
    if not is_number(figures.get('erased_same_photo')):
        return ['Nothing compared the faces before and after, so that it is not known whether the face is still the person.']
    worst = figures.get('erased_worst')
    asked = ('Asked for this person again, the changed generator shows a face whose likeness to the old one is' if worst is None else
             'Asked for these people again, the changed generator shows faces whose likeness to the old ones is')
    most = Markup(' on average and at most {}').format(number(worst)) if is_number(worst) else ''
    said: list[str] = [Markup('{} {}{} (1 is the same person, {} is usual between two different people).').format(
        asked, number(figures['erased_same_photo']), most, number(figures.get('different_people_mean')))]
    if is_number(figures.get('erased_other_photos')):
        said.append(Markup('From {} of the person the likeness is {}.').format(
            counted(figures['other_photos'], 'other photo'), number(figures['erased_other_photos'])))
    least = figures.get('other_people_worst')
    changed = Markup('; the one who changed most has {}').format(number(least)) if is_number(least) else ''
    said.append(Markup('{} kept a likeness of {} to themselves on average{}.').format(
        counted(figures.get('others', 0), *PEOPLE), number(figures.get('other_people')), changed))
    return said


def to_the_eye(run: RunFiles) -> list[str]:
    """What the pictures are to be looked at for: a face may be another one to the figures and not to an eye."""
    if run.doubts:
        return []
    compared = run.likeness is not None or is_number(run.summary.get('erased_same_photo'))
    return [f'Look at the pictures{" as well" if compared else ""}: haircut, outline and gaze often stay, while colours, glasses or a beard '
            'change.' + (' Who knows the person may see a likeness where the comparison sees none.' if compared else '')]


def attacks(audit: dict | None) -> list[str]:
    """What attackers got, or that there were none."""
    if audit is None:
        return ['Nobody attacked the changed generator for this report. Where it was tried, on the demonstration networks, the person came back '
                'within minutes.']
    told = attacks_of(audit)
    if not told:
        return []
    back, at_times = ([tier.plain for tier, found in told if found is answer] for answer in (True, None))
    said = [Markup('<b>{} brought the person back</b>: {}').format(number(len(back)), listed(back))] if back else []
    said += [Markup('{} did so at times: {}').format(number(len(at_times)), listed(at_times))] if at_times else []
    return [Markup('Of {} of attack that were tried, {}.').format(
        counted(len(told), 'kind'), Markup('; ').join(said) or 'none brought the person back; others may')]


def treat_accordingly(run: RunFiles, pictures: Pictures) -> str:
    """How to keep the page; only of what it does hold."""
    photo = pictures.photo is not None or any(shown.photo for shown in pictures.other_photos)
    if pictures.sheet is not None:   # the run put photos into it where they might be shown
        photo = bool(run.config.get('keep_source')) or run.person.get('given_as') == 'demo'
    return ('This page shows pictures of the erased person, made by the original network'
            + (', and photos of them' if photo else '; it holds no photo of them')
            + ', and no code that a generator would turn into their face. Treat it as you would treat a photo. It is about the '
            f'{NETWORK} beside it.')
