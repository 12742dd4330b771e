"""Faces in a photo: boxes and five landmarks, by facenet-pytorch's MTCNN, whose weights come with that package.

Source: Zhang et al., MTCNN (arXiv 1604.02878).
"""
from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import PIL.Image
import torch

from eg3d_unlearn.person.photo import align
from torch_utils_ext.errors import InputError

SIDE, SMALLEST_FACE = 640, 32        # pixels: the search's picture and the smallest face in it
FINE_SIDE, FINE_FACE = 1600, 24      # a second look where the first finds nothing: group pictures
SURE = 0.9                           # probability from which on EG3D's tools take something for a face
DOUBTFUL = 0.995                     # below, the face may be turned and the landmarks with it
NEAR_SIDE, NEAR_FACE = 256, 60       # pixels: the neighbourhood of one face and the face in it
NEAR = 2.0                           # the neighbourhood, in box sides
TURNS = (180, 90, 270)               # degrees counter-clockwise
# The many looks of `steady`: squares in EG3D's crop, where MTCNN lays its own about faces and as much spread.
LOOK_SIZE = 48                       # pixels that MTCNN's last network sees
STEADY_SIDE = 256                    # pixels of the crop in which the looks are taken
LOOK, LOOK_MIDDLE = 0.75, (0.5, 0.48)  # side and centre of the middle square, in crop sides
LOOK_SHIFTS, LOOK_ZOOMS = (-0.03, 0.0, 0.03), (0.95, 1.0, 1.05)  # in squares; as factors
AGREE = 0.008                        # spread of the looks in crop sides; 0.003 for a plain face, 0.006 blurred, 0.011 in profile
ROUNDS = 2                           # the second begins where the first ended, so that the start hardly matters


@dataclass(frozen=True)
class Face:
    """One face in a photo."""
    box: tuple[float, float, float, float]  # left, top, right, bottom [pixels]
    landmarks: np.ndarray            # [5, 2] pixels: eye on the left of the picture, on the right, nose tip, mouth corners
    probability: float               # 0..1
    spread: float = 0.0              # by which many looks at it disagree about the landmarks, in sides of EG3D's crop

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
    # MTCNN shrinks the picture until the smallest face has 12 pixels; of fewer its first network makes nothing at all.
    if min(size) < smallest:
        return []
    seen = image if size == image.size else image.resize(size, PIL.Image.Resampling.BICUBIC, reducing_gap=3.0)
    boxes, probabilities, landmarks = detector(smallest).detect(seen, landmarks=True)
    if boxes is None:
        return []
    stretch = np.array([image.width / size[0], image.height / size[1]])
    return [Face(tuple((np.asarray(box, float).reshape(2, 2) * stretch).ravel().tolist()), np.asarray(points, float) * stretch, float(p))
            for box, p, points in zip(boxes, probabilities, landmarks, strict=True) if p is not None and p >= SURE]


def find_faces(image: PIL.Image.Image) -> list[Face]:
    """The faces of an upright photo, from left to right, as --face counts them."""
    faces = look(image, SIDE, SMALLEST_FACE)
    if not faces and max(image.size) > SIDE:
        faces = look(image, FINE_SIDE, FINE_FACE)
    return sorted(faces, key=lambda face: face.box[0] + face.box[2])


