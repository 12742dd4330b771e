"""The audit's figures and sentences, on values worked out by hand; control people."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from eg3d_unlearn.audit import words
from eg3d_unlearn.audit.conduct import hits
from eg3d_unlearn.audit.scores import cells, figures, holds_zero, of_people, stretch, student
from eg3d_unlearn.audit.subjects import DEMO_APART, DEMO_BYSTANDERS, check_controls, demo_numbers, people_in
from torch_utils_ext.errors import InputError


def unit(*rows):
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def test_a_photo_that_was_attacked_with_does_not_count():
    shown, photos = unit([1, 0], [0, 1]), unit([1, 0], [0, 1], [1, 1])
    got = cells(shown, photos, used=0)
    assert got[:, 0].isnan().all() and got[0, 1] == 0 and got[1, 2].item() == pytest.approx(0.5**0.5)
    assert cells(shown, photos[:1], used=0).isnan().sum() == 0  # the only photo counts
    assert cells(shown, photos, used=None).isnan().sum() == 0
    assert cells(torch.full((1, 2), torch.nan), photos, None).eq(0).all()  # no picture is like nobody


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


@pytest.mark.parametrize('freedom, quantile', [(2, 4.303), (3, 3.182), (7, 2.365), (19, 2.093)])
def test_student(freedom, quantile):
    assert student(freedom) == pytest.approx(quantile, rel=0.04)


def test_intervals_of_few_people_hold_what_they_promise():
    """Means of three normal values: 95 of 100 intervals hold the true mean; a plain bootstrap's hold 7 or 8 of 10."""
    rng, held = np.random.RandomState(0), 0
    for _ in range(300):
        draws = of_people(np.repeat(rng.randn(3, 1), 500, axis=1), rng)
        low, high = np.percentile(draws, [2.5, 97.5])
        held += low <= 0 <= high
    assert 0.9 < held / 300 < 0.98
    assert stretch(3) == pytest.approx(2.7, abs=0.1) and stretch(1000) == pytest.approx(1, abs=0.01)


def test_hits_keep_what_does_not_count():
    got = hits(torch.tensor([[0.5, torch.nan, 0.2]]), 0.5)
    assert got[0, 0] == 1 and got[0, 1].isnan() and got[0, 2] == 0


def given(value, low, high):
    return {'value': value, 'low': low, 'high': high, 'samples': 3, 'seed': 0}


def entry(excess, tier='T0'):
    zero = given(0.0, 0.0, 0.0)
    figures_ = {'before': given(0.9, 0.8, 1.0), 'after': given(0.1, 0.0, 0.2), 'controls_before': zero, 'controls': zero, 'excess': excess}
    return {'tier': tier, 'details': {'verification': {'after': given(0.7, 0.6, 0.8)}}, 'figures': figures_}


@pytest.mark.parametrize('excess, said', [
    (given(-0.1, -0.3, 0.1), 'no difference from controls that this sample can show (excess -0.10 [-0.30, 0.10])'),
    (given(0.0, 0.0, 0.0), 'no difference from controls that this sample can show (excess 0.00 [0.00, 0.00])'),
    (given(-0.5, -0.8, -0.2), 'harder to get back than a control (excess -0.50 [-0.80, -0.20])'),
    (given(0.5, 0.2, 0.8), 'easier to get back than a control'),
])
def test_wording_follows_intervals(excess, said):
    assert said in words.compared(entry(excess)['figures'])


@pytest.mark.parametrize('before, after, said', [
    ((0.9, 1.0), (0.6, 0.8), 'It brings the person back:'), ((0.9, 1.0), (0.1, 0.3), 'It does not bring the person back:'),
    ((0.9, 1.0), (0.3, 0.8), 'It brings the person back at times:'), ((0.0, 0.2), (0.0, 0.1), 'not bring the person back, nor does it on G_s:')])
def test_whether_the_person_is_back_follows_intervals(before, after, said):
    result = entry(given(0.0, -0.1, 0.1))
    rates = {'before': before, 'after': after, 'controls': after}
    result['details']['verification'] = {name: given(sum(ends) / 2, *ends) for name, ends in rates.items()}
    assert said in words.usual(result, 'It')


def test_overall_verdict():
    less, none = given(-0.5, -0.8, -0.2), given(-0.1, -0.3, 0.1)
    kept = {'state': 'kept', 'verdict': 'Kept.'}
    assert words.overall(kept, [entry(none), entry(none, 'T1')])[2] == 'The person is brought back by T0, T1.'
    assert words.overall(kept, [entry(none), entry(none, 'T1')])[1].startswith('Nothing was erased that this audit can see: in all 2 tiers')
    assert 'In 1 of 2 tiers (T1)' in words.overall(kept, [entry(none), entry(less, 'T1')])[1]
    assert not words.differs(entry(less, 'T7')) and words.differs(entry(less, 'T6')) and words.differs(entry(given(0.5, 0.2, 0.8), 'T7'))
    ruined = words.overall({'state': 'ruined', 'verdict': 'RUINED.'}, [entry(none)])
    assert len(ruined) == 2 and ruined[0] == 'RUINED.' and 'as much as everybody else' in ruined[1]


@pytest.mark.parametrize('value, said', [(0.123, '0.12'), (-0.5, '-0.50'), (-0.002, '-0.002'), (0.0, '0.00'), (-0.00001, '0.00')])
def test_numbers_keep_their_sign(value, said):
    assert words.number(value) == said


@pytest.mark.parametrize('count, said', [(None, 'not within 24 steps'), (0, 'from the start'), (1, 'in 1 step'), (8, 'in 8 steps')])
def test_steps_in_words(count, said):
    assert words.steps(count, 24) == said


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


def test_demo_controls_are_nobody_else():
    """Controls of one person are not those of another, nor the witnesses of an erasing run, nor those that are tuned on."""
    mine, theirs = demo_numbers(3, 0), demo_numbers(4, 0)
    assert len(mine) == DEMO_APART and not set(mine) & set(theirs) and not set(mine) & set(demo_numbers(3, 1))
    assert mine[0] != mine[DEMO_BYSTANDERS] and min(mine) > 100_000 + 4 * 50
