"""The words of a page: every sentence depends on the figures, and the first part knows no technical word."""
from __future__ import annotations

import re
from types import SimpleNamespace

import page_stand_ins as stand_ins
import pytest
from page_stand_ins import WRITTEN, Reader, bare, read

from eg3d_unlearn.evaluation.audit import TIERS
from eg3d_unlearn.report import files
from eg3d_unlearn.report.page import ALWAYS, page
from eg3d_unlearn.worlds import registry


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
    assert (f'Of 8 kinds of attack that were tried, 2 brought the person back: {TIERS["T3"].plain} and {TIERS["T4"].plain}; 1 did so at times: '
            f'{TIERS["T2"].plain}.') in words
    assert 'Attacks on the changed file show that the person can come back.' in words
    assert 'That the person can come back. T2, T3 and T4 of the audit, with the budget “quick”,' in words
    assert 'That the person cannot come back' not in words
    relearned = stand_ins.tier('T4', 0.02)
    relearned['details'] = {**relearned['details'], 'erased_latent': {'steps': {'person': 2}}}
    assert f'1 brought the person back: {TIERS["T4"].plain}' in read(stand_ins.found(audit=stand_ins.audit(tiers=[relearned]))).words
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
    assert 'it holds no photo of them' in read(shows=pictures).words
    pictures.photo = stand_ins.picture()
    assert 'and photos of them, and no code that' in read(shows=pictures).words
    assert 'shows pictures of the erased person' not in read(bare(), stand_ins.Pictures()).words
    # The run's own sheet holds photos of demo people, and of others where --keep-source asked for it.
    sheet = stand_ins.Pictures(sheet=stand_ins.picture())
    assert 'and photos of them' in read(bare(), sheet).words
    assert 'it holds no photo' in read(bare(report=stand_ins.report(person={'given_as': 'image'})), sheet).words
    assert 'and photos of them' in read(bare(report=stand_ins.report(person={'given_as': 'image'}, config={'keep_source': True})), sheet).words


@pytest.mark.parametrize('changes', [{'person': {'given_as': 'demo'}}, {'config': {'network': 'demo-eg3d'}}, {'world': 'demo'},
                                     {'demo_world': True}, {}])
def test_a_demonstration_is_called_one(changes):
    """As reports of this version and of earlier ones say it."""
    whole = stand_ins.report(**{'person': {'given_as': 'seed'}, 'config': {'network': 'net.pkl'}, **changes})
    words = read(bare(report=whole), stand_ins.Pictures()).words
    assert ('It is a demonstration' in words) == ('Anything about real faces.' in words) == bool(changes)


@pytest.mark.parametrize('made_up', [False, True])
def test_another_world_says_itself_whether_its_people_are_made_up(monkeypatch, made_up):
    monkeypatch.setitem(registry.REGISTERED, 'faces', 'a module')
    monkeypatch.setattr(files, 'world_named', {'faces': SimpleNamespace(is_made_up=made_up)}.__getitem__)
    whole = stand_ins.report(world='faces', person={'given_as': 'faces'}, config={'network': 'faces-eg3d'})
    words = read(bare(report=whole), stand_ins.Pictures(sheet=stand_ins.picture())).words
    assert 'A person, given by a photo, was to be removed' in words and 'and photos of them' in words
    assert ('It is a demonstration' in words) == ('Anything about real faces.' in words) == made_up


def test_folders_stay_out_of_the_page():
    """Their names may be the person's."""
    config = {'outdir': '/home/me/jane-doe', 'encoder': '/home/me/jane-doe/encoder.pt', 'iters': 80}
    text = page(bare(report=stand_ins.report(config=config)), stand_ins.pictures(), WRITTEN)
    assert 'jane-doe' not in text and '>encoder.pt<' in text and '>80<' in text
