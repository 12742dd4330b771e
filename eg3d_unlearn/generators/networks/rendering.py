"""Volume rendering of tri-planes.

Chan et al., "Efficient Geometry-aware 3D Generative Adversarial Networks" (2022), with the two passes of Mildenhall et
al., "NeRF" (2020): evenly spread depths along each ray, then more where the first pass found matter.

Letters: N pictures, R rays a picture, S samples a ray, C colour features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eg3d_unlearn.generators.networks.layers import FullyConnectedLayer, pixel_noise
from eg3d_unlearn.generators.precision import arithmetic
from torch_utils_ext.errors import InputError
from torch_utils_ext.ops.autocast import without_autocast
from torch_utils_ext.user_files import shown

COLOR_FEATURES = 32
# The three directions of each tri-plane: along its width, along its height, across it.  NVIDIA's code as published has
# XY, XZ and, a known slip, ZX in place of ZY; networks carry the axes that they were trained with.
PLANE_AXES = torch.tensor([
    [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]], device='cpu')
REQUIRED_OPTIONS = (
    'ray_start', 'ray_end', 'box_warp', 'depth_resolution', 'depth_resolution_importance', 'disparity_space_sampling',
    'clamp_mode',
)


class Rendering(NamedTuple):
    features: Tensor  # [N, R, C] about -1 to 1
    depth: Tensor  # [N, R, 1] in units of the scene
    opacity: Tensor  # [N, R, 1] in 0 to 1


class Draws:
    """Where the renderer's random numbers come from.

    ``random`` draws from ``generator`` on its own device (None: torch's global generator of the device at hand).
    ``fixed`` draws nothing: every stratified depth lies in the middle of its stratum, importance samples are quantiles
    at even steps from 0 to 1, and no density noise is added.  The same rays then always give the same picture.
    """

    def __init__(self, jitter: str = 'random', generator: torch.Generator | None = None):
        if jitter not in ('random', 'fixed'):
            raise InputError(f"jitter is {jitter!r}; expected 'random' or 'fixed'.")
        self.fixed, self.generator = jitter == 'fixed', generator

    def stratified(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Place of each depth within its stratum, 0 to 1."""
        return torch.full(shape, 0.5, device=device) if self.fixed else self._uniform(shape, device)

    def quantiles(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Quantiles of the importance samples along the last dimension, 0 to 1."""
        if self.fixed:
            return torch.linspace(0, 1, shape[-1], device=device).expand(shape)
        return self._uniform(shape, device)

    def normal(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Density noise of unit variance."""
        return torch.zeros(shape, device=device) if self.fixed else pixel_noise(shape, self.generator, device)

    def _uniform(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        if self.generator is None:
            return torch.rand(shape, device=device)
        return torch.rand(shape, generator=self.generator, device=self.generator.device).to(device)


def camera_rays(
    cam2world: Tensor,  # [N, 4, 4] OpenCV convention: x right, y down, z forward
    intrinsics: Tensor,  # [N, 3, 3] in units of the picture's width
    resolution: int,  # rays along each side of the square picture
) -> tuple[Tensor, Tensor]:  # origins [N, 1, 3], directions [N, R, 3] of unit length; R runs row by row
    """The rays of a square picture, through the middle of each pixel."""
    centres = torch.arange(resolution, dtype=cam2world.dtype, device=cam2world.device) * (1 / resolution) + 0.5 / resolution
    v, u = torch.meshgrid(centres, centres, indexing='ij')
    fx, fy, cx, cy, skew = (intrinsics[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2), (0, 1)))
    y = (v.reshape(1, -1) - cy) / fy
    x = (u.reshape(1, -1) - cx - skew * y) / fx
    one = torch.ones_like(x)
    origins = cam2world[:, None, :3, 3]
    # The point one unit ahead, less the camera's place.  Taking the rotation alone would be more precise, but rays
    # would then differ from upstream's by the rounding of that sum, which textures of 256 pixels make visible.
    # Coarser products have too few digits for a place in a picture.
    with arithmetic('fp32', cam2world.device), without_autocast(cam2world):
        ahead = (cam2world @ torch.stack([x, y, one, one], dim=1))[:, :3].transpose(1, 2)
    return origins, F.normalize(ahead - origins, dim=-1)


def box_limits(
    origins: Tensor,  # [N, R or 1, 3]
    directions: Tensor,  # [N, R, 3]
    side: float,  # of the cube around the origin
) -> tuple[Tensor, Tensor]:  # [N, R, 1] each
    """Depths at which each ray enters and leaves the cube.

    Rays that miss it get an interval of the others: from the nearest entry to the farthest entry of their picture, as
    upstream (which takes both over the whole batch).
    """
    origins, directions = origins.detach(), directions.detach()
    inverse = 1 / directions
    low, high = (-side / 2 - origins) * inverse, (side / 2 - origins) * inverse
    start = torch.minimum(low, high).amax(-1, keepdim=True)
    end = torch.maximum(low, high).amin(-1, keepdim=True)
    hit = end > start
    nearest = start.masked_fill(~hit, torch.inf).amin(1, keepdim=True)
    farthest = start.masked_fill(~hit, -torch.inf).amax(1, keepdim=True)
    some = hit.any(1, keepdim=True)
    nearest, farthest = torch.where(some, nearest, -1.0), torch.where(some, farthest, -2.0)
    return torch.where(hit, start, nearest), torch.where(hit, end, farthest)


def stratified_depths(
    origins: Tensor,  # [N, R or 1, 3]
    directions: Tensor,  # [N, R, 3]
    options: dict,  # rendering_kwargs
    draws: Draws,
) -> Tensor:  # [N, R, S] rising along the last dimension
    """One depth in each of S even steps, in depth or in 1 / depth (``disparity_space_sampling``)."""
    start, end, count = options['ray_start'], options['ray_end'], options['depth_resolution']
    if start == end == 'auto':
        start, end = box_limits(origins, directions, options['box_warp'])
    shape = (*directions.shape[:2], count)
    within = draws.stratified(shape, directions.device)
    steps = torch.linspace(0, 1, count, device=directions.device)
    if options['disparity_space_sampling']:
        place = steps + within / (count - 1)
        return 1 / (1 / start * (1 - place) + 1 / end * place)
    if isinstance(start, Tensor):
        return start + steps * (end - start) + within * ((end - start) / (count - 1))
    return torch.linspace(start, end, count, device=directions.device) + within * ((end - start) / (count - 1))


def importance_depths(
    depths: Tensor,  # [N, R, S]
    weights: Tensor,  # [N, R, S - 1] share of each interval in the colour of the ray
    count: int,
    draws: Draws,
) -> Tensor:  # [N, R, count], in no order
    """``count`` depths a ray where the weights are, by inverting their cumulative sum (NeRF, section 5.2)."""
    shape = (*depths.shape[:2], count)
    depths, weights = depths.flatten(0, 1), weights.flatten(0, 1)
    # Each interval counts as much as its neighbours nearly do, and none counts nothing.
    weights = F.avg_pool1d(F.max_pool1d(weights[:, None], 2, 1, padding=1), 2, 1)[:, 0] + 0.01
    middle = (depths[:, :-1] + depths[:, 1:]) / 2
    weights = weights[:, 1:-1] + 1e-5
    share = weights / weights.sum(-1, keepdim=True)
    cumulative = F.pad(share.cumsum(-1), (1, 0))
    u = draws.quantiles((len(depths), count), depths.device).contiguous()
    above = torch.searchsorted(cumulative, u, right=True)
    below, above = (above - 1).clamp_min(0), above.clamp_max(weights.shape[1])
    low, high = cumulative.gather(1, below), cumulative.gather(1, above)
    width = torch.where(high - low < 1e-5, 1.0, high - low)
    left, right = middle.gather(1, below), middle.gather(1, above)
    return (left + (u - low) / width * (right - left)).view(shape)


def interval_weights(
    densities: Tensor,  # [N, R, S] before the softplus
    depths: Tensor,  # [N, R, S] rising
) -> Tensor:  # [N, R, S - 1]
    """Share of each interval between two samples in the colour of its ray."""
    # NeRF equation 3, with the density in the middle of the interval; -1 keeps a fresh network transparent
    density = F.softplus((densities[..., 1:] + densities[..., :-1]) / 2 - 1)
    absorbed = density * depths.diff(dim=-1)
    before = absorbed.cumsum(-1) - absorbed
    # 1 - exp, not expm1: on faint rays the depth is a ratio of these roundings, and upstream's are to be met
    return torch.exp(-before) * (1 - torch.exp(-absorbed))


class TriplaneDecoder(nn.Module):
    """Features of a point (mean of the three planes) to density and colour features."""

    def __init__(self, features: int, color_features: int, lr_multiplier: float = 1, hidden: int = 64):
        super().__init__()
        self.net = nn.Sequential(
            FullyConnectedLayer(features, hidden, lr_multiplier=lr_multiplier),
            nn.Softplus(),
            FullyConnectedLayer(hidden, 1 + color_features, lr_multiplier=lr_multiplier),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:  # [M, features] -> [M], [M, C]
        """Density before the softplus, and colour features in 0 to 1 before :func:`widen`."""
        x = self.net(features)
        return x[:, 0], torch.sigmoid(x[:, 1:])


def widen(colors: Tensor, weight: Tensor | float = 1) -> Tensor:
    """0 to 1 -> -0.001 to 1.001, times ``weight`` where the colours are weighted sums already (mip-NeRF)."""
    return colors * 1.002 - 0.001 * weight


def plane_places(
    axes: Tensor,  # [3, 3, 3] float32
) -> list[list[int]] | Tensor:  # of width and height, [2, 3] coordinates by plane, or [2, 3, 3] to multiply points with
    """How points become places on the planes.  Planes along the coordinate axes, as all known networks have them, only pick."""
    inverse = torch.linalg.inv(axes)[:, :, :2]
    if ((inverse == 0) | (inverse == 1)).all() and (inverse.sum(1) == 1).all():
        return inverse.argmax(1).T.tolist()
    return inverse.permute(2, 1, 0)


class PlaneSampler:
    """Features of points in tri-planes: the mean of three bilinear look-ups, zero outside.

    A GPU takes `grid_sample`.  On a CPU that reads one number at a time from 32 distant places; here the planes become
    a table whose rows are the features of one pixel, and a point is a weighted sum of twelve rows.  Measured on one
    core, forward and backward together take a third of the time.
    """

    def __init__(
        self,
        planes: Tensor,  # [N, 96, H, W]
        box_warp: float,  # side of the cube that the planes span
        axes: Tensor = PLANE_AXES,  # [3, 3, 3]
    ):
        self.planes, self.box_warp, self.where = planes.to(torch.float32), box_warp, plane_places(axes)
        self._rows: Tensor | None = None

    def __call__(self, points: Tensor) -> Tensor:  # [N, M, 3] -> [N * M, 32] float32
        with without_autocast(self.planes):
            # [-1, 1] across the planes, for both ways in the same order of operations
            points = points.to(torch.float32) * (2 / self.box_warp)
            if self.planes.device.type != 'cpu' or points.requires_grad or self._rows_in_all() > 2**31 - 1:
                return self._by_grid(points)
            rows, weights = self._corners(points)
            return _WeightedRows.apply(self._table(), rows, weights)

    def _by_grid(self, points: Tensor) -> Tensor:
        n, channels, height, width = self.planes.shape
        planes = self.planes.reshape(n * 3, channels // 3, height, width)
        grid = torch.stack(self._places(points), dim=-1).movedim(2, 1).flatten(0, 1)[:, None]
        features = F.grid_sample(planes, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
        return features.view(n, 3, channels // 3, -1).mean(1).transpose(1, 2).flatten(0, 1)

    def _places(self, points: Tensor) -> list[Tensor]:  # [N, M, 3] -> along width and height, [N, M, 3] each: on the three planes
        if isinstance(self.where, list):
            return [points[..., axes] for axes in self.where]
        with arithmetic('fp32', points.device):
            return [points @ axes for axes in self.where.to(points.device)]

    def _rows_in_all(self) -> int:
        n, _, height, width = self.planes.shape
        return n * 3 * height * width

    def _table(self) -> Tensor:
        """[N * H * W * 3, 32]: pixels row by row, of each its features in the three planes.

        A view where the planes came with channels last, as our backbone makes them on a CPU; a copy elsewhere.
        """
        if self._rows is None:
            channels = self.planes.shape[1] // 3
            self._rows = self.planes.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(-1, channels)
        return self._rows

    @torch.no_grad()
    def _corners(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """For each point the four pixels around it in each plane, as rows [N * M, 12], and their shares [N * M, 12]."""
        n, m, _ = points.shape
        height, width = self.planes.shape[2:]
        across, down = self._places(points)
        left, right, left_share, right_share = neighbours(across, width)
        top, bottom, top_share, bottom_share = neighbours(down, height)
        picture = torch.arange(n, dtype=torch.int32, device=points.device).view(n, 1, 1) * (height * width * 3)
        plane = torch.arange(3, dtype=torch.int32, device=points.device) + picture
        top, bottom = top * (width * 3) + plane, bottom * (width * 3) + plane
        left, right = left * 3, right * 3
        top_share, bottom_share = top_share / 3, bottom_share / 3
        rows = torch.stack([top + left, top + right, bottom + left, bottom + right], dim=-1)
        weights = torch.stack(
            [left_share * top_share, right_share * top_share, left_share * bottom_share, right_share * bottom_share], dim=-1
        )
        return rows.view(n * m, 12), weights.view(n * m, 12)


def neighbours(
    places: Tensor,  # any shape, -1 to 1 from the first pixel's outer edge to the last one's; it is overwritten
    size: int,  # pixels
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pixels before and after each place (int32, within 0 to ``size - 1``) and their shares; outside is zero."""
    x = places.add_(1).mul_(size / 2).sub_(0.5).clamp_(-1, size)
    before = x.floor().clamp_(max=size - 1)
    after_share = x.sub_(before)
    before_share = (1 - after_share).masked_fill_(before < 0, 0)
    after_share = after_share.masked_fill_(before >= size - 1, 0)
    before = before.to(torch.int32)
    return before.clamp_min(0), (before + 1).clamp_max_(size - 1), before_share, after_share


class _WeightedRows(torch.autograd.Function):
    """[T, C] -> [M, C]: each result is the sum of K rows of the table with its own weights; gradients reach the table."""

    @staticmethod
    def forward(ctx, table, rows, weights):
        ctx.save_for_backward(rows, weights)
        ctx.length = len(table)
        return F.embedding_bag(rows, table, mode='sum', per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        rows, weights = ctx.saved_tensors
        # The transpose is such a sum as well, once the pairs are ordered by the row that they go to.
        rows = rows.flatten()
        order = rows.sort(stable=True).indices
        ends = torch.bincount(rows, minlength=ctx.length).cumsum(0)
        starts = F.pad(ends[:-1], (1, 0)).to(torch.int32)
        points = (order // weights.shape[1]).to(torch.int32)
        back = F.embedding_bag(points, grad.contiguous(), starts, mode='sum', per_sample_weights=weights.flatten()[order])
        return back, None, None


class ImportanceRenderer(nn.Module):
    """Rays through tri-planes to colour features, depth and opacity.  Holds no parameters."""

    def __init__(self):
        super().__init__()
        self.plane_axes = PLANE_AXES  # as upstream no buffer: it is not in the state dict

    def forward(
        self,
        planes: Tensor,  # [N, 96, H, W]
        decoder: TriplaneDecoder,
        origins: Tensor,  # [N, R or 1, 3]
        directions: Tensor,  # [N, R, 3] unit length
        options: dict,  # rendering_kwargs of the network
        draws: Draws | None = None,  # None: random, from torch's global generator
    ) -> Rendering:
        check_options(options)
        draws = draws or Draws()
        sampler = PlaneSampler(planes, options['box_warp'], self.plane_axes)

        def sample(depths: Tensor) -> tuple[Tensor, Tensor]:
            points = (origins[:, :, None] + depths[..., None] * directions[:, :, None]).flatten(1, 2)
            return self._sample(sampler, decoder, points, depths.shape, options, draws)

        depths = stratified_depths(origins, directions, options, draws)
        densities, colors = sample(depths)
        count = options['depth_resolution_importance']
        if count == 0:
            return composite(depths, densities, [colors], options)
        with torch.no_grad():
            weights = interval_weights(densities, depths)
            fine = importance_depths(depths, weights, count, draws)
        more_densities, more_colors = sample(fine)
        depths, densities = torch.cat([depths, fine], -1), torch.cat([densities, more_densities], -1)
        return composite(depths, densities, [colors, more_colors], options)

    def run_model(self, planes, decoder, points, options, draws: Draws | None = None) -> dict[str, Tensor]:
        """At ``points`` [N, M, 3]: ``sigma`` [N, M, 1], density before the softplus, and ``rgb`` [N, M, C]."""
        shape = points.shape[:2]
        sampler = PlaneSampler(planes, options['box_warp'], self.plane_axes)
        sigma, rgb = self._sample(sampler, decoder, points, (*shape, 1), options, draws or Draws())
        return {'rgb': widen(rgb).view(*shape, -1), 'sigma': sigma}

    def _sample(self, sampler, decoder, points, shape, options, draws) -> tuple[Tensor, Tensor]:
        """Densities in ``shape`` [N, R, S] and colour features [N, R, S, C] at ``points`` [N, R * S, 3]."""
        densities, colors = decoder(sampler(points))
        densities, colors = densities.view(shape), colors.view(*shape, -1)
        noise = options.get('density_noise', 0)
        if noise > 0:
            densities = densities + noise * draws.normal(tuple(shape), densities.device)
        return densities, colors


def composite(
    depths: Tensor,  # [N, R, S]; need not be sorted
    densities: Tensor,  # [N, R, S] before the softplus
    colors: list[Tensor],  # parts [N, R, S_i, C] of the samples' colour features, in the order of depths
    options: dict,
) -> Rendering:
    """Volume rendering of samples that were taken in any order.

    Only depths and densities are sorted.  A colour in the middle of an interval is the mean of its two ends, so each
    sample counts with half the weights of the intervals beside it; these go back to the samples' own order, and the
    large colour tensors are neither sorted nor copied.
    """
    with without_autocast(depths):
        densities = densities.to(torch.float32)
        depths, order = depths.sort(dim=-1)
        weights = interval_weights(densities.gather(-1, order), depths)
        total = weights.sum(-1, keepdim=True)
        middle = (depths[..., 1:] + depths[..., :-1]) / 2
        depth = (weights * middle).sum(-1, keepdim=True) / total
        # An empty ray ends at the farthest depth of its picture.
        nearest, farthest = depths.amin((1, 2), keepdim=True), depths.amax((1, 2), keepdim=True)
        depth = torch.minimum(torch.maximum(depth.nan_to_num(torch.inf), nearest), farthest)
        share = (F.pad(weights, (1, 0)) + F.pad(weights, (0, 1))) / 2
        share = torch.zeros_like(share).scatter(-1, order, share)
        parts = share.split([part.shape[2] for part in colors], dim=-1)
        features = sum((w[..., None, :] @ c.to(torch.float32))[..., 0, :] for w, c in zip(parts, colors, strict=True))
        features = widen(features, total)
        if options.get('white_back', False):
            features = features + 1 - total
    return Rendering(features * 2 - 1, depth, total)


def check_options(options: dict) -> None:
    """Stop, naming them, at options that are missing or that no renderer knows."""
    missing = [name for name in REQUIRED_OPTIONS if name not in options]
    if missing:
        raise InputError(f"rendering_kwargs lacks {', '.join(missing)}.")
    if options['clamp_mode'] != 'softplus':
        raise InputError(f"rendering_kwargs has clamp_mode {shown(repr(options['clamp_mode']))}; only 'softplus' exists.")
    if (options['ray_start'] == 'auto') != (options['ray_end'] == 'auto'):
        raise InputError("rendering_kwargs: ray_start and ray_end are both numbers or both 'auto'.")



