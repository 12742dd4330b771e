"""A run's folder: whole files, no overwriting, resuming only what was begun with the same options."""
import errno
import json
import os
import socket
import time

import pytest
import torch

from eg3d_unlearn.run_folder import LOCK, NETWORK, OPTIONS, REPORT, STATE, STATS, RunFolder, write_whole
from torch_utils_ext.atomic_file import ABANDONED, replacing
from torch_utils_ext.errors import InputError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / 'a').write_text('old')

    def fails(file):
        file.write(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')
    with pytest.raises(InputError, match='No space left'):
        write_whole(tmp_path / 'a', fails)
    assert os.listdir(tmp_path) == ['a'] and (tmp_path / 'a').read_text() == 'old'


def test_several_may_write_one_file_at_once(tmp_path):
    """Each has a file of its own until it is whole; the last one counts."""
    with replacing(tmp_path / 'a') as first:
        first.write(b'first')
        write_whole(tmp_path / 'a', lambda file: file.write(b'second'))
        assert (tmp_path / 'a').read_bytes() == b'second'
    assert (tmp_path / 'a').read_bytes() == b'first' and os.listdir(tmp_path) == ['a']


HERE = socket.gethostname()
LEFT = {                             # file left behind -> whether it stays when 'a' is written, and when who holds the folder's lock cleans up
    f'.a.{os.getpid()}@{HERE}.12345678.part': (False, False),    # in a container every run has the same process id
    f'.a.1@{HERE}.12345678.part': (False, False),
    '.a.1@elsewhere.12345678.part': (True, False),               # perhaps somebody writes it there, on a shared file system
    '.a.1@far.away.12345678.part': (False, False),               # an old one
    f'.b.1@{HERE}.12345678.part': (True, False),
    '.thesis.docx.part': (True, True),                           # not ours
    '.a.x.part': (True, True),
}


@pytest.mark.parametrize('holds_lock', [False, True])
def test_only_what_nobody_writes_any_more_is_removed(tmp_path, holds_lock):
    old = time.time() - 2 * ABANDONED
    for name in LEFT:
        (tmp_path / name).write_text('half')
    os.utime(tmp_path / '.a.1@far.away.12345678.part', (old, old))
    folder = RunFolder(tmp_path)
    with replacing(tmp_path / 'c') as mine:              # one that is being written
        if holds_lock:
            with folder.locked():
                folder.clean()
        else:
            write_whole(tmp_path / 'a', lambda file: file.write(b'whole'))
        mine.write(b'whole')
    stay = {name for name, stays in LEFT.items() if stays[holds_lock]}
    assert set(os.listdir(tmp_path)) - {'a', LOCK} == {'c', *stay}
    assert (tmp_path / 'c').read_bytes() == b'whole'


def test_begin_and_resume(tmp_path):
    folder = RunFolder(tmp_path / 'out')
    folder.check({'lr': 1})
    assert not (tmp_path / 'out').exists()       # checking writes nothing
    assert folder.begin({'lr': 1}) is False
    (tmp_path / 'out' / f'.{STATE}.1@{HERE}.12345678.part').write_text('left by a kill')
    folder.check({'lr': 1})
    assert folder.begin({'lr': 1}) is True
    assert os.listdir(tmp_path / 'out') == [OPTIONS]


def test_other_options_are_refused_and_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.begin({'lr': 1, 'seed': 0})
    with pytest.raises(InputError, match='lr: 1 then, 2 now'):
        folder.check({'lr': 2, 'seed': 0})


def test_a_finished_run_is_not_overwritten_and_its_latent_goes(tmp_path):
    folder = RunFolder(tmp_path)
    folder.begin({'lr': 1})
    folder.write_json(REPORT, {})
    folder.save_state({'ws_source': torch.zeros(1)})
    with pytest.raises(InputError, match='finished run'):
        folder.check({'lr': 1})
    assert not (tmp_path / STATE).exists()


def test_foreign_contents_are_refused(tmp_path):
    (tmp_path / NETWORK).write_text('precious')
    with pytest.raises(InputError, match='did not make'):
        RunFolder(tmp_path).check({})
    (tmp_path / OPTIONS).write_text('{')
    with pytest.raises(InputError, match='cannot be read'):
        RunFolder(tmp_path).check({})
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='is a file'):
        RunFolder(tmp_path / 'file').check({})


def test_two_runs_do_not_share_a_folder(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.locked():
        with pytest.raises(InputError, match='in use'), RunFolder(tmp_path).locked():
            pass
    with folder.locked():            # it may be had again
        pass


def test_stats_of_steps_done_again_are_dropped(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / STATS).write_text(''.join(json.dumps({'step': step}) + '\n' for step in range(1, 6)) + '{"step": 6, "lo')
    folder.drop_stats_after(3)
    assert [json.loads(line)['step'] for line in (tmp_path / STATS).read_text().splitlines()] == [1, 2, 3]


def test_state_comes_back_and_a_damaged_one_is_said(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.load_state() is None
    folder.save_state({'step': 3, 'ws_source': torch.arange(4.0)})
    assert folder.load_state()['step'] == 3
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:50])
    with pytest.raises(InputError, match='damaged'):
        folder.load_state()
