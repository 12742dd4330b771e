"""One function that fetches a file over HTTP: resumed when the line breaks, checked, whole or not at all."""
from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from torch_utils_ext.atomic_file import remove_abandoned, replacing
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm
from torch_utils_ext.user_files import shown

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 20
ATTEMPTS = 5                     # a broken connection is taken up where it broke, this often
SLOWEST = 1024                   # bytes a second, over TIMEOUT_SECONDS: what is slower has stalled
AT_MOST = 16 << 30               # bytes of any one file
REDIRECTS = 10
CACHE_VARIABLE = 'EG3D_UNLEARN_CACHE'


def sha256_of(
    path: str | Path,  # file to read
) -> str:              # 64 lower-case hex digits
    """SHA-256 of a file, read in pieces of 1 MiB."""
    with open(path, 'rb') as stream:
        return _digest(stream)


def sha256_once(path: str | Path) -> str:
    """As `sha256_of`; a file of another use of this process is read again only where its size or its time of change is another."""
    status = os.stat(path)
    key = (os.path.abspath(path), status.st_size, status.st_mtime_ns)
    if key not in _digests:
        _digests[key] = sha256_of(path)
    return _digests[key]


_digests: dict[tuple[str, int, int], str] = {}


def _digest(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
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


def without_secrets(url: str) -> str:
    """An address as messages and records may show it: without user, password, query and fragment.  Other text stays as it is."""
    if not re.match(r'https?:', url, re.IGNORECASE):
        return url
    scheme, host, path = re.findall(r'([^/?#]*/*)([^/?#]*)([^?#]*)', url, re.DOTALL)[0]
    return shown(scheme + host.rpartition('@')[2] + path, 300)


def download(
    url: str,                    # http(s) address of the file itself, not of a page about it
    dest: str | Path,            # where the file shall lie; its folder is made
    sha256: str | None = None,   # 64 hex digits that the content must have; None = not checked
    size: int | None = None,     # bytes that the content must have; None = not checked
    progress: bool = True,       # draw a bar on stderr
    refuse: Callable[[bytes], str | None] = lambda head: None,  # what is wrong with the first 4 KiB; None = nothing
) -> Path:                       # dest
    """Fetch ``url`` to ``dest``: the complete and checked file, or nothing at all.

    What earlier downloads into that folder left when they were killed is removed.

    Raises:
        InputError: no connection, an HTTP error, a server that stalls or does not say how much it sends, no room on the disk, or
            content of the wrong kind, size or checksum.
    """
    dest = Path(dest)
    make_folder(dest.parent)
    for leftover in dest.parent.glob('.*.part'):
        remove_abandoned(leftover)
    with replacing(dest) as stream:
        _Download(url, stream, dest, size, sha256 is not None, progress).run()
        stream.seek(0)
        complaint = refuse(stream.read(4096)) or _misfit(stream, sha256, size)
        if complaint is not None:
            raise InputError(f'{without_secrets(url)} gave {complaint}; nothing was kept.')
    return dest


def make_folder(path: Path) -> None:
    """A folder of the cache, or an `InputError` that says why there can be none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'The cache {path} cannot be made: {error.strerror}. {CACHE_VARIABLE} names another folder.') from None


def record_of(path: Path) -> Path:
    """Where the checksum of a file of the cache is written."""
    return path.with_name(path.name + '.sha256')


def write_record(path: Path) -> str:
    """Write a file's SHA-256 beside it, and return it."""
    digest = sha256_of(path)
    with replacing(record_of(path)) as file:
        file.write(f'{digest}  {path.name}\n'.encode())
    return digest


def recorded(path: Path) -> str | None:
    """The checksum that was written beside a file; None where there is no record, '' where it is damaged."""
    record = record_of(path)
    if not record.exists():
        return None
    try:
        found = re.match(rb'[0-9a-f]{64}\b', record.read_bytes()[:100])
    except OSError:
        found = None
    return found[0].decode() if found else ''


def _misfit(stream: BinaryIO, sha256: str | None, size: int | None) -> str | None:
    length = stream.seek(0, os.SEEK_END)
    if size is not None and length != size:
        return f'{length:,} bytes, expected {size:,}'
    if sha256 is not None:
        stream.seek(0)
        if (digest := _digest(stream)) != sha256.lower():
            return f'a file with SHA-256 {digest}, expected {sha256}'
    return None


class _Broken(Exception):
    """The connection broke, or the server answered nonsense; another attempt may succeed."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to `_Download`, which follows them to http(s) only."""

    def redirect_request(self, *_) -> None:
        return None


class _Download:
    """The body of one address, over several connections if need be."""

    def __init__(self, url: str, stream: BinaryIO, dest: Path, size: int | None, is_checked: bool, progress: bool):
        self.url, self.stream, self.dest, self.size, self.is_checked, self.progress = url, stream, dest, size, is_checked, progress
        self.name = without_secrets(url)
        self.total: int | None = None    # bytes, as the server says
        self.tag: str | None = None      # by which the server knows the file again
        self.opener = urllib.request.build_opener(_NoRedirect)

    def run(self) -> None:
        problem = 'the connection broke'
        with tqdm(desc=self.dest.name, unit='B', unit_scale=True, unit_divisor=1024, disable=not self.progress) as bar:
            for _ in range(ATTEMPTS):
                try:
                    with contextlib.closing(self._open()) as answer:
                        self._check(answer, bar)
                        self._copy(answer, bar)
                    return
                except _Broken as error:
                    problem = str(error)
        raise self._failed(problem)

    def _failed(self, problem: str) -> InputError:
        return InputError(f'Cannot download {self.name}: {problem}.')

    def _open(self) -> http.client.HTTPResponse:
        """The server's answer, after redirects."""
        url, have = self.url, self.stream.tell()
        for _ in range(REDIRECTS):
            request = _request(url, have, self.tag)
            try:
                return self.opener.open(request, timeout=TIMEOUT_SECONDS)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in (301, 302, 303, 307, 308) or not error.headers.get('Location'):
                    raise self._failed(f'the server answers {error.code} ({shown(error.reason)})') from None
                target = _redirected(url, error.headers['Location'])
                if target is None:
                    raise self._failed('the server redirects to an address that is not http(s)') from None
                url = target
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _Broken(_said(error)) from None
        raise self._failed('the server redirects without end')

    def _check(self, answer: http.client.HTTPResponse, bar: tqdm) -> None:
        """Refuse an answer whose end could not be told, and one that does not continue what is there."""
        have = self.stream.tell()
        if answer.headers.get('Content-Encoding', 'identity').lower() != 'identity':
            raise self._failed('the server sends it compressed, which was not asked for')
        lengths = set(answer.headers.get_all('Content-Length', []))
        chunked = bool(getattr(answer, 'chunked', False))
        length = int(next(iter(lengths))) if len(lengths) == 1 and re.fullmatch(r'\d{1,18}', next(iter(lengths)), re.ASCII) else None
        if lengths and length is None and not chunked:
            raise self._failed('the server gives no usable length')
        if answer.status == 206:
            given = re.fullmatch(r'bytes (\d{1,18})-(\d{1,18})/(\d{1,18})', answer.headers.get('Content-Range', '').strip(), re.ASCII)
            if given is None or self.total is None or not have or length not in (None, self.total - have) \
                    or (int(given[1]), int(given[2]) + 1, int(given[3])) != (have, self.total, self.total):
                self._begin_again(bar)
                raise _Broken('the server sends another part of the file than was asked for')
            return
        if answer.status != 200:
            raise self._failed(f'the server answers {answer.status}')
        self._begin_again(bar)
        if length is None and not chunked and self.size is None and not self.is_checked:
            raise self._failed('the server does not say how long the file is, so that a part of it could not be told from the whole')
        self.total, tag = None if chunked else length, answer.headers.get('ETag', '')
        self.tag = tag if re.fullmatch(r'"[\x21\x23-\x7e]*"', tag) else None
        if self.total is not None and self.total > AT_MOST:
            raise self._failed(f'the server says that it has {self.total:,} bytes, and at most {AT_MOST:,} are taken')
        bar.total = self.total
        _check_room(self.name, self.dest.parent, self.total)

    def _begin_again(self, bar: tqdm) -> None:
        self.stream.seek(0)
        self.stream.truncate()
        self.tag = None
        bar.reset()

    def _copy(self, answer: http.client.HTTPResponse, bar: tqdm) -> None:
        """The answer's body, until its end; it may neither stall nor go on for ever."""
        limit = min(AT_MOST, shutil.disk_usage(self.dest.parent).free) if self.size is None else self.size
        began, count = time.monotonic(), 0
        while True:
            try:
                chunk = answer.read1(CHUNK_BYTES)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _Broken(_said(error)) from None
            if not chunk:
                break
            self.stream.write(chunk)
            bar.update(len(chunk))
            if self.stream.tell() > limit:
                if self.size is not None:
                    return           # too long, as the check of the size will say
                raise self._failed(f'more than {limit:,} bytes came')
            count += len(chunk)
            if time.monotonic() - began > TIMEOUT_SECONDS:
                if count < SLOWEST * TIMEOUT_SECONDS:
                    raise self._failed(f'only {count:,} bytes came in {TIMEOUT_SECONDS} seconds')
                began, count = time.monotonic(), 0
        if self.total is not None and self.stream.tell() != self.total:
            raise _Broken(f'{self.stream.tell():,} of {self.total:,} bytes came')


def _request(url: str, have: int, tag: str | None) -> urllib.request.Request:
    """A request, for the rest of a file where some of it is there; user and password of the address go into a header."""
    headers = {'User-Agent': 'eg3d_unlearn', 'Accept-Encoding': 'identity'}
    if have and tag:
        headers |= {'Range': f'bytes={have}-', 'If-Range': tag}
    try:
        parts = urllib.parse.urlsplit(url)
        user, _, host = parts.netloc.rpartition('@')
        if user:
            headers['Authorization'] = 'Basic ' + base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode('ascii')
        return urllib.request.Request(parts._replace(netloc=host, fragment='').geturl(), headers=headers)
    except ValueError:
        raise InputError(f'{without_secrets(url)} is not a valid address.') from None


def _redirected(url: str, location: str) -> str | None:
    """Where a redirect leads; None: not to http(s)."""
    try:
        target = urllib.parse.urljoin(url, location)
        target = urllib.parse.quote(target, safe='%/:=&?~#+!$,;\'@()*[]')
        return target if urllib.parse.urlsplit(target).scheme in ('http', 'https') else None
    except ValueError:
        return None


def _said(error: Exception) -> str:
    """What went wrong, in one line that shows nothing of the address."""
    reason = getattr(error, 'reason', error)
    if isinstance(reason, OSError):
        return shown(reason.strerror or reason) or type(reason).__name__
    return 'the address is not valid' if isinstance(error, (http.client.InvalidURL, UnicodeError)) else shown(reason) or type(error).__name__


def _check_room(name: str, folder: Path, total: int | None) -> None:
    free = shutil.disk_usage(folder).free
    if total is not None and total > free:
        raise InputError(f'{name} is {total:,} bytes, and {folder} has room for {free:,}; {CACHE_VARIABLE} names another folder.')
