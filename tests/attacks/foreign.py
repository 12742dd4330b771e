"""Files that people give in place of a network pickle."""

from __future__ import annotations

import gzip
import io

import numpy as np
import torch
from attacks.attack import Attack, call, fixed, whole


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
