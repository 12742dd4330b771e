"""Train `demo-eg3d`: regression on the truth, from points in space to pictures.

1. The mapping network alone: z to a fixed embedding of what heads are made of.
2. Points: density and colour at points near surfaces, planes of 64 pixels.
3. Rays: colours of pixels, rendered from few samples whose depths the truth tells; planes of 128 pixels.
4. Sharpening: the super-resolution alone, on crops of what the renderer shows.
5. Pictures: all of it together as users run it, on crops; planes of 256 pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.generators.build import build_network
from eg3d_unlearn.generators.networks import rendering
from eg3d_unlearn.generators.networks.eg3d import TriPlaneGenerator
from eg3d_unlearn.worlds.demo import heads, scene
from eg3d_unlearn.worlds.demo.people import Z_DIM, People, attributes_of, meaningful_directions, normal
from eg3d_unlearn.worlds.demo.photos import compile_if_possible
from eg3d_unlearn.worlds.demo.recipes import EG3D
from eg3d_unlearn.worlds.demo.training import (
    EXAMINED_SEED,
    Muon,
    TrainingRun,
    averaged,
    centre_styles,
    cosine,
    fit_mapping,
    follow,
    psnr,
    save_sheet,
)

BOX = 0.36                            # heads stay within this of the origin [world units]
SHARPNESS = 0.006                     # of the density's step at a surface [world units]
DENSITY = 40.0                        # density before the softplus per unit of log-odds


@dataclass
class Schedule:
    point_steps: int = 1000
    ray_steps: int = 2600
    sharpen_steps: int = 250
    picture_steps: int = 1100
    point_latents: int = 12           # latents of a step
    ray_latents: int = 8
    picture_latents: int = 4
    points: int = 700                 # rays of a latent in the points phase, three points each
    rays: int = 640                   # pixels of a latent in the rays phase
    lr: float = 2e-2                  # of kernels
    lr_others: float = 7e-3
    precision: str = 'bf16'           # of the backbone while training: 'bf16' or 'fp32'
    mapping_steps: int = 2000
    examined: int = 32                # held-out people whose pictures the figures are about

    @property
    def steps(self) -> int:
        return self.point_steps + self.ray_steps + self.sharpen_steps + self.picture_steps


def build() -> TriPlaneGenerator:
    """The network as training begins: dense matter, and no colours from the layers that begin later."""
    network = build_network(EG3D['upstream_class'], EG3D['init_kwargs'])
    with torch.no_grad():
        network.decoder.net[2].weight[0] *= 20
        for resolution in (128, 256):
            getattr(network.backbone.synthesis, f'b{resolution}').torgb.weight.zero_()
        for block in (network.superresolution.block0, network.superresolution.block1):
            block.torgb.weight.zero_()
    return network


def features(z: Tensor) -> Tensor:
    """What the embedding holds: the parameters of the head."""
    return torch.cat([value.flatten(1) for value in heads.parameters(People(attributes_of(z))).values()], dim=1)


def map_latents(network: TriPlaneGenerator, z: Tensor) -> Tensor:
    return network.mapping(z, z.new_zeros(len(z), 25))


def planes_of(network: TriPlaneGenerator, ws: Tensor, resolution: int, precision: str = 'fp32') -> Tensor:
    """The tri-planes [N, 96, resolution, resolution] after the block of that resolution."""
    synthesis = network.backbone.synthesis
    x = img = None
    first = 0
    with torch.autocast(ws.device.type, torch.bfloat16, enabled=precision == 'bf16'):
        for side in synthesis.block_resolutions:
            block = getattr(synthesis, f'b{side}')
            x, img = block(x, img, ws[:, first : first + block.num_conv + block.num_torgb])
            first += block.num_conv
            if side == resolution:
                return img
    raise ValueError(f'no block of {resolution} pixels')


def contiguous(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, y, z of [L, M, 3]."""
    return points.movedim(-1, 0).contiguous().unbind(0)


def random_cameras(count: int, max_yaw: float = 0.65, max_pitch: float = 0.25) -> Tensor:
    angles = torch.rand(count, 2) * 2 - 1
    return torch.cat([scene.camera_at(yaw * max_yaw, pitch * max_pitch) for yaw, pitch in angles.tolist()])


