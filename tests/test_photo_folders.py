"""Which files of folders and zips are photos, and data sets of every odd kind."""
import io
import json
import os
import zipfile

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner

from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation.audit.subjects import people_in
from eg3d_unlearn.generators.cameras import look_at
from eg3d_unlearn.person.given import photos_of
from eg3d_unlearn.person.photo.__main__ import main
from eg3d_unlearn.person.photo.dataset import DataSet
from eg3d_unlearn.person.photo.files import MADE_HERE, read_image, write_sheet
from eg3d_unlearn.person.photo.folders import folders_in, is_photo_name, no_photo, pictures_at, sheets_at
from torch_utils_ext.errors import InputError

PICTURE = PIL.Image.fromarray(np.random.RandomState(0).randint(0, 255, (64, 64, 3), np.uint8))


def bytes_of(image=PICTURE, write=lambda file, image: image.save(file, format='png')):
    file = io.BytesIO()
    write(file, image)
    return file.getvalue()


PNG, SHEET = bytes_of(), bytes_of(write=write_sheet)
FORK = b'\0\5\26\7\0\2\0\0Mac OS X        ' + bytes(60)
# Of macOS, Windows, Synology, hidden ones, and of this package.
OTHERS = {'._one.png': FORK, '.hidden.jpg': PNG, '.DS_Store': b'x', 'Thumbs.db': b'x', 'desktop.ini': b'x', 'report.html': b'x',
          'contact-sheet.png': PNG, 'Before-After.png': PNG, 'log.txt': b'x', 'dataset.json': b'{"labels": null}'}
DEEPER = {'__MACOSX/._one.png': FORK, '__MACOSX/one.png': PNG, '@eaDir/one.jpg': PNG, '.thumbnails/one.png': PNG}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'photos'
    for name, content in {**OTHERS, **DEEPER, 'one.png': PNG, 'TWO.JPG': PNG, 'three.heic': b'x'}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / 'folder.png').mkdir()
    return path


def test_a_folder_of_photos(folder):
    assert [path.name for path in pictures_at(folder)] == ['TWO.JPG', 'one.png', 'three.heic']
    assert sheets_at(folder) == ['Before-After.png', 'contact-sheet.png']
    config = Config(network='x.pkl', outdir='out', image=(str(folder),))
    assert photos_of(config) == pictures_at(folder)


def test_a_folder_and_a_zip_of_a_data_set(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / 'photos.zip', 'w') as archive:
        for path in folder.rglob('*'):
            archive.write(path, path.relative_to(folder))
    for data in (folder, tmp_path / 'photos.zip'):
        assert DataSet(data).names == ['TWO.JPG', 'one.png', 'three.heic']


def test_a_folder_of_nothing_but_others_says_so(tmp_path):
    for name, content in OTHERS.items():
        (tmp_path / name).write_bytes(content)
    assert pictures_at(tmp_path) == []
    assert 'only what eg3d_unlearn itself made of photos (Before-After.png, contact-sheet.png' in str(no_photo(tmp_path))
    result = CliRunner().invoke(main, [str(tmp_path), f'--outdir={tmp_path / "out"}'])
    assert result.exit_code == 1 and 'holds no photo, only what eg3d_unlearn' in ' '.join(result.output.split())
    with pytest.raises(InputError, match='holds no picture, only other files'):
        DataSet(tmp_path)


def test_a_renamed_sheet_is_refused_when_it_is_read(tmp_path):
    (tmp_path / 'a.png').write_bytes(SHEET)
    for read in (lambda: read_image(tmp_path / 'a.png'), lambda: DataSet(tmp_path).picture('a.png', 32)):
        with pytest.raises(InputError, match='a.png.* is a sheet of pictures that eg3d_unlearn made'):
            read()


def test_a_sheet_is_marked_and_shows_what_it_should():
    assert MADE_HERE in SHEET and MADE_HERE not in PNG
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(SHEET))), np.asarray(PICTURE))


def test_folders_of_people(folder):
    assert [path.name for path in folders_in(folder)] == ['folder.png']
    (folder / 'anna').mkdir()
    (folder / 'anna' / 'a.png').write_bytes(PNG)
    assert people_in(folder) == [[folder / 'anna' / 'a.png']]


@pytest.mark.parametrize('name, expected', [
    ('a/b.png', True), ('a\\b.PNG', True), ('../b.png', True), ('/etc/b.png', True), ('./b.jpg', True), ('a/.b.png', False),
    ('.git/b.png', False), ('a\\__MACOSX\\b.png', False), ('b.png/', False), ('b.png.txt', False), ('png', False), ('', False)])
def test_names(name, expected):
    assert is_photo_name(name) is expected


# ---- data sets ----

LABEL = look_at(0.1, -0.2, [0, 0, 0.2])[0].tolist()


