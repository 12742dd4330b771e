"""The picture of a run: some of the other people, a row for the target where there is one."""
import dataclasses

import torch
from test_summary import SIZE, views

from eg3d_unlearn.report.sheet import LABEL, draw_sheet


def test_the_picture_shows_some_of_the_other_people():
    few, many = (draw_sheet(views(0, count), views(1, count)) for count in (8, 30))
    assert few.size == many.size and few.width == 8 * SIZE


def test_the_picture_has_no_row_for_a_target_that_is_not_there():
    before, after = views(0), views(1)
    photos = torch.zeros(3, 3, SIZE, SIZE)
    for given in (None, photos):
        with_target = draw_sheet(before, after, given)
        without = draw_sheet(dataclasses.replace(before, target=[]), after, given)
        assert with_target.width == without.width
    # Other photos of the person take three rows beside it, so only the picture without them is shorter.
    lone = [dataclasses.replace(each, other_photos=[]) for each in (before, dataclasses.replace(before, target=[]))]
    heights = [draw_sheet(each, dataclasses.replace(after, other_photos=[])).height for each in lone]
    assert heights[0] - heights[1] == SIZE + LABEL
