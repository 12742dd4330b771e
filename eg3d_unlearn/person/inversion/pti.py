"""Pivotal tuning: the network itself is bent until a latent shows the photo.

Source: Pivotal Tuning for Latent-based editing (arXiv 2106.05744).  For attacks on an unlearned network, not for erasing.
"""
from __future__ import annotations

import torch
from torch import Tensor

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.perceptual import Perceptual
from eg3d_unlearn.person.inversion.inverter import Inversion, Progress, reconstruction
from eg3d_unlearn.person.inversion.optimise import Optimisation, Wanted


class PivotalTuning:
    """A latent in W by optimisation, the pivot; then Adam on the trainable weights while the pivot stays."""

    def __init__(
        self,
        pivot: Optimisation,         # finds the pivot
        steps: int = 100,            # tuning steps
        lr: float = 3e-4,            # of the weights
    ):
        self.pivot, self.steps, self.lr = pivot, steps, lr

    def __call__(
        self,
        generator: Generator,
        images: Tensor,              # [N, 3, H, W] in [-1, 1]; one network is tuned to all of them
        camera: Tensor | None,       # [1 or N, 25]
        perceptual: Perceptual,
        progress: Progress = lambda step, figures: None,
    ) -> Inversion:
        """The pivot and a tuned copy of the network; ``generator`` itself stays as it is."""
        found = self.pivot(generator, images, camera, perceptual, progress)
        learns = [name for name, p in generator.network.named_parameters() if p.requires_grad]
        parameters = generator.freeze_except([generator.trainable])
        tuned = generator.twin()
        # The twin has copies of what was trainable; the original goes back to how it was.
        for name, parameter in generator.network.named_parameters():
            parameter.requires_grad_(name in learns)
        wanted = Wanted(images, perceptual, tuned.resolution())
        optimiser = torch.optim.Adam([dict(tuned.network.named_parameters())[name] for name in parameters], lr=self.lr)
        for step in range(self.steps):
            loss = wanted.distance(tuned.synthesize(found.ws, camera).image)
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimiser.step()
            progress(self.pivot.steps + step + 1, wanted.figures())
        tuned.network.requires_grad_(False)
        return Inversion(found.ws, *reconstruction(tuned, found.ws, images, camera, perceptual), generator=tuned)
