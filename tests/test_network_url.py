"""Networks by path, URL and published name; a server on this machine stands in for NVIDIA's."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from torch_utils_ext import download
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_url import PUBLISHED, resolve_network

NETWORK = b'\x80\x04' + bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    """Serves `answer` with `status`; `break_at` cuts the connection there, once."""

    answer = NETWORK
    status = 200
    break_at: int | None = None
    ranges = True
    requests: list[str | None]

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_address[1]}'


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get('Range')
        self.server.requests.append(wanted)
        first = int(wanted.removeprefix('bytes=').rstrip('-')) if wanted and self.server.ranges else 0
        body = self.server.answer[first:]
        self.send_response(206 if first else self.server.status)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('ETag', '"one"')
        if first:
            self.send_header('Content-Range', f'bytes {first}-{len(self.server.answer) - 1}/{len(self.server.answer)}')
        self.end_headers()
        if self.server.break_at is not None:
            body, self.server.break_at = body[: self.server.break_at], None
        self.wfile.write(body)

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server():
    with Server(('127.0.0.1', 0), Handler) as server:
        server.requests = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_path_is_itself(tmp_path):
    path = tmp_path / 'net.pkl'
    path.write_bytes(b'x')
    assert resolve_network(path) == path and resolve_network(str(path)) == path


def test_download_once_with_a_checksum(tmp_path, server, capsys):
    cache = tmp_path / 'cache'
    path = resolve_network(f'{server.url}/folder/net%20a.pkl?x=1', cache)
    assert path.read_bytes() == NETWORK and path.name.endswith('-net a.pkl')
    assert (cache / f'{path.name}.sha256').read_text() == f'{hashlib.sha256(NETWORK).hexdigest()}  {path.name}\n'
    assert 'net a.pkl' in capsys.readouterr().err  # the progress bar
    assert resolve_network(f'{server.url}/folder/net%20a.pkl?x=1', cache, progress=False) == path
    assert len(server.requests) == 1
    assert capsys.readouterr().err == ''
    assert resolve_network(f'{server.url}/other/net%20a.pkl', cache, progress=False) != path


def test_a_changed_cache_is_noticed(tmp_path, server):
    path = resolve_network(f'{server.url}/net.pkl', tmp_path, progress=False)
    path.write_bytes(NETWORK[:-1] + b'!')
    with pytest.raises(InputError, match='has SHA-256 .*, expected .*; delete it to download it again'):
        resolve_network(f'{server.url}/net.pkl', tmp_path, progress=False)
    path.unlink()
    assert resolve_network(f'{server.url}/net.pkl', tmp_path, progress=False).read_bytes() == NETWORK


@pytest.mark.parametrize('ranges', [True, False])
def test_a_broken_download_goes_on(tmp_path, server, ranges):
    server.break_at, server.ranges = 300_000, ranges
    assert resolve_network(f'{server.url}/net.pkl', tmp_path, progress=False).read_bytes() == NETWORK
    assert len(server.requests) == 2 and server.requests[1].startswith('bytes=')


def test_a_download_that_keeps_breaking_leaves_nothing(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, 'ATTEMPTS', 1)
    server.break_at = 10
    with pytest.raises(
        InputError, match='Cannot download http.*Download it by other means and give its path, or put it at .*net.pkl'
    ):
        resolve_network(f'{server.url}/net.pkl', tmp_path, progress=False)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ('status', 'answer', 'message'),
    [
        (404, NETWORK, 'answers 404'),
        (200, b'<html>Please log in</html>', 'gave no network pickle: it is a web page'),
        (200, b'', 'gave no network pickle: the file is empty'),
    ],
)
def test_what_is_no_network_is_not_kept(tmp_path, server, status, answer, message):
    server.status, server.answer = status, answer
    with pytest.raises(InputError, match=message):
        resolve_network(f'{server.url}/net.pkl', tmp_path, progress=False)
    assert files(tmp_path) == []


def test_no_connection(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{free.getsockname()[1]}/net.pkl'
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / 'cache'))
    with pytest.raises(InputError) as caught:
        resolve_network(url, progress=False)
    assert url in str(caught.value) and str(tmp_path / 'cache') in str(caught.value)


def test_no_room(tmp_path, server, monkeypatch):
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, 'disk_usage', lambda _: usage._replace(free=1000))
    with pytest.raises(
        InputError, match='is 1,024,002 bytes, and .* has room for 1,000; EG3D_UNLEARN_CACHE names another'
    ):
        resolve_network(f'{server.url}/net.pkl', tmp_path, progress=False)
    assert files(tmp_path) == []


def test_cache_that_cannot_be_made(tmp_path, server):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(InputError, match='Cannot keep the download .* EG3D_UNLEARN_CACHE names another folder'):
        resolve_network(f'{server.url}/net.pkl', tmp_path / 'file' / 'cache', progress=False)


def test_published_name(tmp_path, server, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PUBLISHED, 'ffhq512-128.pkl', f'{server.url}/ffhq512-128.pkl')
    assert resolve_network('ffhq512-128.pkl', tmp_path / 'cache', progress=False).read_bytes() == NETWORK
    assert 'taking http' in capsys.readouterr().err
    (tmp_path / 'ffhq512-128.pkl').write_bytes(b'mine')  # a file of that name comes first
    assert resolve_network('ffhq512-128.pkl').read_bytes() == b'mine'


def test_published_names():
    assert PUBLISHED['ffhqrebalanced512-128.pkl'] == (
        'https://api.ngc.nvidia.com/v2/models/nvidia/research/eg3d/versions/1/files/ffhqrebalanced512-128.pkl'
    )
    assert all(
        url.startswith('https://') and url.endswith(f'/{name}') for name, url in PUBLISHED.items()
    )


def test_unknown_name():
    with pytest.raises(InputError, match='There is no network nothing.pkl: expected a .pkl file, an http'):
        resolve_network('nothing.pkl')


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path))
    assert download.default_cache() == tmp_path
    monkeypatch.delenv('EG3D_UNLEARN_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert download.default_cache() == tmp_path / 'xdg' / 'eg3d_unlearn'


# A server that answers anything, by the path that is asked for.

class Hostile(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def answer(self, status, body=b'', **headers):
        self.send_response_only(status, headers.pop('reason', None))
        for name, value in headers.items():
            for one in value if isinstance(value, list) else [value]:
                self.send_header(name.replace('_', '-'), one)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.requests.append(self.headers)
        length, path = str(len(NETWORK)), self.path.split('?')[0].strip('/').removesuffix('.pkl')
        part = NETWORK[:60_000]
        if path.startswith('redirect'):
            self.answer(302, Location={'redirect-file': 'file:///etc/passwd', 'redirect-ftp': 'ftp://127.0.0.1:1/x', 'redirect-data': 'data:,x',
                                       'redirect-loop': '/redirect-loop.pkl', 'redirect-good': '/good.pkl'}[path], Content_Length='0')
        elif path == 'good':
            self.answer(200, NETWORK, Content_Length=length)
        elif path == 'chunked':
            self.answer(200, b'%x\r\n' % len(NETWORK) + NETWORK + b'\r\n0\r\n\r\n', Transfer_Encoding='chunked')
        elif path == 'longer':
            self.answer(200, NETWORK + b'more', Content_Length=length)
        elif path == 'no-length':
            self.answer(200, part)
        elif path == 'short':
            self.answer(200, part, Content_Length=length)
        elif path == 'chunk-cut':
            self.answer(200, b'fffff\r\n' + part, Transfer_Encoding='chunked')
        elif path == 'chunk-bad':
            self.answer(200, b'zz\r\nabc', Transfer_Encoding='chunked')
        elif path == 'spliced':
            if self.headers.get('Range'):
                self.answer(206, NETWORK[:-60_000], Content_Length=str(len(NETWORK) - 60_000), ETag='"x"',
                            Content_Range=f'bytes 0-{len(NETWORK) - 60_001}/{len(NETWORK)}')
            else:
                self.answer(200, part, Content_Length=length, ETag='"x"')
        elif path == 'unasked':
            self.answer(206, part, Content_Length='60000', Content_Range=f'bytes 0-59999/{len(NETWORK)}')
        elif path == 'gzip':
            self.answer(200, part, Content_Length='60000', Content_Encoding='gzip')
        elif path == 'escapes':
            self.answer(404, reason='\x1b]0;owned\x07', Content_Length='0')
        elif path == 'huge':
            self.answer(200, part, Content_Length=str(1 << 50))
        elif path == 'endless':
            self.answer(200, Transfer_Encoding='chunked')
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b'80000\r\n' + b'\x80' * 0x80000 + b'\r\n')
        elif path == 'trickle':
            self.answer(200, Content_Length=length)
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b'\x80')
                    time.sleep(0.05)
        else:
            lengths = {'two-lengths': ['10', length], 'negative': '-5', 'float': '1e9', 'digits': '9' * 5000}
            self.answer(200, NETWORK, Content_Length=lengths[path])

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def hostile():
    with Server(('127.0.0.1', 0), Hostile) as server:
        server.daemon_threads, server.requests = True, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize('path', ['good', 'chunked', 'longer', 'redirect-good'])
def test_odd_answers_that_are_whole(tmp_path, hostile, path):
    assert resolve_network(f'{hostile.url}/{path}.pkl', tmp_path, progress=False).read_bytes() == NETWORK


@pytest.mark.parametrize('path, message', [
    ('redirect-file', 'not http'), ('redirect-ftp', 'not http'), ('redirect-data', 'not http'), ('redirect-loop', 'without end'),
    ('no-length', 'does not say how long'), ('two-lengths', 'no usable length'), ('negative', 'no usable length'), ('float', 'no usable length'),
    ('digits', 'no usable length'), ('huge', 'at most'), ('short', '60,000 of 1,024,002 bytes came'), ('chunk-cut', 'IncompleteRead'),
    ('chunk-bad', 'Cannot download'), ('spliced', 'Cannot download'), ('unasked', 'another part'), ('gzip', 'compressed'),
    ('escapes', r'404 \(\\x1b\]0;owned\\x07\)'), ('endless', 'more than 3,000,000 bytes'), ('trickle', 'bytes came in 20 seconds'),
])
def test_answers_that_are_refused(tmp_path, hostile, monkeypatch, path, message):
    if path == 'endless':
        monkeypatch.setattr(download, 'AT_MOST', 3_000_000)
    if path == 'trickle':            # a second for each byte
        monkeypatch.setattr(download, 'time', SimpleNamespace(monotonic=itertools.count().__next__))
    with pytest.raises(InputError, match=message) as caught:
        resolve_network(f'{hostile.url}/{path}.pkl', tmp_path, progress=False)
    assert files(tmp_path) == [] and str(caught.value).isprintable()


def test_a_published_checksum_saves_an_answer_without_length(tmp_path, hostile):
    with pytest.raises(InputError, match='gave a file with SHA-256'):
        download.download(f'{hostile.url}/no-length.pkl', tmp_path / 'x', sha256=hashlib.sha256(NETWORK).hexdigest(), progress=False)
    part = hashlib.sha256(NETWORK[:60_000]).hexdigest()
    assert download.download(f'{hostile.url}/no-length.pkl', tmp_path / 'x', sha256=part, progress=False).stat().st_size == 60_000


def test_no_token_is_shown(tmp_path, hostile, capsys):
    address = hostile.url.removeprefix('http://')
    with pytest.raises(InputError) as caught:
        resolve_network(f'http://jane:password@{address}/escapes.pkl?sig=hunter2#part', tmp_path, progress=False)
    path = resolve_network(f'http://jane:pass%20word@{address}/good.pkl?sig=hunter2', tmp_path)
    said = str(caught.value) + ''.join(capsys.readouterr()) + str(path)
    assert f'http://{address}/escapes.pkl' in said and not any(word in said for word in ('jane', 'pass', 'hunter2', 'sig'))
    assert base64.b64decode(hostile.requests[-1]['Authorization'].removeprefix('Basic ')) == b'jane:pass word'


@pytest.mark.parametrize('url, shown', [
    ('https://u:p@host:8/a/b.pkl?t=1#x', 'https://host:8/a/b.pkl'), ('http://host', 'http://host'), ('https://a@b@host/@c', 'https://host/@c'),
    ('HTTP://u:p@host/x', 'HTTP://host/x'), ('net?.pkl', 'net?.pkl'), ('/tmp/a#b', '/tmp/a#b'), ('http://[::1/x?y', 'http://[::1/x'),
])
def test_addresses_without_secrets(url, shown):
    assert download.without_secrets(url) == shown


@pytest.mark.parametrize('url', ['http://[::1/x.pkl', 'http://127.0.0.1:port/x.pkl', 'http://' + 'a' * 70 + '/x.pkl', 'http:///x.pkl',
                                 'http://127.0.0.1:1/a b\n'])
def test_addresses_that_are_none(tmp_path, url):
    with pytest.raises(InputError):
        resolve_network(url, tmp_path, progress=False)
    assert files(tmp_path) == []


def test_a_first_download_that_nothing_checks_is_said(tmp_path, hostile, capsys):
    resolve_network(f'{hostile.url}/good.pkl', tmp_path, progress=False)
    assert f'was not checked. Its SHA-256, {hashlib.sha256(NETWORK).hexdigest()}' in capsys.readouterr().err
    resolve_network(f'{hostile.url}/good.pkl', tmp_path, progress=False)
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('damage', [lambda record: record.write_text(''), lambda record: record.write_bytes(b'\xff\xfe'),
                                    lambda record: (record.unlink(), record.mkdir())])
def test_a_damaged_record_is_said(tmp_path, hostile, damage):
    path = resolve_network(f'{hostile.url}/good.pkl', tmp_path, progress=False)
    damage(download.record_of(path))
    with pytest.raises(InputError, match='is damaged; delete it to download it again'):
        resolve_network(f'{hostile.url}/good.pkl', tmp_path, progress=False)


def test_what_killed_downloads_left_is_removed_by_the_next(tmp_path, hostile):
    for name in (f'.other.pkl.1@{socket.gethostname()}.12345678.part', '.old.pkl.abcdefgh.part'):
        (tmp_path / name).write_bytes(b'half')
    os.utime(tmp_path / '.old.pkl.abcdefgh.part', (0, 0))
    path = resolve_network(f'{hostile.url}/good.pkl', tmp_path, progress=False)
    assert files(tmp_path) == [path.name, path.name + '.sha256']
