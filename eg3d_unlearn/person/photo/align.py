"""Where the crop of each kind lies in a photo, from five landmarks, and the cutting of it.

Five landmarks everywhere: eye on the left of the picture, eye on the right, nose tip, mouth corner on the left, on the
right; pixels, x to the right, y down, the first pixel covers 0 to 1.

Sources of the numbers: EG3D's data set tools (arXiv 2112.07945: face at 300 of 1024 pixels, middle 700, 512), the FFHQ
data set's alignment (Karras et al., arXiv 1812.04948: half side max(2 E, 1.8 M)).
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageFilter

# The standard face on which EG3D's crop is defined: five points of Deep3DFaceRecon's mean landmarks, which are public
# numbers, here made symmetric and rounded (a crop of 512 pixels moves by a pixel at most); y up, z out of the face.
STANDARD_FACE = np.array([
    [-0.3106, 0.2900, 0.1328], [0.3106, 0.2900, 0.1328], [0.0, -0.0462, 0.5524], [-0.2503, -0.3813, 0.2232], [0.2503, -0.3813, 0.2232]])
EG3D_FACE, EG3D_CROP = 300, 700      # pixels of one unit of the standard face, and of the crop around it
SIZES = {'eg3d': 512, 'ffhq': 1024}  # pixels of the crop, as the data sets have it
# A picture that already is the crop: how far another detector's landmarks may disagree.
SAME_SHIFT, SAME_SCALE, SAME_ANGLE = 0.05, 0.10, 5.0          # of the side, of the side, degrees
MARGIN = 4                           # pixels that a resampling filter looks beyond the crop
BORDER = 0.3                         # width of an invented border, at least, in crop sides (FFHQ)
BLUR = 0.02                          # blur of the border at its outer edge, in crop sides (FFHQ)


@dataclass(frozen=True)
class Square:
    """A square in a picture, perhaps turned, perhaps reaching beyond the picture."""
    x: float                         # centre, pixels
    y: float
    right_x: float                   # from the centre to the middle of the right edge, pixels
    right_y: float = 0.0

    @property
    def side(self) -> float:
        return 2 * math.hypot(self.right_x, self.right_y)

    @property
    def angle_deg(self) -> float:
        """How far the crop is turned clockwise in the picture."""
        return math.degrees(math.atan2(self.right_y, self.right_x))

    def corners(self) -> np.ndarray:  # [4, 2]: upper left, upper right, lower right, lower left
        return self.from_crop(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))

    def from_crop(
        self,
        points: np.ndarray,  # [N, 2] fractions of the crop's side
    ) -> np.ndarray:         # [N, 2] pixels of the picture
        """Where places of the crop lie in the picture."""
        across, down = (2 * np.asarray(points, float) - 1).T
        return np.stack([self.x + across * self.right_x - down * self.right_y, self.y + across * self.right_y + down * self.right_x], 1)

    def to_crop(
        self,
        points: np.ndarray,  # [N, 2] pixels of the picture
    ) -> np.ndarray:         # [N, 2] fractions of the crop's side
        """Where places of the picture lie in the crop."""
        x, y = (np.asarray(points, float) - [self.x, self.y]).T
        length = self.right_x ** 2 + self.right_y ** 2
        across, down = (x * self.right_x + y * self.right_y) / length, (y * self.right_x - x * self.right_y) / length
        return np.stack([across, down], 1) / 2 + 0.5

    def outside(self, width: int, height: int) -> float:
        """The share of the crop that lies beyond the picture, on a grid of 64 x 64 points."""
        steps = (np.arange(64) + 0.5) / 64
        x, y = self.from_crop(np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)).T
        return float(1 - ((x >= 0) & (x < width) & (y >= 0) & (y < height)).mean())


def whole(image: PIL.Image.Image) -> Square:
    """The largest square in the picture's middle."""
    return Square(image.width / 2, image.height / 2, min(image.size) / 2)


def eg3d_square(
    landmarks: np.ndarray,  # [5, 2] pixels
) -> Square:
    """EG3D's crop: level, whatever the head does; size and place from the standard face under an affine camera.

    Least squares over the camera's two rows, each with a shift; one unit of the face is the mean length of the rows.
    """
    rows, *_ = np.linalg.lstsq(np.c_[STANDARD_FACE, np.ones(5)], np.asarray(landmarks, float), rcond=None)
    unit = np.linalg.norm(rows[:3], axis=0).mean()
    return Square(*rows[3], right_x=unit * EG3D_CROP / EG3D_FACE / 2)


