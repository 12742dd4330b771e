"""Files that people give in place of a network pickle."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile

import numpy as np
import pickle_stand_ins as stand_ins
import torch
from attacks.attack import Attack, call, fixed, whole

_WHOLE = r'holds a whole network of the class Generator\. If you trust it .loading it runs the code in it.*pickle\.dump'
_BY_TORCH = r"holds NVIDIA's networks, but was not written by pickle.*runs the code in it.*pickle\.dump"
_PICTURE = 'a picture; pictures go to --image'


def attacks() -> list[Attack]:
    files = {
        'empty file': (b'', 'the file is empty'),
        'text': (b'This is no network.\n', 'a text file'),
        'web page': (b'\n<!DOCTYPE html><html>404</html>', 'a web page'),
        'git-lfs pointer': (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n', 'git lfs pull'),
        'numpy archive': (_npz(), 'a numpy .npz archive; latents go to --latent'),
        'numpy array': (_npy(), 'a numpy .npy file'),
        'gzip': (gzip.compress(whole(b'N')), 'compressed with gzip'),
        'torch.save': (_saved(True), 'an archive of torch.save'),
        'torch.save, old format': (_saved(False), 'torch.save in its old format'),
        'torch.save of a generator': (_saved_network('G', True), _WHOLE),
        'torch.save of a generator, old format': (_saved_network('G', False), _WHOLE),
        "torch.save of NVIDIA's dictionary": (_saved_network('all', True), _BY_TORCH),
        "torch.save of NVIDIA's dictionary, old format": (_saved_network('all', False), _BY_TORCH),
        'torch.save, cut': (_saved_network('G', True)[:2000], 'an archive of torch.save'),
        'TorchScript': (_archive('model/data.pkl', b'\x80\x02c__torch__\nNet\n.'), 'a TorchScript program'),
        'zip': (_archive('network.pkl', bytes(100)), 'a zip archive; unpack it'),
        'tar': (bytes(257) + b'ustar' + bytes(250), 'a tar archive; unpack it'),
        'bzip2': (bz2.compress(whole(b'N')), 'compressed with bzip2'),
        'xz': (lzma.compress(whole(b'N')), 'compressed with xz'),
        'zstd': (b'\x28\xb5\x2f\xfd' + bytes(20), 'compressed with zstd'),
        'GIF': (b'GIF89a' + bytes(20), _PICTURE),
        'TIFF': (b'II*\x00' + bytes(20), _PICTURE),
        'WebP': (b'RIFF\x00\x00\x00\x00WEBP', _PICTURE),
        'AVIF': (b'\x00\x00\x00\x20ftypavif', 'a picture .HEIC, AVIF. or a video'),
        'HDF5': (b'\x89HDF\r\n\x1a\n', 'an HDF5 file'),
        'ONNX': (b'\x08\x08\x12\x07pytorch\x1a\x052.1.0', 'an ONNX file'),
        'picture': (b'\x89PNG\r\n\x1a\n' + bytes(100), 'a picture; pictures go to --image'),
        'safetensors': (b'\x10' + bytes(7) + b'{"a":1}         ', 'a safetensors file'),
        'random bytes': (bytes(range(200, 256)) * 9, 'does not start as a pickle'),
        'one byte': (b'\x80', 'ends in the middle'),
        'pickle of protocol 0': (b'(lp0\n.', 'protocol 0'),
        'TensorFlow network': (whole(call('dnnlib.tflib.network', 'Network')), 'legacy.py converts it'),
        'protocol 2': (b'\x80\x02' + call('_codecs', 'encode') + b'.', 'pickle protocol 2 or older'),
        'bare storage': (whole(b'ctorch\nFloatStorage\n'), 'a bare tensor storage'),
    }
    return [Attack(name, fixed(raw), message) for name, (raw, message) in files.items()]


def _npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, w=np.zeros((1, 14, 512)))
    return out.getvalue()


def _npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(3))
    return out.getvalue()


def _saved(today: bool) -> bytes:
    out = io.BytesIO()
    torch.save({'weight': torch.zeros(3)}, out, _use_new_zipfile_serialization=today)
    return out.getvalue()


def _saved_network(what: str, today: bool) -> bytes:
    """As PTI saves a generator, or everything."""
    out, contents = io.BytesIO(), stand_ins.network_contents()
    with stand_ins.upstream_stand_ins():
        torch.save(contents if what == 'all' else contents[what], out, _use_new_zipfile_serialization=today)
    return out.getvalue()


def _archive(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as archive:
        archive.writestr(name, content)
    return out.getvalue()
