"""Where in a picture a score comes from: RISE (Petsiuk et al. 2018, arXiv 1806.07421), which needs nothing but the score."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_utils_ext.progress import tqdm

Score = Callable[[Tensor], Tensor]   # pictures [N, 3, H, W] in -1 to 1 -> [N]
VISIBLE = 0.5                        # p of the paper: share of the cells that are seen; a half, so that complements are as likely


@dataclass
class Saliency:
    """What each place adds to the score by being seen."""
    map: Tensor                      # [H, W] float32, units of the score: mean with the place seen less mean with it hidden
    noise: float                     # standard error of a pixel of ``map``, from two halves of the masks
    score: float                     # of the whole picture


@torch.no_grad()
def rise(
    picture: Tensor,                 # [3, H, W] in -1 to 1
    score: Score,
    masks: int = 400,                # how many masked pictures are scored, a multiple of 4
    cells: int = 7,                  # s of the paper: a mask's grid has so many cells along each side
    batch: int = 50,                 # masked pictures that go through ``score`` at once
    seed: int = 0,
    hidden: Tensor | None = None,    # [3, H, W] what is seen in hidden places; None = the picture's mean colour
    desc: str | None = None,         # of a progress bar; None = no bar
) -> Saliency:
    """Hide random parts of ``picture`` behind ``hidden`` and see what that does to ``score``.

    The paper defines E[f(I M) | M(x) = 1] (section 3.1), whose level is the mean score and says nothing about x.  Taken here is its
    difference to E[f(I M) | M(x) = 0], so that 0 means that a place makes no difference and maps of two pictures share a scale.
    """
    if masks < 4 or masks % 4:
        raise ValueError(f'masks is {masks}; expected a multiple of 4')
    rng = torch.Generator().manual_seed(seed)
    hidden = picture.mean(dim=(1, 2), keepdim=True) if hidden is None else hidden
    maps, bar = [], tqdm(total=masks, desc=desc, unit='mask', dynamic_ncols=True, disable=desc is None)
    for _ in range(2):
        seen, unseen = Weighted(), Weighted()
        for start in range(0, masks // 4, batch // 2):
            drawn = random_masks(min(batch // 2, masks // 4 - start), cells, tuple(picture.shape[1:]), rng).to(picture)
            # Each mask with its complement: how much of the picture is seen then cancels out of the difference.
            shown = torch.cat([drawn, 1 - drawn])
            scores = score(picture * shown[:, None] + hidden * (1 - shown[:, None])).float()
            seen.add(scores, shown)
            unseen.add(scores, 1 - shown)
            bar.update(len(shown))
        maps.append(seen.mean() - unseen.mean())
    bar.close()
    first, second = maps
    return Saliency((first + second) / 2, (first - second).std().item() / 2, score(picture[None]).item())


def random_masks(
    count: int,
    cells: int,                      # cells of the coarse grid along each side
    size: tuple[int, int],           # H, W
    rng: torch.Generator,
) -> Tensor:                         # [count, H, W] in 0 to 1
    """Coarse random grids, enlarged smoothly and shifted by up to one cell (section 3.2 of the paper)."""
    grids = (torch.rand(count, 1, cells + 1, cells + 1, generator=rng) < VISIBLE).float()
    steps = [-(-side // cells) for side in size]       # a cell, rounded up [pixels]
    large = F.interpolate(grids, size=[(cells + 1) * step for step in steps], mode='bilinear', align_corners=False)
    shifts = [torch.randint(step, (count,), generator=rng).tolist() for step in steps]
    return torch.stack([large[i, 0, y:y + size[0], x:x + size[1]] for i, (y, x) in enumerate(zip(*shifts, strict=True))])


class Weighted:
    """A mean of scores at each pixel, weighed by masks that come batch by batch."""

    def __init__(self):
        self.total, self.weight = 0.0, 0.0

    def add(self, scores: Tensor, masks: Tensor) -> None:   # [N], [N, H, W]
        self.total = self.total + torch.einsum('n,nhw->hw', scores, masks).cpu()
        self.weight = self.weight + masks.sum(0).cpu()

    def mean(self) -> Tensor:        # [H, W]
        return self.total / self.weight.clamp_min(1e-6)
