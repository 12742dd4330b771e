"""From a photo to crop and camera: what is chosen, every error's sentence, and the way through the real detector."""
import dataclasses
import json
import re

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFilter
import PIL.ImageOps
import pytest
import torch
from click.testing import CliRunner
from small import small_generator

from eg3d_unlearn.config import Config
from eg3d_unlearn.generators.cameras import look_at
from eg3d_unlearn.person.person import prepare_photo
from eg3d_unlearn.person.photo import align, detect, read_image
from eg3d_unlearn.person.photo.__main__ import main
from eg3d_unlearn.person.photo.align import eg3d_square
from eg3d_unlearn.person.photo.detect import Face
from eg3d_unlearn.person.photo.pose import MEAN_FACE, PIVOT, RADIUS, project, rotation
from eg3d_unlearn.person.photo.prepare import prepare, prepare_file
from eg3d_unlearn.run import shown_photos
from torch_utils_ext.errors import InputError


def seen_from(yaw=0.0, pitch=2.0, roll=0.0) -> np.ndarray:
    """Landmarks [5, 2] of the mean face, in fractions of its EG3D crop."""
    turn = rotation(*np.radians([yaw, pitch, -roll]))
    return project(MEAN_FACE, turn, PIVOT - turn[:, 2] * (RADIUS - PIVOT[2]))


def face_at(x, y, side, probability=0.999, **pose) -> Face:
    """A face whose EG3D crop would be about ``side`` pixels wide about (x, y)."""
    landmarks = (seen_from(**pose) - 0.5) * side + [x, y]
    return Face((x - 0.23 * side, y - 0.3 * side, x + 0.23 * side, y + 0.28 * side), landmarks, probability)


PHOTO = PIL.Image.fromarray(np.random.RandomState(0).randint(0, 255, (600, 800, 3), np.uint8))


@pytest.fixture
def faces(monkeypatch):
    """The detector finds what the test puts into the list; near by it sees the same."""
    found: list[Face] = []
    monkeypatch.setattr(detect, 'find_faces', lambda image: list(found))
    monkeypatch.setattr(detect, 'refine', lambda image, face: (face, 0))
    monkeypatch.setattr(detect, 'find_turn', lambda image: None)
    return found


def test_a_photo_with_one_face(faces):
    faces.append(face_at(400, 300, 400, yaw=20))
    prepared = prepare(PHOTO)
    assert prepared.image.size == (512, 512) and prepared.camera.shape == (1, 25)
    assert prepared.square == eg3d_square(faces[0].landmarks)
    assert 15 < prepared.pose.yaw_deg < 25
    assert any('eg3d crop of' in note for note in prepared.notes) and any('yaw' in note for note in prepared.notes)
    tensor = prepared.tensor(64)
    assert tensor.shape == (1, 3, 64, 64) and tensor.dtype == torch.float32 and tensor.abs().max() <= 1


def test_ffhqs_crop_has_no_camera(faces):
    faces.append(face_at(400, 300, 400))
    prepared = prepare(PHOTO, 'ffhq')
    assert prepared.image.size == (1024, 1024) and prepared.camera is None


def test_the_largest_face_is_taken_and_the_others_are_named(faces):
    faces += [face_at(150, 300, 200), face_at(500, 300, 300)]
    prepared = prepare(PHOTO)
    assert prepared.face is faces[1]
    assert 'took face 2, the largest' in prepared.notes[0] and 'face 1: 92 x 116 pixels at 104,240' in prepared.notes[0]
    assert '--face=N' in prepared.notes[0]
    chosen = prepare(PHOTO, face=1)
    assert chosen.face is faces[0] and 'as asked' in chosen.notes[0]


