"""Where the face lies in an aligned picture, and which box around it each recogniser was trained on.

Two alignments occur.  Neither needs a rotation: both have made the eyes level.

EG3D (``'eg3d'``).  The photo is scaled so that the face spans 300 of 1024 pixels, the middle 700 are cut out and
brought to 512.  Five landmarks of near-frontal faces, averaged, give ``EG3D_POINTS``; the least-squares scale and shift
onto ArcFace's five points (``fit_box``) cover pixels 48.5 to 463.3 across and 3.5 to 418.3 down of 512, with 1.6 of 112
pixels left at the worst point and a spread of 4 % in scale from face to face.

FFHQ (``'ffhq'``).  With E between the eyes and M from eyes to mouth, the picture has the half side max(2 E, 1.8 M)
about the point 0.1 M below the eyes (Karras et al. 2019, the data set's own script).  ArcFace's template face has
1.8 M > 2 E, so its eyes lie at 0.472 and its mouth at 0.750 of the height, and the template covers 0.118 to 0.883
across and 0.120 to 0.885 down.  GUIDE's code cuts rows 35 to 223 and columns 32 to 220 of 256 (0.137 to 0.871, 0.125 to
0.859): 4 % tighter, 2 pixels of 256 to the left, the eyes within half a pixel of 112.  The derived box is used, because
one rule then serves both alignments and is centred; a recogniser hardly tells them apart.  GUIDE uses that FFHQ crop on
EG3D pictures too, where the eyes are much higher: they come to row 37 instead of 52, and the forehead is cut off.
"""

from __future__ import annotations

from eg3d_unlearn.judges.resample import FULL, Box

Point = tuple[float, float]  # x to the right, y down

# The template of ArcFace's training crops, pixels of 112: eye, eye, nose tip, mouth corner, mouth corner.
ARCFACE_POINTS: tuple[Point, ...] = (
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
ARCFACE_SIZE = 112

# Mean of five faces with |yaw| < 15 degrees, made symmetric about the middle, pixels of EG3D's 512-pixel crop.
EG3D_POINTS: tuple[Point, ...] = ((189.0, 195.3), (323.0, 195.3), (256.0, 274.8), (198.0, 341.7), (314.0, 341.7))
EG3D_SIZE = 512

# MTCNN's box in units of the distance from eyes to mouth, about the face's middle and below the eyes; six faces' mean.
MTCNN_HALF_WIDTH, MTCNN_TOP, MTCNN_BOTTOM = 1.10, -1.17, 1.79
# FaceNet was trained on that box with a margin of 32 of 160 pixels, stretched to a square.
FACENET_SIZE, FACENET_MARGIN = 160, 32


def fit_box(
    points: tuple[Point, ...],    # landmarks in the picture, in fractions of its side
    template: tuple[Point, ...],  # where they shall come to lie, pixels of the crop
    size: int,                    # pixels, side of the crop
) -> Box:
    """The box whose crop brings ``points`` nearest to ``template``: least squares over one scale and a shift."""
    count = len(points)
    mean_x, mean_y = (sum(point[axis] for point in points) / count for axis in (0, 1))
    centre_x, centre_y = (sum(point[axis] for point in template) / count for axis in (0, 1))
    pairs = [(t[0] - centre_x, t[1] - centre_y, p[0] - mean_x, p[1] - mean_y) for t, p in zip(template, points, strict=True)]
    scale = sum(tx * px + ty * py for tx, ty, px, py in pairs) / sum(tx * tx + ty * ty for tx, ty, _, _ in pairs)
    left, top = mean_x - scale * centre_x, mean_y - scale * centre_y
    return Box(left, top, left + scale * size, top + scale * size)


def ffhq_points() -> tuple[Point, ...]:
    """ArcFace's template face as FFHQ's alignment places it, in fractions of the picture's side."""
    (left_eye, right_eye, _, left_mouth, right_mouth) = ARCFACE_POINTS
    eyes = ((left_eye[0] + right_eye[0]) / 2, (left_eye[1] + right_eye[1]) / 2)
    mouth_y = (left_mouth[1] + right_mouth[1]) / 2
    half = max(2.0 * (right_eye[0] - left_eye[0]), 1.8 * (mouth_y - eyes[1]))
    centre_y = eyes[1] + 0.1 * (mouth_y - eyes[1])
    return tuple(((x - eyes[0]) / (2 * half) + 0.5, (y - centre_y) / (2 * half) + 0.5) for x, y in ARCFACE_POINTS)


def face_points(
    alignment: str,      # 'eg3d' | 'ffhq'
) -> tuple[Point, ...]:  # five landmarks in fractions of the picture's side
    """Where the landmarks of a frontal face lie in a picture of this alignment."""
    if alignment == 'eg3d':
        return tuple((x / EG3D_SIZE, y / EG3D_SIZE) for x, y in EG3D_POINTS)
    if alignment == 'ffhq':
        return ffhq_points()
    raise ValueError(f"alignment {alignment!r}; expected 'eg3d', 'ffhq' or 'full'")


def arcface_box(alignment: str) -> Box:  # 'eg3d' | 'ffhq' | 'full'
    """The box that brings a face onto the template of ArcFace and CurricularFace."""
    return FULL if alignment == 'full' else fit_box(face_points(alignment), ARCFACE_POINTS, ARCFACE_SIZE)


def facenet_box(alignment: str) -> Box:  # 'eg3d' | 'ffhq' | 'full'
    """MTCNN's box with the margin of FaceNet's training; higher than wide, as FaceNet knows faces."""
    if alignment == 'full':
        return FULL
    points = face_points(alignment)
    eyes_y = (points[0][1] + points[1][1]) / 2
    unit = (points[3][1] + points[4][1]) / 2 - eyes_y
    middle_x = sum(points[i][0] for i in (0, 1, 3, 4)) / 4
    middle_y = eyes_y + unit * (MTCNN_TOP + MTCNN_BOTTOM) / 2
    grow = unit * FACENET_SIZE / (FACENET_SIZE - FACENET_MARGIN)
    half_width, half_height = grow * MTCNN_HALF_WIDTH, grow * (MTCNN_BOTTOM - MTCNN_TOP) / 2
    # Like facenet-pytorch, no box beyond the picture.
    return Box(max(middle_x - half_width, 0.0), max(middle_y - half_height, 0.0),
               min(middle_x + half_width, 1.0), min(middle_y + half_height, 1.0))
