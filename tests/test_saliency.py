"""RISE on scores whose answer is known."""
from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from eg3d_unlearn.evaluation.saliency import random_masks, rise

ROWS, COLUMNS = slice(8, 16), slice(40, 48)   # of the patch, in a picture of 64 x 64


def picture():
    """White in the patch, grey elsewhere: its mean colour is nearly the grey, so that hiding the patch takes its white away."""
    image = torch.zeros(3, 64, 64)
    image[:, ROWS, COLUMNS] = 1.0
    return image


def whiteness(images):
    """What the patch shows, and nothing else."""
    return images[:, :, ROWS, COLUMNS].mean(dim=(1, 2, 3))


def expected(cell: float = 8.0):
    """The map of `whiteness` in closed form.

    The score is linear in the mask, so the map is cov(M(x), M(patch)) / (p (1 - p)).  Random cells, enlarged linearly and shifted
    at random, have the cubic B-spline as their covariance along each side.
    """
    def along(patch: slice):
        t = (torch.arange(64)[:, None] - torch.arange(64)[patch]).abs() / cell
        spline = torch.where(t < 1, 2 / 3 - t**2 + t**3 / 2, (2 - t).clamp_min(0)**3 / 6)
        return spline.mean(1)
    hidden = picture().mean()        # what stands in the patch where it is hidden
    return (1 - hidden) * along(ROWS)[:, None] * along(COLUMNS)


def test_the_map_is_the_one_worked_out_by_hand():
    found = rise(picture(), whiteness, masks=8000, cells=8, batch=500)
    inner = (slice(4, 60),) * 2      # at the border the enlarged cells end
    error = (found.map - expected())[inner]
    assert error.std() < 0.03 and error.abs().max() < 0.09
    assert found.map[10:14, 42:46].mean().item() == pytest.approx(expected()[10:14, 42:46].mean().item(), abs=0.03)
    assert 0.5 * error.std() < found.noise < 2 * error.std()
    assert found.score == pytest.approx(1.0)


def test_a_place_that_speaks_against_is_negative():
    found = rise(picture(), lambda images: -whiteness(images), masks=1000, cells=8)
    assert found.map[10:14, 42:46].mean() < -0.25


def test_a_score_that_sees_nothing_gives_an_empty_map():
    found = rise(picture(), lambda images: torch.full([len(images)], 0.7), masks=40)
    assert found.map.abs().max() < 1e-5 and found.noise < 1e-5 and found.score == pytest.approx(0.7)


def test_masks_come_with_their_complements():
    """A score that does not tell a mask from its complement says nothing of any place: exactly, not only on average."""
    white, black = torch.ones(3, 32, 32), -torch.ones(3, 32, 32)
    found = rise(white, lambda images: images.mean(dim=(1, 2, 3)).square(), masks=40, hidden=black)
    assert found.map.abs().max() < 1e-5 and found.score == pytest.approx(1.0)


def test_what_hidden_places_show_is_chosen():
    """Hidden behind itself, a picture has no place that counts."""
    assert rise(picture(), whiteness, masks=40, hidden=picture()).map.abs().max() < 1e-5


def test_an_identity_cosine_is_carried_by_the_part_that_was_embedded():
    """As the report uses it: a unit embedding of the left half only."""
    face = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def embed(images):
        return F.normalize(F.adaptive_avg_pool2d(images[:, :, :, :16], 4).flatten(1), dim=1)

    person = embed(face[None])[0]
    found = rise(face, lambda images: embed(images) @ person, masks=1200)
    assert found.map[:, :12].mean() > 4 * found.map[:, 20:].mean().abs()


def test_more_masks_less_noise():
    noise = [rise(picture(), whiteness, masks=count, cells=8).noise for count in (100, 1600)]
    assert noise[1] < 0.5 * noise[0]


def test_the_seed_decides():
    first, second = (rise(picture(), whiteness, masks=400, cells=8, seed=seed) for seed in (3, 3))
    assert torch.equal(first.map, second.map)
    assert not torch.equal(first.map, rise(picture(), whiteness, masks=400, cells=8, seed=4).map)


def test_masks_are_half_open_and_shifted():
    drawn = random_masks(200, 7, (33, 47), torch.Generator().manual_seed(0))
    assert drawn.shape == (200, 33, 47) and drawn.min() >= 0 and drawn.max() < 1 + 1e-6
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.03)
    assert drawn.mean(0).std() < 0.1                     # no place is favoured


@pytest.mark.parametrize('masks', [0, 2, 402])
def test_a_number_of_masks_that_cannot_be_halved_twice(masks):
    with pytest.raises(ValueError, match='multiple of 4'):
        rise(picture(), whiteness, masks=masks)
