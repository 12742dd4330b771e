"""The page: sound HTML that loads nothing, in which every number is report.json's and every word depends on them."""
from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser

import page_stand_ins as stand_ins
import pytest

from eg3d_unlearn.report import read_folder, write_report
from eg3d_unlearn.report.markup import VOID, Markup, markup, tag
from eg3d_unlearn.report.numbers import number, plain
from eg3d_unlearn.report.page import page
from eg3d_unlearn.report.words import ALWAYS, ATTACKS
from torch_utils_ext.errors import InputError

WRITTEN = '2026-01-02 10:00 UTC'


class Reader(HTMLParser):
    """Takes a page apart and notes elements that are not closed as they were opened."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.wrong, self.tags, self.text, self.data, self.ids = [], [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        attributes = dict(attributes)
        self.tags.append((name, attributes))
        if 'id' in attributes:
            self.ids.append(attributes['id'])
        if name == 'data':
            self.data.append(float(attributes['value']))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        if not self.open or self.open.pop() != name:
            self.wrong.append(name)
        self.text.append(' ' * (name in ('p', 'li', 'h1', 'h2', 'h3', 'td', 'th', 'title', 'figcaption')))

    def handle_data(self, text):
        if not {'script', 'style'} & set(self.open):
            self.text.append(text)

    @property
    def words(self) -> str:
        return ' '.join(''.join(self.text).split())

    def all(self, name: str) -> list[dict]:
        return [attributes for found, attributes in self.tags if found == name]


def read(found=None, pictures=None) -> Reader:
    return Reader(page(found or stand_ins.found(), pictures or stand_ins.pictures(), WRITTEN))


def bare(**changes):
    """A run of which there is nothing but its report."""
    return stand_ins.found(**{**dict(report=stand_ins.report(), stats=[], metrics=[], audit=None), **changes})


def numbers_in(value) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers_in(part)]
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in numbers_in(part)]
    return [float(value)] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


# ---- sound and self-contained ----

@pytest.mark.parametrize('flat', [False, True])
def test_the_page_parses_and_every_element_is_closed(flat):
    reader = read(pictures=stand_ins.pictures(flat))
    assert not reader.wrong and not reader.open
    assert len(reader.ids) == len(set(reader.ids))
    assert len([name for name, _ in reader.tags if name == 'h1']) == 1
    targets = {attributes['href'][1:] for attributes in reader.all('a')}
    assert targets <= set(reader.ids)


def test_nothing_is_loaded_from_anywhere():
    text = page(stand_ins.found(), stand_ins.pictures(), WRITTEN)
    assert not re.search(r'https?:|//[a-z]|@import|url\(', text.replace('data:image/', ''))
    reader = Reader(text)
    assert not reader.all('link') and not reader.all('iframe')
    assert all(attributes['src'].startswith('data:image/') for attributes in reader.all('img'))
    policy = next(attributes['content'] for attributes in reader.all('meta') if attributes.get('http-equiv') == 'Content-Security-Policy')
    assert policy.startswith("default-src 'none'; img-src data:;") and 'unsafe' not in policy
    # A control letter would be read as another one, and the checksums of the policy would not fit any more.
    assert text.replace('\n', '').isprintable()
    # Under this policy neither an attribute's style nor an attribute's script would take effect.
    assert not any(name == 'style' or name.startswith('on') for _, attributes in reader.tags for name in attributes)


def test_the_policy_lets_in_exactly_the_scripts_and_styles_of_the_page():
    import base64
    import hashlib
    text = page(stand_ins.found(), stand_ins.pictures(), WRITTEN)
    for name in ('script', 'style'):
        (content,) = re.findall(f'<{name}>(.*?)</{name}>', text, re.DOTALL)
        mark = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f'{name}-src &#x27;sha256-{mark}&#x27;' in text


def test_every_picture_and_chart_has_words():
    reader = read()
    assert reader.all('img') and all(attributes.get('alt') for attributes in reader.all('img'))
    assert all(attributes.get('aria-label') for attributes in reader.all('input'))
    charts = [attributes for attributes in reader.all('svg') if 'chart' in attributes.get('class', '')]
    assert charts and all(attributes['role'] == 'img' for attributes in charts)
    text = page(stand_ins.found(), stand_ins.pictures(), WRITTEN)
    assert len(re.findall(r'<svg[^>]*class="chart[^>]*><title>[^<]{10,}</title>', text)) == len(charts)


HOSTILE = '<script>alert(1)</script>"\'><img src=x onerror=alert(2)>'


def test_hostile_strings_stay_text():
    """In every string of every file, keys included."""
    def poison(value):
        if isinstance(value, dict):
            return {name: poison(part) for name, part in value.items()} | {HOSTILE: HOSTILE}
        if isinstance(value, list):
            return [poison(part) for part in value]
        return HOSTILE if isinstance(value, str) else value

    report = stand_ins.report(MEANING=HOSTILE)
    for name in ('config', 'person', 'hardware', 'versions', 'networks', 'summary', 'figures'):
        report[name] = poison(report[name])
    report['networks']['out']['sha256'] = HOSTILE
    evidence = stand_ins.evidence()
    evidence['likeness'] = {HOSTILE: evidence['likeness']['demo-measuring'], 'other': evidence['likeness']['demo-loss']}
    evidence.update(measured_by=HOSTILE, trained_with=HOSTILE)
    evidence['saliency']['recogniser'] = HOSTILE
    evidence['agreement'][0]['recognisers'] = [HOSTILE, HOSTILE]
    metrics = [poison(stand_ins.metric()) | {'name': HOSTILE}]
    reader = read(stand_ins.found(report={**report, 'evidence': evidence}, metrics=metrics, audit=poison(stand_ins.audit()), notes=[HOSTILE]))
    clean = read()
    assert not reader.wrong and not reader.open
    assert len(reader.all('script')) == len(clean.all('script')) == 1
    assert not any(attributes.get('src') == 'x' for attributes in reader.all('img'))
    assert not any('onerror' in attributes for _, attributes in reader.tags)
    assert 'alert(1)' in reader.words


def test_markup_escapes_all_but_itself():
    assert tag('p', 'a < b & "c"', title='"') == '<p title="&quot;">a &lt; b &amp; &quot;c&quot;</p>'
    assert tag('p', [tag('br'), None, 3]) == '<p><br>3</p>'
    written = tag('input', value=1, disabled=True, hidden=False, max=None, class_='x', aria_label='y')
    assert written == '<input value="1" disabled class="x" aria-label="y">'
    assert markup(Markup('<hr>')) == '<hr>' and markup('<hr>') == '&lt;hr&gt;'


def test_numbers_are_read_with_a_true_minus():
    assert plain(-0.018, 2) == '−0.02' and plain(-0.001, 2) == '0.00' and plain(12.0, 0) == '12'
    assert number(-0.0184) == '<data value="-0.0184">−0.02</data>' and number(3) == '<data value="3">3</data>'
    assert number(None) == '–' and number(float('nan')) == '–'


# ---- its figures ----

def test_every_number_of_the_page_is_one_of_the_files():
    found = stand_ins.found()
    known = set(numbers_in([found.report, found.metrics, found.audit]))
    counts = {float(i) for i in range(20)}               # of things: attacks, pictures
    reader = read(found)
    assert len(reader.data) > 150
    assert not [value for value in reader.data if value not in known and value not in counts]


def test_the_figures_of_the_top_are_those_that_decide():
    found = stand_ins.found()
    decides = found.report['evidence']['likeness']['demo-measuring']
    text = page(found, stand_ins.pictures(), WRITTEN)
    top = text[text.index('class="words"'):text.index('class="onward"')]
    for group in ('same_photo', 'other_photos', 'other_people'):
        assert f'<data value="{decides[group]["value"]}">' in top
    assert f'<data value="{decides["other_people"]["lowest"]}">' in top


# ---- its words ----

def words_at_the_top(**options) -> str:
    found = stand_ins.found(report={**stand_ins.report(), 'evidence': stand_ins.evidence(**options)}, audit=options.pop('audit', None))
    reader = read(found)
    return reader.words


def test_a_face_that_is_gone_and_one_that_is_not():
    gone, there = words_at_the_top(), words_at_the_top(erased=0.9, others=0.8)
    assert 'shows something else. It is taken for the person in none of 11 views' in gone
    assert 'something of it is left' not in words_at_the_top(others=0.02) and 'The face still comes back' not in gone
    assert 'still shows the person, in all 11 views' in there
    assert 'From 3 other photos of the person the face still comes back' in there and 'another face' not in there


def test_what_is_left_is_said():
    """Below the threshold, and yet more alike than two different people are."""
    assert 'something of it is left' in words_at_the_top(others=0.38, threshold=0.6)


def test_people_who_changed_are_counted():
    assert 'All 40 other people drawn at random are still recognised' in words_at_the_top()
    assert re.search(r' \d+ of 40 other people drawn at random are still recognised', words_at_the_top(kept=0.43))


def test_no_audit_no_claim_about_attacks():
    words = read(stand_ins.found(audit=None)).words
    assert 'Nobody attacked the changed generator for this report' in words and 'how much work that is was not measured' in words
    # What is always true is said, and not that it is unknown.
    assert ALWAYS in words and 'not tested' not in words and 'brought the person back' not in words


# What a privacy officer cannot be expected to know.
TECHNICAL = re.compile(r'\blatents?\b|W\+|\b[TG]_?\d\b|\bG_|recogniser|LPIPS|PSNR|RISE|cosine|encoder|inver[ts]|threshold|embed|percept|'
                       r'\bdB\b|SHA|seed|GUIDE|false.accept|interpol|tun(e|ing)|weights', re.IGNORECASE)


def spoilt(**person) -> dict:
    return stand_ins.report(person={'given_as': 'image', 'warning': 'LPIPS 0.2, PSNR 12 dB, identity cosine 0.1 by the recogniser.', **person})


RUNS = {
    'full': dict(), 'full, no audit': dict(audit=None), 'brief': dict(report=stand_ins.report(), audit=None),
    'brief, audit': dict(report=stand_ins.report()), 'wrong person': dict(report=spoilt()),
    'untrained': dict(report=stand_ins.report(MEANING='!')),
    'no recogniser': dict(report=stand_ins.report(summary={})),
    'still there': dict(report={**stand_ins.report(), 'evidence': stand_ins.evidence(erased=0.9, others=0.9, kept=0.3)}),
    'latent': dict(report=stand_ins.report(person={'given_as': 'latent'})), 'seed': dict(report=stand_ins.report(person={'given_as': 'seed'})),
    'found out': dict(audit=stand_ins.audit(tiers=[stand_ins.who(1)])),
}


def officers_part(found, pictures=None) -> str:
    """All that stands before the technical details, alternative texts too."""
    text = page(found, pictures or stand_ins.pictures(), WRITTEN)
    assert text.count('<nav') == 1 and text.index('<nav') < text.index('Technical details') < text.index('<main')
    top = text[text.index('<header'):text.index('<nav')]
    return Reader(top).words + ' ' + ' '.join(attributes.get('alt', '') for attributes in Reader(top).all('img'))


@pytest.mark.parametrize('flat', [False, True])
@pytest.mark.parametrize('run', RUNS)
def test_the_officers_part_knows_no_technical_word(run, flat):
    pictures = stand_ins.pictures(flat)
    pictures.recovered = stand_ins.picture()
    top = officers_part(stand_ins.found(**RUNS[run]), pictures)
    assert not TECHNICAL.search(top), TECHNICAL.search(top)
    assert ALWAYS in top and len(top) > 500


def test_the_verdict_comes_first_and_follows_the_figures():
    def verdict(**changes) -> str:
        text = page(stand_ins.found(**changes), stand_ins.pictures(), WRITTEN)
        return Reader(text[text.index('class="answer"') - 5:text.index('class="opening')]).words

    def measured(**options) -> dict:
        return {'report': {**stand_ins.report(), 'evidence': stand_ins.evidence(**options)}, 'audit': None}
    assert verdict(**measured()).startswith('By itself the changed generator no longer shows the person.')
    assert verdict(**measured(others=0.8)).startswith('From the photo that was given the changed generator no longer shows the person, but from')
    assert verdict(**measured(erased=0.9)).startswith('The changed generator still shows the person.')
    assert verdict(**measured(erased=0.42)).startswith('The changed generator still shows the person from some sides.')
    assert 'Most other people are somebody else now' in verdict(**measured(kept=0.1)) and 'somebody else now' not in verdict(**measured())
    brief = dict(report=stand_ins.report(), audit=None)
    assert verdict(**brief).startswith('By itself the changed generator shows a face that is more like somebody else')
    near = stand_ins.report(summary={'erased_same_photo': 0.7, 'different_people_mean': 0.0})
    assert verdict(report=near, audit=None).startswith('The changed generator still shows a face that is more like the person')
    assert verdict(report=spoilt(), audit=None).startswith('There is no verdict about the person of the photo')
    assert verdict(report=stand_ins.report(MEANING='!'), audit=None).startswith('There is no verdict: the software')


@pytest.mark.parametrize('ranks, said', [
    ({'change': 1}, 'can be found out without any photo, from the old and the new file.'),
    ({'change': 1, 'misfit': 1, 'mirror': 1}, 'can be found out without any photo, from the old and the new file and from the new file alone.'),
    ({'change': 2, 'mirror': 17}, None)])
def test_who_was_found_out_is_said_apart(ranks, said):
    words = read(stand_ins.found(audit=stand_ins.audit(tiers=[stand_ins.who(**ranks)]))).words
    assert (f'Who was erased {said}' in words) if said else 'found out' not in words
    assert 'brought the person back' not in words and 'kind of attack' not in words


@pytest.mark.parametrize('person', [{}, {'warning': None, 'encoder': {'warning': 'made for another network'}}])
def test_a_run_on_the_wrong_person_is_shouted(person):
    """At the top, and the reason with its figures below."""
    reader = read(bare(report=spoilt(**person)))
    assert 'Probably the wrong person was erased.' in officers_part(bare(report=spoilt(**person)))
    assert 'That the photo was not reconstructed. ' + ('made for another' if person else 'LPIPS 0.2') in reader.words
    assert any(attributes.get('role') == 'alert' for attributes in reader.all('p'))
    assert 'wrong person' not in read().words and not any(attributes.get('role') == 'alert' for attributes in read().all('p'))


def test_photos_that_took_part_are_no_test():
    report = {**stand_ins.report(), 'evidence': stand_ins.evidence()}
    for forget_from, said in (('first', False), ('all', True), ('mean', True)):
        report['config'] = {**report['config'], 'forget_from': forget_from}
        assert ('3 other photos, which took part in the erasure, of the person' in read(stand_ins.found(report=report)).words) == said


def test_neighbours_that_nobody_moved_are_not_called_erased():
    report = {**stand_ins.report(), 'evidence': stand_ins.evidence()}
    for n_adj, said in ((2, True), (0, False)):
        report['config'] = {**report['config'], 'n_adj': n_adj}
        words = read(stand_ins.found(report=report)).words
        assert ('the method moves them' in words) == ('that was to be erased' in words) == said
        assert ('The method left them alone' in words) != said


def test_attacks_that_bring_the_face_back_are_named():
    words = read().words
    assert (f'Of 8 kinds of attack that were tried, 2 brought the person back: {ATTACKS["T3"]} and {ATTACKS["T4"]}; 1 did so at times: '
            f'{ATTACKS["T2"]}.') in words
    assert 'Attacks on the changed file show that the person can come back.' in words
    assert 'That the person can come back. T2, T3 and T4 of the audit, with the budget “quick”,' in words
    assert 'That the person cannot come back' not in words
    relearned = stand_ins.tier('T4', 0.02)
    relearned['details'] = {**relearned['details'], 'erased_latent': {'steps': {'person': 2}}}
    assert f'1 brought the person back: {ATTACKS["T4"]}' in read(stand_ins.found(audit=stand_ins.audit(tiers=[relearned]))).words
    audit = stand_ins.audit(tiers=[stand_ins.tier('T0', 0.02)])
    words = read(stand_ins.found(audit=audit)).words
    assert 'Of 1 kind of attack that were tried, none brought the person back; others may.' in words
    assert 'can come back' not in words and 'That the person cannot come back.' in words and ALWAYS in words


def test_the_audit_speaks_for_itself():
    """Its general sentences come first, each tier's where the tier is, each once; a curve in the details is drawn, too."""
    text = page(stand_ins.found(), stand_ins.pictures(), WRITTEN)
    section = text[text.index('id="audit"'):text.index('id="limits"')]
    assert section.count('Others were kept.') == 1 and section.count('The verdict of T3 in one sentence.') == 1
    assert section.count('class="curve"') == 2 and 'Likeness over steps, erased latent' in section


