"""Camera labels: known poses, and every wrong label with its sentence."""
import json
import math

import pytest
import torch

from eg3d_unlearn.camera_labels import check_label, find_camera, parse_camera
from eg3d_unlearn.cameras import look_at
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
    (lambda n: n[:24], '24 numbers, expected 25'),
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