ERRORS = {
    'no face': ([], {}, 'No face was found .800 x 600 pixels.*--aligned'),
    'no such face': ([face_at(400, 300, 300)], {'face': 2}, '--face=2, but there is 1 face in the photo, counted from the left from 1 .face 1'),
    'none of two': ([face_at(200, 300, 300), face_at(600, 300, 300)], {'face': 3}, '--face=3, but there are 2 faces'),
    'too small': ([face_at(400, 300, 60)], {}, 'too small: its crop has .* at least 96'),
    'cut off at the left': ([face_at(10, 300, 300)], {}, 'cut off'),
    'cut off at the bottom': ([face_at(400, 590, 300)], {}, 'cut off'),
    'tilted': ([face_at(400, 300, 300, roll=60)], {}, 'tilted by .* degrees. Turn the photo counter-clockwise'),
    'tilted the other way': ([face_at(400, 300, 300, roll=-60)], {}, 'Turn the photo clockwise'),
    'profile': ([face_at(400, 300, 300, yaw=80)], {}, 'in profile .turned by'),
    'no face at all': ([Face((300, 200, 500, 400), np.array([[320, 250], [480, 250], [400, 320], [470, 390], [330, 390.0]]), 0.99)], {},
                       'does not look like a face'),
    'face and aligned': ([face_at(400, 300, 300)], {'face': 1, 'aligned': True}, '--face chooses .* Leave one'),
    'unknown crop': ([face_at(400, 300, 300)], {'kind': 'egg'}, "no crop 'egg'; expected one of eg3d, ffhq"),
}


@pytest.mark.parametrize('name', ERRORS)
def test_errors(faces, name):
    found, options, sentence = ERRORS[name]
    faces += found
    with pytest.raises(InputError, match=sentence):
        prepare(PHOTO, **options)


@pytest.mark.parametrize('turn, words', [
    (180, 'upside down. Turn it by 180'), (90, '90 degrees counter-clockwise'), (270, '90 degrees clockwise')])
def test_a_turned_photo_is_said(faces, monkeypatch, turn, words):
    monkeypatch.setattr(detect, 'find_turn', lambda image: turn)
    with pytest.raises(InputError, match=words):
        prepare(PHOTO)
    # The same where the detector saw something upright in it that is better seen turned.
    faces.append(face_at(400, 300, 300))
    monkeypatch.setattr(detect, 'refine', lambda image, face: (face, turn))
    with pytest.raises(InputError, match=words):
        prepare(PHOTO)


@pytest.mark.parametrize('face, note', [
    (face_at(400, 300, 150), 'small'), (face_at(400, 300, 300, roll=25), 'tilted by'), (face_at(400, 300, 300, yaw=55), 'turned by'),
    (face_at(400, 130, 400), 'mirrored border')])
def test_doubts_are_noted(faces, face, note):
    faces.append(face)
    assert any(note in line for line in prepare(PHOTO).notes)


def test_an_aligned_picture_is_left_alone(faces):
    picture = PIL.Image.fromarray(np.random.RandomState(1).randint(0, 255, (512, 512, 3), np.uint8))
    faces.append(face_at(258, 255, 505))
    prepared = prepare(picture)
    assert np.array_equal(np.asarray(prepared.image), np.asarray(picture))
    assert prepared.camera is not None and 'left as it is' in prepared.notes[0]


def test_aligned_needs_no_face(faces):
    prepared = prepare(PHOTO, aligned=True)
    assert prepared.camera is None and prepared.face is None
    assert np.array_equal(np.asarray(prepared.image), np.asarray(PHOTO.resize((512, 512), PIL.Image.Resampling.LANCZOS, box=(100, 0, 700, 600))))
    assert any('central square of 800 x 600' in note for note in prepared.notes)
    assert any('its camera is not known' in note for note in prepared.notes)


def test_the_error_of_a_file_names_it(faces, tmp_path):
    PHOTO.save(tmp_path / 'a.png')
    with pytest.raises(InputError, match='a.png: No face'):
        prepare_file(tmp_path / 'a.png')


# ---- the real detector ----

@pytest.fixture(scope='module')
def astronaut() -> PIL.Image.Image:
    data = pytest.importorskip('skimage.data', reason='the photo for the real detector is in scikit-image')
    return PIL.Image.fromarray(data.astronaut())


@pytest.fixture(scope='module')
def plain(astronaut):
    return prepare(astronaut)


