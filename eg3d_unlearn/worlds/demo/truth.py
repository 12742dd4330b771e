"""Pictures of people of the demo world as its renderer shows them: what generated pictures are held against."""
from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.evaluation.rendering import to_bytes
from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.worlds.demo import scene
from eg3d_unlearn.worlds.demo.people import Z_DIM, People, attributes_of
from eg3d_unlearn.worlds.demo.photos import WORTH_COMPILING, compile_if_possible, look
from torch_utils_ext.download import default_cache, make_folder

CHUNK = 20                           # rendered pictures of one file
SEED = 7_000_000_000                 # of the rendered people; no other draw of the package begins there


class Truth:
    """Each picture is rendered once and kept on disk."""

    def __init__(self, family: str, resolution: int, batches: Callable):
        self.family, self.resolution, self.batches = family, resolution, batches
        self.folder = default_cache() / f'demo-truth-{family}-{resolution}px-{look()}'
        self.chunks: dict[int, Tensor] = {}

    def pictures(self, rows: range, count: int) -> Tensor:  # [len(rows), 3, H, H] uint8
        """Those of ``rows``; on first use all ``count`` that will be asked for."""
        if not self.chunks:
            self._have(-(-count // CHUNK))
        return torch.stack([self.chunks[row // CHUNK][row % CHUNK] for row in rows])

    def _have(self, chunks: int) -> None:
        make_folder(self.folder)
        missing = [index for index in range(chunks) if not self._path(index).exists()]
        if len(missing) * CHUNK >= WORTH_COMPILING:
            compile_if_possible()
        for rows in self.batches(len(missing) * CHUNK, CHUNK, 'rendering real pictures'):
            index = missing[rows.start // CHUNK]
            rendered = self._render(index).numpy()
            write_whole(self._path(index), lambda file, rendered=rendered: np.save(file, rendered))
        self.chunks = {index: torch.from_numpy(np.load(self._path(index))) for index in range(chunks)}

    def _path(self, index: int) -> Path:
        return self.folder / f'pictures-{index:05d}.npy'

    def _render(self, index: int) -> Tensor:
        z = torch.randn(CHUNK, Z_DIM, generator=torch.Generator().manual_seed(SEED + index))
        if self.family == 'eg3d':
            cameras = scene.cameras_at_random(CHUNK, SEED + 1_000_000 + index)
            images = scene.render(People(attributes_of(z)), cameras, self.resolution).image
        else:
            from eg3d_unlearn.worlds.demo.train_stylegan2 import truth
            images = truth(z, self.resolution)
        return to_bytes(images)
