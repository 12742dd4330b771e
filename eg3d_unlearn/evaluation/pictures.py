"""The pictures of a comparison, ready for a page: JPEGs."""
from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import PIL.Image
from torch import Tensor

from eg3d_unlearn.person.photo import to_image

QUALITY = 90                         # of JPEG


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI."""
    uri: str
    width: int                       # pixels
    height: int


@dataclass
class BeforeAfter:
    """One latent as both networks show it."""
    before: Picture
    after: Picture
    target: Picture | None = None    # what G_s shows for w_t
    photo: Picture | None = None     # the photo itself, where it may be shown
    yaw: float | None = None         # degrees, positive: the camera moves to the picture's right; None for 2D networks
    likeness: float | None = None    # identity cosine before against after
    title: str = ''                  # what else there is to say of it


@dataclass
class Pictures:
    """Everything that a page shows; an empty list leaves its section out."""
    views: list[BeforeAfter] = field(default_factory=list)         # the erased person, from left to right
    photo: Picture | None = None                                   # the erased photo, where it may be shown
    other_photos: list[BeforeAfter] = field(default_factory=list)
    neighbours: list[BeforeAfter] = field(default_factory=list)    # adjacent latents, which are to be erased too
    strangers: list[BeforeAfter] = field(default_factory=list)     # photos of other people
    changed_most: list[BeforeAfter] = field(default_factory=list)  # random people, worst first
    first_drawn: list[BeforeAfter] = field(default_factory=list)   # random people as they were drawn
    recovered: Picture | None = None                               # the person, as an attack of the audit brought them back
    sheet: Picture | None = None                                   # before-after.png of the run, where no pictures could be made


def photograph(
    image: Tensor,                   # [3, H, W] in -1 to 1
    side: int = 512,                 # pixels, at most
) -> Picture:
    """A picture of a face."""
    return jpeg(to_image(image), side)


def jpeg(image: PIL.Image.Image, side: int) -> Picture:
    """A JPEG of at most ``side`` pixels along each side, colours at full resolution."""
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.convert('RGB').save(file, format='jpeg', quality=QUALITY, subsampling=0)
    return Picture(f'data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}', image.width, image.height)