def test_the_recogniser_of_the_loss_is_no_independent_judge():
    evidence = stand_ins.evidence()
    evidence['trained_with'] = evidence['measured_by']
    report = {**stand_ins.report(), 'evidence': evidence}
    assert 'its figures flatter' in read(stand_ins.found(report=report)).words
    assert 'which the loss did not use' in read().words


def test_untrained_judges_are_shouted():
    report = {**stand_ins.report(MEANING='!'), 'evidence': stand_ins.evidence()}
    reader = read(stand_ins.found(report=report))
    assert 'THIS RESULT MEANS NOTHING' in reader.words and 'every figure here is meaningless' in reader.words


def test_a_page_that_shows_the_person_says_so():
    pictures = stand_ins.pictures()
    assert 'it holds no photo of them' in read(pictures=pictures).words
    pictures.photo = stand_ins.picture()
    assert 'and photos of them, and no code that' in read(pictures=pictures).words
    assert 'shows pictures of the erased person' not in read(bare(), stand_ins.Pictures()).words
    # The run's own sheet holds photos of demo people, and of others where --keep-source asked for it.
    sheet = stand_ins.Pictures(sheet=stand_ins.picture())
    assert 'and photos of them' in read(bare(), sheet).words
    assert 'it holds no photo' in read(bare(report=stand_ins.report(person={'given_as': 'image'})), sheet).words
    assert 'and photos of them' in read(bare(report=stand_ins.report(person={'given_as': 'image'}, config={'keep_source': True})), sheet).words


