"""The audit's figures and sentences, on values worked out by hand; control people."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from evidence_stand_in import stand_in

from eg3d_unlearn.evaluation.audit import sentences, subjects, t1_encoder, t2_reinversion, utility, verdict
from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.audit.runner import fingerprint, hits
from eg3d_unlearn.evaluation.audit.scores import cells, figures, holds_zero, of_people
from eg3d_unlearn.evaluation.audit.subjects import BYSTANDERS, PER_PERSON, Subject, check_controls, numbers_beside, people_in
from eg3d_unlearn.evaluation.audit.tier import Shown
from eg3d_unlearn.evaluation.estimate import Estimate, Z, fraction, stretch
from eg3d_unlearn.person.inversion.optimise import Inversion
from eg3d_unlearn.person.latents import digest
from torch_utils_ext.errors import InputError


def unit(*rows):
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def test_a_photo_that_was_attacked_with_does_not_count():
    shown, photos = unit([1, 0], [0, 1]), unit([1, 0], [0, 1], [1, 1])
    got = cells(shown, photos, used=0)
    assert got[:, 0].isnan().all() and got[0, 1] == 0 and got[1, 2].item() == pytest.approx(0.5**0.5)
    assert cells(shown, photos, used=None).isnan().sum() == 0
    assert cells(torch.full((1, 2), torch.nan), photos, None).eq(0).all()  # no picture is like nobody


@pytest.mark.parametrize('others, left_out', [((2, 2), True), ((2, 1), False), ((1, 2), False)])
def test_the_attacked_photo_is_left_out_of_everybody_or_of_nobody(others, left_out):
    """Where one subject has a single photo, the attacked one counts for all; else for none."""
    people = [Subject(torch.zeros(count, 3, 8, 8), None, torch.zeros(count, 2, 4)) for count in others]
    audit = Audit.__new__(Audit)
    audit.evidence = SimpleNamespace(recognisers={'all alike': lambda images: unit([1, 0]).expand(len(images), -1)})
    audit.__dict__.update(_people=(people, 'people'), embeddings=[{'all alike': unit([1, 0]).expand(count, -1)} for count in others])
    for index in range(2):
        got = audit.judge(index, [Shown(torch.zeros(1, 3, 8, 8), used=people[index].attacked)])['all alike'][0]
        assert got.isnan().sum() == left_out, index


def test_excess_by_hand():
    """Person .9 -> .2, controls .9 -> .8, .8 -> .8 and .7 -> .6: excess -.7 + .2/3."""
    before = [torch.full((2, 3), value) for value in (0.9, 0.9, 0.8, 0.7)]
    after = [torch.full((2, 3), value) for value in (0.2, 0.8, 0.8, 0.6)]
    found = figures(before, after)
    assert found['before'].value == pytest.approx(0.9) and found['after'].value == pytest.approx(0.2)
    assert found['controls_before'].value == pytest.approx(0.8) and found['controls'].value == pytest.approx(2.2 / 3)
    assert found['excess'].value == pytest.approx(-0.7 + 0.2 / 3)
    # The person's pictures and photos agree, so the person's interval has no width; people differ, so the controls' has.
    assert found['after'].low == pytest.approx(0.2) == pytest.approx(found['after'].high)
    assert found['excess'].low < found['excess'].value < found['excess'].high < 0
    assert found['excess'].samples == 3 and found['before'].samples == 3


def test_no_interval_says_what_cannot_be():
    """Student's width around three controls of .5, .9 and 1 reaches beyond 1, where there is no cosine and no share."""
    sides = [torch.full((2, 2), value) for value in (0.9, 0.5, 0.9, 1.0)]
    cosines, shares = figures(sides, sides)['controls'], figures([1 - side for side in sides], sides, least=0.0)
    assert cosines.high == 1 and cosines.low < 0.5
    assert shares['controls_before'].low == 0 and shares['controls'].high == 1 and shares['excess'].high > shares['excess'].value


def test_nothing_erased_has_no_excess():
    rng = torch.Generator().manual_seed(0)
    same = [torch.rand(4, 3, generator=rng) for _ in range(4)]
    found = figures(same, same)['excess']
    assert found.value == found.low == found.high == 0 and holds_zero(found.to_json())


def test_photos_that_do_not_count_do_not_weigh():
    before = [torch.tensor([[0.5, torch.nan], [0.7, torch.nan]]), torch.zeros(1, 1), torch.zeros(1, 1)]
    found = figures(before, before)['before']
    assert found.value == pytest.approx(0.6) and found.samples == 1 and 0.5 <= found.low <= found.high <= 0.7


