"""The pictures of a comparison, ready for a page: photographs as JPEG, maps in colours that every eye tells apart."""
from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F

from eg3d_unlearn.person.photo import to_image

QUALITY = 90                         # of JPEG
# Dark blue to light yellow: rises evenly in lightness, so that it reads in grey and for colour-blind eyes.
RAMP = ((12, 22, 60), (45, 66, 122), (112, 108, 130), (178, 145, 110), (232, 196, 104), (255, 246, 196))


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
    differences: list[tuple[str, Picture]] = field(default_factory=list)
    depth: list[tuple[str, Picture]] = field(default_factory=list)
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
    return encode(image.convert('RGB'), 'jpeg', quality=QUALITY, subsampling=0)


def encode(image: PIL.Image.Image, kind: str, **options) -> Picture:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return Picture(f'data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}', image.width, image.height)


def heat(
    values: Tensor,                  # [H, W]
    low: float,
    high: float,
    size: int | None = None,         # pixels; None = as it is
) -> Picture:
    """A map in the colours of `RAMP`, from ``low`` (dark) to ``high`` (light)."""
    if size is not None:
        values = enlarged(values, size)
    share = ((values.float().cpu() - low) / max(high - low, 1e-9)).clamp(0, 1).numpy()
    places = np.linspace(0, 1, len(RAMP))
    pixels = np.stack([np.interp(share, places, channel) for channel in np.array(RAMP).T], axis=-1)
    return encode(PIL.Image.fromarray(np.uint8(pixels.round())), 'png', optimize=True)


def enlarged(values: Tensor, size: int) -> Tensor:   # [h, w] -> [size, size]
    return F.interpolate(values[None, None].float().cpu(), size=(size, size), mode='bilinear', align_corners=False)[0, 0]


def difference(before: Tensor, after: Tensor) -> Tensor:   # [3, H, W] each, -1 to 1 -> [H, W] in 0 to 1
    """How much each pixel changed, mean over the colours, as a share of white against black."""
    return (after.clamp(-1, 1) - before.clamp(-1, 1)).abs().mean(0) / 2


def percentile(values: Tensor, share: float) -> float:
    return torch.quantile(values.flatten().double().cpu(), share).item()