@torch.no_grad()
def trace_together(p: heads.Params, origins: Tensor, directions: Tensor, steps: int = 48) -> tuple[Tensor, Tensor]:
    """For rays [L, R]: the depth of the hit or else of the closest approach, and whether there is a hit."""
    t = torch.full(directions.shape[:2], scene.NEAR)
    best, nearest = t.clone(), torch.full_like(t, torch.inf)
    for _ in range(steps):
        d = scene.distance(p, *contiguous(origins + t[..., None] * directions))
        closer = d < nearest
        best, nearest = torch.where(closer, t, best), torch.where(closer, d, nearest)
        t = (t + 0.9 * d).clamp(max=scene.FAR)
    # A sixteenth of a pixel: a tenth visibly widens every outline, a thirtieth thins it.
    return best, nearest < 6e-4


def occupancy_loss(sigma: Tensor, distance: Tensor) -> Tensor:
    """Cross entropy between the density and the inside of the head."""
    return F.binary_cross_entropy_with_logits(sigma / DENSITY, torch.sigmoid((-distance / SHARPNESS).clamp(-6, 6)))


@torch.no_grad()
def free_points(p: heads.Params, count: int, latents: int) -> tuple[Tensor, Tensor]:
    """Points anywhere in the planes' cube and their distances; nothing is outside the box."""
    points = (torch.rand(latents, count, 3) * 2 - 1) * 0.375
    distance = scene.distance(p, *contiguous(points))
    return points, torch.where(points.abs().amax(-1) > BOX, 0.05, distance)


@torch.no_grad()
def surface_points(p: heads.Params, latents: int, rays: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points just inside, just outside and anywhere on rays; distances; colours of the first two thirds."""
    axes = random_cameras(latents)[:, :16].reshape(latents, 4, 4)[:, :3, :3]
    half = rays // 2
    wide, face = (torch.rand(2, latents, half) * 2 - 1) * 0.32, torch.randn(2, latents, rays - half) * 0.095
    u, v = torch.cat([wide, face + torch.tensor([0.0, 0.03]).view(2, 1, 1)], dim=2)
    origins = axes[:, None, :, 0] * u[..., None] + axes[:, None, :, 1] * v[..., None] - axes[:, None, :, 2] * 0.42
    directions = axes[:, None, :, 2].expand(latents, rays, 3)
    t = torch.zeros(latents, rays)
    for _ in range(14):
        t = (t + 0.9 * scene.distance(p, *contiguous(origins + t[..., None] * directions))).clamp(max=0.84)
    behind, before = t + torch.rand_like(t) * 0.03, t - torch.rand_like(t) ** 1.5 * 0.12
    near = torch.cat([origins + depth[..., None] * directions for depth in (behind, before)], dim=1)
    points = torch.cat([near, origins + (torch.rand_like(t) * 0.84)[..., None] * directions], dim=1)
    distance = scene.distance(p, *contiguous(points))
    return points, torch.where(points.abs().amax(-1) > BOX, 0.05, distance), scene.color(p, *contiguous(near))


def points_loss(network: TriPlaneGenerator, schedule: Schedule) -> dict[str, Tensor]:
    z = torch.randn(schedule.point_latents, Z_DIM)
    p = heads.parameters(People(attributes_of(z)))
    points, distance, colors = surface_points(p, len(z), schedule.points)
    more, more_distance = free_points(p, 150, len(z))
    planes = planes_of(network, map_latents(network, z), 64, schedule.precision)
    out = network.renderer.run_model(planes, network.decoder, torch.cat([points, more], 1), network.rendering_kwargs)
    occupancy = occupancy_loss(out['sigma'][..., 0], torch.cat([distance, more_distance], 1))
    near = colors.shape[1]
    weight = (distance[:, :near] < 2 * SHARPNESS) * torch.exp(-(distance[:, :near] / 0.035) ** 2)
    error = 2 * (out['rgb'][:, :near, :3] - colors)
    color = (weight[..., None] * (error.abs() + error.square())).sum() / (3 * weight.sum() + 1)
    return {'loss': 2 * occupancy + color, 'occupancy': occupancy, 'color': color}


def pixel_directions(cameras: Tensor, v: Tensor, u: Tensor) -> Tensor:
    """Unit vectors [L, R, 3] through places of the picture, ``v`` down and ``u`` to the right [L, R], each 0 to 1."""
    focal = cameras[:, 16, None]
    local = torch.stack([(u - 0.5) / focal, (v - 0.5) / focal, torch.ones_like(u)], dim=-1)
    axes = cameras[:, :16].reshape(-1, 4, 4)[:, :3, :3]
    return F.normalize(local @ axes.transpose(1, 2), dim=-1)


@torch.no_grad()
def true_pixels(p: heads.Params, cameras: Tensor, rows: Tensor, columns: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of pixels [L, R]: colour [L, R, 3] in -1 to 1 from 2x2 rays, depth [L, R] and direction [L, R, 3] of a central one."""
    latents, rays = rows.shape
    offsets = torch.tensor([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75], [0.5, 0.5]])
    v = (rows[..., None] + offsets[:, 0]).flatten(1) / resolution
    u = (columns[..., None] + offsets[:, 1]).flatten(1) / resolution
    directions = pixel_directions(cameras, v, u)
    origins = cameras[:, None, [3, 7, 11]]
    depth, hit = trace_together(p, origins, directions)
    depth, hit, directions = (value.unflatten(1, (rays, 5)) for value in (depth, hit, directions))
    points = origins[:, :, None] + depth[:, :, :4, None] * directions[:, :, :4]
    colors = scene.color(p, *contiguous(points.flatten(1, 2))).unflatten(1, (rays, 4))
    colors = torch.where(hit[:, :, :4, None], colors, 1.0).mean(2) * 2 - 1
    return colors, depth[:, :, 4], directions[:, :, 4]


