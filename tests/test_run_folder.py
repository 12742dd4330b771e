"""A run's folder: whole files, no overwriting, resuming only what was begun with the same options."""
import errno
import json
import os
import re
import socket
import time

import pytest
import torch

from eg3d_unlearn.run_folder import LOCK, LOG, NETWORK, OPTIONS, REPORT, STATE, STATS, RunFolder, write_whole
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


@pytest.mark.parametrize('names, refused', [
    (['report.html'], 'report.html'), (['before-after.png', 'log.txt', 'notes.md', 'z'], 'before-after.png, log.txt, notes.md and 1 more'),
    ([STATS], STATS), ([REPORT], REPORT), (['a\x1b[2J'], r'a\\x1b\[2J'),
    ([], None), (['.DS_Store', 'Thumbs.db', '.thesis.docx.part', LOCK], None),
])
def test_a_folder_with_the_users_files_is_refused(tmp_path, names, refused):
    for name in names:
        (tmp_path / name).write_text('mine')
    if refused is None:
        RunFolder(tmp_path).check({'lr': 1})
        RunFolder(tmp_path).begin({'lr': 1})
    else:
        with pytest.raises(InputError, match=rf'did not make \({refused}\)'):
            RunFolder(tmp_path).check({'lr': 1})
    assert all((tmp_path / name).read_text() == 'mine' for name in names)


def test_what_the_user_puts_into_a_run_of_ours_stays(tmp_path):
    folder = RunFolder(tmp_path)
    folder.begin({'lr': 1})
    (tmp_path / 'notes.md').write_text('mine')
    folder.check({'lr': 1})
    assert folder.begin({'lr': 1}) and (tmp_path / 'notes.md').exists()


def test_a_folder_of_nvidias_training_is_no_run_of_ours(tmp_path):
    (tmp_path / OPTIONS).write_text('{"G_kwargs": {}, "batch_size": 4}')
    with pytest.raises(InputError, match='did not make'):
        RunFolder(tmp_path).check({'lr': 1})


@pytest.mark.parametrize('then, now, message', [
    ({'lr': 1}, {'lr': 1, 'new': 5}, None),                          # the package has gained an option since
    ({'lr': 1}, {'lr': 1, 'new': 6}, 'new: 5 then, 6 now'),
    ({'lr': 1}, {'lr': 1, 'else': 6}, "else: 'unknown' then, 6 now"),
    ({'lr': 1, 'new': None}, {'lr': 1, 'new': 5}, 'new: None then, 5 now'),
    ({'lr': 1, 'newer': 7}, {'lr': 1}, 'newer: 7 then, unknown to this version now'),
    ({'images': ('a', 'b')}, {'images': ('a', 'b')}, None),
])
def test_options_of_another_version(tmp_path, then, now, message):
    folder = RunFolder(tmp_path)
    folder.begin(then)
    if message is None:
        folder.check(now, {'new': 5})
    else:
        with pytest.raises(InputError, match=re.escape(message)):
            folder.check(now, {'new': 5})


@pytest.mark.parametrize('content', ['', '[1]', 'null', '[' * 100_000, '\xff', '{"a": '])
def test_options_that_cannot_be_read(tmp_path, content):
    (tmp_path / OPTIONS).write_text(content, encoding='latin-1')
    with pytest.raises(InputError, match='a run that cannot be read: The record of options'):
        RunFolder(tmp_path).check({'lr': 1})


def test_any_flipped_bit_of_a_state_is_noticed_or_changes_nothing(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_state({'step': 3, 'ws_source': torch.arange(400.0)})
    whole, noticed = (tmp_path / STATE).read_bytes(), 0
    for place in range(0, len(whole), 97):
        (tmp_path / STATE).write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1:])
        try:
            state = folder.load_state()
        except InputError as error:
            assert 'damaged' in str(error)
            noticed += 1
        else:
            assert state['step'] == 3 and torch.equal(state['ws_source'], torch.arange(400.0))
    assert noticed > 10


@pytest.mark.parametrize('state', [[1], {}, {'step': 3}, {'step': 3, 'machine': 5}])
def test_states_of_another_shape(tmp_path, state):
    torch.save(state, tmp_path / STATE)
    folder = RunFolder(tmp_path)
    if state == {'step': 3}:         # of a version that did not note the machine
        assert folder.load_state() == state
    else:
        with pytest.raises(InputError, match='damaged or of another run'):
            folder.load_state()


def test_a_state_is_for_its_owner_only_from_its_first_byte(tmp_path):
    folder, modes = RunFolder(tmp_path), []
    write_whole(tmp_path / 'x', lambda file: modes.append(os.fstat(file.fileno()).st_mode & 0o777))
    folder.save_state({'step': 1})
    assert modes == [0o600] and (tmp_path / STATE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / 'x').stat().st_mode & 0o777 != 0o600


def test_another_machine_is_said(tmp_path, monkeypatch, capsys):
    folder = RunFolder(tmp_path)
    folder.save_state({'step': 7})
    assert folder.load_state() == {'step': 7} and capsys.readouterr().out == ''
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 99)
    folder.load_state()
    said = capsys.readouterr().out
    assert re.search(r'Resuming at step 7 with threads \d+ then, 99 now: .* bytes may differ', said)
    assert said.strip() in (tmp_path / LOG).read_text()


@pytest.mark.parametrize('line', ['5', '[]', '[' * 100_000, '{"step": "a"}', 'null', '\0' * 300, '\xff\xfe'])
def test_stats_of_any_content(tmp_path, line):
    (tmp_path / STATS).write_bytes(b'{"step": 1}\n' + line.encode('latin-1') + b'\n{"step": 2}\n')
    RunFolder(tmp_path).drop_stats_after(1)
    assert (tmp_path / STATS).read_text() == '{"step": 1}\n'


@pytest.mark.parametrize('code, advice', [(errno.ENOSPC, 'Free space'), (errno.EDQUOT, 'quota'), (errno.EFBIG, 'ulimit')])
@pytest.mark.parametrize('write', [lambda folder: folder.log('x'), lambda folder: folder.append(STATS, 'x'),
                                   lambda folder: folder.save_state({'step': 1}), lambda folder: folder.write_json(OPTIONS, {})])
def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch, write, code, advice):
    def full(*_, **__):
        raise OSError(code, os.strerror(code))
    monkeypatch.setattr('builtins.open', full)
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(InputError, match=f'Cannot write .*{advice}.* run the same command again'):
        write(RunFolder(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('code', [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_file_systems_that_lack_calls(tmp_path, monkeypatch, code):
    """Neither locks nor fsync: the work goes on."""
    fcntl = pytest.importorskip('fcntl')

    def lacking(*_):
        raise OSError(code, os.strerror(code))
    monkeypatch.setattr(fcntl, 'flock', lacking)
    if code != errno.ENOLCK:
        monkeypatch.setattr(os, 'fsync', lacking)
    folder = RunFolder(tmp_path)
    with folder.locked():
        folder.begin({'lr': 1})
    assert json.loads((tmp_path / OPTIONS).read_text()) == {'lr': 1}


def test_names_that_are_no_utf8_come_back(tmp_path):
    folder, name = RunFolder(tmp_path), 'net\udce9.pkl'
    folder.begin({'network': name})
    folder.check({'network': name})
    folder.append(LOG, name)
    assert (tmp_path / LOG).read_text(encoding='utf-8') == 'net\\udce9.pkl\n'
