"""The page: sections in the order in which a reader asks, each left out where there is nothing to show."""
from __future__ import annotations

import base64
import hashlib

from eg3d_unlearn.evaluation.pictures import BeforeAfter, Picture, Pictures
from eg3d_unlearn.report import audited, charts, results, words
from eg3d_unlearn.report.files import Found, is_number
from eg3d_unlearn.report.markup import Markup, markup, tag
from eg3d_unlearn.report.numbers import counted, figure, interval, number, plain
from eg3d_unlearn.report.script import SCRIPT
from eg3d_unlearn.report.section import GROUPS, Section, legend, table
from eg3d_unlearn.report.style import STYLE

TITLE = 'What the unlearned generator still shows'


def page(
    found: Found,
    pictures: Pictures,
    written: str,                    # when, as it is to be read
) -> str:
    """The whole file."""
    sections = [section for section in (
        scales(found), photos(found, pictures), neighbours(found, pictures), people(found, pictures), maps(found, pictures),
        recognisers(found), results.metrics(found.metrics), audited.ladder(found.audit), limits(found), results.curves(found.stats),
        results.run_figures(found.report), results.settings(found)) if section is not None]
    body = [header(found, pictures, written), contents(sections), tag('main', [section.html for section in sections]), footer(found)]
    head = [tag('meta', charset='utf-8'), tag('meta', http_equiv='Content-Security-Policy', content=policy()),
            tag('meta', name='viewport', content='width=device-width, initial-scale=1'), tag('meta', name='robots', content='noindex'),
            tag('meta', name='referrer', content='no-referrer'), tag('meta', name='color-scheme', content='light dark'),
            tag('title', TITLE), tag('style', Markup(STYLE))]
    return '<!DOCTYPE html>\n' + tag('html', tag('head', head), tag('body', body, tag('script', Markup(SCRIPT))), lang='en') + '\n'


def policy() -> str:
    """Nothing may be loaded, and only this package's own style and script take effect, whatever else got into the page."""
    script, style = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (SCRIPT, STYLE))
    return f"default-src 'none'; img-src data:; script-src 'sha256-{script}'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"


def header(found: Found, pictures: Pictures, written: str) -> Markup:
    """For a reader who reads nothing else, and no technical word."""
    networks = found.report['networks']
    alarms = []
    if 'MEANING' in found.report:
        alarms.append('The software that judges faces was not trained: THIS RESULT MEANS NOTHING.')
    if words.doubts(found.report):
        alarms.append([tag('b', 'Probably the wrong person was erased.'), ' The generator could not show the person of the photo, so that the '
                       'face which was erased is another one. The reason stands under ', tag('a', 'what this shows', href='#limits'), '.'])
    result = (networks.get('out') or {}).get('sha256')
    meta = [tag('span', (networks.get('in') or {}).get('file', ''), ' → ', (networks.get('out') or {}).get('file', '')),
            tag('span', 'written ', written), tag('span', 'checksum of the result ', tag('code', f'{str(result)[:16]}…')) if result else None]
    verdict = tag('div', [tag('p', sentence) for sentence in words.verdict(found)], tag('p', words.ALWAYS, class_='always'), class_='answer')
    text = tag('div', [tag('p', sentence) for sentence in words.summary(found)], recovered(pictures),
               tag('p', tag('a', 'What this does and does not show', href='#limits'), class_='onward'), class_='words')
    opening = tag('div', text, stage(found, pictures), class_='opening wide' if pictures.sheet else 'opening')
    care = words.treat_accordingly(found, pictures) if pictures.views or pictures.sheet else None
    return tag('header', tag('p', 'Report of an erasure', class_='kind'), tag('h1', TITLE), tag('p', meta, class_='meta'),
               [tag('p', alarm, class_='alarm', role='alert') for alarm in alarms], verdict, opening,
               tag('p', care, class_='care') if care else None)


def recovered(pictures: Pictures) -> Markup | None:
    """The person, as an attack of the audit got them out of the changed network."""
    if pictures.recovered is None:
        return None
    return captioned(pictures.recovered, 'The person, as an attack brought them back.', 'The person again: made with the changed file, by the '
                     'first attack that succeeded.', class_='recovered')


