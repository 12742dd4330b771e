"""Data sets of demo people: NVIDIA's format, the truth beside it, resuming, and what is refused; and sheets of people."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from checkouts import VARIABLES, checkout_of
from click.testing import CliRunner

from eg3d_unlearn.person.photo import to_image
from eg3d_unlearn.person.photo.camera_labels import find_camera
from eg3d_unlearn.worlds.demo import dataset, scene, sheet
from eg3d_unlearn.worlds.demo import people as population
from eg3d_unlearn.worlds.demo.dataset import Photos, write
from eg3d_unlearn.worlds.demo.people import IDENTITY, NUISANCE, ODDITIES, People
from torch_utils_ext.errors import InputError

OPTIONS = ('--people=2', '--photos=2', '--range=out-of-domain', '--seed=3', '--resolution=16')
NAMES = [f'00000/img0000000{i}.png' for i in range(4)]


def photos(**changes) -> Photos:
    return Photos(**{'kind': 'out-of-domain', 'count': 2, 'per_person': 2, 'seed': 3, 'resolution': 16, **changes})


def command(outfile: Path, *options: str, tool=dataset):
    return CliRunner().invoke(tool.main, [*(options or OPTIONS), f'--outfile={outfile}'])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> Path:
    """A folder with a data set as `folder` and the same as `photos.zip`; not to be changed."""
    place = tmp_path_factory.mktemp('made')
    for name in ('folder', 'photos.zip'):
        done = command(place / name)
        assert done.exit_code == 0, done.output
        assert 'Wrote 4 photos of 2 people' in done.output
    return place


def test_folder_and_zip_hold_the_same_in_nvidias_places(made):
    files = contents(made / 'folder')
    assert list(files) == [*NAMES, 'dataset.json', 'people.json']
    with zipfile.ZipFile(made / 'photos.zip') as archive:
        assert {entry.filename: archive.read(entry) for entry in archive.infolist()} == files
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        # Who unpacks it can read it.
        assert all(entry.external_attr >> 16 == 0o644 for entry in archive.infolist())
    assert sorted(path.name for path in made.iterdir()) == ['folder', 'photos.zip']


def test_pngs_are_uncompressed(made):
    for name in NAMES:
        content = (made / 'folder' / name).read_bytes()
        image = PIL.Image.open(io.BytesIO(content))
        assert image.mode == 'RGB' and image.size == (16, 16)
        assert len(content) > 3 * 16 * 16                # at least its bare pixels
        assert np.asarray(image).std() > 20


def test_labels_are_the_cameras_of_the_photos(made):
    content = json.loads((made / 'folder' / 'dataset.json').read_text())
    assert list(content) == ['labels']
    names, numbers = zip(*content['labels'], strict=True)
    assert list(names) == NAMES
    cameras = torch.tensor(numbers)
    assert torch.equal(cameras, photos().cameras) and cameras.shape == (4, 25)
    origin = cameras[:, :16].view(-1, 4, 4)[:, :3, 3]
    assert torch.atan2(origin[:, 0], origin[:, 2]).abs().max() <= scene.MAX_YAW
    assert torch.cdist(origin, origin).add(torch.eye(4)).min() > 0.01


def test_our_own_reader_finds_the_camera(made, tmp_path):
    (tmp_path / 'dataset.json').write_bytes((made / 'folder' / 'dataset.json').read_bytes())
    camera, _ = find_camera(None, tmp_path / 'img00000002.png')
    assert torch.equal(camera, photos().cameras[2:3])


def test_the_truth_is_enough_to_take_the_photos_again(made):
    folder = made / 'folder'
    truth, labels = (json.loads((folder / name).read_text()) for name in ('people.json', 'dataset.json'))
    assert truth['options'] == {'range': 'out-of-domain', 'people': 2, 'photos': 2, 'seed': 3, 'resolution': 16, 'max_yaw': 0.6,
                                'version': '0.1.0'}
    assert len(truth['people']) == 2 and [photo['photo'] for photo in truth['photos']] == NAMES
    assert [photo['person'] for photo in truth['photos']] == [0, 0, 1, 1]
    for photo, (name, camera) in zip(truth['photos'], labels['labels'], strict=True):
        person = truth['people'][photo['person']]
        attributes = [person['attributes'][name] for name in IDENTITY] + [photo[name] for name in NUISANCE]
        who = People(torch.tensor([attributes]), torch.tensor([[person['oddities'][name] for name in ODDITIES]]))
        again = to_image(scene.render(who, torch.tensor([camera]), 16).image[0])
        assert abs(np.asarray(again).astype(int) - np.asarray(PIL.Image.open(folder / name)).astype(int)).max() <= 1


def test_cameras_stay_within_the_yaw_asked_for():
    many = photos(count=100, per_person=1, max_yaw=0.1)
    yaw = torch.atan2(many.cameras[:, 3], many.cameras[:, 11])
    assert 0.08 < yaw.abs().max() <= 0.1


def test_each_photo_has_a_face_and_a_camera_of_its_own():
    many = photos(kind='held-out', count=500, per_person=2)
    faces, identities = many.people.attributes[:, len(IDENTITY) :], many.people.attributes[:, : len(IDENTITY)]
    assert torch.equal(identities[0::2], identities[1::2]) and len(identities.unique(dim=0)) == 500
    assert len(faces.unique(dim=0)) == len(many.cameras.unique(dim=0)) == 1000
    # One seed for both would give both the same numbers, one after the other.
    angles = torch.stack([torch.atan2(many.cameras[:, 3], many.cameras[:, 11]) / scene.MAX_YAW, -many.cameras[:, 7] / 0.35], dim=1)
    assert torch.corrcoef(torch.cat([faces, angles], dim=1).T)[:3, 3:].abs().max() < 0.1
    assert abs(torch.corrcoef(torch.stack([faces.flatten()[:2000], angles.flatten()]))[0, 1]) < 0.1
    assert json.loads(many.truth())['people'][0].keys() == {'attributes'}


def test_the_seed_and_the_range_change_everything():
    one = photos()
    for other in (photos(seed=4), photos(kind='training')):
        assert (one.people.attributes - other.people.attributes).abs().amax(1).min() > 0.3
        assert (one.cameras - other.cameras).abs().amax(1).min() > 1e-3
    assert one.truth() == photos().truth() and one.labels() == photos().labels()


def test_thousand_photos_a_folder():
    many = photos(kind='training', count=2001, per_person=1)
    assert [many.name(i) for i in (0, 999, 1000, 2000)] == [
        '00000/img00000000.png', '00000/img00000999.png', '00001/img00001000.png', '00002/img00002000.png']


def stops_after(monkeypatch, count: int) -> list:
    """Let Ctrl-C come when the next photo after ``count`` is taken; the list grows by each."""
    taken, render = [], scene.render

    def interrupted(*arguments):
        if len(taken) == count:
            raise KeyboardInterrupt
        taken.append(arguments)
        return render(*arguments)
    monkeypatch.setattr(scene, 'render', interrupted)
    return taken


def test_an_interrupted_folder_goes_on(made, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        stops_after(context, 2)
        stopped = command(tmp_path / 'folder')
    assert stopped.exit_code == 1 and 'Run the same command again to go on' in stopped.output
    assert list(contents(tmp_path / 'folder')) == [*NAMES[:2], 'people.json']
    # A half-written photo of a kill.
    (tmp_path / 'folder' / '00000' / f'.img00000002.png.1@{socket.gethostname()}.abcdefgh.part').write_bytes(b'half')
    with monkeypatch.context() as context:
        taken = stops_after(context, 10)
        assert command(tmp_path / 'folder').exit_code == 0
    assert len(taken) == 2
    assert contents(tmp_path / 'folder') == contents(made / 'folder')


def test_a_kill_before_the_first_photo_can_be_resumed(made, tmp_path):
    folder = tmp_path / 'folder'
    folder.mkdir()
    (folder / f'.people.json.1@{socket.gethostname()}.abcdefgh.part').write_bytes(b'half')
    write(folder, photos())
    assert contents(folder) == contents(made / 'folder')


def test_an_interrupted_zip_leaves_nothing(tmp_path, monkeypatch):
    stops_after(monkeypatch, 2)
    stopped = command(tmp_path / 'new' / 'photos.zip')
    assert stopped.exit_code == 1 and 'whole or not at all' in stopped.output
    assert list((tmp_path / 'new').iterdir()) == []


def test_finished_data_sets_are_not_overwritten(made, monkeypatch):
    stops_after(monkeypatch, 0)
    before = contents(made)
    for name, sentence in (('folder', 'finished data set'), ('photos.zip', 'exists and is not overwritten')):
        refused = command(made / name)
        assert refused.exit_code == 1 and refused.output.startswith('Error: ') and sentence in refused.output
    assert contents(made) == before


def test_what_is_refused(tmp_path):
    write(tmp_path / 'begun', photos())
    (tmp_path / 'begun' / 'dataset.json').unlink()
    with pytest.raises(InputError, match='other options .*seed: 3 then, 4 now'):
        write(tmp_path / 'begun', photos(seed=4))
    truth = tmp_path / 'begun' / 'people.json'
    truth.write_bytes(truth.read_bytes().replace(b'"head_width": ', b'"head_width": 1'))
    with pytest.raises(InputError, match='another version'):
        write(tmp_path / 'begun', photos())
    truth.write_bytes(b'{')
    with pytest.raises(InputError, match='cannot be read'):
        write(tmp_path / 'begun', photos())
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'thesis.tex').write_text('')
    with pytest.raises(InputError, match='other things in it'):
        write(tmp_path / 'full', photos())
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='is a file'):
        write(tmp_path / 'file', photos())
    for name in ('folder', 'photos.zip'):
        with pytest.raises(InputError, match='cannot be made'):
            write(tmp_path / 'file' / name, photos())
    assert contents(tmp_path / 'full') == {'thesis.tex': b''}


@pytest.mark.parametrize('option', [
    '--resolution=100', '--resolution=2048', '--people=0', '--photos=-1', '--range=neighbours', '--seed=1000000001',
])
def test_options_out_of_range(tmp_path, option):
    refused = command(tmp_path / 'photos', *OPTIONS, option)
    assert refused.exit_code in (1, 2) and option.split('=')[1] in refused.output
    assert not (tmp_path / 'photos').exists()


# NVIDIA's own reader, in a process of its own.

READER = """
import sys
import numpy as np
from training.dataset import ImageFolderDataset
for source in sys.argv[1:]:
    data = ImageFolderDataset(path=source, use_labels=True, resolution=16)
    assert data.resolution == 16 and data.num_channels == 3 and data.label_dim == 25 and not data.has_onehot_labels
    images, labels = zip(*data)
    np.savez(source.split('/')[-1] + '.npz', images=np.stack(images), labels=np.stack(labels))
