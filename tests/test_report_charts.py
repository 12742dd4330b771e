"""Where the parts of a chart stand."""
from __future__ import annotations

import pytest

from eg3d_unlearn.report import charts


def test_a_scale_gives_percentages_and_round_ticks():
    scale = charts.Scale(-0.2, 1.0)
    assert (scale(-0.2), scale(0.4), scale(1.0), scale(7.0)) == ('0.00%', '50.00%', '100.00%', '100.00%')
    assert scale.ticks() == [0.0, 0.5, 1.0] and charts.Scale(0, 1).ticks() == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert charts.Scale(0, 10, flipped=True)(2.5) == '75.00%'
    assert charts.likeness_scale([0.3]).low == -0.2 and charts.likeness_scale([-0.31]).low == pytest.approx(-0.4)


def test_words_at_an_end_of_the_chart_stay_within_it():
    scale = charts.Scale(0, 1)
    assert [scale.words(value, '')['anchor'] for value in (0.0, 0.5, 1.0)] == ['start', 'middle', 'end']


def test_an_interval_of_one_sample_is_not_drawn():
    one = charts.strip(charts.Scale(0, 1), '', [0.5], 0.5, (0.5, 0.5), (0.1, 0.3), 0.4)
    assert one['interval'] is None and one['band'] == {'x': '10.00%', 'width': '20.00%'} and one['threshold'] == '40.00%'
    assert charts.strip(charts.Scale(0, 1), '', [0.5], 0.5, (0.25, 0.75), (0.1, 0.3), 0.4)['interval'] == ['25.00%', '75.00%']


def test_a_curve_leaves_out_what_is_no_number_and_thins_out_what_is_not_seen():
    drawn = charts.curve([0, 1, 2], [('smooth', [0.0, None, 1.0]), ('dashed', [None] * 3)], 'words', high=1.0)
    assert drawn['lines'] == [{'kind': 'smooth', 'path': 'M0.0,100.00L1000.0,0.00'}]
    assert (drawn['top'], drawn['bottom'], drawn['first'], drawn['last'], drawn['zero']) == ('1', '0', '0', '2 steps', None)
    assert charts.curve([0, 1], [('each', [-1.0, 1.0])], '')['zero'] == '50.00'
    long = list(range(4 * charts.MOST_POINTS))
    assert charts.curve(long, [('each', long)], '')['lines'][0]['path'].count('L') == charts.MOST_POINTS - 1


def test_a_fifth_recogniser_takes_the_first_shape_again():
    assert [mark['kind'] for mark in charts.marks(charts.Scale(0, 1), '', [(0.5, kind, '') for kind in range(5)])['marks']] == [0, 1, 2, 3, 0]