def test_folders_stay_out_of_the_page():
    """Their names may be the person's."""
    config = {'outdir': '/home/me/jane-doe', 'encoder': '/home/me/jane-doe/encoder.pt', 'iters': 80}
    text = page(bare(report=stand_ins.report(config=config)), stand_ins.pictures(), WRITTEN)
    assert 'jane-doe' not in text and '>encoder.pt<' in text and '>80<' in text


# ---- its parts ----

def test_photos_that_were_erased_along_are_no_witnesses():
    assert 'which the method did not see' in read().words
    report = {**stand_ins.report(config={'forget_from': 'all'}), 'evidence': stand_ins.evidence()}
    words = read(stand_ins.found(report=report)).words
    assert 'They took part in the erasure' in words and 'did not see' not in words


SECTIONS = {'likeness': 'evidence', 'recognisers': 'evidence', 'metrics': 'metrics', 'audit': 'audit', 'curves': 'stats'}


def test_sections_come_and_go_with_their_data():
    whole, empty = read(), read(bare(), stand_ins.Pictures())
    assert {*SECTIONS, 'photos', 'neighbours', 'people', 'maps', 'limits', 'run', 'settings'} == set(whole.ids)
    assert set(empty.ids) == {'limits', 'run', 'settings'}
    assert set(read(bare(audit=stand_ins.audit()), stand_ins.Pictures()).ids) == {'audit', 'limits', 'run', 'settings'}
    assert not empty.all('img') and not empty.wrong


