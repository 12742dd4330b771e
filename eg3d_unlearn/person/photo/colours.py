"""Colour profiles (ICC): what a telephone's Display P3, a camera's Adobe RGB or a print's CMYK mean in sRGB, which the networks know."""
from __future__ import annotations

import io
from functools import lru_cache
from itertools import product

import numpy as np
import PIL.Image
import PIL.ImageCms

from torch_utils_ext.user_files import shown

MODES = {'RGB': 'RGB', 'GRAY': 'L', 'CMYK': 'CMYK', 'Lab': 'LAB'}  # of a profile's colour space, by Pillow's names
SAME = 2                             # levels of 255 by which another writer's sRGB may differ
# What a sound profile does: white is lighter than this, black darker, and all over the space colours move less in the mean [levels].
WHITE, BLACK, FAR = 235, 100, 90     # (ProPhoto moves them by 21, a linear one by 48, a damaged one by 121)


def to_srgb(
    image: PIL.Image.Image,          # 8 bits, without transparency
    profile: bytes | None,           # the file's, if any
    notes: list[str],                # gains a sentence where colours change, or the profile is left out
) -> PIL.Image.Image:                # RGB
    """The picture's colours in sRGB; without a profile, or with a damaged one, they are taken to be that already."""
    if image.mode == 'LAB' and not profile:
        profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('LAB')).tobytes()
    if not profile:
        return image.convert('RGB')
    try:
        mode, transform, name = transform_of(profile)
    except Exception:                # damaged in any way
        notes.append('its colour profile is damaged and was left out')
        return image.convert('RGB')
    if 'CMYK' in (image.mode, mode) and image.mode != mode or mode == 'L' and image.mode not in ('1', 'L'):
        notes.append(f'its colour profile {name} belongs to another kind of picture and was left out')
        return image.convert('RGB')
    if transform is None:
        return image.convert('RGB')
    notes.append(f'colours brought from {name} to sRGB')
    return PIL.ImageCms.applyTransform(image if image.mode == mode else image.convert(mode), transform)


@lru_cache(maxsize=8)
def transform_of(profile: bytes) -> tuple[str, PIL.ImageCms.ImageCmsTransform | None, str]:
    """The mode of pictures with a profile, what brings them to sRGB (None: they are in it), and the profile's name.

    Raises whatever a damaged profile makes it raise.
    """
    source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = MODES[source.profile.xcolor_space.strip()]
    transform = PIL.ImageCms.buildTransform(source, PIL.ImageCms.createProfile('sRGB'), mode, 'RGB')
    colours = sample(mode)
    found = np.asarray(PIL.ImageCms.applyTransform(colours, transform)).astype(int)
    if mode != 'LAB':
        plain = np.asarray(colours.convert('RGB')).astype(int)
        light, dark = plain.sum(2).argmax(), plain.sum(2).argmin()
        if found.reshape(-1, 3)[light].min() < WHITE or found.reshape(-1, 3)[dark].max() > BLACK:
            raise ValueError('white is not white, or black not black')
        if mode != 'CMYK' and np.abs(found - plain).mean() > FAR:
            raise ValueError('other colours altogether')
        if mode != 'CMYK' and np.abs(found - plain).max() <= SAME:
            transform = None
    return mode, transform, shown((source.profile.profile_description or 'another colour space').strip(), 40)


def sample(mode: str) -> PIL.Image.Image:
    """Colours all over the space, one pixel each."""
    levels = range(256) if mode == 'L' else product(range(0, 256, 51), repeat=len(mode.replace('LAB', 'abc')))
    values = np.array(list(levels), np.uint8)
    return PIL.Image.frombytes(mode, (len(values), 1), values.tobytes())
