"""Camera labels that somebody else wrote: 25 numbers, an .npy, .npz or json file, or a data set's ``dataset.json``.

A label is found by the photo's path within the data set, else by its name where only one label can be meant; never by order.
"""
from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.person.latents import load_array
from eg3d_unlearn.person.photo.folders import PICTURES
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import MAX_JSON_BYTES, parse_json, read_bytes, shown

LABELS = 'dataset.json'
ARRAYS = ('.npy', '.npz')
EXPECTED = 'Expected 25: a 4x4 cam2world matrix and 3x3 intrinsics, row by row'


def check_label(numbers, source: str) -> Tensor:
    """A camera label [1, 25] float32 from 25 numbers, or an `InputError` that says what is wrong with them."""
    try:
        label = np.array([float(number) for number in numbers])
    except (TypeError, ValueError, OverflowError):
        raise InputError(f'The camera in {source} is not a list of numbers. {EXPECTED}.') from None
    if label.size != 25:
        raise InputError(f'The camera in {source} has {label.size} numbers. {EXPECTED}.')
    if not np.isfinite(label).all():
        raise InputError(f'The camera in {source} holds a NaN or infinite number.')
    rotation = label[:16].reshape(4, 4)[:3, :3]
    # Numbers beyond 2 are no rotation's, and their products might overflow.
    if np.abs(rotation).max() > 2 or np.abs(rotation @ rotation.T - np.eye(3)).max() > 0.05 or np.linalg.det(rotation) < 0:
        raise InputError(f'The camera in {source} is no EG3D label: the upper left 3x3 of its cam2world matrix is not a '
                         'rotation. EG3D uses OpenCV axes (x right, y down, z forward), row-major.')
    focal = label[16]
    if not 0.3 < focal < 30:
        raise InputError(f'The camera in {source} has focal length {focal:g}; EG3D divides the intrinsics by the picture '
                         'size (4.2647 for FFHQ), so 0.3 to 30 was expected.')
    return torch.from_numpy(label).float().unsqueeze(0)


class Labels:
    """The labels of a ``dataset.json``, as NVIDIA's tools and others write it.

    Names may come with either separator, in either Unicode form, with another ending or fewer folders than the photo's.
    """

    def __init__(
        self,
        content,                     # of the json file: {"labels": [[name, numbers], ...]}, {"labels": {name: numbers}} or {"labels": null}
        source: str,                 # the file, for errors
    ):
        labels = content.get('labels') if isinstance(content, dict) else content
        entries = list(labels.items()) if isinstance(labels, dict) else [] if labels is None else labels
        if not isinstance(entries, list) or not all(isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[0], str)
                                                    for entry in entries):
            raise InputError(f'The "labels" of {source} are not pairs of a file name and 25 numbers: expected '
                             '{"labels": [[name, numbers], ...]}.')
        self.source, self.by_path, self.by_stem = source, {}, {}
        for name, numbers in entries:
            path = parts(name)
            self.by_path.setdefault(path, []).append(numbers)
            self.by_stem.setdefault(stem(path[-1]), []).append((path, numbers))
        # In a data set of classes the labels are numbers or one-hot lists.
        self.are_cameras = any(isinstance(numbers, list) and len(numbers) == 25 for _, numbers in entries)

    def look_up(
        self,
        name: str,                   # path of the photo within the folder of the json file
        within: bool = True,         # False: the photo lies elsewhere, so that its folders say nothing
    ) -> tuple[Tensor | None, str]:  # [1, 25]
        """The photo's label and how it was found ('' for by its path), or None and why there is none.

        Raises:
            InputError: the photo has a label, which is no camera.
        """
        path = parts(name)
        found, how = distinct(self.by_path.get(path, [])), ''
        if not within or not found:
            # One path may be the end of the other: label folders may be left out, the photo's may lie deeper. Endings do not count.
            named = [(others, numbers) for others, numbers in self.by_stem.get(stem(path[-1]), [])
                     if not within or ends_alike(path[:-1], others[:-1])]
            same = [(others, numbers) for others, numbers in named if others[:-1] == path[:-1]]
            found, how = distinct([numbers for _, numbers in same or named]), ' (by its name without folder and ending)'
        if len(found) > 1:
            return None, 'names several photos of this name'
        if not found:
            return None, 'does not name this photo'
        if found[0] is None or not self.are_cameras and not isinstance(found[0], list):
            return None, 'has no camera for this photo'
        return check_label(found[0], f'{self.source} for {shown(name)}'), how


