"""The page: sound HTML that loads nothing, in which every number is report.json's."""
from __future__ import annotations

import ast
import base64
import copy
import hashlib
import re

import page_stand_ins as stand_ins
import pytest
from page_stand_ins import WRITTEN, Reader, bare, numbers_in, read

from eg3d_unlearn.report.page import TEMPLATES, page

# ---- sound and self-contained ----

@pytest.mark.parametrize('flat', [False, True])
def test_the_page_parses_and_every_element_is_closed(flat):
    reader = read(shows=stand_ins.pictures(flat))
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
    text = page(stand_ins.found(), stand_ins.pictures(), WRITTEN)
    policy = next(attributes['content'] for attributes in Reader(text).all('meta') if 'http-equiv' in attributes)
    for name in ('script', 'style'):
        (content,) = re.findall(f'<{name}>(.*?)</{name}>', text, re.DOTALL)
        mark = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{mark}';" in policy


def test_every_picture_and_chart_has_words():
    reader = read()
    assert reader.all('img') and all(attributes.get('alt') for attributes in reader.all('img'))
    assert all(attributes.get('aria-label') for attributes in reader.all('input'))
    charts = [attributes for attributes in reader.all('svg') if 'chart' in attributes.get('class', '')]
    assert charts and all(attributes['role'] == 'img' for attributes in charts)
    text = page(stand_ins.found(), stand_ins.pictures(), WRITTEN)
    assert len(re.findall(r'<svg[^>]*class="chart[^>]*><title>[^<]{10,}</title>', text)) == len(charts)


HOSTILE = '<script>alert(1)</script>"\'><img src=x onerror=alert(2)>{{ 6 * 7 }}{% raw %}\x1b[2J\u202e\x00\ud800'


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
    evidence['agreement'][0]['recognisers'] = [HOSTILE, HOSTILE]
    metrics = [poison(stand_ins.metric()) | {'name': HOSTILE}]
    found = stand_ins.found(report={**report, 'evidence': evidence}, metrics=metrics, audit=poison(stand_ins.audit()), notes=[HOSTILE])
    text = page(found, stand_ins.pictures(), WRITTEN)
    reader = Reader(text)
    clean = read()
    assert not reader.wrong and not reader.open
    assert len(reader.all('script')) == len(clean.all('script')) == 1
    assert not any(attributes.get('src') == 'x' for attributes in reader.all('img'))
    assert not any('onerror' in attributes for _, attributes in reader.tags)
    assert 'alert(1)' in reader.words
    # A template's own signs are text, too; letters that steer a terminal or turn the direction of reading are written as escapes.
    assert r'{{ 6 * 7 }}{% raw %}\x1b[2J\u202e\x00\ud800' in reader.words and not set('\x1b\u202e\x00\ud800') & set(text)


def test_nothing_of_a_file_can_become_markup():
    """Python makes markup of constant sentences only, and no template turns escaping off."""
    for path in TEMPLATES.parent.glob('*.py'):
        for call in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == 'Markup':
                assert isinstance(call.args[0], ast.Constant) or 'TEMPLATES' in ast.unparse(call), f'{path.name}:{call.lineno}'
    for path in TEMPLATES.glob('*.html'):
        assert not re.search(r'\bsafe\b|autoescape', path.read_text(encoding='utf-8')), path.name


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


# ---- its parts ----

def test_photos_that_were_erased_along_are_no_witnesses():
    assert 'which the method did not see' in read().words
    report = {**stand_ins.report(config={'forget_from': 'all'}), 'evidence': stand_ins.evidence()}
    words = read(stand_ins.found(report=report)).words
    assert 'They took part in the erasure' in words and 'did not see' not in words


SECTIONS = {'likeness': 'evidence', 'recognisers': 'evidence', 'metrics': 'metrics', 'audit': 'audit', 'curves': 'stats'}


def test_sections_come_and_go_with_their_data():
    whole, empty = read(), read(bare(), stand_ins.Pictures())
    assert {*SECTIONS, 'photos', 'neighbours', 'people', 'limits', 'run', 'settings'} == set(whole.ids)
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
    for name in ('likeness', 'agreement'):
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
    (wipe,) = read(shows=stand_ins.pictures(flat=True)).all('input')
    assert wipe['max'] == '100'


def test_stand_ins_are_not_changed_by_a_page():
    found = stand_ins.found()
    before = copy.deepcopy(found)
    page(found, stand_ins.pictures(), WRITTEN)
    assert found == before
