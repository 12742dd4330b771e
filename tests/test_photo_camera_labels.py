"""Camera labels: known poses, and every wrong label with its sentence."""
import io
import json
import math
import os

import numpy as np
import pytest
import torch

from eg3d_unlearn.generators.cameras import look_at
from eg3d_unlearn.person.photo.camera_labels import check_label, find_camera, parse_camera
from torch_utils_ext.errors import InputError


def test_frontal_camera_by_hand():
    label = look_at(0.0, 0.0, [0, 0, 0.2])
    expected = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.7], [0, 0, 0, 1]])
    torch.testing.assert_close(label[0, :16].reshape(4, 4), expected)
    torch.testing.assert_close(label[0, 16:], torch.tensor([4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]))


def test_look_at_agrees_with_the_labels_of_real_photos():
    # Camera position and rotation of an EG3D label (numbers of a published data set) follow from its yaw and pitch: the
    # camera stands at radius 2.7, and no roll puts 'right' into the horizontal plane.
    yaw, pitch = 0.3, -0.2
    matrix = look_at(yaw, pitch, [0, 0, 0.2])[0, :16].reshape(4, 4)
    position = matrix[:3, 3]
    assert position.norm().item() == pytest.approx(2.7, abs=1e-5)
    assert math.atan2(position[0], position[2]) == pytest.approx(yaw, abs=1e-6)
    # Equal areas: y / r = 1 - 2 v / pi with v = pi/2 + pitch.
    assert position[1].item() / 2.7 == pytest.approx(0.4 / math.pi, abs=1e-6)
    assert matrix[1, 0].item() == pytest.approx(0.0, abs=1e-7)
    towards = torch.tensor([0, 0, 0.2]) - position
    torch.testing.assert_close(matrix[:3, 2], towards / towards.norm())


def test_field_of_view_changes_the_focal_length():
    assert look_at(0, 0, [0, 0, 0], fov_deg=18.837)[0, 16].item() == pytest.approx(4.2627, abs=1e-3)
    assert look_at(0, 0, [0, 0, 0], fov_deg=90)[0, 16].item() == pytest.approx(1 / math.sqrt(2), abs=1e-5)


def numbers():
    return look_at(0.1, -0.2, [0, 0, 0.2])[0].tolist()


def test_numbers_with_commas_or_spaces(tmp_path):
    expected = torch.tensor([numbers()])
    for text in (','.join(map(str, numbers())), ' '.join(map(str, numbers())), json.dumps(numbers())):
        torch.testing.assert_close(parse_camera(text), expected)
    (tmp_path / 'camera.json').write_text(json.dumps(numbers()))
    torch.testing.assert_close(parse_camera(str(tmp_path / 'camera.json')), expected)


def test_dataset_json_is_read_by_name_not_by_order(tmp_path):
    other = look_at(-0.2, 0, [0, 0, 0.2])[0].tolist()
    (tmp_path / 'dataset.json').write_text(json.dumps({'labels': [['00000/other.png', other], ['00000/face.png', numbers()]]}))
    camera, source = find_camera(None, tmp_path / 'face.png')
    torch.testing.assert_close(camera, torch.tensor([numbers()]))
    assert 'dataset.json' in source
    assert find_camera(None, tmp_path / 'third.png') == (None, 'the dataset.json beside the photo does not name this photo')


def test_without_any_label_the_camera_is_frontal(tmp_path):
    assert find_camera(None, tmp_path / 'face.png') == (None, '')


@pytest.mark.parametrize('change, sentence', [
    (lambda n: n[:24], '24 numbers. Expected 25'),
    (lambda n: n[:3] + [float('nan')] + n[4:], 'NaN'),
    (lambda n: [2 * n[0]] + n[1:], 'not a rotation'),
    (lambda n: n[:16] + [1015.0] + n[17:], 'focal length 1015'),
    (lambda n: ['left'] + n[1:], 'not a list of numbers'),
    (lambda n: [n], 'not a list of numbers'),
])
def test_wrong_labels(change, sentence):
    with pytest.raises(InputError, match=sentence):
        check_label(change(numbers()), 'test')