def test_every_key_of_the_report_may_be_missing():
    """Reports of other versions, or cut by hand: nothing but the networks is needed."""
    whole = stand_ins.report()
    for name in whole:
        report = {key: value for key, value in whole.items() if key != name or key == 'networks'}
        read(stand_ins.found(report={**report, 'evidence': stand_ins.evidence()}))
    read(bare(report={'networks': {}}), stand_ins.Pictures())


@pytest.mark.parametrize('group', ['other_photos', 'neighbours', 'strangers'])
def test_groups_may_be_missing(group):
    evidence = stand_ins.evidence()
    for likeness in evidence['likeness'].values():
        del likeness[group]
    del evidence['reach'][group], evidence['lpips'][group]
    pictures = stand_ins.pictures()
    setattr(pictures, group, [])
    reader = read(stand_ins.found(report={**stand_ins.report(), 'evidence': evidence}), pictures)
    assert not reader.wrong
    if group == 'other_photos':
        assert 'no other photo was given' in reader.words and 'photos' not in reader.ids


def test_without_a_recogniser_there_is_no_verdict():
    evidence = stand_ins.evidence()
    for name in ('likeness', 'agreement', 'saliency'):
        del evidence[name]
    evidence['measured_by'] = None
    report = stand_ins.report()
    report['summary'] = {name: None for name in report['summary']}
    pictures = stand_ins.pictures()
    for row in (pictures.views, pictures.other_photos, pictures.first_drawn):
        for one in row:
            one.likeness = None
    pictures.changed_most = []
    words = read(stand_ins.found(report={**report, 'evidence': evidence}), pictures).words
    assert 'not known whether the face is still the person' in words and 'recognised as themselves' not in words


