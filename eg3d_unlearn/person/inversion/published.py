"""Encoders that their authors trained and published: one look at a picture gives an offset from the mean latent.

Each is bound to the one generator that it was trained with.  Which mean latent its offsets were added to decides the face
as much as the encoder does, so it is recorded, as is the checksum of the file.
"""
from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges import weights as weight_files
from eg3d_unlearn.person.inversion.inverter import Encoder
from eg3d_unlearn.person.latents import latents_of, load_array
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import is_file, shown

BATCH = 4                            # pictures that go through at once: these networks are large


class PublishedEncoder(Encoder):
    """The inverter around a published network; subclasses know one network and its file each."""
    name = ''                        # of the inversion
    weights: weight_files.WeightFile  # the published file
    takes = ''                       # the generators that it was trained for, for the error

    def __init__(
        self,
        weights: str | Path | None = None,  # the published file; None = the one in the cache folder
        mean: str | Path | None = None,     # file with another mean latent, W or W+; None = the weights file's, else the generator's
    ):
        self.source = weight_files.find(self.weights, weights)
        self.mean = None if mean is None else Path(os.path.expanduser(mean))
        if self.mean is not None and not is_file(self.mean):
            raise InputError(f'--encoder-mean={shown(mean, 300)} is not a file; expected an .npy, .npz or .pt file with a mean latent.')

    def fits(self, generator: Generator) -> bool:
        """Whether the encoder can have been trained for such a generator."""
        raise NotImplementedError

    def architecture(self, generator: Generator) -> nn.Module:
        """The network, its weights as the constructor makes them."""
        raise NotImplementedError

    def read(self, source: Path, generator: Generator) -> tuple[dict[str, Tensor], Tensor | None, dict]:
        """State dict, mean latent (None = the generator's) and notes from the published file."""
        raise NotImplementedError

    def see(self, images: Tensor) -> Tensor:  # [N, 3, H, H] in [-1, 1] -> [N, 3, 256, 256]
        """The pictures, shrunk as for the encoder's training."""
        raise NotImplementedError

    def check(self, generator: Generator):
        """Raise InputError unless the generator is of the kind that the encoder was trained for."""
        if not self.fits(generator):
            raise InputError(
                f'--inversion={self.name} is for {self.takes}; this network is {generator.family} with {generator.img_resolution} '
                f'pixels and {generator.num_ws} latents of {generator.w_dim} numbers. Use --inversion=w+, which takes any network.')

    def load(self, generator: Generator) -> tuple[nn.Module, Tensor, dict]:
        """The encoder on the generator's device, the mean latent [num_ws, w_dim] that its offsets belong to, and notes.

        Raises:
            InputError: a generator of another kind, a file of another kind, a missing or an unexpected entry.
        """
        self.check(generator)
        given = None if self.mean is None else mean_latent(load_array(self.mean), shown(self.mean, 300), generator)
        state, mean, notes = self.read(self.source, generator)
        with torch.device('meta'):   # initial values would cost time and be overwritten
            network = self.architecture(generator)
        network = network.to_empty(device='cpu')
        weight_files.load_into(network, state, self.source)
        sha256 = sha256_of(self.source)
        notes = {'weights': self.source.name, 'sha256': sha256, 'published': self.weights.is_published(sha256), **notes}
        if given is not None:
            mean, notes['mean_latent'] = given, f'{self.mean.name} (--encoder-mean)'
        elif mean is None:
            mean, notes['mean_latent'] = generator.w_avg, f"the generator's: {generator.w_avg_source}"
        return network.eval().requires_grad_(False).to(generator.device), mean.to(generator.device), notes

    @torch.no_grad()
    def encode(self, generator: Generator, images: Tensor, camera: Tensor | None = None) -> tuple[Tensor, dict]:
        """Pictures aligned as the encoder's training pictures were; these encoders do not look at the camera."""
        network, mean, notes = self.load(generator)
        found = [network(self.see(part)) for part in images.to(generator.device, torch.float32).split(BATCH)]
        ws = torch.cat([out[0] if isinstance(out, tuple) else out for out in found]) + mean
        if not ws.isfinite().all():
            raise InputError(f'--inversion={self.name} gave NaN or infinite latents. Are the weights in {self.source} damaged?')
        return ws, notes


def mean_latent(
    value: object,         # of a file
    source: str,           # where it came from, for the error
    generator: Generator,
) -> Tensor:               # [num_ws, w_dim] float32
    """A mean latent in W or W+ for every layer of the generator."""
    found = latents_of(value, f'The mean latent in {source}', generator)
    if len(found) > 1:
        raise InputError(f'The mean latent in {source} holds {len(found)} latents, expected one.')
    return found[0]