def parts(name: str) -> tuple[str, ...]:
    """The parts of a path as they are compared."""
    clean = unicodedata.normalize('NFC', name.replace('\\', '/'))
    return tuple(part for part in clean.split('/') if part not in ('', '.')) or ('',)


def stem(name: str) -> str:
    """A file's name without its ending, which converters change along with the case of letters."""
    front, dot, ending = name.casefold().rpartition('.')
    return front if dot + ending in PICTURES and front else name.casefold()


def ends_alike(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether one path of folders is the end of the other."""
    count = min(len(some), len(others))
    return count == 0 or some[-count:] == others[-count:]


def distinct(found: list) -> list:
    return [numbers for i, numbers in enumerate(found) if numbers not in found[:i]]


def parse_camera(text: str, image: Path | None = None) -> Tensor:
    """The label [1, 25] from 25 numbers in ``text``, or from the .json, .npy or .npz file that it names.

    A json file holds the 25 numbers, or is a data set's ``dataset.json`` in which ``image`` is looked up.

    Raises:
        InputError: no camera, or none for ``image``.
    """
    ending = text[-5:].lower()
    if ending.endswith(ARRAYS):
        return check_label(load_array(Path(text), 'camera file').ravel().tolist(), shown(text, 300))
    if not ending.endswith('.json'):
        return check_label(text.replace(',', ' ').replace('[', ' ').replace(']', ' ').split(), '--camera')
    content, labels = read_labels(Path(text))
    if labels is None:
        return check_label(content, shown(text, 300))
    if image is None:
        raise InputError(f'{shown(text, 300)} holds the cameras of several photos. Give the camera of this one with --camera=25 numbers.')
    label, why = labels.look_up(*place_of(image, Path(text).parent))
    if label is None:
        raise InputError(f'{shown(text, 300)} {why} ({shown(image.name)}). Give the camera with --camera=25 numbers, or leave --camera out: '
                         "then it is solved from the face's landmarks.")
    return label


def read_labels(path: Path) -> tuple[object, Labels | None]:
    """The content of a json file, and its labels where it is a ``dataset.json``."""
    name = f'The camera file {shown(path, 300)}'
    content = parse_json(read_bytes(path, 'camera file', MAX_JSON_BYTES), name)
    return content, Labels(content, shown(path, 300)) if isinstance(content, dict) else None


def place_of(image: Path, folder: Path) -> tuple[str, bool]:
    """The photo's path within the folder of a json file, and whether it lies there at all."""
    try:
        return str(Path(os.path.abspath(image)).relative_to(os.path.abspath(folder))), True
    except ValueError:
        return image.name, False


def find_camera(option: str | None, image: Path | None) -> tuple[Tensor | None, str]:
    """The camera label [1, 25] of the photo and where it came from, without names; or None, and why where that is worth a word."""
    if option is not None:
        return parse_camera(option, image), '--camera'
    beside = None if image is None else image.parent / LABELS
    if beside is None or not beside.exists():
        return None, ''
    content, labels = read_labels(beside)
    if labels is None:
        return check_label(content, shown(beside, 300)), f'{LABELS} beside the photo'
    label, words = labels.look_up(image.name)
    return label, f'{LABELS} beside the photo{words}' if label is not None else f'the {LABELS} beside the photo {words}'
