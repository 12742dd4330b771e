"""What networks show, as 8-bit pictures: what a saved file would hold is what all metrics look at."""
from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Iterator

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.metrics.cache import checksum
from eg3d_unlearn.evaluation.metrics.settings import Settings
from eg3d_unlearn.generators import cameras
from eg3d_unlearn.generators.generator import Backbone, Generator
from eg3d_unlearn.generators.memory import batch_size
from torch_utils_ext.progress import tqdm

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

YAWS_DEG = tuple(range(-15, 16, 3))  # the paper's views
YAWS = tuple(cameras.MAX_YAW * degrees / 15 for degrees in YAWS_DEG)  # [radians]
EMBEDDED_AT_ONCE = 32                # pictures that a recogniser sees at once


def to_bytes(images: Tensor) -> Tensor:               # [N, 3, H, W] in -1 to 1 -> uint8
    """Rounded as NVIDIA's tools round."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def to_floats(pictures: Tensor) -> Tensor:            # [N, 3, H, W] uint8 -> float32 in -1 to 1
    return pictures.float() / 127.5 - 1


def in_batches(count: int, size: int, settings: Settings, title: str) -> Iterator[slice]:
    """Slices of ``size`` with a bar that counts pictures."""
    with tqdm(total=count, desc=title, unit='picture', dynamic_ncols=True, disable=not settings.progress) as bar:
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))
            bar.update(min(size, count - start))


def shown(
    generator: Generator,
    backbone: Backbone,              # of N latents
    camera: Tensor | None,           # [1 or N, 25]; None for 2D networks
    half: bool = False,              # half as many rays along each side
) -> tuple[Tensor, Tensor | None]:   # [N, 3, H, W] uint8 and [N, 1, h, w] depth in world units (3D networks), on the CPU
    """Pictures at fixed depths with the network's constant noise."""
    out = generator.render(backbone, camera, half=half)
    return to_bytes(out.image).cpu(), None if out.depth is None else out.depth.float().cpu()


def mapped(generator: Generator, z: Tensor, rows: slice) -> Tensor:   # [n, num_ws, w_dim]
    """Latents of random codes, by the network's own mapping: a user who draws z gets what it makes of them."""
    return generator.map(z[rows])


@torch.no_grad()
def views(
    generator: Generator,
    ws: Tensor,                      # [P, num_ws, w_dim]
    settings: Settings,
    half: bool = False,
    title: str = 'views',
) -> Tensor:                         # [P, V, 3, H, W] uint8
    """Each latent from all `YAWS`, one after another (3D networks), or its one picture (V = 1)."""
    yaws = YAWS if generator.is_3d else (None,)
    found = []
    for rows in in_batches(len(ws), batch_size(generator, settings.batch), settings, title):
        backbone = generator.backbone(ws[rows].to(generator.device))
        seen = [shown(generator, backbone, None if yaw is None else generator.camera(yaw), half)[0] for yaw in yaws]
        found.append(torch.stack(seen, dim=1))
    return torch.cat(found)


@torch.no_grad()
def embedded(
    evidence: Evidence,
    recogniser: str,                 # one of those of the evidence
    pictures: Tensor,                # [..., 3, H, W] uint8
    settings: Settings,
) -> Tensor:                         # [..., D] float32, unit norm, on the CPU
    """What a recogniser makes of pictures, a few at a time; kept in memory."""
    def make() -> Tensor:
        embed, flat = evidence.recognisers[recogniser], pictures.flatten(0, -4)
        found = torch.cat([embed(to_floats(part.to(evidence.device))).float().cpu() for part in flat.split(EMBEDDED_AT_ONCE)])
        return found.unflatten(0, pictures.shape[:-3])
    return settings.cache.get({'what': 'embeddings', 'recogniser': recogniser, 'pictures': checksum(pictures)}, make)


def joined(parts: Iterable[Tensor | None]) -> Tensor | None:
    """Depths of batches as one; None for 2D networks."""
    parts = list(parts)
    return None if parts[0] is None else torch.cat(parts)