def test_a_real_photo(plain):
    assert len(plain.notes) <= 3 and plain.pose.misfit < 2
    eyes = plain.square.to_crop(plain.face.landmarks)[:2]
    # In EG3D's crop the eyes are at about 0.38 of the height and a quarter of the width apart.
    assert eyes[:, 1] == pytest.approx(0.38, abs=0.06) and 0.15 < eyes[1, 0] - eyes[0, 0] < 0.33
    assert abs(plain.pose.yaw_deg) < 30 and abs(plain.pose.pitch_deg) < 20


VARIANTS = {
    'EXIF, lying': lambda image, path: image.rotate(90, expand=True).save(path / 'a.jpg', exif=_turned_by(6), quality=95),
    'grey': lambda image, path: image.convert('L').save(path / 'a.png'),
    'CMYK': lambda image, path: image.convert('CMYK').save(path / 'a.jpg', quality=95),
    '16 bits': lambda image, path: PIL.Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257).save(path / 'a.png'),
    'tilted': lambda image, path: image.rotate(20, PIL.Image.Resampling.BICUBIC).save(path / 'a.png'),
    'transparent': lambda image, path: image.convert('RGBA').save(path / 'a.png'),
    'small': lambda image, path: image.resize((340, 340), PIL.Image.Resampling.LANCZOS).save(path / 'a.png'),
    '4000 pixels': lambda image, path: image.resize((4000, 4000), PIL.Image.Resampling.BICUBIC).save(path / 'a.jpg', quality=90),
}