def guided_depths(depth: Tensor, near: int = 7, far: int = 4) -> Tensor:
    """Depths [L, R, near + far] of samples: most of them where the truth has its surface, the others anywhere."""
    tight = (torch.arange(near) + torch.rand(*depth.shape, near)) / near * 0.11 - 0.055 + depth[..., None]
    loose = scene.NEAR + (torch.arange(far) + torch.rand(*depth.shape, far)) / far * (scene.FAR - scene.NEAR)
    return torch.cat([tight, loose], dim=-1)


@torch.no_grad()
def outlines(p: heads.Params, cameras: Tensor, count: int, candidates: int = 4, steps: int = 16) -> Tensor:
    """Rows and columns [2, L, count] of the pixels, of 64 x 64, whose rays come nearest to just touching the head."""
    latents = len(cameras)
    rows, columns = torch.rand(2, latents, candidates * count) * 64
    directions = pixel_directions(cameras, rows / 64, columns / 64)
    depths = torch.linspace(scene.NEAR + 0.1, scene.FAR - 0.1, steps)
    points = cameras[:, None, None, [3, 7, 11]] + depths[:, None] * directions[:, :, None]
    distance = scene.distance(p, *contiguous(points.flatten(1, 2))).unflatten(1, (-1, steps)).amin(-1)
    chosen = distance.abs().topk(count, dim=1, largest=False).indices
    return torch.stack([rows.gather(1, chosen), columns.gather(1, chosen)])


def rays_loss(network: TriPlaneGenerator, schedule: Schedule) -> dict[str, Tensor]:
    latents, rays = schedule.ray_latents, schedule.rays
    z = torch.randn(latents, Z_DIM)
    p = heads.parameters(People(attributes_of(z)))
    cameras = random_cameras(latents)
    quarter = rays // 4
    anywhere = torch.rand(2, latents, quarter) * 64
    on_face = torch.randn(2, latents, rays - 2 * quarter) * 10 + torch.tensor([34.0, 32.0]).view(2, 1, 1)
    rows, columns = torch.cat([anywhere, outlines(p, cameras, quarter), on_face], dim=2).clamp(0, 63.99).floor()
    colors, depth, directions = true_pixels(p, cameras, rows, columns, 64)
    depths = guided_depths(depth)
    origins = cameras[:, None, None, [3, 7, 11]]
    points = (origins + depths[..., None] * directions[:, :, None]).flatten(1, 2)
    more, more_distance = free_points(p, 400, latents)
    planes = planes_of(network, map_latents(network, z), 128, schedule.precision)
    out = network.renderer.run_model(planes, network.decoder, torch.cat([points, more], 1), network.rendering_kwargs)
    sigma = out['sigma'][..., 0]
    samples = points.shape[1]
    sigma_along, colors_along = (value[:, :samples].unflatten(1, depths.shape[1:]) for value in (sigma, out['rgb'][..., :3]))
    result = rendering.composite(depths, sigma_along, [colors_along], network.rendering_kwargs)
    error = result.features - colors
    color = error.abs().mean() + 2 * error.square().mean()
    with torch.no_grad():
        there = scene.distance(p, *contiguous(points))
    occupancy = occupancy_loss(sigma, torch.cat([there, more_distance], 1))
    return {'loss': color + 0.3 * occupancy, 'occupancy': occupancy, 'color': color}


