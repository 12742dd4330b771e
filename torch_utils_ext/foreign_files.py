"""Says what a file is that people give in place of a network pickle.  Nothing in it is run."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

from torch_utils_ext.pickle_values import PERSISTENT, mapping
from torch_utils_ext.safe_pickle import Budget, Call, Global, Machine, PickleError, Policy, Window
from torch_utils_ext.user_files import shown

HEAD = 4096  # bytes that say what most files are
_WEIGHTS = "which holds weights without the network; give the .pkl of NVIDIA's code"
_TORCH_LEGACY = b'\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.'
_PICTURE = 'it is a picture; pictures go to --image'
_UNPACK = 'it is a {} archive; unpack it and give the .pkl in it'

# First bytes (at an offset), and what a file with them is.
_MAGIC = (
    (0, b'version https://git-lfs', 'it is a Git LFS pointer, and `git lfs pull` fetches the real file'),
    (0, b'\x93NUMPY', 'it is a numpy .npy file; latents go to --latent'),
    (0, b'\x1f\x8b', 'it is compressed with gzip, and `gunzip` unpacks it'),
    (0, b'BZh', 'it is compressed with bzip2, and `bunzip2` unpacks it'),
    (0, b'\xfd7zXZ\x00', 'it is compressed with xz, and `unxz` unpacks it'),
    (0, b'\x28\xb5\x2f\xfd', 'it is compressed with zstd, and `unzstd` unpacks it'),
    (0, b'7z\xbc\xaf\x27\x1c', _UNPACK.format('7z')),
    (0, b'Rar!\x1a\x07', _UNPACK.format('RAR')),
    (257, b'ustar', _UNPACK.format('tar')),
    (0, b'\x89PNG', _PICTURE),
    (0, b'\xff\xd8\xff', _PICTURE),
    (0, b'GIF8', _PICTURE),
    (0, b'II*\x00', _PICTURE),
    (0, b'MM\x00*', _PICTURE),
    (8, b'WEBP', _PICTURE),
    (4, b'ftyp', 'it is a picture (HEIC, AVIF) or a video; pictures go to --image'),
    (0, b'\x89HDF\r\n\x1a\n', f'it is an HDF5 file (Keras, TensorFlow), {_WEIGHTS}'),
    (0, b'GGUF', f'it is a GGUF file, {_WEIGHTS}'),
    (0, b'%PDF', 'it is a PDF document'),
    (0, b'\xff\xfe', 'it is a text file in UTF-16'),
    (0, b'\xfe\xff', 'it is a text file in UTF-16'),
)


def describe_foreign(head: bytes) -> str | None:
    """Half a sentence about a file with these first bytes, or None when it may be a pickle."""
    if not head:
        return 'the file is empty'
    for offset, magic, what in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return what
    if head.startswith(b'PK\x03\x04'):
        if b'.npy' in head[:200]:
            return 'it is a numpy .npz archive; latents go to --latent'
        return f'it is an archive of torch.save (or another zip), {_WEIGHTS}'
    if head.startswith(_TORCH_LEGACY):
        return f'it is a file of torch.save in its old format, {_WEIGHTS}'
    if head[8:9] == b'{' and head[:8].endswith(b'\x00\x00\x00\x00'):
        return f'it is a safetensors file, {_WEIGHTS}'
    if head.startswith(b'\x80'):
        return None
    if head.startswith(b'\x08') and (b'pytorch' in head[:64] or b'onnx' in head[:256].lower()):
        return "it is an ONNX file, which holds a network that cannot be trained; give the .pkl of NVIDIA's code"
    if head.lstrip()[:1] == b'<':
        return 'it is a web page, so the download went wrong'
    if all(32 <= byte < 127 or byte in b'\t\r\n' for byte in head[:512]):
        return "it is a text file (or a pickle of protocol 0, which NVIDIA's code never writes)"
    return 'it does not start as a pickle of protocol 2 to 5'


def describe_file(file: BinaryIO, size: int) -> str | None:
    """The same about an open file, with a look into archives and files of torch.save."""
    head = file.read(HEAD)
    try:
        if head.startswith(b'PK\x03\x04') and len(head) > 30:
            return _describe_zip(head, Window(file, size)) or describe_foreign(head)
        if head.startswith(_TORCH_LEGACY):
            return _describe_saved('file of torch.save in its old format', Window(file, size), 0, 4)
    except PickleError:
        pass  # nothing more is known of it than its first bytes say
    return describe_foreign(head)


def describe_folder(path: Path) -> str:
    """What to give in place of a folder, as the end of a sentence; '' where nothing in it looks like a network."""
    try:
        names = sorted(entry.name for entry in os.scandir(path))
    except OSError:
        return ''
    if 'data.pkl' in names and 'version' in names:
        return '; it is an unpacked archive of torch.save, which is no network pickle'
    found = [shown(name, 60) for name in names if name.endswith('.pkl')]
    return f', such as {" or ".join(found[:2])} in it' if found else ''


def _describe_zip(head: bytes, data: Window) -> str | None:
    """torch.save puts its pickle first into the archive, and does not compress it."""
    compression, name_length, extra_length = struct.unpack('<8xH16xHH', head[:30])
    name = head[30 : 30 + name_length]
    if name.endswith(b'/data.pkl') and compression == 0:
        return _describe_saved('an archive of torch.save', data, 30 + name_length + extra_length, 1)
    return None if name.endswith(b'.npy') or b'/' in name else _UNPACK.format('zip')


def _describe_saved(what: str, data: Window, start: int, count: int) -> str:
    """About the last of `count` pickles that follow each other, as torch.save writes them."""
    names: list[Global] = []

    def permits(name: Global) -> bool:
        names.append(name)
        return True
    policy = Policy(permits, persistent=lambda identity: None)
    budget = Budget(len(data))
    for _ in range(count):
        machine = Machine(data, start, len(data), policy, budget)
        value = machine.run()
        start = machine.position
    if any(name.module.startswith('__torch__') for name in names):
        return "it is a TorchScript program; give the .pkl of NVIDIA's code"
    entries = mapping(value) or {}
    if _is_network(value):
        holds, remedy = f'a whole network of the class {_class_name(value)}', f'G = torch.load(FILE, weights_only=False); {_DUMP}'
    elif _is_network(entries.get('G_ema')):
        holds, remedy = "NVIDIA's networks, but was not written by pickle", _DUMP_ALL
    else:
        return f'it is {what}, {_WEIGHTS}'
    return (
        f'it is {what} that holds {holds}. If you trust it (loading it runs the code in it), make a network pickle of it inside '
        f"NVIDIA's checkout: {remedy}"
    )


_DUMP = (
    "pickle.dump(dict(G=G, D=torch.nn.Identity(), G_ema=G, training_set_kwargs=None, augment_pipe=None), open('network.pkl', 'wb'))"
)
_DUMP_ALL = "pickle.dump(torch.load(FILE, weights_only=False), open('network.pkl', 'wb'))"


def _is_network(value: Any) -> bool:
    """A persistent object, or one of a class of its own with modules inside."""
    return isinstance(value, Call) and (value.function == PERSISTENT or '_modules' in (mapping(value.state) or {}))


def _class_name(value: Call) -> str:
    if value.function != PERSISTENT:
        return str(value.function)
    meta = mapping(value.args[0]) if value.args else None
    return shown((meta or {}).get('class_name', 'unknown'), 60)
