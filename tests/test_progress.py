"""Progress bars: redrawn on a terminal, a line now and then elsewhere."""
import io

import pytest

from torch_utils_ext import progress
from torch_utils_ext.progress import tqdm


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves on; returned: how to."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    monkeypatch.setattr('time.time', lambda: now[0])
    monkeypatch.setattr(tqdm, '_time', lambda self: now[0], raising=False)
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def run(stream, clock, steps, seconds, **options):
    with tqdm(total=steps, desc='forgetting', file=stream, **options) as bar:
        bar._time = progress.time.monotonic
        for _ in range(steps):
            clock(seconds)
            bar.update()
            bar.set_postfix({'loss': '0.5'})
    return stream.getvalue()


@pytest.mark.parametrize('steps, seconds, least, most', [(1000, 0.001, 1, 1), (100, 1, 3, 4), (10_000, 6.5, 20, 80)])
def test_a_few_plain_lines_where_there_is_no_terminal(clock, steps, seconds, least, most):
    text = run(io.StringIO(), clock, steps, seconds)
    lines = text.splitlines()
    assert '\r' not in text and '\x1b' not in text and least <= len(lines) <= most
    assert lines[-1].startswith('forgetting: 100%') and f'{steps}/{steps}' in lines[-1]


def test_a_bar_that_leaves_nothing_leaves_nothing(clock):
    assert run(io.StringIO(), clock, 10, 0.1, leave=False) == ''
    assert run(io.StringIO(), clock, 10, 0.1, disable=True) == ''


def test_a_terminal_gets_a_bar(clock):
    assert '\r' in run(Terminal(), clock, 10, 0.5)


def test_iteration_and_writing(capsys):
    for number in tqdm(range(3), desc='photos'):
        tqdm.write(f'photo {number}')
    out, err = capsys.readouterr()
    assert out.split('\n')[:3] == ['photo 0', 'photo 1', 'photo 2'] and err.startswith('photos: 100%') and err.count('\n') == 1


def test_a_closed_stream_does_not_stop_the_work(clock):
    stream = io.StringIO()
    with tqdm(total=2, file=stream) as bar:
        stream.close()
        bar.update(2)