def contents(sections: list[Section]) -> Markup:
    links = [tag('li', tag('a', section.title, href=f'#{section.key}')) for section in sections]
    return tag('nav', tag('p', 'Technical details', class_='kind'), tag('ul', links), aria_label='Contents')


def footer(found: Found) -> Markup:
    version = (found.report.get('versions') or {}).get('eg3d_unlearn', '')
    return tag('footer', tag('p', f'Made by eg3d_unlearn {version}. This file loads nothing and sends nothing; report.json beside it holds the '
                             'same figures.'))


def img(picture: Picture, alt: str) -> Markup:
    return tag('img', src=picture.uri, alt=alt, width=picture.width, height=picture.height, decoding='async')


def captioned(picture: Picture, alt: str, *caption: object, class_: str | None = None) -> Markup:
    return tag('figure', img(picture, alt), tag('figcaption', caption), class_=class_)


# ---- the person ----

def stage(found: Found, pictures: Pictures) -> Markup | None:
    """The person before and after: views to turn through for 3D networks, a wipe over one picture for 2D ones."""
    if not pictures.views:
        if pictures.sheet is None:
            return None
        return tag('div', captioned(pictures.sheet, 'The person before, the target and the person after; below them other people before and '
                                    'after.', 'As the run left it in before-after.png.'), class_='stage sheet')
    person = turntable(pictures.views) if len(pictures.views) > 1 else wipe(pictures.views[0])
    return tag('div', person, photo(found, pictures), class_='stage')


def photo(found: Found, pictures: Pictures) -> Markup | None:
    """How like the pictures are to the photo itself; the photo where it may be shown."""
    likeness = (words.deciding(found.report.get('evidence')) or {}).get('photo')
    said = None
    if likeness:
        said = ['Likeness to the photo itself: ', number(likeness['before']), ' before, ', number(likeness['after']), ' after.']
    if pictures.photo is None:
        return tag('p', said, class_='beside') if said else None
    shown = captioned(pictures.photo, 'The photo that was erased.', 'the photo')
    return tag('div', shown, tag('p', said, class_='beside'), class_='small')


def where(shown: BeforeAfter) -> str:
    return 'frontal view' if not shown.yaw else f'{abs(shown.yaw):g} degrees from the {"right" if shown.yaw > 0 else "left"}'


def trio(shown: BeforeAfter) -> list[Markup | None]:
    """Before, after, and what the person was moved to."""
    side = '' if shown.yaw is None else f', {where(shown)}'
    return [captioned(shown.before, f'The person before{side}.', 'before'), captioned(shown.after, f'The same request after{side}.', 'after'),
            small_target(shown, side)]


def small_target(shown: BeforeAfter, side: str) -> Markup:
    """What the person was moved to, beside what is to be said of the view."""
    said = [[where(shown).capitalize(), tag('br')] if shown.yaw is not None else None,
            ['likeness ', number(shown.likeness)] if is_number(shown.likeness) else None]
    picture = captioned(shown.target, f'The target{side}.', 'the target') if shown.target else None
    about = [tag('br'), tag('span', 'The target is the face that the person was moved towards.')] if shown.target else None
    return tag('div', picture, tag('p', said, about, class_='beside'), class_='small')


def turntable(views: list[BeforeAfter]) -> Markup:
    """All views stand in the page; where scripts run one of them is seen, and a slider turns through them."""
    middle = len(views) // 2
    panels = [tag('div', trio(view), class_='view current' if i == middle else 'view', data_name=where(view))
              for i, view in enumerate(views)]
    slider = tag('label', tag('span', 'Turn the head', class_='hint'), tag(
        'input', type='range', min=0, max=len(views) - 1, value=middle, step=1, aria_label='View', aria_valuetext=where(views[middle])),
        class_='slider')
    return tag('div', tag('div', panels, class_='views'), slider, class_='turntable')