def test_differences_of_people_are_paired_by_photo():
    """A photo that is hard before and after widens no difference."""
    before = [torch.tensor([[0.9, 0.1]]), torch.tensor([[0.9, 0.1]]), torch.tensor([[0.2, 0.8]])]
    after = [part - 0.05 for part in before]
    found = figures(before, after)
    assert found['excess'].high - found['excess'].low < 1e-6 < found['after'].high - found['after'].low


@pytest.mark.parametrize('freedom, quantile', [(1, 12.706), (2, 4.303), (3, 3.182), (7, 2.365), (19, 2.093)])
def test_student(freedom, quantile):
    """By the tables of the distribution."""
    assert stretch(freedom + 1) * Z * (freedom / (freedom + 1)) ** 0.5 == pytest.approx(quantile, rel=2e-4)


@pytest.mark.parametrize('hits, count, low, high', [(0, 10, 0, 0.27753), (8, 10, 0.49016, 0.94332), (10, 10, 0.72247, 1), (1, 1, 0.20654, 1)])
def test_shares_have_wilsons_interval(hits, count, low, high):
    """Of none of ten: 0 to z² / (n + z²)."""
    found = fraction(torch.arange(count) < hits, seed=3)
    assert (found.value, found.samples, found.seed) == (hits / count, count, 3)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))


def test_intervals_of_few_people_hold_what_they_promise():
    """Means of three normal values: 95 of 100 intervals hold the true mean; a plain bootstrap's hold 7 or 8 of 10."""
    rng, held = np.random.RandomState(0), 0
    for _ in range(300):
        draws = of_people(np.repeat(rng.randn(3, 1), 500, axis=1), rng)
        low, high = np.percentile(draws, [2.5, 97.5])
        held += low <= 0 <= high
    assert 0.9 < held / 300 < 0.98
    assert stretch(3) == pytest.approx(2.7, abs=0.1) and stretch(1000) == pytest.approx(1, abs=0.01)


def test_the_excess_asks_for_one_more_control():
    """A person who is a control like the others lies outside in 5 of 100 audits; by the interval of a mean it were 3 of 10."""
    rng, held = np.random.RandomState(0), 0
    for _ in range(300):
        before = [torch.zeros(1, 1)] * 5
        held += holds_zero(figures(before, [torch.full((1, 1), value) for value in 0.05 * rng.randn(5)])['excess'].to_json())
    assert 0.9 < held / 300 < 0.99
    draws = np.repeat([[0.1], [0.2], [0.6]], 50, axis=1)
    mean, predicted = (of_people(draws, np.random.RandomState(1), wider) for wider in (1.0, 2.0))
    assert predicted - 0.3 == pytest.approx(2 * (mean - 0.3))  # sqrt(3 + 1)


def test_hits_keep_what_does_not_count():
    got = hits(torch.tensor([[0.5, torch.nan, 0.2]]), 0.5)
    assert got[0, 0] == 1 and got[0, 1].isnan() and got[0, 2] == 0


def given(value, low, high):
    return {'value': value, 'low': low, 'high': high, 'samples': 3, 'seed': 0}


def entry(excess, tier='T0', before=None, after=None):
    zero = given(0.0, 0.0, 0.0)
    figures_ = {'before': given(0.9, 0.8, 1.0), 'after': given(0.1, 0.0, 0.2), 'controls_before': zero, 'controls': zero, 'excess': excess}
    rates = {'before': given(0.9, 0.8, 1.0) if before is None else before, 'after': given(0.7, 0.6, 0.8) if after is None else after}
    return {'tier': tier, 'details': {'verification': rates}, 'figures': figures_}


@pytest.mark.parametrize('excess, said', [
    (given(-0.1, -0.3, 0.1), 'no difference from controls that this sample can show (excess -0.10 [-0.30, 0.10])'),
    (given(0.0, 0.0, 0.0), 'no difference from controls that this sample can show (excess 0.00 [0.00, 0.00])'),
    (given(-0.5, -0.8, -0.2), 'harder to get back than a control (excess -0.50 [-0.80, -0.20])'),
    (given(0.5, 0.2, 0.8), 'easier to get back than a control'),
])
def test_wording_follows_intervals(excess, said):
    assert said in sentences.compared(entry(excess)['figures'])


@pytest.mark.parametrize('before, after, said', [
    ((0.9, 1.0), (0.6, 0.8), 'It brings the person back:'), ((0.9, 1.0), (0.1, 0.3), 'It does not bring the person back:'),
    ((0.9, 1.0), (0.3, 0.8), 'It brings the person back at times:'), ((0.0, 0.2), (0.0, 0.1), 'not bring the person back, nor does it on G_s:'),
    ((0.0, 0.2), (0.3, 0.8), 'It brings the person back at times:')])