def test_metrics_and_tiers_with_missing_values():
    metrics = [{'name': 'id'}, {'name': 'own', 'value': 3.5}, {'name': 'fid_pre5k', 'value': None, 'protocol': 7}]
    audit = stand_ins.audit(tiers=[{'tier': 'T0'}, {'tier': 'T1', 'figures': {'after': {'value': None}}, 'curve': {'steps': [1, 2]}},
                                   {'tier': 'T2', 'curve': {'steps': [0, 5], 'person': [None, 0.5], 'controls': None}}, 'no tier',
                                   {'tier': 'T3', 'details': {'verification': {}, 'x': {'curve': 3}}}])
    reader = read(stand_ins.found(metrics=metrics, audit=audit, stats=[{'step': 1}, {'step': 2, 'loss': float('nan')}]))
    assert not reader.wrong and {'metrics', 'audit'} <= set(reader.ids) and 'curves' not in reader.ids


def test_all_views_stand_in_the_page_and_one_slider_turns_them():
    reader = read()
    views = [attributes for attributes in reader.all('div') if 'view' in attributes.get('class', '').split()]
    assert len(views) == 11 and views[5]['class'] == 'view current'
    (slider,) = reader.all('input')
    assert (slider['type'], slider['max'], slider['value']) == ('range', '10', '5')
    (wipe,) = read(pictures=stand_ins.pictures(flat=True)).all('input')
    assert wipe['max'] == '100'


