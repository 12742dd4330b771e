"""`Read-only file system` or `Permission denied` under `~/.cache/torch_extensions`.

Cause: PyTorch builds CUDA extensions in the home folder, which containers and clusters often mount read-only.
Fix: where that folder cannot be written, `TORCH_EXTENSIONS_DIR` names one in the temporary folder.
Report: https://pytorch.org/docs/stable/cpp_extension.html
"""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

from .runner import Run


def needed() -> bool:
    return 'TORCH_EXTENSIONS_DIR' not in os.environ and not _can_write(_default_folder())


def apply(run: Run | None = None) -> None:
    # Named after the user: /tmp is shared, and a build belongs to the one who trusts its sources.
    folder = Path(tempfile.gettempdir()) / f'torch_extensions_{getpass.getuser()}'
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder):
        folder = Path(tempfile.mkdtemp(prefix='torch_extensions_'))
    os.environ['TORCH_EXTENSIONS_DIR'] = str(folder)


def _default_folder() -> Path:
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'torch_extensions'


def _can_write(folder: Path) -> bool:
    """Tell whether a file can be made in a folder, or the folder be made.  By trying: modes lie on read-only mounts."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _is_ours(folder: Path) -> bool:
    """Tell whether nobody else can put a library there that we would load."""
    if os.name == 'nt':
        return True
    status = folder.lstat()
    return not folder.is_symlink() and status.st_uid == os.getuid() and not status.st_mode & 0o022
