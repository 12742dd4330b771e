"""Picture files to pictures, pictures to tensors and back.

`decode` is the one place where a picture file is parsed, whoever made it: few formats, so that a stranger's file reaches no other
parser of Pillow's (PostScript would start Ghostscript), its size checked before a pixel is decoded, colours in sRGB.
"""
from __future__ import annotations

import io
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL.Image
import PIL.ImageOps
import PIL.PngImagePlugin
import torch
from torch import Tensor

from eg3d_unlearn.person.photo.colours import to_srgb
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import read_bytes, shown

SMALLEST = 32                        # pixels; below, nothing of a face is left to invert
MOST_PIXELS = 170_000_000            # of a file, said before they are decoded; Pillow itself refuses a few more
MOST_BYTES = 512 << 20               # of a file
# By Pillow's names, those that the installed Pillow has.  MPO (telephones, stereo cameras) is read as JPEG, HEIF by pillow-heif.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'AVIF', 'HEIF')
# EXIF's orientation: what makes the picture upright.
ORIENTATIONS = dict(zip(range(2, 9), (PIL.Image.Transpose[name] for name in (
    'FLIP_LEFT_RIGHT', 'ROTATE_180', 'FLIP_TOP_BOTTOM', 'TRANSPOSE', 'ROTATE_270', 'TRANSVERSE', 'ROTATE_90')), strict=True))
PHOTOMETRIC = 0x0106                 # TIFF's tag
SHEETS = ('before-after.png', 'contact-sheet.png')  # what this package makes of photos (the second: earlier versions), and
MADE_HERE = b'eg3d_unlearn: a sheet of pictures, no photo'  # in the head of each, which is


def read_image(path: Path) -> PIL.Image.Image:
    """The photo as 8-bit RGB, as `read_photo` gives it."""
    return read_photo(path)[0]


def read_photo(path: Path) -> tuple[PIL.Image.Image, list[str]]:
    """The photo as 8-bit RGB and what was done to it, as `decode` does.

    Raises:
        InputError: no such file, no picture, a damaged, huge or tiny one, or a sheet that this package made.
    """
    return decode_photo(read_bytes(path, 'photo', MOST_BYTES), f'The photo {shown(path, 300)}', SMALLEST)


def decode_photo(content: bytes, name: str, smallest: int = 1) -> tuple[PIL.Image.Image, list[str]]:
    """As `decode`; a sheet that this package made is refused."""
    if is_sheet(content):
        raise InputError(f'{name} is a sheet of pictures that eg3d_unlearn made, such as {" or ".join(SHEETS)}. Give the photos themselves.')
    return decode(content, name, smallest)


def decode(
    content: bytes,                  # of the file
    name: str,                       # how the sentence of an error begins: 'The photo face.png'
    smallest: int = 1,               # pixels along each side
) -> tuple[PIL.Image.Image, list[str]]:
    """The first picture of a file as 8-bit RGB in sRGB, upright (EXIF), transparency on white; and notes about what was done.

    Raises:
        InputError: no picture of `FORMATS`, a damaged one, too many pixels or too few.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')    # Pillow's on large pictures and damaged metadata
            with PIL.Image.open(io.BytesIO(content), formats=known_formats()) as opened:
                check_size(opened.size, name, smallest)
                return upright_rgb(opened)
    except InputError:
        raise
    except PIL.UnidentifiedImageError:
        raise InputError(f'{name} is not a picture that can be read{lacking(content)}. Give a JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or '
                         'HEIC file, if need be converted.') from None
    except PIL.Image.DecompressionBombError:
        raise InputError(too_large(name)) from None
    except MemoryError:
        raise InputError(f'{name} takes more memory than there is. Scale it down first.') from None
    except Exception as error:       # a damaged file makes Pillow's parsers fail in every way there is
        raise InputError(f'{name} is damaged or unusual ({shown(error) or type(error).__name__}). Give an undamaged copy, or save it anew as '
                         'PNG or JPEG, without metadata.') from None


@lru_cache(maxsize=1)
def known_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow and pillow-heif read."""
    with suppress(ImportError, OSError):
        from pillow_heif import register_heif_opener
        register_heif_opener()
    PIL.Image.init()
    return tuple(name for name in FORMATS if name in PIL.Image.OPEN)