# ---- the folder ----



def test_the_page_of_a_folder_without_a_person(tmp_path):
    """As a first report of any run: from its files alone, the picture of the run in it."""
    import PIL.Image
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report()))
    (tmp_path / 'stats.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in stand_ins.stats()) + '{"step": 8')
    (tmp_path / 'metric-id.jsonl').write_text(json.dumps(stand_ins.metric(value=0.5)) + '\n' + json.dumps(stand_ins.metric(value=0.25)) + '\n')
    (tmp_path / 'audit.json').write_text('{"tiers": 3}')
    PIL.Image.new('RGB', (64, 48)).save(tmp_path / 'before-after.png')
    said = []
    assert write_report(tmp_path, None, log=said.append) == {}
    reader = Reader((tmp_path / 'report.html').read_text())
    assert not reader.wrong and {'curves', 'metrics', 'limits'} <= set(reader.ids) and 'audit' not in reader.ids
    assert 0.25 in reader.data and 0.5 not in reader.data          # of a metric the last line counts
    assert len(reader.all('img')) == 1
    assert any('1 damaged line of stats.jsonl' in line for line in said) and any('audit.json cannot be read' in line for line in said)
    assert 'audit.json cannot be read' in reader.words


@pytest.mark.parametrize('content, sentence', [
    (b'hello', 'before-after.png is not a picture'), (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n', 'is not a picture'),
    (b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0u0\0\0u0\x08\2\0\0\0\xe9\x45\x6f\xed' + b'\0\0\0\0IDAT', 'claims more than 170 million')])
def test_a_picture_of_the_folder_that_is_none(tmp_path, content, sentence):
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report()))
    (tmp_path / 'before-after.png').write_bytes(content)
    said = []
    write_report(tmp_path, None, log=said.append)
    reader = Reader((tmp_path / 'report.html').read_text())
    assert not reader.wrong and not reader.all('img') and any(sentence in line for line in said) and sentence in reader.words


def test_the_audit_may_lie_elsewhere(tmp_path):
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report()))
    assert read_folder(tmp_path).audit is None
    with pytest.raises(InputError, match='holds no audit.json. Name the --outdir of a finished audit'):
        read_folder(tmp_path, audit=tmp_path / 'audit')
    (tmp_path / 'audit').mkdir()
    (tmp_path / 'audit' / 'audit.json').write_text(json.dumps(stand_ins.audit()))
    assert read_folder(tmp_path).audit == read_folder(tmp_path, audit=tmp_path / 'audit' / 'audit.json').audit == stand_ins.audit()
    (tmp_path / 'audit' / 'audit.json').write_text('[]')
    with pytest.raises(InputError, match='is no audit.json of evaluate.py audit'):
        read_folder(tmp_path, audit=tmp_path / 'audit')


@pytest.mark.parametrize('uri, shown, said', [
    (None, True, None), ('data:image/jpeg;base64,JSFQUy1BZG9iZS0zLjA=', False, 'The picture of the audit is not a picture'),   # PostScript
    ('https://example.org/face.jpg', False, None), (7, False, None)])
def test_the_face_that_came_back_is_shown(tmp_path, uri, shown, said):
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report()))
    audit = stand_ins.audit()
    audit['tiers'][3]['recovered'] = {'likeness': 0.9, 'picture': stand_ins.picture().uri if uri is None else uri}
    (tmp_path / 'audit.json').write_text(json.dumps(audit))
    write_report(tmp_path, None, log=lambda line: None)
    reader = Reader((tmp_path / 'report.html').read_text())
    assert [picture['alt'] for picture in reader.all('img')] == ['The person, as an attack brought them back.'] * shown
    assert 'example.org' not in (tmp_path / 'report.html').read_text() and (said is None or said in reader.words)