def ffhq_square(
    landmarks: np.ndarray,  # [5, 2] pixels
) -> Square:
    """FFHQ's crop: turned with the head.  Its script takes eye and mouth centres of 68 landmarks; here they are given."""
    left_eye, right_eye, _, left_mouth, right_mouth = np.asarray(landmarks, float)
    eyes, eye_to_eye = (left_eye + right_eye) / 2, right_eye - left_eye
    eye_to_mouth = (left_mouth + right_mouth) / 2 - eyes
    # Right of the head: the eyes' line and the perpendicular to the line from eyes to mouth.
    right = eye_to_eye + [eye_to_mouth[1], -eye_to_mouth[0]]
    right *= max(2.0 * np.linalg.norm(eye_to_eye), 1.8 * np.linalg.norm(eye_to_mouth)) / np.linalg.norm(right)
    return Square(*(eyes + 0.1 * eye_to_mouth), *right)


SQUARES = {'eg3d': eg3d_square, 'ffhq': ffhq_square}


def is_aligned(square: Square, image: PIL.Image.Image) -> bool:
    """Whether the picture already is the crop that ``square`` asks for, to a detector's accuracy."""
    side = image.width
    return (image.width == image.height
            and math.hypot(square.x - side / 2, square.y - side / 2) < SAME_SHIFT * side
            and abs(square.side / side - 1) < SAME_SCALE and abs(square.angle_deg) < SAME_ANGLE)


def cut(image: PIL.Image.Image, square: Square, size: int) -> PIL.Image.Image:
    """The crop, ``size`` pixels wide; beyond the picture's border it goes on mirrored, ever more blurred."""
    factor = int(square.side / (2 * size))
    if factor > 1:                   # far too many pixels: take means, so that what follows is quick
        image = image.reduce(factor)
        square = Square(*(value / factor for value in (square.x, square.y, square.right_x, square.right_y)))
    image, square = with_border(image, square)
    if square.right_y == 0:
        (left, top), (right, bottom) = square.corners()[[0, 2]]
        return image.resize((size, size), PIL.Image.Resampling.LANCZOS, box=(left, top, right, bottom))
    # Turning knows no antialiasing, so turn at no fewer pixels than there are, then shrink.
    fine = size * max(1, math.ceil(square.side / size))
    step_x, step_y = 2 * square.right_x / fine, 2 * square.right_y / fine
    left, top = square.corners()[0]
    turned = image.transform((fine, fine), PIL.Image.Transform.AFFINE, (step_x, -step_y, left, step_y, step_x, top),
                             PIL.Image.Resampling.BICUBIC)
    return turned.resize((size, size), PIL.Image.Resampling.LANCZOS)


def with_border(image: PIL.Image.Image, square: Square) -> tuple[PIL.Image.Image, Square]:
    """The part of the picture around ``square``, with a border where it reaches beyond, and the square in that part."""
    corners = square.corners()
    low, high = np.floor(corners.min(0)).astype(int) - MARGIN, np.ceil(corners.max(0)).astype(int) + MARGIN
    start, end = np.maximum(low, 0), np.minimum(high, image.size)
    if (start >= end).any():
        raise ValueError('the crop lies wholly outside the picture')
    image = image.crop((*start.tolist(), *end.tolist()))
    wide = math.ceil(BORDER * square.side)
    # Only turning needs pixels for its filter's sake; shrinking does without them at an edge.
    narrow = MARGIN if square.right_y else 0
    before, after = ([max(int(gap), wide) if gap > MARGIN else min(int(gap), narrow) for gap in gaps] for gaps in (start - low, high - end))
    if any(before + after):
        image = mirrored(image, (before[0], before[1], after[0], after[1]), BLUR * square.side)
    x, y = np.array([square.x, square.y]) - start + before
    return image, Square(float(x), float(y), square.right_x, square.right_y)


def mirrored(image: PIL.Image.Image, widths: tuple[int, int, int, int], blur: float) -> PIL.Image.Image:
    """The picture with mirrored borders (left, top, right, bottom), which blur and fade into its median outwards (FFHQ).

    A hard edge or black would be a feature that inversion wastes latent space on.
    """
    left, top, right, bottom = widths
    pixels = np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)), mode='reflect' if min(image.size) > 1 else 'edge')
    height, width = pixels.shape[:2]
    # 1 at the outer edge of a border, 0 where the picture begins, negative inside it.
    depth = np.full((height, width), -1.0, np.float32)
    for border, distance in ((left, np.arange(width)[None]), (right, np.arange(width)[None, ::-1]),
                             (top, np.arange(height)[:, None]), (bottom, np.arange(height)[::-1, None])):
        if border > MARGIN:          # narrower ones serve the filter only and lie outside the crop
            depth = np.maximum(depth, 1 - distance / np.float32(border))
    blurred = np.asarray(PIL.Image.fromarray(pixels).filter(PIL.ImageFilter.GaussianBlur(blur)), np.float32)
    result = pixels + (blurred - pixels) * np.clip(3 * depth + 1, 0, 1)[..., None]
    result += (np.median(result[::8, ::8], axis=(0, 1)) - result) * np.clip(depth, 0, 1)[..., None]
    return PIL.Image.fromarray(np.uint8(np.clip(np.rint(result), 0, 255)))
