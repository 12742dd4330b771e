"""TensorBoard curves: written where the package is, silently left out where it is not."""
from __future__ import annotations

import errno
import sys
from types import ModuleType

import pytest

from eg3d_unlearn.unlearning.scalars import Scalars


def test_without_tensorboard_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)   # what an import then raises: ImportError
    with Scalars(tmp_path, 0) as scalars:
        scalars.add({'step': 1, 'loss': 0.5})
    assert not list(tmp_path.iterdir())


class Writer:
    """Stands in for SummaryWriter and notes what it is told."""
    made: list = []

    def __init__(self, folder, purge_step=None):
        self.folder, self.purge_step, self.scalars, self.closed = folder, purge_step, [], False
        Writer.made.append(self)

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def close(self):
        self.closed = True


def test_every_figure_but_the_step_becomes_a_curve(tmp_path, monkeypatch):
    module = ModuleType('torch.utils.tensorboard')
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    Writer.made.clear()
    with Scalars(tmp_path, 40) as scalars:
        scalars.add({'step': 41, 'loss': 0.5, 'seconds': 1.5})
    (writer,) = Writer.made
    assert writer.folder == str(tmp_path) and writer.closed
    assert writer.purge_step == 41                       # steps that are done again replace what was written of them
    assert writer.scalars == [('unlearning/loss', 0.5, 41), ('unlearning/seconds', 1.5, 41)]


@pytest.mark.parametrize('call', ['__init__', 'add_scalar', 'close'])
def test_a_full_disk_ends_the_curves_and_not_the_run(tmp_path, monkeypatch, capsys, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, 'No space left on device')
    module = ModuleType('torch.utils.tensorboard')
    module.SummaryWriter = type('Full', (Writer,), {call: full})
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    with Scalars(tmp_path, 0) as scalars:
        scalars.add({'step': 1, 'loss': 0.5, 'seconds': 1.0})
    assert capsys.readouterr().err.count('No space left on device') == 1
