"""One function that fetches a file over HTTP: resumed when the line breaks, checked, whole or not at all."""
from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from torch_utils_ext.errors import InputError

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 20
ATTEMPTS = 5                     # a broken connection is taken up where it broke, this often
CACHE_VARIABLE = 'EG3D_UNLEARN_CACHE'


def sha256_of(
    path: str | Path,  # file to read
) -> str:              # 64 lower-case hex digits
    """SHA-256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def default_cache() -> Path:
    """`EG3D_UNLEARN_CACHE`, else the folder `eg3d_unlearn` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    home = os.environ.get('XDG_CACHE_HOME') or (os.environ.get('LOCALAPPDATA') if os.name == 'nt' else None)
    return (Path(home) if home else Path.home() / '.cache') / 'eg3d_unlearn'


def download(
    url: str,                    # http(s) address of the file itself, not of a page about it
    dest: str | Path,            # where the file shall lie; its folder is made
    sha256: str | None = None,   # 64 hex digits that the content must have; None = not checked
    size: int | None = None,     # bytes that the content must have; None = not checked
    progress: bool = True,       # draw a bar on stderr
    refuse: Callable[[bytes], str | None] = lambda head: None,  # what is wrong with the first 4 KiB; None = nothing
) -> Path:                       # dest
    """Fetch ``url`` to ``dest``: the complete and checked file, or nothing at all.

    Raises:
        InputError: no connection, an HTTP error, no room on the disk, or content of the wrong kind, size or checksum.
    """
    dest = Path(dest)
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f'.{dest.name}.', suffix='.part', dir=dest.parent)
    except OSError as error:
        raise InputError(f'Cannot write {dest}: {error.strerror or error}; {CACHE_VARIABLE} names another folder.') from None
    try:
        with os.fdopen(handle, 'w+b') as stream:
            _fetch(url, stream, dest, size, progress)
            stream.flush()
            os.fsync(stream.fileno())
            stream.seek(0)
            complaint = refuse(stream.read(4096)) or _misfit(Path(part), sha256, size)
        if complaint is not None:
            raise InputError(f'{url} gave {complaint}; nothing was kept.')
        os.chmod(part, 0o644)
        os.replace(part, dest)
    except OSError as error:
        raise InputError(f'Cannot write {dest}: {error.strerror or error}; {CACHE_VARIABLE} names another folder.') from None
    finally:
        Path(part).unlink(missing_ok=True)
    return dest


def _misfit(path: Path, sha256: str | None, size: int | None) -> str | None:
    if size is not None and path.stat().st_size != size:
        return f'{path.stat().st_size:,} bytes, expected {size:,}'
    if sha256 is not None and sha256_of(path) != sha256.lower():
        return f'a file with SHA-256 {sha256_of(path)}, expected {sha256}'
    return None


def _fetch(url: str, stream: BinaryIO, dest: Path, size: int | None, progress: bool) -> None:
    """Copy the body of ``url`` into ``stream``, over several connections if need be."""
    from tqdm import tqdm

    total, tag, problem = None, None, 'the connection broke'
    with tqdm(desc=dest.name, unit='B', unit_scale=True, unit_divisor=1024, disable=not progress) as bar:
        for _ in range(ATTEMPTS):
            try:
                with urllib.request.urlopen(_request(url, stream.tell(), tag), timeout=TIMEOUT_SECONDS) as answer:
                    if stream.tell() and answer.status != 206:  # the server begins anew
                        stream.seek(0)
                        stream.truncate()
                        bar.reset()
                    if total is None or not stream.tell():
                        total, tag = _length(answer), answer.headers.get('ETag')
                        bar.total = total
                        _check_room(url, dest.parent, total)
                    while chunk := answer.read(CHUNK_BYTES):
                        stream.write(chunk)
                        bar.update(len(chunk))
                        if size is not None and stream.tell() > size:
                            return
                if total is None or stream.tell() == total:
                    return
                problem = f'{stream.tell():,} of {total:,} bytes came'
            except urllib.error.HTTPError as error:
                raise InputError(f'Cannot download {url}: the server answers {error.code} ({error.reason}).') from None
            except urllib.error.URLError as error:
                problem = str(error.reason)
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                problem = str(error) or type(error).__name__
    raise InputError(f'Cannot download {url}: {problem}.')


def _request(url: str, have: int, tag: str | None) -> urllib.request.Request:
    headers = {'User-Agent': 'eg3d_unlearn', 'Accept-Encoding': 'identity'}
    if have and tag:
        headers |= {'Range': f'bytes={have}-', 'If-Range': tag}
    return urllib.request.Request(url, headers=headers)


def _length(answer: http.client.HTTPResponse) -> int | None:
    text = answer.headers.get('Content-Length', '')
    return int(text) if text.isdecimal() else None


def _check_room(url: str, folder: Path, total: int | None) -> None:
    free = shutil.disk_usage(folder).free
    if total is not None and total > free:
        raise InputError(f'{url} is {total:,} bytes, and {folder} has room for {free:,}; {CACHE_VARIABLE} names another folder.')