def wipe(view: BeforeAfter) -> Markup:
    """Two pictures side by side; with a script one over the other, and a slider draws the border."""
    pictures = tag('div', captioned(view.before, 'The person before.', 'before', class_='under'),
                   captioned(view.after, 'The same request after.', 'after', class_='over'), class_='pictures')
    slider = tag('label', tag('span', 'Wipe from before to after', class_='hint'), tag(
        'input', type='range', min=0, max=100, value=50, step=1, aria_label='Share of the picture that shows after',
        aria_valuetext='50 percent after'), class_='slider')
    return tag('div', pictures, slider, small_target(view, ''), class_='wipe')


# ---- figures ----

def scales(found: Found) -> Section | None:
    """All likenesses on one line: the figure that the words at the top are read from."""
    evidence = found.report.get('evidence')
    likeness = words.deciding(evidence)
    if likeness is None:
        return None
    usual = likeness['different_people']
    groups = [group for group in GROUPS if group in likeness]
    scale = charts.likeness_scale([value for group in groups for value in likeness[group]['values']])
    rows = []
    for group in groups:
        found_here = likeness[group]
        bounds = (found_here['low'], found_here['high'])
        name = GROUPS[group] if found_here['of'] > 1 or group != 'same_photo' else 'this photo'
        label = (f'{name}: mean {plain(found_here["value"], 2)}, from {plain(found_here["lowest"], 2)} to '
                 f'{plain(found_here["highest"], 2)}.')
        rows.append(tag('div', tag('div', name, tag('small', number(found_here['recognised']), ' of ', number(found_here['of']),
                                                             ' recognised'), class_='name'),
                        charts.strip(scale, label, found_here['values'], found_here['value'], bounds, (usual['low'], usual['high']),
                                     usual['threshold']),
                        tag('div', number(found_here['value']), tag('small', interval(found_here)), class_='value'),
                        class_=f'row {"kept" if group in ("strangers", "other_people") else "erased"}'))
    axis = tag('div', tag('div', class_='name'), charts.axis(scale, [(usual['mean'], 'different people'), (1.0, 'same person')]),
               tag('div', class_='value'), class_='row axis')
    key = legend([
        ('band', ['95 % of ', counted(usual['pairs'], 'pair'), ' of different people']),
        ('threshold', ['from here on two pictures count as one person (', number(usual['threshold']), '; 1 in 1000 of those pairs lies above)']),
        ('one', 'one picture'),
        ('mean', ['mean, with its 95 % interval from ', number(evidence['protocol']['interval_from']), ' independent samples on'])])
    lead = ['Likeness of the same latent before against after, by ', tag('b', evidence['measured_by']), '. The erased should lie left, '
            'everybody else right.']
    return Section('likeness', 'Who is still recognised', lead, tag('div', rows, axis, class_='scales'), key)


def photos(found: Found, pictures: Pictures) -> Section | None:
    if not pictures.other_photos:
        return None
    which = ', which the method did not see. They tell whether a person was erased or a single picture.'
    along = '. They took part in the erasure, so that they are no test of it.'
    lead = f'Latents of other photos of the erased person{along if words.took_part(found) else which}'
    return Section('photos', 'Other photos of the person', lead, rows_of(pictures.other_photos, 'another photo of the person'))


def neighbours(found: Found, pictures: Pictures) -> Section | None:
    if not pictures.neighbours:
        return None
    lead = ('Latents near the person’s, towards random people. Up to the distance of 100 % the method moves them, too; farther away people '
            'should stay.') if words.moves_neighbours(found) else 'Latents near the person’s, towards random people. The method left them alone.'
    chart = distances(found)
    return Section('neighbours', 'Around the person', lead, rows_of(pictures.neighbours, 'a latent near the person', 'nine'), chart)


