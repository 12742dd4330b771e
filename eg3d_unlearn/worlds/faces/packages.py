"""Packages of other people's that the world of real faces is made from: fetched by pip, checked, and read without installing them.

None of them is shipped with this project. Each file has a checksum that pip checks before it looks into the file, and each licence is
agreed to once, which is recorded in the cache.
"""
from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from eg3d_unlearn.run_folder import write_json
from torch_utils_ext.download import default_cache, download, make_folder, sha256_once
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import dict_at, is_file, read_json, shown

SETUP = 'python -m eg3d_unlearn.worlds.faces setup'
AT_MOST = 256 << 20                  # bytes of one file in a package
SECONDS = 3600                       # for pip


@dataclass(frozen=True)
class Package:
    """One archive of a package registry."""
    name: str                        # in the registry
    version: str
    file: str                        # name of the archive
    size: int                        # bytes
    sha256: str
    what: str                        # is in it, for a line of the setup
    licence: str                     # sentences that are shown before it is fetched
    url: str | None = None           # of the archive, where it is not pip that fetches it (npm)

    @property
    def path(self) -> Path:
        """Where it lies in the cache."""
        return folder() / 'packages' / self.file

    @property
    def title(self) -> str:
        return f'{self.name} {self.version}'


RANDOM_FACE = Package(
    'random-face', '2021.7.21.1', 'random_face-2021.7.21.1-py3-none-any.whl', 37_588_926,
    'e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5',
    'the generator: MobileStyleGAN, 1024 px (arXiv 2104.04767)',
    "The package by Sergei Belousov is under the Apache License 2.0. Its weights were distilled from NVIDIA's StyleGAN2 network of FFHQ, and "
    "its mapping network is NVIDIA's own: NVIDIA's networks are for research and evaluation only, not for commercial use (Nvidia Source Code "
    'License-NC), and FFHQ is CC BY-NC-SA 4.0.')


def folder() -> Path:
    """The world's folder in the user's cache."""
    return default_cache() / 'faces'


def is_here(package: Package) -> bool:
    """Whether the cache holds the package, whole."""
    return is_file(package.path) and package.path.stat().st_size == package.size and sha256_once(package.path) == package.sha256


def fetch(package: Package) -> Path:
    """The package in the cache: what lies there already, else what pip brings.  Its licence must have been agreed to before.

    Raises InputError: no pip, no connection, or another file than expected; nothing is kept then.
    """
    if is_here(package):
        return package.path
    require_agreement([package])
    make_folder(package.path.parent)
    click.echo(f'Fetching {package.title} ({package.size / 1e6:.0f} MB): {package.what}.')
    page = package.url or f'https://pypi.org/project/{package.name}/{package.version}/#files'
    by_hand = f'Fetch {package.file} by other means ({page}), put it at {package.path}, and run the setup again.'
    if package.url is not None:
        try:
            return download(package.url, package.path, sha256=package.sha256, size=package.size)
        except InputError as error:
            raise InputError(f'{error} {by_hand}') from None
    # In the cache, so that the last step is a rename.
    with tempfile.TemporaryDirectory(dir=package.path.parent, prefix='.pip-') as place:
        wanted = Path(place) / 'wanted.txt'
        wanted.write_text(f'{package.name}=={package.version} --hash=sha256:{package.sha256}\n', encoding='utf-8')
        problem = pip(['download', '--no-deps', '--require-hashes', '--dest', place, '--requirement', str(wanted)])
        found = Path(place) / package.file
        if problem is None and not is_file(found):
            problem = f'pip brought no file {package.file}'
        if problem is None and sha256_once(found) != package.sha256:
            problem = f'{package.file} has another SHA-256 than {package.sha256}'
        if problem is not None:
            raise InputError(f'pip could not fetch {package.title}: {problem}. {by_hand}')
        found.replace(package.path)
    return package.path


def pip(arguments: Sequence[str]) -> str | None:
    """Run the user's own pip; what went wrong, in one line, else None."""
    try:
        done = subprocess.run([sys.executable, '-m', 'pip', *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              errors='replace', timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f'{type(error).__name__} while it ran'
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix('ERROR: ') for line in lines if line.startswith('ERROR')] or lines
    return shown((errors or ['it gave no reason'])[0].rstrip('.'), 300)


def member(
    package: Package,
    name: str,                       # path of the file in the archive
    at_most: int = AT_MOST,          # bytes
) -> bytes:
    """A file of a package in the cache, read without unpacking the rest or running any of it."""
    if not is_here(package):
        raise InputError(f'{package.title} is not in the cache, or not whole. Run: {SETUP}')
    try:
        if zipfile.is_zipfile(package.path):
            with zipfile.ZipFile(package.path) as archive, archive.open(name) as file:
                content = file.read(at_most + 1)
        else:
            with tarfile.open(package.path) as archive:
                entry = archive.extractfile(name)
                content = entry.read(at_most + 1) if entry is not None else None
    except (KeyError, OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise InputError(f'{package.file} cannot be read ({type(error).__name__}: {shown(error)}).') from None
    if content is None or len(content) > at_most:
        raise InputError(f'{name} of {package.file} is not a file of at most {at_most:,} bytes.')
    return content


def agreements() -> Path:
    """Where it is recorded which licences were agreed to."""
    return folder() / 'agreed.json'


def not_agreed(packages: Iterable[Package]) -> list[Package]:
    """Those whose licence, as it reads now, nobody has agreed to here."""
    record = dict_at(read_json(agreements(), 'record of agreements')) if is_file(agreements()) else {}
    return [package for package in packages if record.get(package.title) != package.licence]


def agree(packages: Sequence[Package], is_agreed: bool = False) -> None:
    """Show the licences that were not agreed to yet, ask, and record the answer; ``is_agreed``: nobody is asked.

    Raises InputError: refused, or nobody there to answer.
    """
    asked = not_agreed(packages)
    for package in asked:
        click.echo(f'{package.title} - {package.what}\n    {package.licence}')
    if not asked:
        return
    if not is_agreed:
        if not sys.stdin.isatty():
            raise InputError('The licences above must be agreed to before anything is fetched. Run the command again with --agree.')
        if not click.confirm('These packages are fetched from their registries into your cache. Do you agree to their licences?'):
            raise InputError('Nothing was fetched: the licences were not agreed to.')
    record = dict_at(read_json(agreements(), 'record of agreements')) if is_file(agreements()) else {}
    record |= {package.title: package.licence for package in asked}
    make_folder(folder())
    write_json(agreements(), record)


def require_agreement(packages: Sequence[Package]) -> None:
    """Refuse packages whose licence was not agreed to."""
    if missing := not_agreed(packages):
        raise InputError(f'The licence of {missing[0].title} was not agreed to. Run: {SETUP}')
