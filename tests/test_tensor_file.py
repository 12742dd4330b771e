"""Files of torch.save and numpy as plain values: equal to what torch and numpy read, or refused in a sentence, within bounds."""
from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz import outcomes
from fuzz_targets import Target

from eg3d_unlearn.person.latents import read_latent
from torch_utils_ext.errors import InputError
from torch_utils_ext.tensor_file import MAX_ARRAY_BYTES, read_tensors

W = torch.arange(12.0).reshape(3, 4)


class Network:
    """What `read_latent` asks of a generator."""
    num_ws, w_dim, device = 8, 24, 'cpu'


class Payload:
    def __reduce__(self):
        return os.mkdir, ('this-must-not-be-made',)


def same(found, wanted):
    assert type(found) is type(wanted) or isinstance(wanted, (dict, torch.nn.Parameter))
    if isinstance(wanted, torch.Tensor):
        return torch.equal(found, wanted) and found.dtype == wanted.dtype
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return found == wanted


PLAIN = {
    'a tensor': W, 'transposed': W.T, 'a slice': W[1:, 1:], 'expanded': W[:, :1].expand(3, 4), 'empty': torch.zeros(0, 4),
    'a number': torch.tensor(3.0), 'half': W.half(), 'bfloat16': W.bfloat16(), 'bool': W > 3, 'int64': W.long(),
    'nested': {'w': W, 'n': 5, 'text': 'é', 'f': 0.5, 'yes': True, 'none': None, 'list': [1, (2, 'x'), [W]], 7: 'key'},
    'ordered': OrderedDict(a=W, b=W[0]), 'a parameter': {'w': torch.nn.Parameter(W)}, 'bytes': b'abc\xff',
    'state dict': torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict(),
    'optimiser': torch.optim.Adam([torch.nn.Parameter(W)]).state_dict(), 'random state': torch.get_rng_state(),
}


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('name', PLAIN)
def test_values_are_those_that_torch_reads(tmp_path, name, zipped):
    torch.save(PLAIN[name], tmp_path / 'x.pt', _use_new_zipfile_serialization=zipped)
    found = read_tensors(tmp_path / 'x.pt')
    assert same(found, torch.load(tmp_path / 'x.pt', weights_only=True))


def test_tensors_of_one_storage_share_it(tmp_path):
    torch.save({'all': W, 'row': W[1]}, tmp_path / 'x.pt')
    found = read_tensors(tmp_path / 'x.pt')
    found['row'].zero_()
    assert found['all'][1].sum() == 0 and found['all'].sum() == 66 - (4 + 5 + 6 + 7)


def test_published_weights_of_old_torch_and_python(tmp_path):
    """The package lpips brings files of Python 2 and of torch 0.4."""
    import lpips
    for path in (Path(lpips.__file__).parent / 'weights' / 'v0.1').glob('*.pth'):
        assert same(read_tensors(path), torch.load(path, map_location='cpu', weights_only=True))


REFUSED = {
    'code': ({'w': Payload()}, 'asks for posix.mkdir.*nothing in it was run'), 'a module': (torch.nn.Linear(2, 2), 'asks for torch.nn.modules'),
    'sparse': (W.to_sparse(), 'a sparse tensor'), 'quantised': (torch.quantize_per_tensor(W, 1.0, 0, torch.quint8), 'a quantised tensor'),
    'complex': (W.to(torch.complex64), 'ComplexFloatStorage'), 'no values': (W.to('meta'), 'a tensor without values'),
    'negative view': (torch.tensor(5.0)._neg_view(), 'negative view'),
    'a billion times': (torch.zeros(1, 4).expand(10**9, 4), 'far more memory'),
    'a tuple as key': ({(1, 2): W}, 'container as the key'),
}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('name', REFUSED)
def test_what_is_no_plain_tensor_is_refused(tmp_path, monkeypatch, name, zipped):
    monkeypatch.chdir(tmp_path)
    content, sentence = REFUSED[name]
    torch.save(content, 'x.pt', _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=sentence) as error:
        read_tensors('x.pt', 'latent file')
    assert str(error.value).startswith('The latent file x.pt ') and os.listdir() == ['x.pt']