def super_resolve_crop(network: TriPlaneGenerator, features: Tensor, ws: Tensor) -> Tensor:
    """`superresolution` on a crop of the feature image [N, 32, S, S]; its blocks take any size."""
    ws = ws[:, -1:].expand(-1, 3, -1)
    x, picture = network.superresolution.block0(features, features[:, :3], ws)
    return network.superresolution.block1(x, picture, ws)[1]


def crop_features(network: TriPlaneGenerator, planes: Tensor, cameras: Tensor, corner: Tensor, side: int) -> Tensor:
    """The feature image [L, 32, side, side] of a crop of the 64 x 64 rays; ``corner`` [2, L, 1, 1] is its first row and column."""
    latents = len(planes)
    along = torch.arange(side)
    v = (corner[0] + along[:, None] + 0.5).expand(latents, side, side).flatten(1) / 64
    u = (corner[1] + along[None, :] + 0.5).expand(latents, side, side).flatten(1) / 64
    directions = pixel_directions(cameras, v, u)
    origins = cameras[:, None, [3, 7, 11]].expand_as(directions)
    result = network.renderer(planes, network.decoder, origins, directions, network.rendering_kwargs, rendering.Draws())
    return result.features.transpose(1, 2).unflatten(2, (side, side)).contiguous()


def counted(corner: Tensor, side: int, margin: int, frame: float = 4.0) -> Tensor:
    """How much a super-resolved crop counts, [L, 1, 2 side, 2 side]: its rim only where that is the picture's own rim.

    There the outermost pixels count ``frame`` times: upsampling mixes them with zeros from outside the picture, which are grey,
    and what the layers do against it would come late, as few crops lie at the rim.
    """
    place = torch.arange(2 * side)
    inner = (place >= 2 * margin) & (place < 2 * (side - margin))
    first, last = corner[..., 0] == 0, corner[..., 0] == 64 - side  # [2, L, 1]
    counts = (inner | (first & (place < 2 * margin)) | (last & (place >= 2 * (side - margin)))).float()
    counts = torch.where((first & (place == 0)) | (last & (place == 2 * side - 1)), frame, counts)
    rows, columns = counts
    return (rows[:, None, :, None] * columns[:, None, None, :]).clamp(max=frame)


def pictures_loss(
    network: TriPlaneGenerator,
    schedule: Schedule,
    sharpen: bool = False,            # only the super-resolution gets gradients
    side: int = 28,                   # rays along each side of a crop
    margin: int = 4,                  # rays at its rim that do not count: convolutions see what is not there
) -> dict[str, Tensor]:
    """Crops, rendered and super-resolved as users do it."""
    latents = schedule.picture_latents
    z = torch.randn(latents, Z_DIM)
    p = heads.parameters(People(attributes_of(z)))
    cameras = random_cameras(latents, scene.MAX_YAW, scene.MAX_PITCH)
    corner = (torch.randn(2, latents, 1, 1) * 18 + 32 - side / 2).clamp(0, 64 - side).floor()
    # Truth at 128 pixels; its 2x2 means are the truth at 64.
    fine = torch.arange(2 * side)
    rows = (2 * corner[0] + fine[:, None]).expand(latents, 2 * side, 2 * side).flatten(1)
    columns = (2 * corner[1] + fine[None, :]).expand(latents, 2 * side, 2 * side).flatten(1)
    truth = true_pixels(p, cameras, rows, columns, 128)[0].transpose(1, 2).unflatten(2, (2 * side, 2 * side))
    with torch.set_grad_enabled(not sharpen):
        ws = map_latents(network, z)
        features = crop_features(network, planes_of(network, ws, 256, schedule.precision), cameras, corner, side)
    raw_error = features[:, :3] - F.avg_pool2d(truth, 2)
    error = (super_resolve_crop(network, features, ws) - truth) * counted(corner, side, margin)
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    fine_loss = error.abs().mean() + 2 * error.square().mean() + 0.5 * edges
    coarse_loss = raw_error.abs().mean() + 2 * raw_error.square().mean()
    return {'loss': fine_loss + coarse_loss, 'fine': fine_loss, 'coarse': coarse_loss}


