"""Picture files to pictures, pictures to tensors and back."""
from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor

from torch_utils_ext.errors import InputError

SMALLEST = 32                        # pixels; below, nothing of a face is left to invert


def read_image(path: Path) -> PIL.Image.Image:
    """The picture as 8-bit RGB, upright (EXIF), transparency on white; any mode that Pillow reads."""
    if not path.is_file():
        raise InputError(f'The photo {path} is {"a folder" if path.is_dir() else "not there"}. Give a picture file (png, jpg, tif '
                         'or webp).')
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 million pixels on, which a telephone's photo may have; twice as many it refuses.
            warnings.simplefilter('ignore', PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(path) as opened:
                if opened.width < SMALLEST or opened.height < SMALLEST:
                    raise InputError(f'The photo {path} has {opened.width} x {opened.height} pixels; at least {SMALLEST} x '
                                     f'{SMALLEST} are needed to see a face.')
                return to_rgb(PIL.ImageOps.exif_transpose(opened))
    except PIL.Image.DecompressionBombError:
        raise InputError(f'The photo {path} claims more than {2 * PIL.Image.MAX_IMAGE_PIXELS // 10**6} million pixels. Scale it '
                         'down first.') from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = 'is not a picture that can be read' if isinstance(error, PIL.UnidentifiedImageError) else f'is damaged ({error})'
        raise InputError(f'The photo {path} {reason}. Give a png, jpg, tif or webp file, if need be converted.') from None


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """8-bit RGB from grey, 16-bit, palette, transparent, CMYK and float pictures."""
    if image.mode in ('I;16', 'I;16L', 'I;16B', 'I;16N', 'I', 'F'):
        values = np.asarray(image).astype(np.float64)
        # Integer pictures wider than 8 bits span 16 of them; float pictures are taken over their own range.
        low, high = (0.0, 65535.0) if image.mode != 'F' else (float(values.min()), float(max(values.max(), values.min() + 1e-9)))
        image = PIL.Image.fromarray(np.uint8(np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5))
    if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = PIL.Image.alpha_composite(PIL.Image.new('RGBA', image.size, 'white'), image)
    return image.convert('RGB')


def to_tensor(image: PIL.Image.Image, resolution: int) -> tuple[Tensor, str | None]:
    """The picture as [1, 3, resolution, resolution] float32 in [-1, 1], and a warning if it had to be cropped.

    A picture that is not square is cropped to its central square: finding and aligning faces is not done here.
    """
    warning = None
    if image.width != image.height:
        side = min(image.size)
        warning = (f'the photo has {image.width} x {image.height} pixels and was cropped to its central square: give an aligned '
                   'face crop for a good inversion')
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    image = image.resize((resolution, resolution), PIL.Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).unsqueeze(0)
    return pixels.float() / 127.5 - 1, warning


def to_image(tensor: Tensor) -> PIL.Image.Image:      # [3, H, W] in [-1, 1]
    """An 8-bit picture, rounded as NVIDIA's tools round."""
    pixels = (tensor.detach().float().permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    return PIL.Image.fromarray(pixels.cpu().numpy())
