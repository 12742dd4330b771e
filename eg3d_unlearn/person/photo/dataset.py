"""A folder or zip of pictures in NVIDIA's format, which somebody else made."""
from __future__ import annotations

import os
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from eg3d_unlearn.person.photo.camera_labels import LABELS, Labels
from eg3d_unlearn.person.photo.files import MOST_BYTES, decode_photo
from eg3d_unlearn.person.photo.folders import PICTURES, is_photo_name
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import MAX_JSON_BYTES, open_file, parse_json, shown


class DataSet:
    """A folder or zip of pictures in NVIDIA's format: pictures at any depth, perhaps a ``dataset.json`` at the top."""

    def __init__(self, path: str | Path):
        self.path = Path(os.path.expanduser(path))
        self.called = f'--data={shown(self.path, 300)}'
        if not self.path.exists():
            raise InputError(f'{self.called} is not there. Give a folder or a zip of pictures, as NVIDIA\'s tools take it.')
        self._zip = None if self.path.is_dir() else self._opened()
        listed = self._zip.namelist() if self._zip else [
            file.relative_to(self.path).as_posix() for file in self.path.rglob('*') if not file.is_dir()]
        self.names = sorted({name for name in listed if is_photo_name(name)})
        if not self.names:
            besides = ', only other files' if listed else ''
            raise InputError(f'{self.called} holds no picture{besides}. Expected {", ".join(PICTURES)}; hidden files and sheets that '
                             'eg3d_unlearn made of photos do not count.')
        self._has_labels = LABELS in listed

    def _opened(self) -> zipfile.ZipFile:
        file = open_file(self.path, 'data set')
        try:
            return zipfile.ZipFile(file)
        except Exception:            # a damaged file makes zipfile fail in several ways
            file.close()
            raise InputError(f'{self.called} is neither a folder nor a zip that can be read. Give one of pictures, as NVIDIA\'s tools take '
                             'it.') from None

    def bytes_of(self, name: str, at_most: int = MOST_BYTES) -> bytes:
        """A file of the data set.  Raises InputError: too long, encrypted, damaged, no regular file."""
        what = f'The file {shown(name)} of {self.called}'
        try:
            size = self._zip.getinfo(name).file_size if self._zip else (self.path / name).stat().st_size
            if size > at_most:
                raise InputError(f'{what} has {size:,} bytes, far more than was expected (at most {at_most:,}). Take it out.')
            with self._zip.open(name) if self._zip else open_file(self.path / name, 'picture') as file:
                return file.read(at_most)
        except InputError:
            raise
        except Exception as error:   # encrypted, an unknown compression, a damaged stream
            raise InputError(f'{what} cannot be read ({shown(error) or type(error).__name__}).') from None

    def labels(self) -> dict[str, list[float]] | None:
        """Camera labels by picture name; None where there is no ``dataset.json``, or one without cameras."""
        if not self._has_labels:
            return None
        source = f'{LABELS} of {self.called}'
        labels = Labels(parse_json(self.bytes_of(LABELS, MAX_JSON_BYTES), source, dict), source)
        if not labels.are_cameras:
            return None              # classes of a 2D data set
        found = {name: labels.look_up(name)[0] for name in self.names}
        return {name: label[0].tolist() for name, label in found.items() if label is not None} or None

    def picture(self, name: str, resolution: int) -> Tensor:   # [3, resolution, resolution] uint8
        called = f'The picture {shown(name)} of {self.called}'
        image, _ = decode_photo(self.bytes_of(name), called)
        if image.width != image.height:
            raise InputError(f'{called} has {image.width} x {image.height} pixels. Expected squares cropped as '
                             'the network\'s training pictures were; python -m eg3d_unlearn.person.photo cuts them out.')
        if image.width != resolution:
            image = image.resize((resolution, resolution), PIL.Image.Resampling.LANCZOS)
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)

    def chosen(self, count: int, rng: torch.Generator) -> list[str]:
        """``count`` pictures, drawn without putting back."""
        if len(self.names) < count:
            raise InputError(f'{self.called} holds {len(self.names)} pictures, and {count} are asked for. Give more pictures, or ask '
                             'for fewer (the number in the metric\'s name, or --held-out).')
        return [self.names[i] for i in torch.randperm(len(self.names), generator=rng)[:count].tolist()]


@lru_cache(maxsize=4)
def data_set(path: str) -> DataSet:
    return DataSet(path)


def labels_of(path: str) -> Tensor | None:             # [N, 25], all cameras of a data set's pictures
    found = data_set(path).labels()
    return None if found is None else torch.tensor([found[name] for name in sorted(found)])