@pytest.mark.parametrize('text, sentence', [
    ('{', 'not valid json'), ('{"labels": 3}', 'not pairs'), ('{"labels": [[1, 2, 3]]}', 'not pairs'), ('7', 'not a list of numbers'),
])
def test_wrong_camera_files(tmp_path, text, sentence):
    (tmp_path / 'camera.json').write_text(text)
    with pytest.raises(InputError, match=sentence):
        parse_camera(str(tmp_path / 'camera.json'))


def test_missing_camera_file():
    with pytest.raises(InputError, match='cannot be opened'):
        parse_camera('nowhere.json')


# ---- labels as other tools write them ----

def other():
    return look_at(-0.3, 0.1, [0, 0, 0.2])[0].tolist()


def with_labels(tmp_path, labels, photo='one.png', bom=b''):
    (tmp_path / 'dataset.json').write_bytes(bom + json.dumps({'labels': labels}).encode())
    (tmp_path / photo).parent.mkdir(parents=True, exist_ok=True)
    return tmp_path / photo


FOUND = {
    'by its path': ([['one.png', 'mine'], ['two.png', 'other']], 'one.png'),
    'a byte order mark': ([['one.png', 'mine']], 'one.png'),
    'another ending': ([['one.jpg', 'mine'], ['two.jpg', 'other']], 'one.png'),
    'another ending in capitals': ([['ONE.JPG', 'mine']], 'one.png'),
    'no ending': ([['one', 'mine']], 'one.png'),
    'its own ending first': ([['one.jpg', 'other'], ['one.png', 'mine']], 'one.png'),
    'in folders': ([['a/one.png', 'mine'], ['b/one.png', 'other']], 'a/one.png'),
    'Windows separators': ([['a\\one.png', 'mine'], ['b\\one.png', 'other']], 'a/one.png'),
    'a dot in front': ([['./a/one.png', 'mine'], ['./b/one.png', 'other']], 'a/one.png'),
    'a folder that the photo has left': ([['00000/one.png', 'mine'], ['00000/two.png', 'other']], 'one.png'),
    'a photo deeper than its label': ([['a/one.png', 'mine'], ['b/one.png', 'other']], 'all/a/one.png'),
    'twice the same': ([['one.png', 'mine'], ['one.png', 'mine']], 'one.png'),
    'accents as macOS stores them': ([['re\u0301ne\u0301.png', 'mine']], 'r\u00e9n\u00e9.png'),
    'a dict': ({'one.png': 'mine', 'two.png': 'other'}, 'one.png'),
    'others without': ([['two.png', None], ['one.png', 'mine']], 'one.png'),
}


def filled(labels):
    numbers_of = {'mine': numbers(), 'other': other()}
    if isinstance(labels, dict):
        return {name: numbers_of[value] for name, value in labels.items()}
    return labels and [[name, numbers_of.get(value, value) if isinstance(value, str) else value] for name, value in labels]


@pytest.mark.parametrize('name', FOUND)
def test_a_label_is_found(tmp_path, name):
    labels, photo = FOUND[name]
    photo = with_labels(tmp_path, filled(labels), photo, b'\xef\xbb\xbf' if 'mark' in name else b'')
    torch.testing.assert_close(parse_camera(str(tmp_path / 'dataset.json'), photo), torch.tensor([numbers()]))
    if photo.parent == tmp_path:
        camera, source = find_camera(None, photo)
        torch.testing.assert_close(camera, torch.tensor([numbers()]))
        assert source.startswith('dataset.json beside the photo') and photo.stem not in source


NOT_FOUND = {
    'no labels': (None, 'one.png', 'does not name this photo'),
    'a label that is null': ([['one.png', None], ['two.png', 'mine']], 'one.png', 'has no camera for this photo'),
    'classes': ([['one.png', 3]], 'one.png', 'has no camera for this photo'),
    'another photo': ([['two.png', 'mine']], 'one.png', 'does not name this photo'),
    'part of a name': ([['photo-one.png', 'mine']], 'one.png', 'does not name this photo'),
    'one name in two folders': ([['a/one.png', 'mine'], ['b/one.png', 'other']], 'one.png', 'names several photos of this name'),
    'two labels': ([['one.png', 'mine'], ['one.png', 'other']], 'one.png', 'names several photos of this name'),
    'another folder only': ([['b/one.png', 'mine']], 'a/one.png', 'does not name this photo'),
}


