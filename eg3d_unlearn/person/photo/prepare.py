"""A photo made ready for inversion, told in order: face found, chosen and judged, crop cut, camera solved."""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image
from torch import Tensor

from eg3d_unlearn.person.photo import align, detect
from eg3d_unlearn.person.photo.detect import Face
from eg3d_unlearn.person.photo.doubts import doubts
from eg3d_unlearn.person.photo.files import read_photo, to_tensor
from eg3d_unlearn.person.photo.pose import Pose, pose_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

CROPS = tuple(align.SQUARES)
SMALLEST_CROP = 96                   # photo pixels across the crop; below, a face is a few blurred dots
SOFT_CROP = 256                      # below, a crop of 512 pixels looks soft
MOST_MISSING = 0.2                   # share of the face's box beyond the border: eyes or mouth would be invented
SOME_INVENTED = 0.1                  # share of the crop worth a word
PROFILE_DEG, HALF_PROFILE_DEG = 70.0, 45.0  # yaw: one eye is hidden; landmarks are guesses
TILTED_DEG, SOME_TILT_DEG = 40.0, 15.0      # roll: turn the photo; networks know few such heads
BAD_MISFIT = 3.0                     # standard deviations; landmarks that belong to no face
NOT_A_FACE = ('If it is the aligned crop already, or the network does not make human faces (cats, the demo world), '
              'add --aligned to take the picture as it is.')


@dataclass(frozen=True)
class Prepared:
    """What came of a photo."""
    image: PIL.Image.Image           # the crop, square, 8-bit RGB
    square: align.Square             # where the crop lies in the photo
    face: Face | None = None         # in the photo; None where --aligned met none
    pose: Pose | None = None         # for EG3D's crop, where there is a face
    camera: Tensor | None = None     # [1, 25] float32, by the pose, until somebody knows it better
    source: str = ''                 # where the camera came from
    notes: list[str] = field(default_factory=list)  # what was done, and what to mind

    def tensor(self, resolution: int) -> Tensor:  # [1, 3, resolution, resolution] float32 in [-1, 1]
        return to_tensor(self.image, resolution)


def prepare_file(path: Path, kind: str = 'eg3d', face: int | None = None, aligned: bool = False, size: int | None = None) -> Prepared:
    """`prepare` of a picture file; errors name the file."""
    image, notes = read_photo(path)
    try:
        prepared = prepare(image, kind, face, aligned, size)
    except InputError as error:
        raise InputError(f'{shown(path, 300)}: {error}') from None
    return replace(prepared, notes=notes + prepared.notes)


def prepare(
    image: PIL.Image.Image,          # upright RGB, any size
    kind: str = 'eg3d',              # 'eg3d' or 'ffhq': the crop that the network was trained on
    face: int | None = None,         # which face, counted from the left from 1; None = the largest
    aligned: bool = False,           # the picture is the crop already: no search, no error without a face
    size: int | None = None,         # pixels of the crop; None = as in the crop's data set
) -> Prepared:
    """Find the face, cut its crop, solve its camera.

    Raises:
        InputError: no face, no such face, a face too small, cut off, turned, tilted or in profile.
    """
    if kind not in align.SQUARES:
        raise InputError(f'There is no crop {kind!r}; expected one of {", ".join(CROPS)}.')
    size = size or align.SIZES[kind]
    if aligned:
        return _as_it_is(image, kind, face, size)
    faces = detect.find_faces(image)
    if not faces:
        raise InputError(_no_face(image))
    chosen, notes = choose(faces, face)
    chosen, turn = detect.refine(image, chosen)
    if turn:
        raise InputError(_turned(turn))
    square = align.SQUARES[kind](chosen.landmarks)
    if align.is_aligned(square, image):
        prepared = _as_it_is(image, kind, None, size, chosen)
        return replace(prepared, notes=notes + prepared.notes)
    pose = pose_of(align.eg3d_square(chosen.landmarks).to_crop(chosen.landmarks))
    notes += judge(image, chosen, square, pose)
    notes.append(f'{kind} crop of {square.side:.0f} pixels about {square.x:.0f},{square.y:.0f} brought to {size}')
    return _prepared(image, kind, square, size, chosen, pose, 'crop and camera' if kind == 'eg3d' else 'the crop', notes)


def choose(faces: list[Face], number: int | None) -> tuple[Face, list[str]]:
    """The face to take, and a sentence about the others; ``faces`` from left to right."""
    if number is not None and not 1 <= number <= len(faces):
        found = '; '.join(f'face {i}: {face}' for i, face in enumerate(faces, 1))
        raise InputError(f'--face={number}, but there {"is 1 face" if len(faces) == 1 else f"are {len(faces)} faces"} in the photo, '
                         f'counted from the left from 1 ({found}). Give one of these numbers, or leave --face out to take the largest.')
    index = number - 1 if number is not None else max(range(len(faces)), key=lambda i: faces[i].area)
    if len(faces) == 1:
        return faces[index], []
    named = '; '.join(f'face {i}: {face}' for i, face in enumerate(faces, 1) if i != index + 1)
    why = 'as asked' if number is not None else 'the largest'
    return faces[index], [f'{len(faces)} faces, counted from the left; took face {index + 1}, {why} ({faces[index]}); '
                          f'not taken: {named}. --face=N chooses']


