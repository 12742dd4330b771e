"""What a run says of itself: figures over many people, and the picture that shows some of them."""
import dataclasses

import pytest
import torch

from eg3d_unlearn.evaluation import summary as report
from eg3d_unlearn.evaluation.summary import Views

SIZE = 96


def views(seed: int, others: int = 11) -> Views:
    """Random pictures: one of the person, one target, two other photos, ``others`` people."""
    noise = iter(torch.randn(4 + others, 1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1))
    return Views([next(noise)], [next(noise)], [next(noise), next(noise)], [], list(noise))


def embed(images: torch.Tensor) -> torch.Tensor:
    """Unit vectors of each picture's corner."""
    return torch.nn.functional.normalize(images[:, :, :8, :8].flatten(1), dim=1)


@pytest.mark.parametrize('others', [1, 8, 11])
def test_figures_do_not_depend_on_how_many_are_looked_at_together(others, monkeypatch):
    before, after = views(0, others), views(1, others)
    monkeypatch.setattr(report, 'AT_ONCE', 100)
    together = report.summary(before, after, embed, 'corner')
    monkeypatch.setattr(report, 'AT_ONCE', 3)
    assert report.summary(before, after, embed, 'corner') == together
    by_hand = [(embed(a) * embed(b)).sum() for a, b in zip(before.others, after.others, strict=True)]
    assert together['other_people'] == pytest.approx(torch.stack(by_hand).mean().item(), abs=1e-4)
    assert together['others'] == others


def test_the_picture_shows_some_of_the_other_people():
    few, many = (report.picture(views(0, count), views(1, count)) for count in (8, 30))
    assert few.size == many.size and few.width == 8 * SIZE


def test_the_picture_has_no_row_for_a_target_that_is_not_there():
    before, after = views(0), views(1)
    photos = torch.zeros(3, 3, SIZE, SIZE)
    for given in (None, photos):
        with_target = report.picture(before, after, given)
        without = report.picture(dataclasses.replace(before, target=[]), after, given)
        assert with_target.width == without.width
    # Other photos of the person take three rows beside it, so only the picture without them is shorter.
    lone = [dataclasses.replace(each, other_photos=[]) for each in (before, dataclasses.replace(before, target=[]))]
    heights = [report.picture(each, dataclasses.replace(after, other_photos=[])).height for each in lone]
    assert heights[0] - heights[1] == SIZE + report.LABEL