def zipped(path, files, change=lambda content: content, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    path.write_bytes(change(bytearray(file.getvalue())))
    return path


def changed(offset, central, value):
    """A byte of the local and of the central header of the first file."""
    def change(content):
        content[offset] = value
        content[content.rfind(b'PK\x01\x02') + central] = value
        return content
    return change


def damaged(content):
    content[60] ^= 255
    return content


def labels_of(name, numbers):
    return {'a.png': PNG, 'dataset.json': json.dumps({'labels': [[name, numbers]]})}


BAD_ZIPS = {
    'text': ({}, lambda content: b'hello', 'neither a folder nor a zip'),
    'cut': ({'a.png': PNG}, lambda content: content[:-30], 'neither a folder nor a zip'),
    'encrypted': ({'a.png': PNG}, changed(6, 8, 1), 'The file a.png of --data=.* cannot be read .*encrypted'),
    'unknown compression': ({'a.png': PNG}, changed(8, 10, 99), 'cannot be read .*compression'),
    'damaged': ({'a.png': PNG}, damaged, 'cannot be read .*CRC'),
    'PostScript': ({'a.png': b'%!PS-Adobe-3.0 EPSF-3.0\n'}, None, 'a.png of --data=.* is not a picture'),
    'control characters': ({'\x1b[2Ja.png': b'x'}, None, r'picture \\x1b\[2Ja.png of'),
    'labels nested without end': ({'a.png': PNG, 'dataset.json': '[' * 100_000}, None, 'not valid json'),
    'labels of numbers': ({'a.png': PNG, 'dataset.json': '[1]'}, None, 'holds list where an object'),
    'labels of words': (labels_of('a.png', ['x'] * 25), None, 'is not a list of numbers'),
    'labels of nobody': (labels_of(['a'], LABEL), None, 'are not pairs'),
    'labels of huge numbers': (labels_of('a.png', [10**400] * 25), None, 'not a list of numbers'),
    'labels in pixels': (labels_of('a.png', [*LABEL[:16], 2184, *LABEL[17:]]), None, 'focal length 2184'),
}


@pytest.mark.parametrize('name', BAD_ZIPS)
def test_bad_zips(tmp_path, name):
    files, change, sentence = BAD_ZIPS[name]
    path = zipped(tmp_path / 'd.zip', files, change or bytes)
    with pytest.raises(InputError, match=sentence) as caught:
        data = DataSet(path)
        data.labels()
        data.picture(data.names[0], 32)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize('name', ['../../evil.png', '/etc/evil.png', 'C:\\evil.png', 'a\\b.png'])
def test_odd_names_in_a_zip_are_read_and_nothing_is_unpacked(tmp_path, name):
    data = DataSet(zipped(tmp_path / 'd.zip', {name: PNG}))
    assert data.picture(data.names[0], 64).shape == (3, 64, 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['d.zip']


def test_a_zip_bomb_is_refused_unread(tmp_path):
    path = zipped(tmp_path / 'd.zip', {'a.png': PNG + bytes(20 << 20)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match='far more than was expected'):
        DataSet(path).bytes_of('a.png', 10 << 20)


def test_pipes_and_devices_in_and_as_data_sets(tmp_path):
    (tmp_path / 'f').mkdir()
    os.mkfifo(tmp_path / 'f' / 'a.png')
    os.symlink('/dev/zero', tmp_path / 'f' / 'b.jpg')
    os.symlink('..', tmp_path / 'f' / 'loop')
    data = DataSet(tmp_path / 'f')
    assert data.names == ['a.png', 'b.jpg']
    for name, sentence in (('a.png', 'is a pipe'), ('b.jpg', 'is a device')):
        with pytest.raises(InputError, match=sentence):
            data.picture(name, 32)
    os.mkfifo(tmp_path / 'pipe.zip')
    for path, sentence in ((tmp_path / 'pipe.zip', 'is a pipe'), ('/dev/zero', 'is a device')):
        with pytest.raises(InputError, match=sentence):
            DataSet(path)


@pytest.mark.parametrize('content, expected', [
    ({'labels': None}, None), ({'labels': []}, None), ({}, None), ({'labels': [['a.png', 3], ['x/b.png', 1]]}, None),
    ({'labels': [['a.png', [0, 1]], ['x/b.png', [1, 0]]]}, None), ({'labels': [['a.png', None], ['x/b.png', LABEL]]}, ['x/b.png']),
    ({'labels': {'a.jpg': LABEL, 'x\\b.png': LABEL}}, ['a.png', 'x/b.png']), ({'labels': [['y/b.png', LABEL]]}, None),
    ({'labels': [['b.png', LABEL], ['a.png', LABEL]]}, ['a.png', 'x/b.png'])])
def test_labels_of_a_data_set(tmp_path, content, expected):
    files = {'a.png': PNG, 'x/b.png': PNG, 'dataset.json': b'\xef\xbb\xbf' + json.dumps(content).encode()}
    found = DataSet(zipped(tmp_path / 'd.zip', files)).labels()
    assert (None if found is None else sorted(found)) == expected
    if found is not None:
        assert all(numbers == pytest.approx(LABEL) for numbers in found.values())