def _turned_by(orientation: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize('name', VARIANTS)
def test_the_same_face_in_any_file(astronaut, plain, tmp_path, name):
    VARIANTS[name](astronaut, tmp_path)
    prepared = prepare_file(next(tmp_path.iterdir()))
    width = read_image(next(tmp_path.iterdir())).width
    if name != 'tilted':
        assert prepared.square.corners() * 512 / width == pytest.approx(plain.square.corners(), abs=0.02 * plain.square.side)
    assert prepared.pose.yaw_deg == pytest.approx(plain.pose.yaw_deg, abs=2)
    assert prepared.pose.pitch_deg == pytest.approx(plain.pose.pitch_deg, abs=2)


def test_landmarks_do_not_depend_on_where_the_search_began(astronaut, plain):
    random = np.random.RandomState(0)
    begins = [plain.face.landmarks + 0.02 * plain.square.side * random.randn(5, 2) for _ in range(4)]
    for begin in begins:
        off = (detect.steady(astronaut, begin)[0] - plain.face.landmarks) / plain.square.side
        assert np.abs(off).max() < 2 / 512


def test_landmarks_of_a_mirrored_photo_are_mirrored(astronaut, plain):
    mirrored = PIL.ImageOps.mirror(astronaut)
    square = detect.straightened(plain.face.landmarks)
    points, sure = detect.looks(align.cut(astronaut, square, 256))
    others, _ = detect.looks(PIL.ImageOps.mirror(align.cut(astronaut, square, 256)))
    assert points.shape == (54, 5, 2) and sure.shape == (54,) and np.median(sure) > 0.99
    assert (others.mean(0) * [-1, 1] + [1, 0])[[1, 0, 2, 4, 3]] == pytest.approx(points.mean(0), abs=1e-3)
    assert prepare(mirrored).pose.yaw_deg == pytest.approx(-plain.pose.yaw_deg, abs=1)


def test_what_is_no_face_keeps_its_landmarks():
    landmarks = face_at(400, 300, 300).landmarks
    assert detect.steady(PIL.Image.new('RGB', (800, 600), 'grey'), landmarks)[0] is landmarks


def test_a_crop_is_recognised_as_one(plain):
    again = prepare(plain.image)
    assert 'left as it is' in again.notes[0] and again.pose.yaw_deg == pytest.approx(plain.pose.yaw_deg, abs=2)
    forced = prepare(plain.image, aligned=True)
    assert '--aligned' in forced.notes[0] and forced.pose.pitch_deg == pytest.approx(plain.pose.pitch_deg, abs=2)


def test_upside_down_and_no_face(astronaut):
    with pytest.raises(InputError, match='upside down'):
        prepare(astronaut.rotate(180))
    with pytest.raises(InputError, match='No face was found'):
        prepare(PIL.Image.new('RGB', (300, 300), 'grey'))


@pytest.mark.parametrize('size', [
    (970, 90), (4000, 340), (6400, 290), (90, 970), (12800, 560), (20000, 33), (33, 33), (32, 5000), (1, 700), (700, 1), (1, 1)])
def test_strips_and_dots(size):
    with pytest.raises(InputError, match='No face was found'):
        prepare(PIL.Image.new('RGB', size, (200, 30, 30)))


# ---- doubts: what turns the camera is said, what does not is left alone ----

def blurred(image, plain):
    return image.filter(PIL.ImageFilter.GaussianBlur(4))


def darkened(image, plain):
    return image.point(lambda level: level * 0.3)


def covered(image, plain, colour=(120, 170, 210)):
    """A mask from below the eyes to the chin."""
    left, right, nose, *corners = plain.face.landmarks
    down, across = np.mean(corners, 0) - (left + right) / 2, right - left
    low = nose + 1.1 * down
    image, points = image.copy(), [nose - across - 0.05 * down, nose + across - 0.05 * down, low + 0.7 * across, low - 0.7 * across]
    PIL.ImageDraw.Draw(image).polygon([tuple(point) for point in points], fill=colour)
    return image


DOUBTS = {'dark': (darkened, 'WARNING: the face is dark .mean brightness 5. of 255'), 'blurred': (blurred, 'WARNING: the face is blurred'),
          'mask': (covered, 'WARNING: eyes, nose and mouth are not seen clearly .a mask')}


@pytest.mark.parametrize('name', DOUBTS)
def test_what_turns_the_camera_is_said(astronaut, plain, name):
    change, sentence = DOUBTS[name]
    prepared = prepare(change(astronaut, plain))
    assert abs(prepared.pose.pitch_deg - plain.pose.pitch_deg) > 3
    assert re.match(sentence, prepared.notes[-1]) and 'crop and camera may be off' in prepared.notes[-1] and '--camera' in prepared.notes[-1]


@pytest.mark.parametrize('change', [
    lambda image: image, lambda image: image.convert('L').convert('RGB'), lambda image: image.point(lambda level: level * 0.6),
    lambda image: image.filter(PIL.ImageFilter.GaussianBlur(1)), lambda image: image.rotate(15, PIL.Image.Resampling.BICUBIC),
    lambda image: image.resize((340, 340)), PIL.ImageOps.mirror])
def test_a_plain_photo_gives_no_warning(astronaut, plain, change):
    prepared = prepare(change(astronaut))
    assert not [note for note in prepared.notes if 'WARNING' in note]
    assert prepared.pose.pitch_deg == pytest.approx(plain.pose.pitch_deg, abs=2)


# ---- in a run ----

def test_a_run_shows_the_crop_only_with_keep_source(tmp_path):
    PHOTO.save(tmp_path / 'a.png')
    generator = small_generator('stylegan2')
    config = Config(network='x.pkl', outdir='out', image=(str(tmp_path / 'a.png'),), aligned=True)
    assert shown_photos(config, generator) is None
    shown = shown_photos(dataclasses.replace(config, keep_source=True), generator)
    assert shown.shape == (1, 3, generator.img_resolution, generator.img_resolution)


def test_where_a_run_takes_the_camera_from(tmp_path, faces):
    PHOTO.save(tmp_path / 'a.png')
    generator = small_generator('eg3d')
    config = Config(network='x.pkl', outdir='out', image=(str(tmp_path / 'a.png'),))
    faces.append(face_at(400, 300, 400, yaw=20))

    def found(network=generator, **options):
        prepared = prepare_photo(dataclasses.replace(config, **options), tmp_path / 'a.png', network)
        return prepared.camera, prepared.source
    solved, source = found()
    assert source == "the face's landmarks" and torch.equal(solved, prepare(PHOTO).camera)
    label = look_at(0.2, 0.0, [0, 0, 0.2])
    given, source = found(camera=','.join(map(str, label[0].tolist())))
    assert source == '--camera' and torch.allclose(given, label)
    assert found(small_generator('stylegan2')) == (None, 'none (2D network)')
    (tmp_path / 'dataset.json').write_text('{"labels": [["b.png", null]]}')
    again, source = found()
    assert torch.equal(again, solved) and source == "the face's landmarks, since the dataset.json beside the photo does not name this photo"
    (tmp_path / 'dataset.json').unlink()
    faces.clear()
    frontal, source = found(aligned=True)
    assert source == 'frontal' and torch.equal(frontal, generator.frontal())


# ---- the command ----

def test_the_command(astronaut, tmp_path):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    photos.mkdir()
    astronaut.save(photos / 'b.png')
    PIL.Image.new('RGB', (300, 300), 'grey').save(photos / 'a.png')
    (photos / 'c.jpg').write_text('this is no picture')
    result = CliRunner().invoke(main, [str(photos), f'--outdir={out}'])
    assert result.exit_code == 1 and '2 failed, for the reasons above: a.png, c.jpg.' in result.output, result.output
    assert 'a.png: No face' in result.output and 'c.jpg is not a picture' in result.output and '1 of 3 photos' in result.output
    assert sorted(path.name for path in out.iterdir()) == ['b.png', 'dataset.json']
    labels = json.loads((out / 'dataset.json').read_text())['labels']
    assert [name for name, _ in labels] == ['b.png'] and len(labels[0][1]) == 25
    assert PIL.Image.open(out / 'b.png').size == (512, 512)
    before = (out / 'b.png').read_bytes()
    again = CliRunner().invoke(main, [str(photos / 'b.png'), f'--outdir={out}'])
    assert again.exit_code == 1 and 'not overwritten' in again.output and (out / 'b.png').read_bytes() == before


def test_the_command_fails_when_every_file_failed(tmp_path):
    (tmp_path / 'c.jpg').write_text('this is no picture')
    result = CliRunner().invoke(main, [str(tmp_path / 'c.jpg'), str(tmp_path / 'nowhere.png'), f'--outdir={tmp_path / "out"}'])
    assert result.exit_code == 1 and result.output.count('FAILED') == 2 and '0 of 2' in result.output and not (tmp_path / 'out').exists()


def test_a_fault_of_ours_costs_one_photo_only(tmp_path, monkeypatch):
    from eg3d_unlearn.person.photo import prepare as module
    for name in ('a.png', 'b\n.png'):
        PHOTO.save(tmp_path / name)
    real = module.prepare_file
    monkeypatch.setattr(module, 'prepare_file', lambda path, *options: real(path, *options) if path.name == 'a.png' else 1 / 0)
    result = CliRunner().invoke(main, [str(tmp_path), f'--outdir={tmp_path / "out"}', '--aligned', '--crop=ffhq'])
    assert result.exit_code == 1 and 'unexpected ZeroDivisionError' in result.output
    assert r'1 failed, for the reasons above: b\n.png.' in result.output
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.png']


@pytest.mark.parametrize('make, sentence', [
    (lambda folder: [folder / 'a' / 'x.png', folder / 'b' / 'x.jpg'], 'Several photos are called x'),
    (lambda folder: [folder / 'a' / 'x.png', folder / 'b' / 'X.jpg'], 'Several photos are called x'),
    (lambda folder: [folder / 'contact-sheet.jpg'], 'as a sheet that eg3d_unlearn makes. Rename it'),
    (lambda folder: [folder], 'holds no photo. Expected .png')])
def test_the_command_refuses_before_any_work(tmp_path, make, sentence):
    result = CliRunner().invoke(main, [*map(str, make(tmp_path)), f'--outdir={tmp_path / "out"}'])
    assert result.exit_code == 1 and sentence in result.output
