"""Pictures as telephones, cameras, scanners and attackers make them: the right pixels, or one sentence, from one function."""
import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.PngImagePlugin
import pytest

from eg3d_unlearn.person.photo import files, read_image
from eg3d_unlearn.person.photo.files import decode
from torch_utils_ext.errors import InputError

ROWS, COLUMNS = np.mgrid[:48, :48]
RAMP = np.stack([COLUMNS * 255 // 47, ROWS * 255 // 47, np.full((48, 48), 60)], 2).astype(np.uint8)
PICTURE = PIL.Image.fromarray(RAMP)
GREY = PICTURE.convert('L')
LEVELS = np.asarray(GREY)[..., None].repeat(3, 2).astype(float)
HAS = files.known_formats()


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def error_of(content, expected):
    return np.abs(np.asarray(decode(content, 'The photo')[0]).astype(float) - expected).mean()


def turned(orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


SAVED = {'JPEG': {'quality': 95}, 'PNG': {}, 'WEBP': {'lossless': True}, 'TIFF': {}, 'TIFF packed': {'compression': 'tiff_lzw'}, 'BMP': {},
         'AVIF': {'quality': 95}, 'GIF': {}}


@pytest.mark.parametrize('kind', SAVED)
def test_every_format(kind):
    if kind not in ('TIFF packed', *HAS):
        pytest.skip(f'this Pillow has no {kind}')
    name = kind.split()[0]
    assert error_of(encoded(PICTURE, name, **SAVED[kind]), RAMP) < 3.5
    if name not in ('BMP', 'GIF'):
        lying = PICTURE.transpose(PIL.Image.Transpose.ROTATE_90)
        assert error_of(encoded(lying, name, exif=turned(6), **SAVED[kind]), RAMP) < 3.5


UNDO = {1: None, 2: 'FLIP_LEFT_RIGHT', 3: 'ROTATE_180', 4: 'FLIP_TOP_BOTTOM', 5: 'TRANSPOSE', 6: 'ROTATE_90', 7: 'TRANSVERSE', 8: 'ROTATE_270',
        0: None, 9: None, 77: None}


@pytest.mark.parametrize('orientation', UNDO)
def test_every_orientation(orientation):
    stored = PICTURE if UNDO[orientation] is None else PICTURE.transpose(PIL.Image.Transpose[UNDO[orientation]])
    assert error_of(encoded(stored, 'PNG', exif=turned(orientation)), RAMP) == 0


WIDE = np.asarray(GREY).astype(np.uint16) * 257
HALF = np.full((48, 48), 128, np.uint8)
CLEAR = np.dstack([RAMP, np.zeros((48, 48), np.uint8)])
DOTS = np.asarray(PICTURE.convert('1'))[..., None].repeat(3, 2) * 255.0
DEPTHS = {
    '1 bit': (lambda: encoded(PICTURE.convert('1'), 'PNG'), DOTS),
    '1 bit fax': (lambda: encoded(PICTURE.convert('1'), 'TIFF', compression='group4'), DOTS),
    '16 bit png': (lambda: encoded(PIL.Image.fromarray(WIDE), 'PNG'), LEVELS),
    '16 bit tiff': (lambda: encoded(PIL.Image.fromarray(WIDE), 'TIFF'), LEVELS),
    '16 bit tiff, 0 is white': (lambda: encoded(PIL.Image.fromarray(65535 - WIDE), 'TIFF', tiffinfo={262: 0}), LEVELS),
    '32 bit tiff': (lambda: encoded(PIL.Image.fromarray(WIDE.astype(np.int32)), 'TIFF'), LEVELS),
    'float tiff': (lambda: encoded(PIL.Image.fromarray(RAMP[..., 0] / np.float32(255)), 'TIFF'), RAMP[..., :1].repeat(3, 2)),
    'NaN tiff': (lambda: encoded(PIL.Image.fromarray(np.full((48, 48), np.nan, np.float32)), 'TIFF'), np.zeros((48, 48, 3))),
    'grey and alpha': (lambda: encoded(PIL.Image.merge('LA', [GREY, PIL.Image.fromarray(HALF)]), 'PNG'), LEVELS * 128 / 255 + 127),
    'wholly clear': (lambda: encoded(PIL.Image.fromarray(CLEAR), 'PNG'), np.full((48, 48, 3), 255.0)),
    'a clear colour': (lambda: encoded(PIL.Image.new('RGB', (48, 48), (9, 8, 7)), 'PNG', transparency=(9, 8, 7)), np.full((48, 48, 3), 255.0)),
    'a clear colour of a palette': (lambda: encoded(PIL.Image.new('P', (48, 48), 3), 'GIF', transparency=3), np.full((48, 48, 3), 255.0)),
    'CMYK': (lambda: encoded(PICTURE.convert('CMYK'), 'JPEG', quality=95), RAMP),
    'YCbCr': (lambda: encoded(PICTURE.convert('YCbCr'), 'TIFF'), RAMP),
    'Lab': (lambda: encoded(PIL.ImageCms.profileToProfile(PICTURE, PIL.ImageCms.createProfile('sRGB'), PIL.ImageCms.createProfile('LAB'),
                                                          outputMode='LAB'), 'TIFF'), RAMP),
}


@pytest.mark.parametrize('name', DEPTHS)
def test_depths_colours_and_transparency(name):
    make, expected = DEPTHS[name]
    assert error_of(make(), expected) < 2


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'TIFF', 'MPO', 'PNG', 'AVIF'])
def test_of_several_frames_the_first_is_taken_and_said(kind):
    if kind not in ('MPO', *HAS):
        pytest.skip(f'this Pillow has no {kind}')
    second, options = PIL.Image.new('RGB', (48, 48), 'red'), {'lossless': True} if kind == 'WEBP' else {}
    content = encoded(PICTURE, kind, save_all=True, append_images=[second], **options)
    image, notes = decode(content, 'The photo')
    assert np.abs(np.asarray(image).astype(int) - RAMP).mean() < 4 and 'the first was taken' in ' '.join(notes)
    assert decode(encoded(PICTURE, 'TIFF'), 'The photo')[1] == []


# ---- colours ----

def profile(primaries, gamma=2.2, space=b'RGB '):
    """A matrix profile from xy primaries under D65, adapted to D50; or a grey one with a gamma."""
    def fixed(*values):
        return b''.join(struct.pack('>i', round(value * 65536)) for value in values)

    curve = b'curv\0\0\0\0' + struct.pack('>IH', 1, round(gamma * 256)) + b'\0\0'
    tags = {b'desc': b'desc\0\0\0\0' + struct.pack('>I', 5) + b'wide\0' + b'\0' * 78, b'wtpt': b'XYZ \0\0\0\0' + fixed(0.9642, 1, 0.8249)}
    if space == b'GRAY':
        tags[b'kTRC'] = curve
    else:
        white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
        columns = columns * np.linalg.solve(columns, white)
        bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
        scale = (bradford @ [0.9642, 1, 0.8249]) / (bradford @ white)
        columns = np.linalg.inv(bradford) @ np.diag(scale) @ bradford @ columns
        for letter, column in zip((b'r', b'g', b'b'), columns.T, strict=True):
            tags[letter + b'XYZ'], tags[letter + b'TRC'] = b'XYZ \0\0\0\0' + fixed(*column), curve
    place, table, data = 132 + 12 * len(tags), b'', b''
    for name, value in tags.items():
        table += name + struct.pack('>II', place + len(data), len(value))
        data += value + b'\0' * (-len(value) % 4)
    body = struct.pack('>I', len(tags)) + table + data
    head = struct.pack('>I4sI4s4s4s', 128 + len(body), b'none', 0x02400000, b'mntr', space, b'XYZ ')
    head += b'\0' * 12 + b'acsp' + b'\0' * 28 + fixed(0.9642, 1, 0.8249)
    return head + b'\0' * (128 - len(head)) + body


P3 = [(0.68, 0.32), (0.265, 0.69), (0.15, 0.06)]
SPACES = {'Display P3': P3, 'Adobe RGB': [(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)],
          'ProPhoto': [(0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)]}
SKIN = (224, 172, 140)


def in_space(image, icc):
    return PIL.ImageCms.profileToProfile(image, PIL.ImageCms.createProfile('sRGB'), PIL.ImageCms.ImageCmsProfile(io.BytesIO(icc)))


@pytest.mark.parametrize('kind, options', [
    ('JPEG', {'quality': 100, 'subsampling': 0}), ('PNG', {}), ('TIFF', {}), ('WEBP', {'lossless': True})])
@pytest.mark.parametrize('space', SPACES)
def test_profiles_are_brought_to_srgb(space, kind, options, tmp_path):
    icc = profile(SPACES[space])
    coded = in_space(PIL.Image.new('RGB', (64, 64), SKIN), icc)
    assert max(abs(a - b) for a, b in zip(coded.getpixel((5, 5)), SKIN, strict=True)) > 8    # the profile matters
    image, notes = decode(encoded(coded, kind, icc_profile=icc, **options), 'The photo')
    assert max(abs(a - b) for a, b in zip(image.getpixel((5, 5)), SKIN, strict=True)) <= 2
    assert notes == ['colours brought from wide to sRGB']
    image.save(tmp_path / 'crop.png')
    assert 'icc_profile' not in PIL.Image.open(tmp_path / 'crop.png').info


def test_a_profile_under_transparency():
    coded = in_space(PIL.Image.new('RGB', (8, 8), SKIN), profile(P3))
    coded.putalpha(PIL.Image.new('L', (8, 8), 255))
    coded.putpixel((0, 0), (0, 0, 0, 0))
    image, _ = decode(encoded(coded, 'PNG', icc_profile=profile(P3)), 'The photo')
    assert image.getpixel((0, 0)) == (255, 255, 255) and max(abs(a - b) for a, b in zip(image.getpixel((5, 5)), SKIN, strict=True)) <= 2


@pytest.mark.parametrize('mode', ['L', 'LA', 'I;16'])
def test_a_grey_profile(mode):
    level = round(255 * 0.5 ** (1 / 1.0))      # linear grey: half of the light
    image = PIL.Image.new('L', (8, 8), level)
    image = PIL.Image.fromarray(np.full((8, 8), level * 257, np.uint16)) if mode == 'I;16' else image.convert(mode)
    found, notes = decode(encoded(image, 'PNG', icc_profile=profile(None, 1.0, b'GRAY')), 'The photo')
    assert found.getpixel((3, 3)) == pytest.approx((188, 188, 188), abs=2) and 'to sRGB' in notes[0]


SRGB = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes()


@pytest.mark.parametrize('content, note', [
    (lambda: encoded(PICTURE, 'PNG', icc_profile=SRGB), ''),
    (lambda: encoded(PICTURE, 'PNG', icc_profile=b'nonsense' * 40), 'damaged'),
    (lambda: encoded(PICTURE, 'PNG', icc_profile=profile(P3)[:300]), 'damaged'),
    (lambda: encoded(PICTURE, 'PNG', icc_profile=profile([(0.3, 0.3), (0.3001, 0.3), (0.3, 0.3001)])), 'damaged'),
    (lambda: encoded(PICTURE, 'PNG', icc_profile=profile(None, 1.0, b'GRAY')), 'another kind of picture'),
])
def test_profiles_that_change_nothing(content, note):
    image, notes = decode(content(), 'The photo')
    assert np.array_equal(np.asarray(image), RAMP) and (note in notes[0] if note else notes == [])


# ---- what is no picture, or a dangerous one ----

def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def claiming(width, height):
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'0'))


