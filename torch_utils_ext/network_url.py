"""Finds a network that is named by path, by URL or by the name under which NVIDIA published it."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from torch_utils_ext.errors import InputError
from torch_utils_ext.foreign_files import describe_foreign

CACHE_VARIABLE = "EG3D_UNLEARN_CACHE"
_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 4  # a broken download goes on where it broke
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Published:
    """A network that NVIDIA published.  Its checksum is None where NVIDIA gives none."""

    url: str
    sha256: str | None = None


_NGC = "https://api.ngc.nvidia.com/v2/models/nvidia/research"
_FOLDERS = {
    f"{_NGC}/eg3d/versions/1/files": (
        "afhqcats512-128 ffhq512-128 ffhq512-64 ffhqrebalanced512-128 ffhqrebalanced512-64 shapenetcars128-64"
    ),
    f"{_NGC}/stylegan3/versions/1/files": (
        "stylegan3-t-ffhq-1024x1024 stylegan3-t-ffhqu-1024x1024 stylegan3-t-ffhqu-256x256 "
        "stylegan3-r-ffhq-1024x1024 stylegan3-r-ffhqu-1024x1024 stylegan3-r-ffhqu-256x256 "
        "stylegan3-t-metfaces-1024x1024 stylegan3-t-metfacesu-1024x1024 "
        "stylegan3-r-metfaces-1024x1024 stylegan3-r-metfacesu-1024x1024 "
        "stylegan3-t-afhqv2-512x512 stylegan3-r-afhqv2-512x512"
    ),
    f"{_NGC}/stylegan2/versions/1/files": (
        "stylegan2-ffhq-1024x1024 stylegan2-ffhq-512x512 stylegan2-ffhq-256x256 "
        "stylegan2-ffhqu-1024x1024 stylegan2-ffhqu-256x256 "
        "stylegan2-metfaces-1024x1024 stylegan2-metfacesu-1024x1024 stylegan2-afhqv2-512x512 "
        "stylegan2-afhqcat-512x512 stylegan2-afhqdog-512x512 stylegan2-afhqwild-512x512 "
        "stylegan2-brecahad-512x512 stylegan2-cifar10-32x32 stylegan2-celebahq-256x256 stylegan2-lsundog-256x256"
    ),
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained": (
        "ffhq metfaces afhqcat afhqdog afhqwild cifar10 brecahad"
    ),
}
PUBLISHED = {
    f"{name}.pkl": Published(f"{folder}/{name}.pkl") for folder, names in _FOLDERS.items() for name in names.split()
}


def resolve_network(name: str | os.PathLike, cache_dir: str | os.PathLike | None = None, progress: bool = True) -> Path:
    """The file that `name` stands for: an existing path, an http(s) URL, or a name in `PUBLISHED`.

    Downloads go to `cache_dir` (None: `default_cache`) and stay there.  The SHA-256 of a first download is written
    beside it, and every later use is checked against that.  `progress` draws a bar on stderr.

    Raises InputError: no such file, no connection, a server's refusal, an incomplete download, disk full, a web page in
    place of a network, or a checksum that differs.
    """
    text = os.fspath(name)
    if urlsplit(text).scheme in ("http", "https"):
        return _cached(Published(text), cache_dir, progress)
    path = Path(text).expanduser()
    if path.exists():
        return path
    if text in PUBLISHED:
        print(f"There is no file {text} here; taking {PUBLISHED[text].url}", file=sys.stderr)
        return _cached(PUBLISHED[text], cache_dir, progress)
    raise InputError(
        f"There is no network {text}: expected a .pkl file, an http(s) URL, or a published name such as "
        "ffhqrebalanced512-128.pkl."
    )


def default_cache() -> Path:
    """`EG3D_UNLEARN_CACHE`, else the folder `eg3d_unlearn` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(home) if home else Path.home() / ".cache") / "eg3d_unlearn"


def _cached(source: Published, cache_dir: str | os.PathLike | None, progress: bool) -> Path:
    folder = Path(cache_dir) if cache_dir is not None else default_cache()
    # Different sites publish different networks under one name, so the URL is in the name as well.
    name = Path(unquote(urlsplit(source.url).path)).name or "network.pkl"
    path = folder / f"{hashlib.sha256(source.url.encode()).hexdigest()[:12]}-{name}"
    record = path.with_name(path.name + ".sha256")
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            record.unlink(missing_ok=True)
            _download(source, path, progress)
        digest = _sha256(path)
        expected = source.sha256 or (record.read_text().split()[0] if record.exists() else digest)
        if digest != expected:
            raise InputError(f"{path} has SHA-256 {digest}, expected {expected}; delete it to download it again.")
        if not record.exists():
            record.write_text(f"{digest}  {path.name}\n")
    except OSError as error:
        raise InputError(
            f"Cannot keep the download of {source.url} in {folder}: {error.strerror or error}; "
            f"{CACHE_VARIABLE} names another folder."
        ) from None
    return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _download(source: Published, path: Path, progress: bool) -> None:
    """Whole or not at all: into a file beside `path`, renamed when it is complete."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            _fetch(source.url, path, file, progress)
            file.seek(0)
            foreign = describe_foreign(file.read(4096))
            if foreign is not None:
                raise InputError(f"{source.url} gave no network pickle: {foreign}.")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _fetch(url: str, path: Path, file, progress: bool) -> None:
    from tqdm import tqdm

    total, tag, problem = None, None, "the connection broke"
    with tqdm(desc=path.name, unit="B", unit_scale=True, unit_divisor=1024, disable=not progress) as bar:
        for _ in range(_ATTEMPTS):
            try:
                with urllib.request.urlopen(_request(url, file.tell(), tag), timeout=_TIMEOUT) as answer:
                    if file.tell() and answer.status != 206:  # the server begins anew
                        file.seek(0)
                        file.truncate()
                        bar.reset()
                    if total is None or not file.tell():
                        total, tag = _length(answer), answer.headers.get("ETag")
                        bar.total = total
                        _check_room(url, path.parent, total)
                    while chunk := answer.read(_CHUNK):
                        file.write(chunk)
                        bar.update(len(chunk))
                if total is None or file.tell() == total:
                    return
                problem = f"{file.tell():,} of {total:,} bytes came"
            except urllib.error.HTTPError as error:
                raise InputError(f"{url} answers {error.code} ({error.reason}); {_by_hand(path)}.") from None
            except urllib.error.URLError as error:
                problem = str(error.reason)
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                problem = str(error) or type(error).__name__
    raise InputError(f"Cannot download {url} ({problem}); {_by_hand(path)}.")


def _request(url: str, have: int, tag: str | None) -> urllib.request.Request:
    headers = {"User-Agent": "eg3d_unlearn", "Accept-Encoding": "identity"}
    if have and tag:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    return urllib.request.Request(url, headers=headers)


def _length(answer: http.client.HTTPResponse) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _check_room(url: str, folder: Path, total: int | None) -> None:
    free = shutil.disk_usage(folder).free
    if total is not None and total > free:
        raise InputError(
            f"{url} is {total:,} bytes, and {folder} has room for {free:,}; {CACHE_VARIABLE} names another folder."
        )


def _by_hand(path: Path) -> str:
    return f"download it by other means and give its path, or put it at {path}"