def find_turn(image: PIL.Image.Image) -> int | None:
    """By how many degrees counter-clockwise a picture without upright faces has to be turned until there is one."""
    image = image.copy()
    image.thumbnail((SIDE, SIDE), reducing_gap=3.0)
    found = seen_turned(image, SIDE // 2, SMALLEST_FACE)
    return max(found, key=found.get, default=None)


def seen_turned(image: PIL.Image.Image, side: int, smallest: int) -> dict[int, float]:
    """The probability of the largest face by the turn, degrees counter-clockwise, that makes it upright."""
    found = {turn: best_of(look(image.rotate(turn, expand=True), side, smallest)) for turn in TURNS}
    return {turn: face.probability for turn, face in found.items() if face is not None}


def refine(image: PIL.Image.Image, face: Face) -> tuple[Face, int]:
    """The face looked at again from near by, and by how much it must be turned to be seen better (0: it is upright).

    Seen at one size, and in the mean of many looks, a face has the same landmarks in a thumbnail and in a 4000-pixel photo.
    """
    half = NEAR / 2 * max(face.box[2] - face.box[0], face.box[3] - face.box[1])
    middle = np.array([face.box[0] + face.box[2], face.box[1] + face.box[3]]) / 2
    low, high = np.floor(np.maximum(middle - half, 0)), np.ceil(np.minimum(middle + half, image.size))
    near = image.crop((*low.astype(int).tolist(), *high.astype(int).tolist()))
    scale = NEAR_SIDE / max(near.size)
    near = near.resize(tuple(max(1, round(length * scale)) for length in near.size), PIL.Image.Resampling.BICUBIC, reducing_gap=3.0)
    upright = best_of(look(near, NEAR_SIDE, NEAR_FACE))
    if face.probability < DOUBTFUL or upright is None:
        sideways = seen_turned(near, NEAR_SIDE, NEAR_FACE)
        turn = max(sideways, key=sideways.get, default=0)
        if turn and sideways[turn] > max(face.probability, upright.probability if upright else 0.0):
            return face, turn
    if upright is None:
        return face, 0
    box = np.array(upright.box).reshape(2, 2) / scale + low
    landmarks, spread = steady(image, upright.landmarks / scale + low)
    return Face(tuple(box.ravel().tolist()), landmarks, face.probability, spread), 0


def steady(
    image: PIL.Image.Image,
    landmarks: np.ndarray,           # [5, 2] pixels
) -> tuple[np.ndarray, float]:       # [5, 2] pixels; by how much the looks disagree, in crop sides
    """The landmarks in the mean of many looks at the straightened face and its mirror image.

    A single look is off by two pixels of 512, differently in every copy of a photo, which turns the camera by several
    degrees; the mean moves by a tenth of a pixel.
    """
    for _ in range(ROUNDS):
        square = straightened(landmarks)
        crop = align.cut(image, square, STEADY_SIDE)
        points, probabilities = looks(crop)
        # Of a face that most looks do not see, or see differently (a profile), the mean is no better than what was found.
        spread = float(points.std(0).mean())
        if np.median(probabilities) < SURE or spread > AGREE:
            return landmarks, spread
        landmarks = square.from_crop(points.mean(0))
    return landmarks, spread


def straightened(
    landmarks: np.ndarray,           # [5, 2] pixels
) -> align.Square:
    """EG3D's crop, turned as FFHQ's is, so that a tilted head is seen upright."""
    level, angle = align.eg3d_square(landmarks), math.radians(align.ffhq_square(landmarks).angle_deg)
    return align.Square(level.x, level.y, level.right_x * math.cos(angle), level.right_x * math.sin(angle))


@torch.no_grad()
def looks(crop: PIL.Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """What MTCNN's last network finds in many squares of a crop: landmarks [N, 5, 2] in crop sides, probabilities [N]."""
    views = np.array(list(product(LOOK_SHIFTS, LOOK_SHIFTS, LOOK_ZOOMS)))
    sides = LOOK * views[:, 2:]
    corners = LOOK_MIDDLE + LOOK * views[:, :2] - sides / 2
    boxes = (np.c_[corners, corners + sides] * crop.width).tolist()
    seen = np.stack([np.asarray(crop.resize((LOOK_SIZE, LOOK_SIZE), PIL.Image.Resampling.BOX, box=tuple(box))) for box in boxes])
    pixels = (torch.from_numpy(seen).permute(0, 3, 1, 2).float() - 127.5) / 128
    _, points, sure = detector(NEAR_FACE).onet(torch.cat([pixels, pixels.flip(3)]))
    # The network gives five x, then five y, in fractions of what it sees.
    plain, mirrored = points.double().numpy().reshape(2, -1, 2, 5).transpose(0, 1, 3, 2)
    mirrored = (mirrored * [-1, 1] + [1, 0])[:, [1, 0, 2, 4, 3]]
    found = np.concatenate([corners[:, None] + one * sides[:, None] for one in (plain, mirrored)])
    return found, sure[:, 1].double().numpy()


def best_of(faces: list[Face]) -> Face | None:
    """The largest of them."""
    return max(faces, key=lambda face: face.area, default=None)
