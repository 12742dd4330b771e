"""Inversion of StyleGAN2 by pSp's encoder (weights: ``psp_ffhq_encode.pt``).

Source: Richardson et al., pSp (CVPR 2021, arXiv 2008.00951).  The published file is a dict: ``state_dict`` (``encoder.*`` and
the generator that it was trained with, ``decoder.*``), ``latent_avg`` and the training's ``opts``.
"""
from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges import weights as weight_files
from eg3d_unlearn.judges.resample import resample
from eg3d_unlearn.person.inversion.networks.psp import INPUT_SIZE, PSPEncoder
from eg3d_unlearn.person.inversion.networks.pyramid import CHANNELS
from eg3d_unlearn.person.inversion.published import PublishedEncoder, mean_latent
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

ENCODER, DECODER = 'encoder.', 'decoder.'
# The same tensor under the two names: the first layer of the mapping network.
DECODER_MAPPING, GENERATOR_MAPPING = 'decoder.style.1.weight', 'mapping.fc0.weight'
SAME = 1e-3                          # relative difference below which two mapping networks are one; two trainings differ by 1.4
INVERSION_OF = {'GradualStyleEncoder': 'psp', 'Encoder4Editing': 'e4e'}  # opts.encoder_type


class PSP(PublishedEncoder):
    """Every latent of W+ read from the picture by its own small network, one pass."""
    name = 'psp'
    takes = f'StyleGAN2 networks with latents of {CHANNELS} numbers (the published file: FFHQ, 1024 pixels)'
    alignment = 'ffhq'
    network: type[nn.Module] = PSPEncoder

    def fits(self, generator: Generator) -> bool:
        return generator.family == 'stylegan2' and generator.w_dim == CHANNELS

    def architecture(self, generator: Generator) -> nn.Module:
        return self.network(generator.num_ws)

    def see(self, images: Tensor) -> Tensor:  # [N, 3, H, H] in [-1, 1] -> [N, 3, 256, 256]
        return resample(images, INPUT_SIZE)

    def read(self, source: Path, generator: Generator) -> tuple[dict[str, Tensor], Tensor | None, dict]:
        """The encoder's part of the file; the decoder only tells whether it is this generator."""
        content = weight_files.load_plain(source, 'a checkpoint of a pSp or e4e training')
        tensors = content.get('state_dict') if isinstance(content, dict) else None
        if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
            raise InputError(f'{source} holds {weight_files.describe(content)}; expected the checkpoint of a pSp or e4e training with the '
                             'entries state_dict, latent_avg and opts.')
        # Names that belong to neither part stay in, so that load_into names them.
        state = {str(name).removeprefix(ENCODER): value for name, value in tensors.items() if not str(name).startswith(DECODER)}
        options = content.get('opts')
        options = options if isinstance(options, dict) else {}
        self._check_kind(state, options, source, generator)
        mean, notes = self._mean(content, options, source, generator)
        return state, mean, {**notes, **compare_decoder(tensors, generator)}

    def _check_kind(self, state: dict[str, Tensor], options: dict, source: Path, generator: Generator):
        """Raise InputError for a file of another encoder or for a generator of another size."""
        kind = options.get('encoder_type')
        kind = kind if isinstance(kind, str) else None
        # pSp's and e4e's files have the same names and shapes: only the options tell them apart.
        if kind is not None and INVERSION_OF.get(kind) != self.name:
            other = INVERSION_OF.get(kind)
            cure = f'Use --inversion={other}.' if other else f'Expected one of {", ".join(INVERSION_OF)}.'
            raise InputError(f'{source} is a file for another encoder than --inversion={self.name}: its opts say '
                             f'encoder_type {shown(kind)}. {cure}')
        styles = {name.split('.')[1] for name in state if name.startswith('styles.')}
        if styles and len(styles) != generator.num_ws:
            raise InputError(f'{source} makes {len(styles)} latents, for a StyleGAN2 of {pixels(len(styles))} pixels; this network has '
                             f'{generator.num_ws} ({generator.img_resolution} pixels). Use the network that the encoder was trained '
                             'with, or --inversion=w+.')

    def _mean(self, content: dict, options: dict, source: Path, generator: Generator) -> tuple[Tensor | None, dict]:
        """The file's mean latent; zeros where the training added none; None = the generator's."""
        if content.get('latent_avg') is not None:
            return mean_latent(content['latent_avg'], f'latent_avg of {source}', generator), {'mean_latent': 'latent_avg of the weights file'}
        if options.get('start_from_latent_avg') is False:
            nothing = torch.zeros(generator.num_ws, generator.w_dim)
            return nothing, {'mean_latent': 'none: the encoder was trained without (start_from_latent_avg is off)'}
        return None, {}


def pixels(num_ws: int) -> int:
    """Resolution of a StyleGAN2 with so many latents."""
    return 2 ** (num_ws // 2 + 1)


def compare_decoder(tensors: dict[str, Tensor], generator: Generator) -> dict:
    """Notes on whether the file was trained with this generator: two trainings never share a latent space.

    Only the mapping network is compared: fine-tuning and unlearning leave it as it is.
    """
    theirs = tensors.get(DECODER_MAPPING)
    ours = generator.network.state_dict().get(GENERATOR_MAPPING)
    if theirs is None or ours is None:
        return {'trained_with_this_generator': None}
    theirs, ours = theirs.float(), ours.float().cpu()
    same = theirs.shape == ours.shape and bool((theirs - ours).norm() < SAME * ours.norm())
    if same:
        return {'trained_with_this_generator': True}
    return {'trained_with_this_generator': False,
            'warning': "the encoder was trained with another generator than this one (their mapping networks differ): its latents may "
                       'not show the photo here'}
