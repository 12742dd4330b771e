"""What networks show of latents: in batches, at fixed depths and with the network's constant noise, so that two networks compare."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator, Sequence

import torch
from torch import Tensor

from eg3d_unlearn.generators import cameras
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.memory import batch_size
from torch_utils_ext.progress import tqdm

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

YAWS_DEG = tuple(range(-15, 16, 3))  # the paper's views
YAWS = tuple(cameras.MAX_YAW * degrees / 15 for degrees in YAWS_DEG)  # [radians]


@dataclass
class Renders:
    """N latents from V cameras each."""
    images: Tensor                   # [N, V, 3, H, W]: float32, about -1 to 1, on the network's device; or uint8 on the CPU
    depth: Tensor | None             # [N, V, 1, h, w] world units, on the CPU; None for 2D networks


@dataclass
class Pair:
    """The same latents, from the same cameras, by both networks; N pictures on each side, on the CPU."""
    before: Tensor                   # [N, 3, H, W] float32, -1 to 1; or uint8
    after: Tensor                    # [N, 3, H, W] the same
    depth_before: Tensor | None      # [N, 1, h, w] world units; None for 2D networks
    depth_after: Tensor | None
    distance: Tensor | None          # [N] of the latent from the erased one, units of W+; None where nobody is known to be erased

    def __len__(self) -> int:
        return len(self.before)

    @property
    def depth_change(self) -> Tensor | None:           # [N]
        """Mean absolute change of each depth map, world units."""
        return None if self.depth_before is None else (self.depth_after - self.depth_before).abs().flatten(1).mean(1)


def to_bytes(images: Tensor) -> Tensor:               # [..., 3, H, W] in -1 to 1 -> uint8
    """Rounded as NVIDIA's tools round."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def to_floats(pictures: Tensor) -> Tensor:            # [..., 3, H, W] uint8 -> float32 in -1 to 1; floats as they are
    return pictures.float() / 127.5 - 1 if pictures.dtype == torch.uint8 else pictures


def in_batches(count: int, size: int, title: str | None) -> Iterator[slice]:
    """Slices of ``size`` with a bar that counts pictures; no bar without a title."""
    with tqdm(total=count, desc=title, unit='picture', dynamic_ncols=True, disable=title is None) as bar:
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))
            bar.update(min(size, count - start))


def from_yaws(generator: Generator, yaws: Sequence[float]) -> Tensor | None:   # [V, 25]
    """The network's cameras at ``yaws`` [radians]; None for 2D networks, which have one view."""
    return torch.cat([generator.camera(yaw) for yaw in yaws]) if generator.is_3d else None


@torch.no_grad()
def render(
    generator: Generator,
    latents: Tensor,                 # [N, num_ws, w_dim]; or [N, z_dim], random codes, of which each network makes its own latents
    cameras: Tensor | None,          # [V, 25] for all of them, or [N, V, 25]; None for 2D networks
    half: bool = False,              # half as many rays along each side (3D networks)
    batch: int = 0,                  # latents that go through at once; 0 = by device
    title: str | None = None,        # of a progress bar; None = no bar
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Pictures [n, V, 3, H, W] of n latents at a time, float32, and depths [n, V, 1, h, w] of 3D networks."""
    each = cameras is not None and cameras.dim() == 3
    for rows in in_batches(len(latents), batch_size(generator, batch), title):
        some = latents[rows].to(generator.device)
        backbone = generator.backbone(some if some.dim() == 3 else generator.map(some))
        views = [None] if cameras is None else cameras[rows].unbind(1) if each else cameras.split(1)
        seen = [generator.render(backbone, camera, half=half) for camera in views]
        yield (torch.stack([one.image for one in seen], dim=1),
               None if seen[0].depth is None else torch.stack([one.depth for one in seen], dim=1))


def rendered(
    generator: Generator,
    latents: Tensor,                 # [N, num_ws, w_dim] or [N, z_dim], as of `render`
    cameras: Tensor | None,          # [V, 25] or [N, V, 25]; None for 2D networks
    as_bytes: bool = False,
    **options,                       # of `render`: half, batch, title
) -> Renders:
    """All pictures of `render`; ``as_bytes``: as a saved file would hold them."""
    images, depths = [], []
    for image, depth in render(generator, latents, cameras, **options):
        images.append(to_bytes(image).cpu() if as_bytes else image)
        depths.append(None if depth is None else depth.float().cpu())
    return Renders(torch.cat(images), None if depths[0] is None else torch.cat(depths))


@torch.no_grad()
def by_both(
    evidence: Evidence,
    latents: Tensor,                 # [N, num_ws, w_dim] or [N, z_dim], as of `render`
    cameras: Tensor | None,          # [V, 25] or [N, V, 25]
    title: str | None = None,
    as_bytes: bool = False,
    before: Renders | None = None,   # where G_s's were rendered already
    **options,                       # of `render`
) -> Pair:
    """`rendered` by G_s and by G_u."""
    titles = [title and f'{title}: {side}' for side in ('before', 'after')]
    sides = [before or rendered(evidence.g_s, latents, cameras, as_bytes, title=titles[0], **options),
             rendered(evidence.g_u, latents, cameras, as_bytes, title=titles[1], **options)]
    images = [(side.images if as_bytes else side.images.clamp(-1, 1)).cpu().flatten(0, 1) for side in sides]
    depths = [None if side.depth is None else side.depth.flatten(0, 1) for side in sides]
    views = sides[0].images.shape[1]
    ws = latents if latents.dim() == 3 else evidence.g_s.map(latents)
    distance = None if evidence.person is None else evidence.distance(ws).repeat_interleave(views)
    return Pair(images[0], images[1], depths[0], depths[1], distance)
