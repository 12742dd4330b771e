"""The world of real faces as the registry knows it."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from eg3d_unlearn.config import POLISHED
from eg3d_unlearn.worlds.faces import generator
from eg3d_unlearn.worlds.registry import Bars, World

# Losses look at the small picture, which costs a CPU a sixth of the whole one.
TRAINING = dict(loss_resolution='half', lr=5e-4, inversion='w+', inversion_lambda_id=0.5)
POLISH = dict(lr=1e-4)
# They find the astronaut of scikit-image in a minute of a core: a cosine of 0.78 to the photo by the recogniser that measures.
INVERSION_STEPS = 60


class Faces(World):
    """A generator of FFHQ's faces that was distilled from NVIDIA's, and recognisers of real faces."""
    name, title, mark, people = 'faces', 'the world of real faces', generator.MARK, 'random people'
    networks = {'faces': 'mobilestylegan'}
    bars = {'mobilestylegan': Bars(0.5, 0.35, 14.0)}

    def network_path(self, name: str) -> Path:
        return generator.network_path()

    def settings(self, family: str, method: str) -> dict[str, Any]:
        return {**TRAINING, **(POLISH if method == POLISHED else {})}

    def inversion_steps(self, family: str, start: str) -> int:
        return INVERSION_STEPS

    def perceptual(self) -> nn.Module:
        from eg3d_unlearn.worlds.faces import judges
        return judges.perceptual()

    def recognisers(self) -> dict[str, nn.Module]:
        from eg3d_unlearn.worlds.faces import judges
        return judges.recognisers()

    def features(self) -> nn.Module:
        from eg3d_unlearn.worlds.faces import judges
        return judges.features()


WORLD = Faces()