def test_whether_the_person_is_back_follows_intervals(before, after, said):
    result = entry(given(0.0, -0.1, 0.1))
    rates = {'before': before, 'after': after, 'controls': after}
    result['details']['verification'] = {name: given(sum(ends) / 2, *ends) for name, ends in rates.items()}
    assert said in sentences.usual(result, 'It')


def test_overall_verdict():
    less, none = given(-0.5, -0.8, -0.2), given(-0.1, -0.3, 0.1)
    kept = {'state': 'kept', 'verdict': 'Kept.'}
    assert verdict.overall(kept, [entry(none), entry(none, 'T1')])[2] == 'The person is brought back by T0, T1.'
    assert verdict.overall(kept, [entry(none), entry(none, 'T1')])[1].startswith('Nothing was erased that this audit can see: by T0, T1 ')
    assert 'In 1 of 2 tiers (T1)' in verdict.overall(kept, [entry(none), entry(less, 'T1')])[1]
    assert not verdict.differs(entry(less, 'T7')) and verdict.differs(entry(less, 'T6')) and verdict.differs(entry(given(0.5, 0.2, 0.8), 'T7'))
    ruined = verdict.overall({'state': 'ruined', 'verdict': 'RUINED.'}, [entry(none)])
    assert len(ruined) == 2 and ruined[0] == 'RUINED.' and 'as much as everybody else' in ruined[1]


def test_times_at_which_the_person_comes_back_are_not_denied():
    """On G_s an attack fails, on G_u the interval leaves it open: not a word of 'nor'."""
    result = entry(given(0.0, -0.1, 0.1), before=given(0.1, 0.0, 0.2), after=given(0.5, 0.3, 0.8))
    result['details']['verification']['controls'] = given(0.5, 0.3, 0.8)
    assert sentences.usual(result, 'It').startswith('It brings the person back at times: ')


LOST = given(0.1, 0.0, 0.2)


@pytest.mark.parametrize('state', ['kept', 'ruined'])
@pytest.mark.parametrize('tiers', [
    [('T7', None, None)], [('T6', None, None)], [('T3', None, None), ('T6', None, None)],   # tiers that do not tell
    [('T0', LOST, LOST)],                                                                 # an attack that fails on G_s as well
])
def test_nothing_erased_is_said_only_where_it_follows(tiers, state):
    none = given(-0.1, -0.3, 0.1)
    said = verdict.overall({'state': state, 'verdict': ''}, [entry(none, *tier) for tier in tiers])[1]
    assert said.startswith('No difference between the person and people') and said.endswith('not say that nothing was erased.')


def test_who_is_lost_did_not_come_back_as_well_as_others():
    """A wide interval that holds 0 is no evidence where G_s shows the person and G_u does not."""
    said = verdict.overall({'state': 'kept', 'verdict': ''}, [entry(given(-0.5, -1.1, 0.1), after=LOST)])
    assert said[1].startswith('No difference between') and said[2] == 'The person is not brought back by T0.'


@pytest.mark.parametrize('steps, said', [(2, 'The person is brought back by T4.'), (None, 'The person is not brought back by T4.')])
def test_relearning_counts_at_the_latent_that_was_erased(steps, said):
    relearned = entry(given(0.0, 0.0, 0.0), 'T4', after=LOST)
    relearned['details']['erased_latent'] = {'steps': {'person': steps}}
    overall = verdict.overall({'state': 'kept', 'verdict': ''}, [relearned])
    assert overall[1].startswith('No difference between') and overall[2] == said


def test_people_are_said_to_be_kept_only_where_they_are():
    """22 of 27 with an interval up to 0.92 is neither nine tenths nor clearly less."""
    openings = {count: utility.OPENINGS[utility.state_of(fraction(torch.arange(27) < count))] for count in (25, 22, 15, 3)}
    assert openings[25] == 'Other people were kept:' and 'not shown to be kept' in openings[22] and 'damaged' in openings[15]
    assert openings[3].startswith('THE NETWORK WAS RUINED')


def attacked(attack, evidence, subject, **more):
    """What a tier says beside its scores, with one network and nobody but the person."""
    def on_everybody(one, *_):
        one(SimpleNamespace(name='after', generator=None, light=None), 0, lambda: None)
        return SimpleNamespace()
    audit = SimpleNamespace(evidence=evidence, subjects=[subject], views=lambda *_: None, on_everybody=on_everybody, **more)
    return attack(audit, SimpleNamespace(w_steps=1, w_plus_steps=1)).details


