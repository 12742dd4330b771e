"""Pivotal tuning: the network itself is bent until a latent shows the photo.

Source: Pivotal Tuning for Latent-based editing (arXiv 2106.05744).  For attacks on an unlearned network, not for erasing.
"""
from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.perceptual import Perceptual
from eg3d_unlearn.person.inversion.optimise import Inversion, Optimisation, Recogniser, Started, Wanted, reconstruction


class PivotalTuning:
    """A latent in W by optimisation, the pivot; then Adam on the trainable weights while the pivot stays."""

    def __init__(
        self,
        pivot: Optimisation | Started,  # finds the pivot
        steps: int = 100,            # tuning steps
        lr: float = 3e-4,            # of the weights
    ):
        self.pivot, self.steps, self.lr = pivot, steps, lr
        self.loss = pivot.optimisation if isinstance(pivot, Started) else pivot  # tuning has the pivot's loss

    def __call__(
        self,
        generator: Generator,
        images: Tensor,              # [N, 3, H, W] in [-1, 1]; one network is tuned to all of them
        camera: Tensor | None,       # [1 or N, 25]
        perceptual: Perceptual,
        progress: Callable[[int, dict], None] = lambda step, figures: None,
        recogniser: Recogniser | None = None,  # for the identity term
    ) -> Inversion:
        """The pivot and a tuned copy of the network; ``generator`` itself stays as it is."""
        found = self.pivot(generator, images, camera, perceptual, progress, recogniser)
        camera = found.camera if found.camera is not None else camera
        learns = [name for name, p in generator.network.named_parameters() if p.requires_grad]
        parameters = generator.freeze_except([generator.trainable])
        tuned = generator.twin()
        # The twin has copies of what was trainable; the original goes back to how it was.
        for name, parameter in generator.network.named_parameters():
            parameter.requires_grad_(name in learns)
        wanted = Wanted(images, perceptual, recogniser if self.loss.lambda_id else None)
        optimiser = torch.optim.Adam([dict(tuned.network.named_parameters())[name] for name in parameters], lr=self.lr)
        for step in range(self.steps):
            loss = self.loss.distance(tuned.synthesize(found.ws, camera).image, wanted)
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimiser.step()
            progress(found.steps + step + 1, {'lpips': wanted.lpips.mean().item(), 'l2': wanted.l2.mean().item()})
        tuned.network.requires_grad_(False)
        return Inversion(found.ws, *reconstruction(tuned, found.ws, images, camera, perceptual), camera=found.camera,
                         generator=tuned, steps=found.steps + self.steps)
