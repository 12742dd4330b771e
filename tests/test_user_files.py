"""Files that somebody else wrote: one sentence for each kind of trouble, nothing that blocks, text that cannot steer a terminal."""
import os
import socket

import pytest

from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import open_file, parse_json, read_bytes, read_json, shown


@pytest.mark.parametrize('text, expected', [
    ('name.png', 'name.png'), ('结果.png', '结果.png'), ('a\x1b]0;b\x07', 'a\\x1b]0;b\\x07'), ('\u202eexe', '\\u202eexe'),
    (os.fsdecode(b'net\xe9.pkl'), 'net\\udce9.pkl'), ('x' * 101, 'x' * 100 + '...')])
def test_shown_escapes_what_does_not_print(text, expected):
    assert shown(text) == expected
    shown(text).encode('utf-8')


def test_whatever_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / 'socket'))
        for path, words in ((tmp_path, 'is a folder'), (tmp_path / 'pipe', 'is a pipe'), ('/dev/zero', 'is a device'),
                            (tmp_path / 'absent', 'No such file'), (tmp_path / 'socket', 'cannot be opened'), ('a\0b', 'NUL')):
            with pytest.raises(InputError, match=words):
                open_file(path, 'photo')


def test_a_long_file_is_refused_unread(tmp_path):
    with open(tmp_path / 'long', 'wb') as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match='1,073,741,824 bytes, far more'):
        read_bytes(tmp_path / 'long', at_most=1 << 20)


@pytest.mark.parametrize('content, words', [
    (b'', 'not valid json'), (b'[' * 100_000, 'not valid json'), (b'\xff\xfe{\0}\0', 'not text in UTF-8'),
    (b'[1]', 'holds list where an object'), (b'{"a": 1', r'not valid json \(line 1\)'), (b'1' * 5000, 'not valid json')])
def test_json_of_any_shape(content, words):
    with pytest.raises(InputError, match=words):
        parse_json(content, 'The options', dict)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    (tmp_path / 'a.json').write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / 'a.json', kind=dict) == {'a': 1}
