"""Crops: where they lie, by hand and against the recognisers' template, and that every landmark comes where it should."""
import json
import math

import numpy as np
import PIL.Image
import pytest
from golden_reference import SUBSET_DIR

from eg3d_unlearn.person.photo.align import SQUARES, STANDARD_FACE, Square, cut, eg3d_square, ffhq_square, is_aligned, whole

LANDMARKS = np.array([[200, 180], [300, 200], [240, 250], [190, 290], [280, 310.0]])


def blob(size, point, width=4.0) -> PIL.Image.Image:
    """A soft white dot at ``point`` on black."""
    y, x = np.mgrid[:size[1], :size[0]] + 0.5
    grey = 255 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * width ** 2))
    return PIL.Image.fromarray(np.uint8(np.repeat(grey[..., None], 3, 2)))


def centre_of(image: PIL.Image.Image) -> np.ndarray:
    grey = np.asarray(image)[..., 0].astype(float)
    grey[grey < 30] = 0
    y, x = np.mgrid[:image.height, :image.width] + 0.5
    return np.array([(grey * x).sum(), (grey * y).sum()]) / grey.sum()


@pytest.mark.parametrize('kind', SQUARES)
@pytest.mark.parametrize('size', [112, 512])
@pytest.mark.parametrize('index', [0, 2, 4])
def test_a_landmark_comes_where_it_should(kind, size, index):
    square = SQUARES[kind](LANDMARKS)
    crop = cut(blob((520, 480), LANDMARKS[index]), square, size)
    assert crop.size == (size, size) and crop.mode == 'RGB'
    assert centre_of(crop) == pytest.approx(square.to_crop(LANDMARKS)[index] * size, abs=0.3)


def test_eg3d_by_hand():
    # A frontal standard face, 150 pixels a unit, its origin at (400, 300): 150 * 700 / 300 = 350 pixels.
    landmarks = STANDARD_FACE[:, :2] * [150, -150] + [400, 300]
    square = eg3d_square(landmarks)
    assert (square.x, square.y, square.side, square.angle_deg) == pytest.approx((400, 300, 350, 0))
    # Turned sideways the face is as large; the crop stays level when the head is tilted.
    yaw, roll = math.radians(40), math.radians(20)
    across = STANDARD_FACE @ [math.cos(yaw), 0, math.sin(yaw)]
    turned = np.stack([across, -STANDARD_FACE[:, 1]], 1) @ [[math.cos(roll), math.sin(roll)], [-math.sin(roll), math.cos(roll)]]
    square = eg3d_square(150 * turned + [400, 300])
    assert (square.x, square.y, square.side, square.angle_deg) == pytest.approx((400, 300, 350, 0))


def test_eg3d_against_published_crops():
    # Landmarks measured in pictures that EG3D's own tools cropped: their crop is the whole picture, to a detector's accuracy.
    faces = json.loads((SUBSET_DIR / 'pose_reference.json').read_text())['faces']
    for face in faces:
        square = eg3d_square(face['landmarks_xy'])
        assert is_aligned(square, PIL.Image.new('RGB', (512, 512))), square


def test_ffhq_by_hand():
    # E = 200, M = 200: half side max(2 E, 1.8 M) = 400 about the point 0.1 M below the eyes.
    square = ffhq_square([[400, 300], [600, 300], [500, 400], [420, 500], [580, 500]])
    assert (square.x, square.y, square.side, square.angle_deg) == pytest.approx((500, 320, 800, 0))
    # A long face: M = 300, 1.8 M = 540 > 400.
    square = ffhq_square([[400, 300], [600, 300], [500, 400], [420, 600], [580, 600]])
    assert (square.x, square.y, square.side) == pytest.approx((500, 330, 1080))
    # The same, the head tilted by 30 degrees clockwise about (500, 300): the crop tilts with it.
    turn = np.exp(1j * math.radians(30))
    points = np.array([-100, 100, 100j, -80 + 200j, 80 + 200j]) * turn + 500 + 300j
    square = ffhq_square(np.stack([points.real, points.imag], 1))
    assert (square.side, square.angle_deg) == pytest.approx((800, 30))
    middle = 500 + 300j + 20j * turn
    assert (square.x, square.y) == pytest.approx((middle.real, middle.imag))


def test_there_and_back():
    square = Square(310.5, 200.25, 80.0, -30.0)
    points = np.random.RandomState(0).rand(7, 2)
    assert square.to_crop(square.from_crop(points)) == pytest.approx(points)
    # Hand values: unturned, the middle of the right edge.
    assert Square(10, 20, 5).from_crop([[1.0, 0.5], [0.0, 0.0]]) == pytest.approx(np.array([[15, 20], [5, 15]]))


def test_the_share_outside():
    assert Square(50, 50, 50).outside(100, 100) == 0
    assert Square(0, 50, 50).outside(100, 100) == pytest.approx(0.5)
    assert Square(0, 0, 50).outside(100, 100) == pytest.approx(0.75)


@pytest.mark.parametrize('right_y', [0.0, 20.0])
def test_beyond_the_border_the_picture_goes_on_mirrored(right_y):
    y, x = np.mgrid[:200, :200]
    photo = PIL.Image.fromarray(np.uint8(np.stack([x, y, 0 * x + 90], 2)))
    square = Square(20.0, 100.0, 60.0, right_y)
    crop = np.asarray(cut(photo, square, 128)).astype(float)
    # Where the photo is, it is unchanged (the blur reaches a third of the border's width into it).
    u = np.array([[0.8, 0.5], [0.9, 0.4]])
    for (column, row), (red, green) in zip((u * 128).astype(int), square.from_crop((np.floor(u * 128) + 0.5) / 128), strict=True):
        assert crop[row, column, :2] == pytest.approx([red - 0.5, green - 0.5], abs=1.5)
    # Where it is not, there is neither black nor an edge: the blue channel is flat, red falls and rises again.
    assert np.abs(crop[..., 2] - 90).max() <= 1
    assert np.abs(np.diff(crop[64, :, 0])).max() < 8


def test_a_crop_larger_than_the_photo():
    photo = PIL.Image.fromarray(np.random.RandomState(0).randint(0, 255, (40, 60, 3), np.uint8))
    crop = cut(photo, Square(30, 20, 100), 128)
    assert crop.size == (128, 128) and 60 < np.asarray(crop).mean() < 200


def test_many_pixels_are_averaged():
    # A fine chequerboard becomes even grey, and not a pattern.
    board = np.uint8(255 * (np.indices((2000, 2000)).sum(0) % 2))
    crop = np.asarray(cut(PIL.Image.fromarray(np.repeat(board[..., None], 3, 2)), Square(1000, 1000, 900), 100)).astype(int)
    assert np.abs(crop - 127).max() <= 2


@pytest.mark.parametrize('square, aligned', [
    (Square(256, 256, 256), True), (Square(262, 250, 250), True), (Square(256, 256, 200), False), (Square(290, 256, 256), False),
    (Square(256, 256, 250, 40), False)])
def test_what_counts_as_aligned(square, aligned):
    assert is_aligned(square, PIL.Image.new('RGB', (512, 512))) == aligned
    assert not is_aligned(square, PIL.Image.new('RGB', (512, 600)))


def test_the_whole_picture():
    assert whole(PIL.Image.new('RGB', (300, 200))) == Square(150, 100, 100)