@pytest.mark.parametrize('photos, forget_from, photographed, said', [
    (3, 'first', True, 'of 2 other photos brings'), (3, 'all', True, 'of 2 other photos, which took part in the erasure (--forget-from) brings'),
    (2, 'mean', True, 'of 1 other photo, which took part'), (1, 'first', True, 'of the erased photo (there is no other) brings'),
    (2, 'all', False, 'of 1 other photo brings'), (1, 'first', False, 'The exact latent that was erased (the person was given as a latent'),
])
def test_the_encoder_s_photos_are_told(photos, forget_from, photographed, said):
    evidence = SimpleNamespace(photos_mine=() if photographed else None, config=SimpleNamespace(inversion='w+', forget_from=forget_from))
    details = attacked(t1_encoder.attack, evidence, SimpleNamespace(ws=torch.zeros(photos, 2, 4)))
    assert details['other_photos_took_part'] == ('took part' in said)
    result = entry(given(0.0, 0.0, 0.0), 'T1')
    result['details'] |= details
    result['details']['verification']['controls'] = given(0.5, 0.3, 0.8)
    verdict = t1_encoder.say(result)
    assert said in verdict and ('inversion w+' in verdict) == ('exact latent' not in said)


def test_ends_that_are_no_pictures_can_be_kept(monkeypatch):
    """Every re-inversion of the person ends in NaN: audit.json gets a null, not an infinity that it cannot hold."""
    monkeypatch.setattr(t2_reinversion, 'Optimisation', lambda *_, **__: lambda _, ws, *__, start: Inversion(
        start, torch.tensor([torch.nan]), torch.zeros(1)))
    subject = Subject(torch.zeros(2, 3, 8, 8), None, torch.zeros(2, 2, 4))
    evidence = SimpleNamespace(g_s=SimpleNamespace(w_avg=torch.zeros(2, 4)))
    details = attacked(t2_reinversion.attack, evidence, subject, seed=0, perceptual=None, target=lambda ws: ws)
    assert details['lpips_in_w'] == {'after': {'mean': None, 'w_source': None, 'w_target': None}}
    json.dumps(details, allow_nan=False)


def test_latents_outside_w_are_starts_in_w_plus(monkeypatch):
    """Brought into W, a latent whose layers differ is another face: the attacker also begins at w_source and w_target as they are."""
    begun = []

    def optimisation(space, **_):
        def invert(generator, image, camera, perceptual, progress, start):
            begun.append((space, start))
            near = space == 'w+' and torch.equal(start, subject.ws[:1])
            return Inversion(start, torch.tensor([0.0 if near else 1.0]), torch.zeros(1))
        return invert
    monkeypatch.setattr(t2_reinversion, 'Optimisation', optimisation)
    subject = Subject(torch.zeros(2, 3, 8, 8), None, torch.arange(16.0).view(2, 2, 4))
    evidence = SimpleNamespace(g_s=SimpleNamespace(w_avg=torch.zeros(2, 4)))
    details = attacked(t2_reinversion.attack, evidence, subject, seed=0, perceptual=None, target=lambda ws: -ws)
    assert [space for space, _ in begun] == ['w'] * 3 + ['w+'] * 3
    assert torch.equal(begun[4][1], subject.ws[:1]) and torch.equal(begun[5][1], -subject.ws[:1])
    assert details['won'] == {'after: w_source in W+, w+': 1} and details['starts_in_w+'] == 3


@pytest.mark.parametrize('change, same', [
    ({'random_metric_weights': True}, False), ({'inversion_steps': 7}, False), ({'camera': 'other.json'}, False), ({'fov_deg': 20.0}, False),
    ({'device': 'cuda'}, True), ({'batch': 4}, True), ({'keep_source': True}, True)])
def test_an_audit_goes_on_with_the_same_settings_only(change, same):
    evidence = dataclasses.replace(stand_in(), **dict.fromkeys(('before', 'after'), SimpleNamespace(sha256=lambda: 'f' * 64)))
    other = dataclasses.replace(evidence, config=dataclasses.replace(evidence.config, **change))
    found = [fingerprint(one, SimpleNamespace(name='quick'), None, 0, 'ab' * 16) for one in (evidence, other)]
    assert (found[0] == found[1]) == same and 'other.json' not in json.dumps(found[1])


def test_whose_audit_it_is_cannot_be_guessed_from_what_a_stop_leaves():
    """Salted: the same seed leaves another mark in every folder; and networks in memory have a checksum, too."""
    evidence = stand_in(latent_seed=4294967291)
    one, again, other = (fingerprint(evidence, SimpleNamespace(name='quick'), None, 0, salt) for salt in ('ab' * 16, 'ab' * 16, 'cd' * 16))
    assert one == again and one['person'] != other['person'] and '4294967291' not in json.dumps(one)
    assert digest('latent_seed', ['4294967291']) not in json.dumps(one) and len(one['network before']) == 64


