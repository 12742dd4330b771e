"""Which files of a folder or a zip are photos: not the system's, not hidden ones, not the sheets that this package makes of them."""
from __future__ import annotations

from pathlib import Path

from eg3d_unlearn.person.photo.files import SHEETS
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

# By their endings; those of telephones too, which not every Pillow reads: nothing is left out in silence.
PICTURES = ('.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp', '.tif', '.tiff', '.bmp', '.gif', '.mpo', '.heic', '.heif', '.avif')
# Folders of copies and thumbnails that macOS, Synology and Windows make.
SYSTEM = ('__macosx', '@eadir', '#recycle', '$recycle.bin', 'system volume information')


def is_photo_name(name: str) -> bool:
    """Whether a path within a folder or zip, with either separator, is that of a photo."""
    parts = name.replace('\\', '/').lower().split('/')
    return parts[-1].endswith(PICTURES) and parts[-1] not in SHEETS and not any(map(is_hidden, parts))


def is_hidden(part: str) -> bool:
    return part.startswith('.') and part not in ('.', '..') or part.lower() in SYSTEM


def pictures_at(path: Path) -> list[Path]:
    """The photos of a folder, by name; a file is itself."""
    return [path] if not path.is_dir() else [file for file in files_of(path) if is_photo_name(file.name)]


def sheets_at(path: Path) -> list[str]:
    """The names of the sheets that this package made in a folder, which are no photos."""
    return [shown(file.name) for file in files_of(path) if file.name.lower() in SHEETS] if path.is_dir() else []


def no_photo(path: Path) -> InputError:
    """The error about a folder without one."""
    left, sheets = files_of(path), sheets_at(path)
    besides = f', only what eg3d_unlearn itself made of photos ({", ".join(sheets[:3])})' if sheets else ', only other files' if left else ''
    return InputError(f'The folder {shown(path, 300)} holds no photo{besides}. Expected {", ".join(PICTURES)}; hidden files do not count.')


def folders_in(path: Path) -> list[Path]:
    """The subfolders by name, one for each person: not hidden ones, nor the system's."""
    return [folder for folder in entries(path) if folder.is_dir() and not is_hidden(folder.name)]


def files_of(folder: Path) -> list[Path]:
    return [file for file in entries(folder) if not file.is_dir()]


def entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f'The folder {shown(folder, 300)} cannot be read: {error.strerror}.') from None