class Examination:
    """Held-out latents and their true pictures."""

    def __init__(self, count: int):
        self.z = normal(torch.Generator().manual_seed(EXAMINED_SEED), count, Z_DIM)
        self.cameras = scene.cameras_at_random(count, seed=7)
        self.truth = scene.render(People(attributes_of(self.z)), self.cameras, 128).image

    @torch.no_grad()
    def __call__(self, network: TriPlaneGenerator, resolution: int) -> tuple[dict, Tensor, Tensor]:
        """PSNR at 64 and 128 pixels, and the pictures [N, 3, 64, 64] and [N, 3, 128, 128]."""
        raw, fine = [], []
        for z, camera in zip(self.z.split(4), self.cameras.split(4), strict=True):
            ws = map_latents(network, z)
            out = network.render(planes_of(network, ws, resolution), ws, camera, 64, jitter='fixed')
            raw.append(out['image_raw'])
            fine.append(out['image'])
        raw, fine = torch.cat(raw), torch.cat(fine)
        return {
            'psnr_64': psnr(raw, F.avg_pool2d(self.truth, 2)), 'psnr_128': psnr(fine, self.truth),
            'psnr_128_bilinear': psnr(F.interpolate(raw, scale_factor=2, mode='bilinear'), self.truth),
        }, raw, fine


def train(outdir: str, schedule: Schedule, report_every: int = 250, compiled: bool = True, device: str = 'cpu') -> dict:
    """Train or go on training; returns the report.  The network is in the folder's state, see `export`."""
    with torch.device(device):
        torch.manual_seed(0)
        network = build()
        # Upstream adds the first block's colours to the neural rendering in place: with none, its image_raw stays right.
        network.superresolution.block0.torgb.requires_grad_(False)
        network.backbone.mapping.requires_grad_(False)
        optimiser = Muon.of_convolutions(network, schedule.lr, schedule.lr_others)
        average = averaged(network)
        parts = {'network': network, 'average': average, 'optimiser': optimiser}
        run = TrainingRun(outdir, {'network': 'eg3d', **asdict(schedule)}, schedule.steps, parts, defaults=asdict(Schedule()))
        if compiled:
            compile_if_possible()
        if run.step == 0:
            residual = fit_mapping(network.backbone.mapping, features, meaningful_directions()[:-2], schedule.mapping_steps)
            run.folder.log(f'Mapping fitted, residual variance {residual:.4f}.')
            centre_styles(network, network.backbone.mapping.w_avg)
            average.load_state_dict(network.state_dict())
        examination = Examination(schedule.examined)
        trained = [p for p in network.parameters() if p.requires_grad]
        first_rays, first_sharp = schedule.point_steps, schedule.point_steps + schedule.ray_steps
        first_pictures = first_sharp + schedule.sharpen_steps
        sums: dict[str, list[float]] = {}
        for step in run:
            if step < first_rays:
                losses, resolution = points_loss(network, schedule), 64
                factor = cosine(step, 3 * schedule.point_steps)
            elif step < first_sharp:
                losses, resolution = rays_loss(network, schedule), 128
                factor = 0.75 * cosine(step - first_rays, schedule.ray_steps, floor=0.12)
            elif step < first_pictures:
                losses, resolution = pictures_loss(network, schedule, sharpen=True), 256
                factor = cosine(step - first_sharp, schedule.sharpen_steps, floor=0.2)
            else:
                losses, resolution = pictures_loss(network, schedule), 256
                factor = 0.2 * cosine(step - first_pictures, schedule.picture_steps)
            losses['loss'].backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step(factor)
            follow(average, network, step)
            for name, value in losses.items():
                sums.setdefault(name, []).append(value.item())
            if (step + 1) % report_every == 0 or step + 1 in (first_rays, first_sharp, first_pictures, schedule.steps):
                figures, raw, fine = examination(average, resolution)
                run.stats(**{name: sum(values) / len(values) for name, values in sums.items()}, **figures)
                sums = {}
                save_sheet(run.folder / 'samples.png', [examination.truth[:10], raw[:10], fine[:10]])
        figures = examination(average, 256)[0]
        return run.finish(**figures)