def distances(found: Found) -> Markup | None:
    """Likeness over the distance from the erased latent."""
    evidence = found.report.get('evidence')
    likeness = words.deciding(evidence)
    if likeness is None or 'reach' not in evidence:
        return None
    points, kinds = [], ('same_photo', 'neighbours', 'other_photos', 'other_people')
    drawn = [group for group in kinds if group in likeness]
    for group in drawn:
        for x, y in evidence['reach'][group]:
            points.append((x, y, kinds.index(group), f'{GROUPS[group]}: about {x:.0f} away, likeness about {plain(y, 2)}'))
    across, up = charts.Scale(0, max(x for x, *_ in points) * 1.03), charts.likeness_scale([y for _, y, *_ in points])
    chart = charts.scatter('Likeness before against after over the distance of a latent from the erased one.', points, across,
                           charts.Scale(up.low, up.high + 0.05, flipped=True), likeness['different_people']['threshold'])
    title = ('How far the change reaches: likeness before against after (up) over the distance from the erased latent in units of W+ (across). '
             'Coarse, so that the latent cannot be worked out from it.')
    key = legend([(f'kind{kinds.index(group)}', GROUPS[group]) for group in drawn])
    return tag('figure', tag('figcaption', title), chart, key, class_='plot')


def people(found: Found, pictures: Pictures) -> Section | None:
    """Everybody else."""
    if not (pictures.first_drawn or pictures.strangers):
        return None
    likeness = words.deciding(found.report.get('evidence'))
    total = (found.report.get('evidence') or {}).get('protocol', {}).get('people', len(pictures.first_drawn))
    parts = []
    if pictures.changed_most:
        parts += [tag('h3', 'Those of ', number(total), ' random people who changed most'), rows_of(pictures.changed_most, 'a random person')]
    if pictures.first_drawn:
        parts += [tag('h3', 'The first who were drawn'), rows_of(pictures.first_drawn, 'a random person')]
    if pictures.strangers:
        parts += [tag('h3', 'Photos of other people'), rows_of(pictures.strangers, 'another person’s photo')]
    lead = 'People whom nobody asked to forget. They should be the same before and after.'
    if likeness is not None:
        lead = [lead, ' The number below each is their likeness.']
    return Section('people', 'Everybody else', lead, *parts)


def rows_of(pictures: list[BeforeAfter], who: str, class_: str = '') -> Markup:
    """Cards with before above after, the photo above both where it may be shown."""
    cards = []
    for shown in pictures:
        photo = img(shown.photo, f'The photo: {who}.') if shown.photo else None
        caption = [[shown.title, tag('br')] if shown.title else None, number(shown.likeness) if is_number(shown.likeness) else None]
        cards.append(tag('figure', photo, img(shown.before, f'Before: {who}.'), img(shown.after, f'After: {who}.'),
                         tag('figcaption', caption)))
    rows = [*(['photo'] if pictures[0].photo else []), 'before', 'after']
    sides = tag('div', [tag('span', name) for name in rows], class_='sides', aria_hidden='true')
    return tag('div', sides, tag('div', cards, class_='cards'), class_=f'pairs {class_}'.strip())


# ---- maps ----

def maps(found: Found, pictures: Pictures) -> Section | None:
    """Where the pictures changed, how the shape did, where a recogniser still finds the person."""
    evidence = found.report.get('evidence') or {}
    parts: list[Markup] = []
    if pictures.saliency and 'saliency' in evidence:
        parts += saliency(evidence['saliency'], pictures)
    if pictures.differences and 'difference' in evidence:
        measured = evidence['difference']
        parts += [tag('h3', 'Difference of the pictures'),
                  tag('p', 'Mean change of a pixel: ', number(measured['mean'], 3), ' of white against black.'),
                  maps_row(pictures.differences, 'Difference map'), ramp('0', f'{plain(measured["top"], 2)} and more')]
    if pictures.depth and 'depth' in evidence:
        measured = evidence['depth']
        parts += [tag('h3', 'Depth'),
                  tag('p', 'Depth along the ray, light is near; on the right its change, ', number(measured['mean_change'], 3),
                      ' world units on average over all rays.'),
                  maps_row(pictures.depth, 'Depth map'), ramp(f'{plain(measured["far"], 2)} (change: 0)',
                                                              f'{plain(measured["near"], 2)} (change: {plain(measured["top"], 3)})')]
    if not parts:
        return None
    lead = 'The same view before and after, pixel by pixel, in depth, and through a recogniser’s eyes.'
    return Section('maps', 'Where it changed', lead, *parts)


