"""What an encoder learns from: the network's own people, whose latents are known, and photos, whose latents nobody knows."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.person.inversion.encoder import shrink_to
from eg3d_unlearn.person.photo.dataset import DataSet
from eg3d_unlearn.run_folder import write_whole
from torch_utils_ext.errors import InputError

MAX_YAW, MAX_PITCH = 0.5, 0.25       # of the cameras of 3D networks [radians]


class Samples:
    """The network's own people in chunks on disk, each made once; chunk i depends on i alone."""

    def __init__(self, generator: Generator, folder: Path, chunk: int, size: int):
        self.generator, self.folder, self.chunk = generator, folder, chunk
        self.size = min(generator.img_resolution, size)
        folder.mkdir(parents=True, exist_ok=True)
        self.chunks: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def latents(self, index: int) -> tuple[Tensor, Tensor | None]:
        """w [chunk, w_dim] and cameras [chunk, 25] of a chunk."""
        rng = torch.Generator().manual_seed(index)
        w = self.generator.sample(self.chunk, rng)[:, 0]
        if not self.generator.is_3d:
            return w, None
        angles = torch.rand(self.chunk, 2, generator=rng) * 2 - 1
        return w, torch.cat([self.generator.camera(yaw * MAX_YAW, pitch * MAX_PITCH) for yaw, pitch in angles.tolist()])

    @torch.no_grad()
    def pictures(self, w: Tensor, cameras: Tensor | None, size: int | None) -> Tensor:  # [N, 3, size, size]
        """What the network shows, a few at a time; ``size`` None = as it comes."""
        shown = []
        for start in range(0, len(w), 4):
            ws = w[start:start + 4, None].expand(-1, self.generator.num_ws, -1)
            image = self.generator.synthesize(ws, None if cameras is None else cameras[start:start + 4]).image.clamp(-1, 1)
            shown.append(image if size is None else shrink_to(image, size))
        return torch.cat(shown)

    def grow(self, count: int) -> None:
        """Have ``count`` chunks."""
        while len(self.chunks) < count:
            index = len(self.chunks)
            w, cameras = self.latents(index)
            path = self.folder / f'samples-{index:04d}.npy'
            if not path.exists():
                pixels = ((self.pictures(w, cameras, self.size) + 1) * 127.5).round().byte().cpu().numpy()
                write_whole(path, lambda file, pixels=pixels: np.save(file, pixels))
            self.chunks.append((w, torch.from_numpy(np.load(path)), cameras))

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """w [count, w_dim], pictures [count, 3, size, size], cameras [count, 25] from all chunks."""
        which = [divmod(place, self.chunk) for place in torch.randint(len(self.chunks) * self.chunk, (count,)).tolist()]
        w = torch.stack([self.chunks[index][0][within] for index, within in which])
        images = torch.stack([self.chunks[index][1][within] for index, within in which]).to(w.device).float() / 127.5 - 1
        return w, images, torch.stack([self.chunks[index][2][within] for index, within in which]) if self.generator.is_3d else None


class Photographs:
    """A data set of photos as NVIDIA's tools take it, cropped as the network's training pictures were; the last are held out.

    3D networks need the camera of each in its ``dataset.json``; `python -m eg3d_unlearn.person.photo` writes one.
    """

    def __init__(self, path: str | Path, generator: Generator, held_out: int):
        self.data, self.generator = DataSet(path), generator
        self.labels = self.data.labels() if generator.is_3d else None
        without = [name for name in self.data.names if name not in (self.labels or {})] if generator.is_3d else []
        if without:
            raise InputError(f'--data={path} has no camera for {len(without)} of its {len(self.data.names)} pictures, the first of them '
                             f'{without[0]}. A 3D network needs them in a dataset.json at the top; python -m eg3d_unlearn.person.photo writes '
                             'one.')
        if len(self.data.names) <= held_out:
            raise InputError(f'--data={path} holds {len(self.data.names)} pictures, of which {held_out} are held out to measure with. '
                             'Give more.')
        self.names, self.held_out = self.data.names[:-held_out], self.data.names[-held_out:]

    def read(self, names: list[str]) -> tuple[Tensor, Tensor | None]:
        """Pictures [N, 3, H, H] in [-1, 1] at the network's resolution, and cameras [N, 25]."""
        pictures = torch.stack([self.data.picture(name, self.generator.img_resolution) for name in names])
        cameras = torch.tensor([self.labels[name] for name in names], device=self.generator.device) if self.labels else None
        return pictures.to(self.generator.device).float() / 127.5 - 1, cameras

    def draw(self, count: int) -> tuple[Tensor, Tensor | None]:
        """``count`` of those that are not held out."""
        return self.read([self.names[i] for i in torch.randint(len(self.names), (count,)).tolist()])
