"""One function that fetches a file over HTTP: checked, atomic, with a progress bar."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from torch_utils_ext.errors import InputError

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 20


def sha256_of(
    path: str | Path,  # file to read
) -> str:              # 64 lower-case hex digits
    """SHA-256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def download(
    url: str,                    # http(s) address of the file itself, not of a page about it
    dest: str | Path,            # where the file shall lie; its folder is made
    sha256: str | None = None,   # 64 hex digits that the content must have; None = not checked
    size: int | None = None,     # bytes that the content must have; None = not checked
    progress: bool = True,       # draw a bar on stderr
) -> Path:                       # dest
    """Fetch ``url`` to ``dest``: the complete and checked file, or nothing at all.

    Raises:
        InputError: no connection, an HTTP error, or content of the wrong size or checksum.
    """
    dest = Path(dest)
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=dest.name + '.', suffix='.part', dir=dest.parent)
    except OSError as error:
        raise InputError(f'Cannot write {dest}: {error.strerror or error}.') from None
    try:
        with os.fdopen(handle, 'wb') as stream:
            got_size, got_sha256 = _fetch(url, stream, dest.name, size, progress)
            stream.flush()
            os.fsync(stream.fileno())
        if size is not None and got_size != size:
            raise InputError(f'{url} gave {got_size:,} bytes, expected {size:,}; nothing was kept. Try again.')
        if sha256 is not None and got_sha256 != sha256.lower():
            raise InputError(f'{url} gave a file with SHA-256 {got_sha256}, expected {sha256}; nothing was kept.')
        os.chmod(part, 0o644)
        os.replace(part, dest)
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, 'reason', error)
        raise InputError(f'Could not download {url}: {reason}.') from None
    finally:
        Path(part).unlink(missing_ok=True)
    return dest


def _fetch(url, stream, label, size, progress) -> tuple[int, str]:
    """Copy the body of ``url`` into ``stream``; its length and SHA-256.  A body longer than expected is cut off."""
    from tqdm import tqdm

    request = urllib.request.Request(url, headers={'User-Agent': 'eg3d_unlearn'})
    digest, got = hashlib.sha256(), 0
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        total = size or int(response.headers.get('Content-Length') or 0) or None
        with tqdm(desc=label, total=total, unit='B', unit_scale=True, disable=not progress) as bar:
            while chunk := response.read(CHUNK_BYTES):
                stream.write(chunk)
                digest.update(chunk)
                got += len(chunk)
                bar.update(len(chunk))
                if size is not None and got > size:
                    break
    return got, digest.hexdigest()