def with_text():
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text('x', 'y' * (3 << 20), zip=True)
    return encoded(PICTURE, 'PNG', pnginfo=info)


NOISE = PIL.Image.fromarray(np.random.RandomState(0).randint(0, 255, (64, 64, 3), np.uint8))
SCRIPT = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n'
REFUSED = {
    'empty': (b'', 'is not a picture that can be read: the file is empty'),
    'text': (b'this is no picture', 'is not a picture that can be read. Give a JPEG'),
    'PostScript': (SCRIPT, 'is not a picture'),
    'PostScript behind a preview': (struct.pack('<II', 0xC6D3D0C5, 32) + bytes(24) + SCRIPT, 'is not a picture'),
    'HEIC without its package': (b'\0\0\0\x18ftypheic' + bytes(100), 'looks like HEIC, which needs .* .pip install -U pillow-heif'),
    '900 million pixels': (claiming(30000, 30000), 'The photo claims more than 170 million pixels. Scale it down'),
    '4 billion pixels in a row': (claiming(0x7fffffff, 2), 'claims more than 170 million'),
    '175 million pixels': (claiming(17500, 10000), 'claims more than 170 million'),
    'cut png': (encoded(NOISE, 'PNG')[:4000], 'is damaged'),
    'cut jpeg': (encoded(NOISE, 'JPEG')[:2000], 'is damaged'),
    'megabytes of text': (with_text(), 'is damaged or unusual .*without metadata'),
    **{kind: (encoded(PICTURE, kind), 'is not a picture') for kind in ('EPS', 'PPM', 'TGA', 'ICO', 'PCX', 'SGI', 'PDF', 'DDS')},
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_is_refused(name):
    content, sentence = REFUSED[name]
    with pytest.raises(InputError, match=f'^The photo .*{sentence}|^{sentence}'):
        decode(content, 'The photo')


@pytest.mark.parametrize('kind', [kind for kind in ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'AVIF') if kind in HAS])
def test_damage_of_any_kind_is_a_sentence(kind):
    whole, random = encoded(NOISE, kind), np.random.RandomState(1)
    for _ in range(25):
        content = bytearray(whole[:random.randint(1, len(whole) + 1)] if random.rand() < 0.3 else whole)
        for place in random.randint(0, min(len(content), 400), 3):
            content[place] = random.randint(256)
        try:
            assert decode(bytes(content), 'The photo')[0].mode == 'RGB'
        except InputError as error:
            assert str(error).startswith('The photo ') and str(error).isprintable()


