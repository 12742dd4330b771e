"""Numbers as they are read, and text of other files that stays text."""
from __future__ import annotations

from markupsafe import Markup

from eg3d_unlearn.report.formatting import counted, entries, figure, interval, listed, number, plain, typeset


def test_numbers_are_read_with_a_true_minus():
    assert plain(-0.018, 2) == '−0.02' and plain(-0.001, 2) == '0.00' and plain(12.0, 0) == '12'
    assert number(-0.0184) == '<data value="-0.0184">−0.02</data>' and number(3) == '<data value="3">3</data>'
    assert number(None) == '–' and number(float('nan')) == '–'
    assert typeset('from -0.1 to x-1, T2-3') == 'from −0.1 to x-1, T2-3'


def test_what_is_put_into_a_sentence_is_escaped():
    assert listed(['<a>', Markup('<b>b</b>'), 'c']) == '&lt;a&gt;, <b>b</b> and c' and listed(['a']) == 'a'
    assert Markup('<b>{}</b>').format('<i>') == '<b>&lt;i&gt;</b>'


def test_counts_and_intervals():
    assert counted(1, 'photo') == '<data value="1">1</data> photo' and counted(0, 'person', 'people').endswith(' people')
    assert counted(2, 'photo').endswith(' photos')
    measured = {'value': 0.5, 'low': 0.25, 'high': 0.75}
    assert figure(measured) == f'{number(0.5)} <span class="interval">[{number(0.25)}, {number(0.75)}]</span>'
    assert interval({**measured, 'low': 0.75}) == interval(None) == '' and figure({'value': 0.5}) == number(0.5) and figure(None) == '–'


def test_settings_are_written_with_their_path():
    settings = {'a': {'b': 1.5, 'c': None}, 'd': [1, True], 'e': list(range(20)), 'f': {'value': 1.0, 'low': 0.5, 'high': 2.0, 'samples': 3}}
    assert entries(settings) == [('a.b', '1.5'), ('d', '1, yes'), ('e', '20 entries, in the file'), ('f', '1 [0.5, 2], n = 3')]