@pytest.mark.parametrize('zipped', [True, False])
def test_a_file_that_is_cut_is_refused_at_every_length(tmp_path, zipped):
    torch.save({'w': W}, tmp_path / 'x.pt', _use_new_zipfile_serialization=zipped)
    content = (tmp_path / 'x.pt').read_bytes()
    for length in range(0, len(content) - 1, 7):
        (tmp_path / 'x.pt').write_bytes(content[:length])
        with pytest.raises(InputError):
            read_tensors(tmp_path / 'x.pt')


def test_entries_that_overlap_or_are_compressed_take_no_memory(tmp_path):
    torch.save([torch.zeros(1 << 20) for _ in range(2)], tmp_path / 'x.pt')
    with zipfile.ZipFile(tmp_path / 'x.pt') as archive, zipfile.ZipFile(tmp_path / 'small.pt', 'w', zipfile.ZIP_DEFLATED) as small:
        for entry in archive.infolist():
            small.writestr(entry.filename, archive.read(entry))
    with pytest.raises(InputError, match='compressed'):
        read_tensors(tmp_path / 'small.pt')
    # Both entries of the list of contents point to the first tensor's bytes.
    content = bytearray((tmp_path / 'x.pt').read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first, second = (archive.getinfo(name).header_offset for name in archive.namelist() if name.endswith(('data/0', 'data/1')))
    place = content.rindex(struct.pack('<I', second))
    content[place:place + 4] = struct.pack('<I', first)
    (tmp_path / 'y.pt').write_bytes(content[:first + 64] + content[first + 64:])
    assert len(read_tensors(tmp_path / 'y.pt')) == 2          # twice the bytes of one are still no more than the file
    cut = content[:first + 128 + (4 << 20)] + content[content.index(b'PK\x01\x02'):]
    (tmp_path / 'z.pt').write_bytes(cut)
    with pytest.raises(InputError):
        read_tensors(tmp_path / 'z.pt')


def header(shape, descr='<f4', version=b'\x01\x00'):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b'\n'
    return b'\x93NUMPY' + version + struct.pack('<H', len(text)) + text


LATENT = np.linspace(-1, 1, 8 * 24).reshape(1, 8, 24)
ARRAYS = {
    'float32': LATENT.astype(np.float32), 'float64': LATENT, 'float16': LATENT.astype(np.float16), 'big-endian': LATENT.astype('>f4'),
    'Fortran order': np.asfortranarray(LATENT.astype(np.float32)), 'without the first axis': LATENT[0],
    'integers': np.arange(192).reshape(1, 8, 24), 'long double': LATENT.astype(np.longdouble),
}


@pytest.mark.parametrize('kind', ['npy', 'npz', 'compressed', 'objects', 'restyle', 'torch'])
@pytest.mark.parametrize('name', ARRAYS)
def test_latents_of_every_number_type_and_file(tmp_path, name, kind):
    array = ARRAYS[name]
    path = tmp_path / 'w'
    with open(path, 'wb') as file:
        if kind == 'npy':
            np.save(file, array)
        elif kind == 'npz':
            np.savez(file, w=array, other=np.ones(3))
        elif kind == 'compressed':
            np.savez_compressed(file, w=array)
        elif kind == 'objects':
            np.save(file, {'w': array}, allow_pickle=True)
        elif kind == 'restyle':      # step by step, the last counts
            np.save(file, {'one.png': [array * 0, array * 2, array]}, allow_pickle=True)
        elif name in ('big-endian', 'long double'):
            pytest.skip('torch has no such type')
        else:
            torch.save({'latent': torch.from_numpy(array), 'seed': 3}, file)
    found = read_latent(path, Network)
    assert found.dtype == torch.float32 and torch.equal(found, torch.from_numpy(array.astype(np.float32)).reshape(1, 8, 24))


def npz_bomb(path):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive, archive.open('w.npy', 'w', force_zip64=True) as file:
        file.write(header((MAX_ARRAY_BYTES // 4 + 1,)))
        for _ in range(MAX_ARRAY_BYTES >> 20):
            file.write(bytes(1 << 20))


def pickled_array(name):
    """A .npy of objects with an array in it whose type numpy calls otherwise."""
    stream = io.BytesIO()
    np.save(stream, {'w': np.zeros((1, 24))}, allow_pickle=True)
    assert b'f8' in stream.getvalue()
    return stream.getvalue().replace(b'f8', name.encode())


BROKEN = {
    'shape without end': (header((10**12,)), 'announces 4,000,000,000,000 bytes and holds 0'),
    'shape beyond 64 bits': (header((2**40, 2**40)), 'announces'), 'negative shape': (header((-1, 24)) + bytes(96), 'no valid shape'),
    'structured': (header((1, 24), [('a', '<f4')]) + bytes(96), 'expected numbers of shape'),
    'void of a gigabyte': (header((1, 24), '|V1000000000') + bytes(96), 'announces'),
    'complex': (header((1, 24), '<c8') + bytes(192), 'holds complex64 values'), 'text': (header((1, 24), '<U1') + bytes(96), 'holds <U1 values'),
    'no number': (header((), '<f4') + bytes(4), r'has shape \[\]'), 'code as header': (b'\x93NUMPY\x01\x00' + struct.pack('<H', 40) +
                                                                                    b"__import__('os').mkdir('x')".ljust(39) + b'\n', 'damaged'),
    'brackets as header': (b'\x93NUMPY\x02\x00' + struct.pack('<I', 9000) + (b'(' * 4000).ljust(8999) + b'\n', 'damaged'),
    'header of 4 GB': (b'\x93NUMPY\x02\x00\xff\xff\xff\xff', 'the text that describes an array in it has 4,294,967,295 bytes'),
    'version 9': (b'\x93NUMPY\x09\x00' + bytes(100), 'version'), 'NaN': (np.full((1, 24), np.nan, np.float16), 'NaN or infinite'),
    'beyond float32': (np.full((1, 24), 1e300), 'NaN or infinite'), 'a pickle': (pickle.dumps({'w': Payload()}), 'was not written by'),
    'a type that numpy has not': (pickled_array('f3'), 'no plain number'),
    'objects that act': (np.array([Payload()], dtype=object), 'nothing in it was run'),
    'photos of several': ({'a.png': [LATENT], 'b\x1b[2J.png': [LATENT]}, r'holds 2 arrays \(a.png, b\\x1b\[2J.png\)'),
    'steps of several shapes': ({'a.png': [LATENT, LATENT[0]]}, 'not the latents of one photo'), 'a bomb': (npz_bomb, 'at most 268,435,456'),
    'nothing': (b'', 'was not written by'), 'a text': (b'hello', 'was not written by'), 'a page': (b'<!DOCTYPE html>', 'a web page'),
    'a pointer': (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'), 'an empty zip': (b'PK\x05\x06' + bytes(18), 'was not'),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_and_hostile_latents(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, sentence = BROKEN[name]
    path = tmp_path / 'w.npy'
    if callable(content):
        content(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with open(path, 'wb') as file:
            np.save(file, content, allow_pickle=True)
    with pytest.raises(InputError, match=sentence) as error:
        read_latent(path, Network)
    assert len(str(error.value)) < 700 and str(error.value).isprintable() and os.listdir() == ['w.npy']


def test_claims_cost_no_memory(tmp_path):
    """In a child with a limit on memory, as the fuzzer runs its cases."""
    bomb = tmp_path / 'bomb'
    npz_bomb(bomb)
    cases = [header((3 * 2**28,)), bomb.read_bytes()]
    target = Target('latent', lambda: cases, lambda case, folder: (folder.joinpath('w').write_bytes(case), read_latent(folder / 'w', Network)))
    found = outcomes(target, cases, 0, tmp_path)
    assert [next(found)[1].kind for _ in range(4)] == ['refused'] * 4
    found.close()


@pytest.mark.parametrize('name, sentence', [('nowhere.npy', 'is not there'), ('pipe', 'is a pipe, not a file'), ('folder', 'is a folder'),
                                            ('n' * 300, 'is not there'), ('x\0y', 'is not there'), ('/dev/zero', 'is a device')])
def test_names_that_are_no_files(tmp_path, monkeypatch, name, sentence):
    monkeypatch.chdir(tmp_path)
    os.mkfifo('pipe')
    os.mkdir('folder')
    with pytest.raises(InputError, match=sentence):
        read_latent(Path(name), Network)
