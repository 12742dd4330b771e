"""Weight files: found, fetched and read, or refused with a sentence that says what to do."""
import hashlib
import http.server
import pickle
import threading

import pytest
import torch
from torch import nn

from eg3d_unlearn.judges import features, perceptual, weights
from eg3d_unlearn.judges.identity import NAMES, network_class
from eg3d_unlearn.person.inversion import PUBLISHED
from torch_utils_ext import download as download_module
from torch_utils_ext.download import download, sha256_of
from torch_utils_ext.errors import InputError

CONTENT = b'0123456789' * 1000
ARCFACE = network_class('arcface').weights


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """No test sees the machine's own caches, nor the internet."""
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path / 'cache'


@pytest.fixture
def server():
    """Address of a local web server whose every file is CONTENT; /missing is not there."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == '/missing':
                return self.send_error(404)
            self.send_response(200)
            self.send_header('Content-Length', str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{httpd.server_port}'
    httpd.shutdown()
    httpd.server_close()


def entry(**changes):
    fields = dict(filename='thing.pth', purpose='thing', licence='none', flag='--id-weights')
    return weights.WeightFile(**{**fields, **changes})


def leftovers(folder):
    return sorted(path.name for path in folder.glob('*')) if folder.exists() else []


def test_download_checks_and_keeps(server, tmp_path):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    dest = download(f'{server}/a', tmp_path / 'new' / 'a', sha256=sha256, size=len(CONTENT), progress=False)
    assert dest.read_bytes() == CONTENT and sha256_of(dest) == sha256
    assert leftovers(tmp_path / 'new') == ['a']


@pytest.mark.parametrize('path, limits, sentence', [
    ('/a', {'size': 5}, 'expected 5; nothing was kept'),
    ('/a', {'size': 20_000}, 'gave 10,000 bytes, expected 20,000'),
    ('/a', {'sha256': 'ab' * 32}, 'gave a file with SHA-256 '),
    ('/missing', {}, 'Cannot download .*404'),
])
def test_download_keeps_nothing_that_is_wrong(server, tmp_path, path, limits, sentence):
    with pytest.raises(InputError, match=sentence):
        download(server + path, tmp_path / 'a', progress=False, **limits)
    assert leftovers(tmp_path) == []


def test_download_without_connection(tmp_path):
    with pytest.raises(InputError, match='Cannot download http://127.0.0.1:9/a: '):
        download('http://127.0.0.1:9/a', tmp_path / 'a', progress=False)
    assert leftovers(tmp_path) == []


def test_a_checksum_is_computed_once_for_an_unchanged_file(tmp_path, monkeypatch):
    path, read = tmp_path / 'a', []
    monkeypatch.setattr(download_module, 'sha256_of', lambda path: read.append(path) or sha256_of(path))
    for content in (b'one', b'one', b'three'):
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        assert download_module.sha256_once(path) == hashlib.sha256(content).hexdigest()
    assert len(read) == 2


def test_a_file_that_the_user_names_is_taken(tmp_path):
    (tmp_path / 'own.pth').write_bytes(CONTENT)
    assert weights.find(ARCFACE, tmp_path / 'own.pth') == tmp_path / 'own.pth'


def test_find_fetches_once_into_the_cache(server, empty_cache, capsys):
    thing = entry(url=f'{server}/a', size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    path = weights.find(thing)
    assert path == empty_cache / 'thing.pth' and path.read_bytes() == CONTENT
    assert f'Fetching thing.pth (0 MB) from {server}/a to {path}' in capsys.readouterr().err
    with weights.fetching_nothing():
        assert weights.find(thing) == path


def test_find_uses_torchvisions_cache(tmp_path):
    for folder in ('torch/hub/checkpoints', 'torch/checkpoints'):
        path = tmp_path / folder / 'thing.pth'
        path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
        assert weights.find(entry(torch_cache=True)) == path
        path.unlink()


def test_missing_file_says_what_to_fetch_and_where_to_put_it(empty_cache):
    with pytest.raises(InputError) as error:
        weights.find(network_class('curricularface').weights)  # no direct address: never a download
    message = str(error.value)
    for part in ('CurricularFace_Backbone.pth', 'https://drive.google.com/', str(empty_cache), '--id-weights=PATH',
                 '--random-metric-weights'):
        assert part in message
    with weights.fetching_nothing(), pytest.raises(weights.NotHere, match='^vgg16-.* a run fetches it .553 MB. from https://download.pytorch'):
        weights.find(perceptual.NETS['vgg'].weights)
    with pytest.raises(InputError, match='--id-weights=/nowhere/x.pth is not a file. Fetch model_ir_se50.pth from '):
        weights.find(ARCFACE, '/nowhere/x.pth')


def test_failed_download_says_how_to_do_it_by_hand():
    with pytest.raises(InputError, match='Cannot download http://127.0.0.1:9/a: .* Fetch thing.pth from '):
        weights.find(entry(url='http://127.0.0.1:9/a', sha256='0' * 64))


@pytest.mark.parametrize('expected, sentence', [
    ({'size': 5}, 'has 10,000 bytes, expected 5: an unfinished or wrong download. Delete it.'),
    ({'sha256': 'ab' * 32}, 'expected (ab){32}: not the published file. Delete it, or give your own file with --id-w'),
])
def test_damaged_file_in_the_cache(empty_cache, expected, sentence):
    empty_cache.mkdir()
    (empty_cache / 'thing.pth').write_bytes(CONTENT)
    with pytest.raises(InputError, match=sentence):
        weights.find(entry(**expected))


FILES = {
    'inception': features.INCEPTION, **{name: net.weights for name, net in perceptual.NETS.items()},
    **{name: network_class(name).weights for name in NAMES}, **{name: encoder.weights for name, encoder in PUBLISHED.items()}}


@pytest.mark.parametrize('name', FILES)
def test_what_is_fetched_has_an_address_a_size_and_a_checksum(name):
    item = FILES[name]
    assert item.url or item.page
    assert item.url is None or (item.size and len(item.sha256) == 64)
    assert item.flag.startswith('--') and item.purpose and item.licence
    assert name not in perceptual.NETS or f'-{item.sha256[:8]}.pth' in item.filename  # torchvision's names begin with the checksum


class Payload:
    def __reduce__(self):
        return print, ('this must not run',)


@pytest.mark.parametrize('write, sentence', [
    (lambda path: path.write_text('<!DOCTYPE html><html>too large to scan'), 'is a web page about the file: open its address'),
    (lambda path: path.write_bytes(b'\x00' * 100), 'was not written by torch.save.*Expected a state dict'),
    (lambda path: path.write_bytes(b''), 'was not written by torch.save'),
    (lambda path: path.write_bytes(pickle.dumps(Payload())), 'was not written by torch.save'),
    (lambda path: torch.save(nn.Linear(2, 2), path), 'asks for torch.nn.modules.linear.Linear.*nothing in it was run'),
    (lambda path: torch.save({'state_dict': {}, 'opts': 1}, path), 'a dict with the entries state_dict, opts; exp'),
    (lambda path: torch.save(torch.zeros(3), path), 'holds a Tensor; expected a state dict'),
    (lambda path: torch.save({}, path), 'holds an empty dict'),
])
def test_foreign_files(tmp_path, capsys, write, sentence):
    path = tmp_path / 'w.pth'
    write(path)
    with pytest.raises(InputError, match=sentence):
        weights.load_state(path)
    assert capsys.readouterr().out == ''


def test_truncated_state_dict(tmp_path):
    path = tmp_path / 'w.pth'
    torch.save({'a': torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match='is damaged .BadZipFile..*Expected a state dict'):
        weights.load_state(path)


def test_every_misfit_is_named():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = net.state_dict()
    del state['0.bias'], state['1.num_batches_tracked']
    state['0.weight'] = torch.zeros(3, 7)
    state['head.weight'] = torch.zeros(1)
    with pytest.raises(InputError) as error:
        weights.load_into(net, state, 'w.pth')
    assert str(error.value) == ('w.pth does not fit Sequential: missing: 0.bias; unexpected: head.weight; '
                                'wrong shape: 0.weight [3, 7] instead of [3, 2].')


def test_load_into_takes_the_values():
    source, target = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    state = {**source.state_dict(), 'logits.weight': torch.zeros(1)}
    weights.load_into(target, state, 'w.pth', ignore=('logits.',))
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())