def saliency(measured: dict, pictures: Pictures) -> list[Markup]:
    """RISE before and after on one scale."""
    sides = [(f'{side} (likeness to the person before: {plain(measured[side]["likeness"], 2)})', picture)
             for side, picture in pictures.saliency]
    text = tag('p', 'Orange: seeing this place makes ', tag('b', measured['recogniser']), ' find more of the person; blue: less. The place that '
               'tells most adds ', number(measured['before']['highest']), ' to the likeness before and ', number(measured['after']['highest']),
               ' after.')
    how = tag('p', 'RISE with ', counted(measured['masks'], 'random mask'), '; hidden places show the mean face, whose likeness to the person '
              'is ', number(measured['mean_face']), '. Standard error ', number(measured['before']['noise'], 3), ' and ',
              number(measured['after']['noise'], 3), '; what lies within two of them stays grey. Both maps share one scale.', class_='how')
    return [tag('h3', 'Where the face carries the identity'), text, maps_row(sides, 'Saliency map'),
            tag('p', tag('span', plain(-measured['top'], 2)), tag('span', class_='bar signed'),
                tag('span', '+' + plain(measured['top'], 2)), class_='ramp'), how]


def maps_row(pictures: list[tuple[str, Picture]], what: str) -> Markup:
    return tag('div', [captioned(picture, f'{what}, {title}.', title) for title, picture in pictures], class_='maps')


def ramp(low: str, high: str) -> Markup:
    return tag('p', tag('span', low), tag('span', class_='bar heat'), tag('span', high), class_='ramp')


# ---- recognisers ----

def recognisers(found: Found) -> Section | None:
    """How far the recognisers agree."""
    evidence = found.report.get('evidence') or {}
    measured = evidence.get('likeness') or {}
    if not measured:
        return None
    groups = [group for group in GROUPS if all(group in likeness for likeness in measured.values())]
    names = list(measured)
    scale = charts.likeness_scale([measured[name][group]['value'] for name in names for group in groups])
    rows = [tag('div', tag('div', GROUPS[group], class_='name'), charts.marks(
        scale, f'{GROUPS[group]}: ' + ', '.join(f'{name} {plain(measured[name][group]["value"], 2)}' for name in names),
        [(measured[name][group]['value'], kind, f'{name} {plain(measured[name][group]["value"], 2)}') for kind, name in enumerate(names)]),
        tag('div', class_='value'), class_='row') for group in groups]
    rows.append(tag('div', tag('div', class_='name'), charts.axis(scale), tag('div', class_='value'), class_='row axis'))
    key = legend([(f'kind{kind % charts.SHAPES}', name) for kind, name in enumerate(names)])
    head = ['recogniser', 'used in the loss', 'two different people', 'same person from', *(GROUPS[group] for group in groups)]
    lines = [[name, 'yes' if name == evidence['trained_with'] else 'no', number(measured[name]['different_people']['mean']),
              number(measured[name]['different_people']['threshold']), *(figure(measured[name][group]) for group in groups)]
             for name in names]
    agreement = [tag('p', listed_pair(pair), ' give the same verdict on ', number(pair['same_verdict']), ' of ',
                     counted(pair['pictures'], 'pair'), ' of pictures, each at its own threshold; their likenesses correlate at ',
                     number(pair['correlation']), '.') for pair in evidence.get('agreement', [])]
    lead = 'One recogniser may be fooled where another is not. One that the loss used flatters the result.'
    return Section('recognisers', 'Do recognisers agree', lead, tag('div', rows, class_='scales') if len(names) > 1 else None,
                   key if len(names) > 1 else None, agreement, table(head, lines, 'Likeness before against after by recogniser.'))


def listed_pair(pair: dict) -> Markup:
    return markup([tag('b', pair['recognisers'][0]), ' and ', tag('b', pair['recognisers'][1])])


def limits(found: Found) -> Section:
    """Honest words; they depend on the figures."""
    parts = []
    for title, said in (('It shows', words.shows(found)), ('It does not show', words.does_not_show(found))):
        parts += [tag('h3', title), tag('ul', [tag('li', sentence) for sentence in said])]
    return Section('limits', 'What this does and does not show', None, *parts)
