"""Faces in a photo: boxes and five landmarks, by facenet-pytorch's MTCNN, whose weights come with that package.

Source: Zhang et al., MTCNN (arXiv 1604.02878).
"""
from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import PIL.Image

from torch_utils_ext.errors import InputError

SIDE, SMALLEST_FACE = 640, 32        # pixels: the search's picture and the smallest face in it
FINE_SIDE, FINE_FACE = 1600, 24      # a second look where the first finds nothing: group pictures
SURE = 0.9                           # probability from which on EG3D's tools take something for a face
DOUBTFUL = 0.995                     # below, the face may be turned and the landmarks with it
NEAR_SIDE, NEAR_FACE = 256, 60       # pixels: the neighbourhood of one face and the face in it
NEAR = 2.0                           # the neighbourhood, in box sides
TURNS = (180, 90, 270)               # degrees counter-clockwise


@dataclass(frozen=True)
class Face:
    """One face in a photo."""
    box: tuple[float, float, float, float]  # left, top, right, bottom [pixels]
    landmarks: np.ndarray            # [5, 2] pixels: eye on the left of the picture, on the right, nose tip, mouth corners
    probability: float               # 0..1

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    def __str__(self) -> str:
        left, top, right, bottom = (round(edge) for edge in self.box)
        return f'{right - left} x {bottom - top} pixels at {left},{top}'


@lru_cache(maxsize=4)
def detector(smallest: int):
    """MTCNN that looks for faces of at least ``smallest`` pixels."""
    try:
        from facenet_pytorch import MTCNN
    except (ImportError, RuntimeError) as error:
        raise InputError(f'Finding faces needs the package facenet-pytorch ({error}). Install it with: pip install facenet-pytorch, '
                         'or give an aligned picture with --aligned.') from None
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # torch before 2.6 on how the package loads its own weights
        return MTCNN(keep_all=True, min_face_size=smallest, device='cpu')


def look(image: PIL.Image.Image, side: int, smallest: int) -> list[Face]:
    """All faces, seen in a copy whose longest side is ``side`` pixels at most; tiny pictures are enlarged up to fourfold."""
    longest = max(image.size)
    scale = min(side / longest, max(1.0, min(4.0, side / 2 / longest)))
    size = tuple(max(1, round(length * scale)) for length in image.size)
    # Below 12 pixels MTCNN's first network has no output at all.
    if min(size) < 24:
        return []
    seen = image if size == image.size else image.resize(size, PIL.Image.Resampling.BICUBIC, reducing_gap=3.0)
    boxes, probabilities, landmarks = detector(smallest).detect(seen, landmarks=True)
    if boxes is None:
        return []
    stretch = np.array([image.width / size[0], image.height / size[1]])
    return [Face(tuple((np.asarray(box, float).reshape(2, 2) * stretch).ravel().tolist()), np.asarray(points, float) * stretch, float(p))
            for box, p, points in zip(boxes, probabilities, landmarks, strict=True) if p is not None and p >= SURE]


def find_faces(image: PIL.Image.Image) -> list[Face]:
    """The faces of an upright photo, from left to right."""
    faces = look(image, SIDE, SMALLEST_FACE)
    if not faces and max(image.size) > SIDE:
        faces = look(image, FINE_SIDE, FINE_FACE)
    return sorted(faces, key=lambda face: face.box[0] + face.box[2])


def find_turn(image: PIL.Image.Image) -> int | None:
    """By how many degrees counter-clockwise a picture without upright faces has to be turned until there is one."""
    found = {turn: max((face.probability for face in look(turned(image, turn), SIDE // 2, SMALLEST_FACE)), default=0.0) for turn in TURNS}
    best = max(found, key=found.get)
    return best if found[best] else None


def turned(image: PIL.Image.Image, degrees: int) -> PIL.Image.Image:
    """The picture turned counter-clockwise by a multiple of 90 degrees."""
    return image.rotate(degrees, expand=True)


def refine(image: PIL.Image.Image, face: Face) -> tuple[Face, int]:
    """The face looked at again from near by, and by how much it must be turned to be seen better (0: it is upright).

    Seen at one size, a face has the same landmarks in a thumbnail and in a 4000-pixel photo, to a fraction of a percent.
    """
    half = NEAR / 2 * max(face.box[2] - face.box[0], face.box[3] - face.box[1])
    middle = np.array([face.box[0] + face.box[2], face.box[1] + face.box[3]]) / 2
    low, high = np.floor(np.maximum(middle - half, 0)), np.ceil(np.minimum(middle + half, image.size))
    near = image.crop((*low.astype(int).tolist(), *high.astype(int).tolist()))
    scale = NEAR_SIDE / max(near.size)
    near = near.resize(tuple(max(1, round(length * scale)) for length in near.size), PIL.Image.Resampling.BICUBIC, reducing_gap=3.0)
    upright = best_of(look(near, NEAR_SIDE, NEAR_FACE))
    if face.probability < DOUBTFUL or upright is None:
        sideways = {turn: best_of(look(turned(near, turn), NEAR_SIDE, NEAR_FACE)) for turn in TURNS}
        sideways = {turn: found.probability for turn, found in sideways.items() if found is not None}
        turn = max(sideways, key=sideways.get, default=0)
        if turn and sideways[turn] > max(face.probability, upright.probability if upright else 0.0):
            return face, turn
    if upright is None:
        return face, 0
    box = np.array(upright.box).reshape(2, 2) / scale + low
    return Face(tuple(box.ravel().tolist()), upright.landmarks / scale + low, face.probability), 0


def best_of(faces: list[Face]) -> Face | None:
    """The largest of them."""
    return max(faces, key=lambda face: face.area, default=None)
