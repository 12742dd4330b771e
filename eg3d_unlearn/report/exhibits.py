"""The pictures of a page, ready to be put into it."""
from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI."""
    uri: str
    width: int                       # pixels
    height: int


@dataclass
class Shown:
    """One latent as both networks show it."""
    before: Picture
    after: Picture
    target: Picture | None = None    # what G_s shows for w_t
    photo: Picture | None = None     # the photo itself, where it may be shown
    yaw: float | None = None         # degrees, positive: the camera moves to the picture's right; None for 2D networks
    likeness: float | None = None    # identity cosine before against after
    title: str = ''                  # what else there is to say of it


@dataclass
class Exhibits:
    """Everything that a page shows; an empty list leaves its section out."""
    views: list[Shown] = field(default_factory=list)         # the erased person, from left to right
    photo: Picture | None = None                             # the erased photo, where it may be shown
    other_photos: list[Shown] = field(default_factory=list)
    neighbours: list[Shown] = field(default_factory=list)    # adjacent latents, which are to be erased too
    strangers: list[Shown] = field(default_factory=list)     # photos of other people
    changed_most: list[Shown] = field(default_factory=list)  # random people, worst first
    first_drawn: list[Shown] = field(default_factory=list)   # random people as they were drawn
    differences: list[tuple[str, Picture]] = field(default_factory=list)
    depth: list[tuple[str, Picture]] = field(default_factory=list)
    saliency: list[tuple[str, Picture]] = field(default_factory=list)
    recovered: Picture | None = None                         # the person, as an attack of the audit brought them back
    sheet: Picture | None = None     # before-after.png of the run, where no pictures could be made