def test_results_about_another_network_are_left_out(tmp_path):
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report()))
    other = stand_ins.metric() | {'networks': {'before': 'a' * 64, 'after': 'c' * 64}}
    (tmp_path / 'metric-id.jsonl').write_text(json.dumps(other))
    (tmp_path / 'audit.json').write_text(json.dumps(stand_ins.audit()))
    found = read_folder(tmp_path)
    assert len(found.notes) == 1 and found.notes[0].startswith('Metric id was measured on another network after (cccccccccccc…)')
    assert found.metrics == [] and found.audit is not None
    (tmp_path / 'metric-id.jsonl').write_text(json.dumps(other | {'networks': {'before': 'd' * 64, 'after': 'b' * 64}}))
    found = read_folder(tmp_path)
    assert found.metrics == [] and found.notes[0].startswith('Metric id was measured on another network before (dddddddddddd…)')
    (tmp_path / 'audit.json').write_text(json.dumps(stand_ins.audit() | {'networks': {'after': 'c' * 64}}))
    found = read_folder(tmp_path)
    assert found.audit is None and found.notes[1].endswith(' and is left out.')


@pytest.mark.parametrize('files, sentence', [
    ({}, 'holds no report.json: name the --outdir of a finished run'),
    ({'training_options.json': '{}'}, 'its run is not finished. Run the same unlearn.py command again'),
    ({'report.json': '{'}, 'is no report of unlearn.py, or is damaged'),
    ({'report.json': '[]'}, 'is no report of unlearn.py'),
])
def test_folders_that_hold_no_run(tmp_path, files, sentence):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(sentence)):
        read_folder(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match='is no folder'):
        read_folder(tmp_path / 'nowhere')


def test_stand_ins_are_not_changed_by_a_page():
    found = stand_ins.found()
    before = copy.deepcopy(found)
    page(found, stand_ins.pictures(), WRITTEN)
    assert found == before
