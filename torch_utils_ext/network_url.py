"""Finds a network that is named by path, by URL or by the name under which NVIDIA published it."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from torch_utils_ext.download import CACHE_VARIABLE, default_cache, download, record_of, recorded, sha256_once, without_secrets, write_record
from torch_utils_ext.errors import InputError
from torch_utils_ext.foreign_files import describe_foreign
from torch_utils_ext.user_files import did_you_mean, shown

_NGC = 'https://api.ngc.nvidia.com/v2/models/nvidia/research'
_FOLDERS = {
    f'{_NGC}/eg3d/versions/1/files': (
        'afhqcats512-128 ffhq512-128 ffhq512-64 ffhqrebalanced512-128 ffhqrebalanced512-64 shapenetcars128-64'
    ),
    f'{_NGC}/stylegan3/versions/1/files': (
        'stylegan3-t-ffhq-1024x1024 stylegan3-t-ffhqu-1024x1024 stylegan3-t-ffhqu-256x256 '
        'stylegan3-r-ffhq-1024x1024 stylegan3-r-ffhqu-1024x1024 stylegan3-r-ffhqu-256x256 '
        'stylegan3-t-metfaces-1024x1024 stylegan3-t-metfacesu-1024x1024 '
        'stylegan3-r-metfaces-1024x1024 stylegan3-r-metfacesu-1024x1024 '
        'stylegan3-t-afhqv2-512x512 stylegan3-r-afhqv2-512x512'
    ),
    f'{_NGC}/stylegan2/versions/1/files': (
        'stylegan2-ffhq-1024x1024 stylegan2-ffhq-512x512 stylegan2-ffhq-256x256 '
        'stylegan2-ffhqu-1024x1024 stylegan2-ffhqu-256x256 '
        'stylegan2-metfaces-1024x1024 stylegan2-metfacesu-1024x1024 stylegan2-afhqv2-512x512 '
        'stylegan2-afhqcat-512x512 stylegan2-afhqdog-512x512 stylegan2-afhqwild-512x512 '
        'stylegan2-brecahad-512x512 stylegan2-cifar10-32x32 stylegan2-celebahq-256x256 stylegan2-lsundog-256x256'
    ),
    'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained': (
        'ffhq metfaces afhqcat afhqdog afhqwild cifar10 brecahad'
    ),
}
# What NVIDIA published, by name; it gives no checksums.
PUBLISHED = {f'{name}.pkl': f'{folder}/{name}.pkl' for folder, names in _FOLDERS.items() for name in names.split()}


def resolve_network(
    name: str | os.PathLike,
    cache_dir: str | os.PathLike | None = None,
    progress: bool = True,
    also: Iterable[str] = (),  # names that the caller knows, for the error
) -> Path:
    """The file that `name` stands for: an existing path, an http(s) URL, or a name in `PUBLISHED`.

    Downloads go to `cache_dir` (None: `default_cache`) and stay there.  The SHA-256 of a first download is written
    beside it, and every later use is checked against that.  `progress` draws a bar on stderr.

    Raises InputError: no such file, no connection, a server's refusal, an incomplete download, disk full, a web page in
    place of a network, or a checksum that differs.
    """
    text = os.fspath(name)
    if re.match(r'https?:', text, re.IGNORECASE):
        return _cached(text, cache_dir, progress)
    path = Path(os.path.expanduser(text))
    if os.path.exists(path):  # False, too, for names that the system cannot look for
        return path
    if text in PUBLISHED:
        print(f'There is no file {text} here; taking {PUBLISHED[text]}', file=sys.stderr)
        return _cached(PUBLISHED[text], cache_dir, progress)
    raise InputError(
        f'There is no network {shown(text, 300)}: expected a .pkl file, an http(s) URL, or a published name such as '
        f'ffhqrebalanced512-128.pkl.{did_you_mean(text, [*PUBLISHED, *also])}'
    )


def _cached(url: str, cache_dir: str | os.PathLike | None, progress: bool) -> Path:
    folder = Path(cache_dir) if cache_dir is not None else default_cache()
    # Different sites publish different networks under one name, so the URL is in the name as well.
    path = folder / f'{hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:12]}-{_file_name(url)}'
    try:
        if not path.exists():
            record_of(path).unlink(missing_ok=True)
            try:
                download(url, path, progress=progress, refuse=_foreign)
            except InputError as error:
                raise InputError(f'{error} Download it by other means and give its path, or put it at {path}.') from None
        expected = recorded(path)
        if expected is None:
            digest = write_record(path)
            print(f'{path.name}: nobody has published its checksum, so that this download was not checked. Its SHA-256, {digest}, is '
                  'written beside it, and every later use is compared with that.', file=sys.stderr)
        elif (digest := sha256_once(path)) != expected:
            found = f'expected {expected}' if expected else f'but {record_of(path).name}, which should hold its checksum, is damaged'
            raise InputError(f'{path} has SHA-256 {digest}, {found}; delete it to download it again.')
    except OSError as error:
        raise InputError(
            f'Cannot keep the download of {without_secrets(url)} in {folder}: {error.strerror or error}; '
            f'{CACHE_VARIABLE} names another folder.'
        ) from None
    return path


def _file_name(url: str) -> str:
    """The last part of an address, as a name that every file system takes."""
    path = re.sub(r'^https?:/*[^/?#]*|[?#].*', '', url, flags=re.IGNORECASE | re.DOTALL)
    name = unquote(path).replace('\\', '/').rpartition('/')[2]
    return ''.join(c if c.isprintable() and c.isascii() and c not in '<>:"|?*' else '_' for c in name)[-100:] or 'network.pkl'


def _foreign(head: bytes) -> str | None:
    foreign = describe_foreign(head)
    return None if foreign is None else f'no network pickle: {foreign}'