@pytest.mark.parametrize('exif', [b'MM\0*\0\0\0\x08\xff\xff' + b'\xff' * 40, b'MM\0*\0\0\0\x08\0\1\1\x12\0\2\0\0\0\4abc\0\0\0\0\0', b'nonsense'])
def test_damaged_exif_does_not_cost_the_photo(exif):
    assert error_of(encoded(PICTURE, 'JPEG', quality=95, exif=b'Exif\0\0' + exif), RAMP) < 2


def test_a_pipe_a_device_and_a_folder_are_refused_unread(tmp_path):
    import os
    os.mkfifo(tmp_path / 'a.png')
    (tmp_path / 'b.png').mkdir()
    for path, sentence in ((tmp_path / 'a.png', 'is a pipe'), (tmp_path / 'b.png', 'is a folder'), ('/dev/zero', 'is a device')):
        with pytest.raises(InputError, match=sentence):
            read_image(path)


def test_a_huge_file_and_a_strange_name(tmp_path):
    with open(tmp_path / 'a.png', 'wb') as file:
        file.truncate(files.MOST_BYTES + 1)    # takes no room
    with pytest.raises(InputError, match='far more than a photo needs'):
        read_image(tmp_path / 'a.png')
    strange = tmp_path / 'a\n\x1b[2J\udcff.png'
    strange.write_bytes(b'x')
    with pytest.raises(InputError) as caught:
        read_image(strange)
    assert str(caught.value).isprintable() and r'a\n\x1b[2J\udcff.png' in str(caught.value)