def judge(image: PIL.Image.Image, face: Face, square: align.Square, pose: Pose) -> list[str]:
    """Refuse what cannot give a good crop; the notes name what is doubtful."""
    left, top, right, bottom = face.box
    inside = max(0, min(right, image.width) - max(left, 0)) * max(0, min(bottom, image.height) - max(top, 0))
    if square.side < SMALLEST_CROP:
        raise InputError(f'The face is too small: its crop has {square.side:.0f} pixels, at least {SMALLEST_CROP} are needed and '
                         f'{SOFT_CROP} are good. Give a larger copy of the photo, or one from nearer by.')
    missing = 1 - inside / face.area
    if missing > MOST_MISSING or _beyond(face.landmarks, image):
        raise InputError(f'The face is cut off: {100 * missing:.0f} % of it lies beyond the border of the photo. Give a photo that '
                         'shows the whole face, or an uncropped copy.')
    if pose.misfit > BAD_MISFIT:
        raise InputError(f'What was found at {face} does not look like a face: eyes, nose and mouth do not fit together. Give a clearer '
                         'photo, choose another face with --face=N, or add --aligned if the picture is the crop already.')
    if abs(pose.roll_deg) > TILTED_DEG:
        raise InputError(f'The head is tilted by {abs(pose.roll_deg):.0f} degrees. Turn the photo '
                         f'{"counter-clockwise" if pose.roll_deg > 0 else "clockwise"} by about that much and give it again.')
    if abs(pose.yaw_deg) > PROFILE_DEG:
        raise InputError(f'The face is in profile (turned by {abs(pose.yaw_deg):.0f} degrees), so that one eye is hidden and neither crop '
                         f'nor camera can be found. Give a photo turned by less than {HALF_PROFILE_DEG:.0f} degrees.')
    notes = []
    if square.side < SOFT_CROP:
        notes.append(f'the face is small ({square.side:.0f} pixels across the crop; from {SOFT_CROP} on it is sharp)')
    if abs(pose.roll_deg) > SOME_TILT_DEG:
        notes.append(f'the head is tilted by {abs(pose.roll_deg):.0f} degrees')
    if abs(pose.yaw_deg) > HALF_PROFILE_DEG:
        notes.append(f'the face is turned by {abs(pose.yaw_deg):.0f} degrees; inversion works best below {HALF_PROFILE_DEG:.0f}')
    invented = square.outside(*image.size)
    if invented > SOME_INVENTED:
        notes.append(f'{100 * invented:.0f} % of the crop lies beyond the photo and was filled with a mirrored border')
    return notes


def _beyond(landmarks: np.ndarray, image: PIL.Image.Image) -> bool:
    return bool((landmarks < 0).any() or (landmarks > image.size).any())


def _as_it_is(image: PIL.Image.Image, kind: str, face: int | None, size: int, known: Face | None = None) -> Prepared:
    """The whole picture as the crop; a camera where a face is seen."""
    if face is not None:
        raise InputError('--face chooses among the faces of a photo, but --aligned takes the picture as it is. Leave one of them out.')
    square = align.whole(image)
    notes = ['the picture is the crop already and was left as it is' if known else 'taken as it is (--aligned)']
    if image.width != image.height:
        notes.append(f'cropped to the central square of {image.width} x {image.height} pixels')
    found = known
    if kind == 'eg3d' and found is None:
        found = detect.best_of(detect.find_faces(image))
        found = found and detect.refine(image, found)[0]
    pose = None if kind != 'eg3d' or found is None else pose_of(square.to_crop(found.landmarks))
    if pose is not None and (pose.misfit > BAD_MISFIT or abs(pose.roll_deg) > TILTED_DEG):
        found = pose = None          # what was found is no face, or no face that fills the crop
    return _prepared(image, kind, square, size, found, pose, 'the camera', notes)


def _prepared(image: PIL.Image.Image, kind: str, square: align.Square, size: int, face: Face | None, pose: Pose | None, what: str,
              notes: list[str]) -> Prepared:
    """The crop, with a camera where it is EG3D's; ``what`` hangs on the landmarks."""
    crop, unsure = align.cut(image, square, size), [] if pose is None else doubts(image, face, pose, what)
    if kind != 'eg3d':
        return Prepared(crop, square, face, notes=notes + unsure)
    said = 'no face seen, so that its camera is not known' if pose is None else f'camera: {pose.angles()}'
    return Prepared(crop, square, face, pose, None if pose is None else pose.label, notes=[*notes, said, *unsure])


def _no_face(image: PIL.Image.Image) -> str:
    turn = detect.find_turn(image)
    if turn:
        return _turned(turn)
    return f'No face was found ({image.width} x {image.height} pixels). Give a photo that shows a whole face from the front. {NOT_A_FACE}'


def _turned(turn: int) -> str:
    """``turn``: degrees counter-clockwise that would make the face upright."""
    how = {180: 'upside down. Turn it by 180 degrees', 90: 'lying on its side. Turn it by 90 degrees counter-clockwise',
           270: 'lying on its side. Turn it by 90 degrees clockwise'}[turn]
    return f'The face is {how} and give it again.'