def check_size(size: tuple[int, int], name: str, smallest: int) -> None:
    if min(size) < smallest:
        raise InputError(f'{name} has {size[0]} x {size[1]} pixels; at least {smallest} x {smallest} are needed to see a face.')
    if size[0] * size[1] > MOST_PIXELS:
        raise InputError(too_large(name))


def too_large(name: str) -> str:
    return f'{name} claims more than {MOST_PIXELS // 10**6} million pixels. Scale it down first.'


def lacking(content: bytes) -> str:
    """Why a picture of a known kind cannot be read here."""
    if content[4:8] == b'ftyp':
        kind, needs = ('AVIF', 'a newer Pillow') if content[8:12] in (b'avif', b'avis') else ('HEIC', 'the package pillow-heif')
        return f': it looks like {kind}, which needs {needs} (pip install -U {needs.split()[-1].lower()})'
    return ': the file is empty' if not content else ''


def upright_rgb(opened: PIL.Image.Image) -> tuple[PIL.Image.Image, list[str]]:
    """The first picture of an opened file as 8-bit RGB, upright, without metadata; and notes."""
    notes = []
    opened.load()
    try:
        turn = ORIENTATIONS.get(opened.getexif().get(0x0112))
    except Exception:                # in damaged metadata anything may go wrong; the pixels are sound
        turn = None
        notes.append('its EXIF data is damaged and was left out')
    image = opened if turn is None else opened.transpose(turn)
    image = to_rgb(image, notes)
    if opened.mode.startswith('I') and getattr(opened, 'tag_v2', {}).get(PHOTOMETRIC) == 0:
        image = PIL.ImageOps.invert(image)     # TIFF with 0 for white, which Pillow minds for 8 bits only
    if getattr(opened, 'is_animated', False):
        notes.append('of several pictures in the file, the first was taken')
    image.info = {}                  # or Pillow writes profiles and comments into what is saved
    return image, notes


def to_rgb(
    image: PIL.Image.Image,          # grey, 16-bit, palette, transparent, CMYK, Lab, float
    notes: list[str],                # about colours; gains some
) -> PIL.Image.Image:
    """8-bit RGB in sRGB, transparency on white."""
    profile, alpha = image.info.get('icc_profile'), None
    if image.mode in ('I', 'F') or image.mode.startswith('I;16'):
        image = eight_bits(image)
    if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        grey = image.mode in ('1', 'L', 'LA', 'La')
        image = image.convert('RGBA')
        alpha = image.getchannel('A')
        image = image.convert('L' if grey else 'RGB')
    image = to_srgb(image, profile, notes)
    return image if alpha is None else PIL.Image.composite(image, PIL.Image.new('RGB', image.size, 'white'), alpha)


def eight_bits(image: PIL.Image.Image) -> PIL.Image.Image:
    """Grey pixels of 16 bits, of which 32-bit integers use as many, or floats over their own range, in 8 bits."""
    values, low, high = np.asarray(image), 0.0, 65535.0
    if image.mode == 'F':
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    pixels = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), 256):     # by rows, so that memory stays that of the picture
        part = np.nan_to_num(values[top:top + 256].astype(np.float64), nan=low, posinf=high, neginf=low)
        pixels[top:top + 256] = np.clip((part - low) / max(high - low, 1e-9), 0, 1) * 255 + 0.5
    return PIL.Image.fromarray(pixels)


def write_sheet(file: BinaryIO, image: PIL.Image.Image) -> None:
    """A png that shows several pictures, marked so that it is never taken for a photo."""
    marks = PIL.PngImagePlugin.PngInfo()
    marks.add_text('Software', MADE_HERE.decode())
    image.save(file, format='png', pnginfo=marks)


def is_sheet(content: bytes) -> bool:
    """Whether a file was written by `write_sheet`."""
    return MADE_HERE in content[:1024]


def to_tensor(
    image: PIL.Image.Image,          # square
    resolution: int,
) -> Tensor:                         # [1, 3, resolution, resolution] float32 in [-1, 1]
    """A picture as networks take it."""
    image = image.resize((resolution, resolution), PIL.Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1


def to_image(tensor: Tensor) -> PIL.Image.Image:      # [3, H, W] in [-1, 1]
    """An 8-bit picture, rounded as NVIDIA's tools round."""
    pixels = (tensor.detach().float().permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    return PIL.Image.fromarray(pixels.cpu().numpy())