@pytest.mark.parametrize('name', NOT_FOUND)
def test_no_label_is_no_error_beside_the_photo_and_one_where_it_was_asked_for(tmp_path, name):
    labels, photo, why = NOT_FOUND[name]
    photo = with_labels(tmp_path, filled(labels), photo)
    with pytest.raises(InputError, match=f'dataset.json {why} .one.png.. Give the camera with --camera=25 numbers, or leave --camera out'):
        parse_camera(str(tmp_path / 'dataset.json'), photo)
    if photo.parent == tmp_path:
        assert find_camera(None, photo) == (None, f'the dataset.json beside the photo {why}')


def test_a_photo_from_elsewhere_is_known_by_its_name(tmp_path):
    with_labels(tmp_path, filled([['00000/one.png', 'mine'], ['00000/two.png', 'other']]))
    photo = tmp_path.parent / 'elsewhere' / 'one.jpg'
    torch.testing.assert_close(parse_camera(str(tmp_path / 'dataset.json'), photo), torch.tensor([numbers()]))


@pytest.mark.parametrize('shape', [(25,), (1, 25), (25, 1)])
@pytest.mark.parametrize('ending', ['npy', 'npz', 'NPY'])
def test_labels_as_arrays(tmp_path, shape, ending):
    path, array = tmp_path / f'label.{ending}', np.array(numbers(), np.float32).reshape(shape)
    with open(path, 'wb') as file:
        np.savez(file, c=array) if ending == 'npz' else np.save(file, array)
    torch.testing.assert_close(parse_camera(str(path)), torch.tensor([numbers()]))


def archive_of(*arrays):
    file = io.BytesIO()
    np.savez(file, *arrays)
    return file.getvalue()


def array_file(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


HEADER = array_file(np.zeros(25)).replace(b"'shape': (25,)", b"'shape': (25000000000000,)")


@pytest.mark.parametrize('content, sentence', [
    (b'', 'not written by'), (b'text', 'not written by'), (array_file(np.zeros(25))[:-8], 'announces 200 bytes and holds 192'),
    (HEADER, 'announces 200,000,000,000,000 bytes'), (array_file(np.array([{}], object), allow_pickle=True), 'expected an array of numbers'),
    (array_file(np.zeros(16)), '16 numbers. Expected 25'), (array_file(np.array(['a'] * 25)), 'not a list of numbers'),
    (archive_of(np.zeros(25), np.zeros(25)), '2 arrays'), (b'PK\3\4' + bytes(50), 'is damaged'), (bytes(2 << 20), 'not written by'),
])
def test_arrays_that_are_no_label(tmp_path, content, sentence):
    (tmp_path / 'label.npy').write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        parse_camera(str(tmp_path / 'label.npy'))


@pytest.mark.parametrize('text', [
    '[' * 100_000, 'null', '"abc"', '[NaN]', '[' + '9' * 5000 + ']', '{"labels": "ab"}', '{"labels": [["one.png", [1], 2]]}',
    '{"labels": [[["x"], [1]]]}', '{"labels": {"one.png": [1]}}', json.dumps([True] * 25), json.dumps([10**400] * 25)])
def test_json_of_any_shape_is_a_sentence(tmp_path, text):
    (tmp_path / 'dataset.json').write_text(text)
    for look in (lambda: parse_camera(str(tmp_path / 'dataset.json'), tmp_path / 'one.png'), lambda: find_camera(None, tmp_path / 'one.png')):
        with pytest.raises(InputError) as caught:
            look()
        assert str(caught.value).isprintable()


def test_a_pipe_is_no_camera(tmp_path):
    os.mkfifo(tmp_path / 'dataset.json')
    for look in (lambda: parse_camera(str(tmp_path / 'dataset.json'), tmp_path / 'one.png'), lambda: find_camera(None, tmp_path / 'one.png')):
        with pytest.raises(InputError, match='is a pipe'):
            look()