"""


@pytest.mark.upstream
@pytest.mark.parametrize('variable', VARIABLES)
def test_upstream_reads_the_data_set(made, tmp_path, variable):
    environment = {**os.environ, 'PYTHONPATH': str(checkout_of(variable)), 'PYTHONDONTWRITEBYTECODE': '1'}
    sources = [str(made / name) for name in ('folder', 'photos.zip')]
    done = subprocess.run([sys.executable, '-c', READER, *sources], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = np.stack([np.asarray(PIL.Image.open(made / 'folder' / name)) for name in NAMES]).transpose(0, 3, 1, 2)
    for source in ('folder.npz', 'photos.zip.npz'):
        read = np.load(tmp_path / source)
        assert read['labels'].dtype == np.float32 and np.array_equal(read['labels'], photos().cameras.numpy())
        assert read['images'].dtype == np.uint8 and np.array_equal(read['images'], wanted)


# Sheets.


def test_a_grid_by_hand():
    images = torch.full((2, 3, 3, 4, 5), -1.0)
    images[1, 2, 0] = 1
    paper = np.asarray(sheet.grid(images))
    assert paper.shape == (2 * 4 + sheet.GAP, 3 * 5 + 2 * sheet.GAP, 3)
    assert (paper[:4, :5] == 0).all() and (paper[4:6] == 255).all() and (paper[:, 5:7] == 255).all()
    assert (paper[6:, 14:] == [255, 0, 0]).all() and (paper[6:, 7:12] == 0).all()


def test_titles_are_beside_the_pictures_and_not_on_them():
    images = torch.zeros(2, 2, 3, 40, 60)
    plain = np.asarray(sheet.grid(images))
    titled = np.asarray(sheet.grid(images, ['first row', 'second'], ['held-out 1', 'a title that is far too long for sixty pixels']))
    top, left = (titled.shape[i] - plain.shape[i] for i in (0, 1))
    assert top == sheet.TITLE and 20 < left < 80
    assert np.array_equal(titled[top:, left:], plain)
    assert abs((titled[:top] < 128).any(axis=(1, 2)).nonzero()[0].mean() - top / 2) < 2.5
    for place in (titled[:top, left : left + 60], titled[:top, -60:], titled[top : top + 40, :left], titled[-40:, :left]):
        assert place.min() < 128
    # Cut titles stay above their own picture.
    assert (titled[:top, left + 60 : left + 60 + sheet.GAP] == 255).all()
    for wrong in (dict(row_titles=['one']), dict(column_titles=['a', 'b', 'c'])):
        with pytest.raises(ValueError, match='titles for 2'):
            sheet.grid(images, **wrong)
    with pytest.raises(ValueError, match='expected'):
        sheet.grid(images[0])


def test_a_sheet_shows_everybody(monkeypatch):
    shown = []

    def render(people, cameras, resolution):
        shown.append((people.attributes, cameras))
        return scene.Picture(torch.full((1, 3, resolution, resolution), -1.0), None, None)
    monkeypatch.setattr(scene, 'render', render)
    titles = []
    monkeypatch.setattr(sheet, 'grid', lambda images, column_titles, grid=sheet.grid: titles.extend(column_titles) or grid(
        images, column_titles=column_titles))
    paper = np.asarray(sheet.sheet('held-out', 10, views=3, first=5, resolution=20))
    assert len(shown) == 30 and paper.shape == (2 * (15 + 3 * 20 + 2 * 2) + 6, 8 * 20 + 7 * 2, 3)
    attributes, cameras = (torch.cat(parts) for parts in zip(*shown, strict=True))
    assert len(attributes[:, : len(IDENTITY)].unique(dim=0)) == 10 and len(attributes.unique(dim=0)) == 30
    assert len(cameras.unique(dim=0)) == 3
    # Under a number stands the person whom --image=demo:NUMBER erases.
    assert titles == [f'demo:{number}' for number in range(5, 15)]
    for place, number in enumerate(range(5, 15)):
        truth = population.people('held-out', 1, seed=number).attributes[0]
        assert torch.equal(attributes[3 * place, : len(IDENTITY)], truth[: len(IDENTITY)])
    # Eight people in the first block, two in the second.
    assert (paper[15:79, :160].reshape(64, -1, 3) == 0).all(-1).mean() > 0.8
    assert (paper[-20:, 42:] == 255).all() and (paper[-20:, :20] == 0).all()


def test_a_sheet_from_the_command_line(tmp_path):
    options = '--range=training', '--people=1', '--views=1', '--resolution=32'
    done = command(tmp_path / 'people.png', *options, tool=sheet)
    assert done.exit_code == 0, done.output
    image = PIL.Image.open(tmp_path / 'people.png')
    assert image.size == (32, 47) and np.asarray(image).std() > 20
    for name, sentence in (('people.png', 'not overwritten'), ('people.jpg', 'does not end in .png'), ('no/people.png', 'is not there')):
        refused = command(tmp_path / name, *options, tool=sheet)
        assert refused.exit_code == 1 and sentence in refused.output