@pytest.mark.parametrize('value, said', [(0.123, '0.12'), (-0.5, '-0.50'), (-0.002, '-0.002'), (0.0, '0.00'), (-0.00001, '0.00')])
def test_numbers_keep_their_sign(value, said):
    assert sentences.number(value) == said


@pytest.mark.parametrize('count, said', [(None, 'not within 24 steps'), (0, 'from the start'), (1, 'in 1 step'), (8, 'in 8 steps')])
def test_steps_in_words(count, said):
    assert sentences.steps(count, 24) == said


def test_controls_of_a_folder(tmp_path):
    for name in ('ann', 'bob', 'cy'):
        (tmp_path / name).mkdir()
        for number in range(2):
            PIL.Image.new('RGB', (8, 8)).save(tmp_path / name / f'{number}.png')
    (tmp_path / 'nobody').mkdir()
    (tmp_path / 'notes.txt').write_text('')
    check_controls(str(tmp_path))
    assert [len(photos) for photos in people_in(str(tmp_path))] == [2, 2, 2]
    (tmp_path / 'cy' / '0.png').unlink()
    (tmp_path / 'cy' / '1.png').unlink()
    with pytest.raises(InputError, match='2 subfolders with photos .* expected at least 3'):
        check_controls(str(tmp_path))


def test_controls_have_two_photos_each(tmp_path):
    for name, count in (('ann', 2), ('bob', 1), ('cy', 3)):
        (tmp_path / name).mkdir()
        for number in range(count):
            PIL.Image.new('RGB', (8, 8)).save(tmp_path / name / f'{number}.png')
    with pytest.raises(InputError, match='one photo only of bob, expected at least 2 of each control person.*Add photos'):
        check_controls(str(tmp_path))


def test_the_person_s_camera_and_face_are_not_the_controls(monkeypatch):
    evidence = stand_in(other_photos=1)
    evidence.config = dataclasses.replace(evidence.config, camera='0 0 0', face=2, aligned=True)
    seen = []

    def prepare(config, path, generator):
        seen.append(config)
        return SimpleNamespace(tensor=lambda resolution: torch.zeros(1, 3, resolution, resolution), camera=torch.zeros(1, 25))
    monkeypatch.setattr(subjects, 'prepare_photo', prepare)
    monkeypatch.setattr(subjects, 'inverted', lambda evidence, images, cameras: len(images))
    assert subjects.photographed(evidence, ['a.png', 'b.png']) == 2
    assert len(seen) == 2 and all((config.camera, config.face, config.aligned) == (None, None, True) for config in seen)


def test_demo_controls_are_nobody_else():
    """Controls of one person are not those of another, nor the witnesses of an erasing run, nor those that are tuned on."""
    mine, theirs = numbers_beside(3, 0), numbers_beside(4, 0)
    assert len(mine) == PER_PERSON and not set(mine) & set(theirs) and not set(mine) & set(numbers_beside(3, 1))
    assert mine[0] != mine[BYSTANDERS] and min(mine) > 100_000 + 4 * 50


def test_who_was_found_out_is_a_finding_of_its_own():
    """T7 looks for anybody: it brings nobody back, and is not among those that did not."""
    seventh = entry(given(0.0, -0.1, 0.1), 'T7', after=LOST)
    seventh['details'].update(candidates=52, ranks={'change': {'person': 1}, 'misfit': {'person': 17}, 'mirror': {'person': 1}})
    said = verdict.overall({'state': 'kept', 'verdict': 'Kept.'}, [entry(given(-0.5, -0.8, -0.2), 'T6', after=LOST), seventh])
    assert said[2:] == ['The person is not brought back by T6.', 'Who was erased can be found out (T7): the person comes first of all '
                        'candidates by change and mirror.']
    seventh['details']['candidates'] = 4               # one of four is first by chance often enough
    assert len(verdict.overall({'state': 'kept', 'verdict': 'Kept.'}, [seventh])) == 2


def test_one_sample_has_no_interval():
    assert sentences.interval({**given(0.5, 0.5, 0.5), 'samples': 1}) == '0.50'
    assert sentences.interval(given(0.5, 0.4, 0.6)) == '0.50 [0.40, 0.60]'
    assert str(Estimate(0.5, 0.5, 0.5, 1)) == '0.500, n = 1' and str(Estimate(0.5, 0.5, 0.5, 3)) == '0.500 [0.500, 0.500], n = 3'
