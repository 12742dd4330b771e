"""Train `demo-stylegan2`: regression of pictures, with a pool of true pictures that grows while the network learns.

A 2D network has no camera, so two more directions of the latent say how the head is turned.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.generators.build import build_network
from eg3d_unlearn.generators.networks.stylegan2 import Generator
from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.worlds.demo import heads, scene
from eg3d_unlearn.worlds.demo.people import Z_DIM, People, attributes_of, meaningful_directions, normal, pose_of
from eg3d_unlearn.worlds.demo.photos import compile_if_possible
from eg3d_unlearn.worlds.demo.recipes import STYLEGAN2
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

RESOLUTION = 64
MAX_YAW, MAX_PITCH = 0.42, 0.13       # [radians]


@dataclass
class Schedule:
    steps: int = 5000
    batch: int = 16
    lr: float = 2e-2                  # of kernels
    lr_others: float = 5e-3
    chunk: int = 500                  # pictures rendered together
    first_chunks: int = 6
    reuse: float = 4.0                # how often a picture is seen, on average
    precision: str = 'bf16'
    mapping_steps: int = 2000
    examined: int = 64                # held-out people whose pictures the figures are about


def cameras_of(z: Tensor) -> Tensor:
    """Camera labels [N, 25] of the latents' poses."""
    return torch.cat([scene.camera_at(yaw * MAX_YAW, pitch * MAX_PITCH) for yaw, pitch in pose_of(z).tolist()])


def truth(z: Tensor, resolution: int = RESOLUTION) -> Tensor:
    """The pictures [N, 3, resolution, resolution] that the network is to make of ``z`` [N, Z_DIM]."""
    return scene.render(People(attributes_of(z)), cameras_of(z), resolution).image


def features(z: Tensor) -> Tensor:
    """What the embedding holds: parameters of the head, and harmonics of its turn, which moves everything."""
    parameters = [value.flatten(1) for value in heads.parameters(People(attributes_of(z))).values()]
    turn = pose_of(z) * math.pi / 2
    waves = [wave(k * turn) for k in (1, 2, 3) for wave in (torch.sin, torch.cos)]
    return torch.cat([*parameters, *waves], dim=1)


class Pool:
    """True pictures in chunks on disk, each rendered once; chunk i depends on i alone."""

    def __init__(self, folder: Path, chunk: int):
        self.folder, self.chunk = folder, chunk
        folder.mkdir(parents=True, exist_ok=True)
        self.pictures: list[Tensor] = []
        self._latents: dict[int, Tensor] = {}

    def latents(self, index: int) -> Tensor:
        return normal(torch.Generator().manual_seed(5_000_000 + index), self.chunk, Z_DIM)

    def grow(self, count: int) -> None:
        """Have ``count`` chunks."""
        while len(self.pictures) < count:
            index = len(self.pictures)
            path = self.folder / f'pictures-{index:04d}.npy'
            if not path.exists():
                images = truth(self.latents(index))
                pixels = ((images + 1) * 127.5).round().byte().cpu().numpy()
                write_whole(path, lambda file, pixels=pixels: np.save(file, pixels))
            self.pictures.append(torch.from_numpy(np.load(path)).to(torch.get_default_device()))

    def draw(self, count: int, newest: int) -> tuple[Tensor, Tensor]:
        """Latents [count, Z_DIM] and their pictures from the newest chunks."""
        first = max(0, len(self.pictures) - newest)
        z, images = [], []
        for place in torch.randint(first * self.chunk, len(self.pictures) * self.chunk, (count,)).tolist():
            index, within = divmod(place, self.chunk)
            z.append(self.cached_latents(index)[within])
            images.append(self.pictures[index][within])
        return torch.stack(z), torch.stack(images).float() / 127.5 - 1

    def cached_latents(self, index: int) -> Tensor:
        if index not in self._latents:
            self._latents[index] = self.latents(index)
        return self._latents[index]


def synthesize(network: Generator, z: Tensor, precision: str = 'fp32') -> Tensor:
    """Pictures [N, 3, 64, 64] of ``z``."""
    ws = network.mapping(z, None)
    with torch.autocast(ws.device.type, torch.bfloat16, enabled=precision == 'bf16'):
        return network.synthesis(ws)


def picture_loss(shown: Tensor, wanted: Tensor) -> Tensor:
    """Absolute and squared error, edges, and the same at a quarter of the size, where whole features must sit right."""
    error = shown - wanted
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    coarse = F.avg_pool2d(error, 4)
    return error.abs().mean() + 2 * error.square().mean() + 0.5 * edges + coarse.abs().mean()


def train(outdir: str, schedule: Schedule, report_every: int = 250, compiled: bool = True, device: str = 'cpu') -> dict:
    """Train or go on training; returns the report."""
    with torch.device(device):
        torch.manual_seed(0)
        network = build_network(STYLEGAN2['upstream_class'], STYLEGAN2['init_kwargs'])
        network.mapping.requires_grad_(False)
        optimiser = Muon.of_convolutions(network, schedule.lr, schedule.lr_others)
        average = averaged(network)
        parts = {'network': network, 'average': average, 'optimiser': optimiser}
        run = TrainingRun(outdir, {'network': 'stylegan2', **asdict(schedule)}, schedule.steps, parts, defaults=asdict(Schedule()))
        if compiled:
            compile_if_possible()
        if run.step == 0:
            residual = fit_mapping(network.mapping, features, meaningful_directions(), schedule.mapping_steps)
            run.folder.log(f'Mapping fitted, residual variance {residual:.4f}.')
            centre_styles(network, network.mapping.w_avg)
            average.load_state_dict(network.state_dict())
        z_seen = normal(torch.Generator().manual_seed(EXAMINED_SEED), schedule.examined, Z_DIM)
        wanted_seen = truth(z_seen)
        pool = Pool(run.folder.path / 'pictures', schedule.chunk)
        losses: list[float] = []
        for step in run:
            pool.grow(schedule.first_chunks + int((step + 1) * schedule.batch / schedule.reuse / schedule.chunk))
            z, wanted = pool.draw(schedule.batch, newest=200)
            loss = picture_loss(synthesize(network, z, schedule.precision), wanted)
            loss.backward()
            nn.utils.clip_grad_norm_(list(network.parameters()), 1.0)
            optimiser.step(cosine(step, schedule.steps))
            follow(average, network, step)
            losses.append(loss.item())
            if (step + 1) % report_every == 0 or step + 1 == schedule.steps:
                with torch.no_grad():
                    shown = torch.cat([synthesize(average, part) for part in z_seen.split(16)])
                run.stats(loss=sum(losses) / len(losses), psnr_64=psnr(shown, wanted_seen), pictures=len(pool.pictures) * schedule.chunk)
                losses = []
                save_sheet(run.folder / 'samples.png', [wanted_seen[:12], shown[:12]])
        return run.finish(psnr_64=psnr(torch.cat([synthesize(average, part) for part in z_seen.split(16)]).detach(), wanted_seen))
