"""Pictures of every kind come out as upright 8-bit RGB; what is no picture is said."""
import numpy as np
import PIL.Image
import pytest
import torch
from small import save_noise

from eg3d_unlearn.person.photo import files, read_image, to_image, to_tensor
from torch_utils_ext.errors import InputError


def ramp(height=48, width=48):
    """A picture that tells up from down and left from right: red grows to the right, green downwards."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 // (width - 1), rows * 255 // (height - 1), np.full_like(rows, 60)], axis=2).astype(np.uint8)


def mean_error(image, expected):
    return np.abs(np.asarray(image).astype(float) - expected).mean()


def test_rgb_is_read_as_it_is(tmp_path):
    PIL.Image.fromarray(ramp()).save(tmp_path / 'a.png')
    assert np.array_equal(np.asarray(read_image(tmp_path / 'a.png')), ramp())


def test_exif_orientation_is_undone(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6                 # the camera was turned: rotate by 270 degrees to see the picture upright
    PIL.Image.fromarray(ramp()).rotate(90).save(tmp_path / 'a.jpg', exif=exif, quality=95)
    assert mean_error(read_image(tmp_path / 'a.jpg'), ramp()) < 4


def test_sixteen_bit_grey(tmp_path):
    values = (np.linspace(0, 65535, 48 * 48).reshape(48, 48)).astype(np.uint16)
    PIL.Image.fromarray(values).save(tmp_path / 'a.png')
    grey = np.asarray(read_image(tmp_path / 'a.png'))
    assert grey.shape == (48, 48, 3) and np.abs(grey[..., 0].astype(float) - values / 257).max() <= 1


def test_eight_bit_grey(tmp_path):
    PIL.Image.fromarray(ramp()[..., 0]).save(tmp_path / 'a.png')
    assert np.array_equal(np.asarray(read_image(tmp_path / 'a.png'))[..., 2], ramp()[..., 0])


def test_transparency_is_laid_on_white(tmp_path):
    alpha = np.full((48, 48, 1), 255, np.uint8)
    alpha[:24] = 0
    PIL.Image.fromarray(np.concatenate([ramp(), alpha], axis=2)).save(tmp_path / 'a.png')
    image = np.asarray(read_image(tmp_path / 'a.png'))
    assert (image[:24] == 255).all() and np.array_equal(image[24:], ramp()[24:])


def test_palette_with_transparency(tmp_path):
    PIL.Image.fromarray(ramp()).quantize(32).save(tmp_path / 'a.gif', transparency=0)
    assert read_image(tmp_path / 'a.gif').mode == 'RGB'


def test_cmyk(tmp_path):
    PIL.Image.fromarray(ramp()).convert('CMYK').save(tmp_path / 'a.jpg', quality=95)
    assert mean_error(read_image(tmp_path / 'a.jpg'), ramp()) < 6


def test_tensor_is_in_range_and_comes_back(tmp_path):
    tensor = to_tensor(PIL.Image.fromarray(ramp()), 48)
    assert tensor.shape == (1, 3, 48, 48) and tensor.dtype == torch.float32
    assert -1 <= tensor.min() and tensor.max() <= 1
    assert np.abs(np.asarray(to_image(tensor[0])).astype(int) - ramp()).max() <= 1


@pytest.mark.parametrize('content, sentence', [
    (None, 'cannot be opened: No such file'),
    (b'', 'not a picture'),
    (b'just text', 'not a picture'),
])
def test_what_is_no_picture(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / 'a.png').write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_image(tmp_path / 'a.png')


def test_a_folder_a_truncated_file_and_one_pixel(tmp_path):
    with pytest.raises(InputError, match='a folder'):
        read_image(tmp_path)
    save_noise(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_bytes((tmp_path / 'a.png').read_bytes()[:4000])
    with pytest.raises(InputError, match='damaged'):
        read_image(tmp_path / 'b.png')
    PIL.Image.new('RGB', (1, 1)).save(tmp_path / 'c.png')
    with pytest.raises(InputError, match='1 x 1 pixels; at least 32'):
        read_image(tmp_path / 'c.png')


@pytest.mark.parametrize('limit', [(PIL.Image, 'MAX_IMAGE_PIXELS', 1000), (files, 'MOST_PIXELS', 4095)])
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, limit):
    PIL.Image.new('L', (64, 64)).save(tmp_path / 'a.png')
    monkeypatch.setattr(*limit)
    with pytest.raises(InputError, match='Scale it'):
        read_image(tmp_path / 'a.png')
