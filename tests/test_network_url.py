"""Networks by path, URL and published name; a server on this machine stands in for NVIDIA's."""

from __future__ import annotations

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from torch_utils_ext import download
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_url import PUBLISHED, Published, resolve_network

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
    digest = hashlib.sha256(NETWORK).hexdigest()
    monkeypatch.setitem(PUBLISHED, 'ffhq512-128.pkl', Published(f'{server.url}/ffhq512-128.pkl', digest))
    assert resolve_network('ffhq512-128.pkl', tmp_path / 'cache', progress=False).read_bytes() == NETWORK
    assert 'taking http' in capsys.readouterr().err
    (tmp_path / 'ffhq512-128.pkl').write_bytes(b'mine')  # a file of that name comes first
    assert resolve_network('ffhq512-128.pkl').read_bytes() == b'mine'
    monkeypatch.setitem(PUBLISHED, 'wrong.pkl', Published(f'{server.url}/wrong.pkl', '0' * 64))
    with pytest.raises(InputError, match='expected 0000'):
        resolve_network('wrong.pkl', tmp_path / 'cache', progress=False)


def test_published_names():
    assert PUBLISHED['ffhqrebalanced512-128.pkl'].url == (
        'https://api.ngc.nvidia.com/v2/models/nvidia/research/eg3d/versions/1/files/ffhqrebalanced512-128.pkl'
    )
    assert all(
        source.url.startswith('https://') and source.url.endswith(f'/{name}') for name, source in PUBLISHED.items()
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
