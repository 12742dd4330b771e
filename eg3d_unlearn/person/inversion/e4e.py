"""Inversion of StyleGAN2 by e4e's encoder (weights: ``e4e_ffhq_encode.pt``).

Source: Tov et al., e4e (SIGGRAPH 2021, arXiv 2102.02766).  The published file is a dict: ``state_dict`` (``encoder.*`` and the
generator that it was trained with, ``decoder.*``), ``latent_avg`` and the training's ``opts``.
"""
from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges import weights as weight_files
from eg3d_unlearn.judges.resample import resample
from eg3d_unlearn.person.inversion.networks.e4e import CHANNELS, INPUT_SIZE, E4EEncoder
from eg3d_unlearn.person.inversion.published import PublishedEncoder, mean_latent
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

ENCODER, DECODER = 'encoder.', 'decoder.'
# The same tensor under the two names: the first layer of the mapping network.
DECODER_MAPPING, GENERATOR_MAPPING = 'decoder.style.1.weight', 'mapping.fc0.weight'
SAME = 1e-3                          # relative difference below which two mapping networks are one; two trainings differ by 1.4
KIND = 'Encoder4Editing'             # opts.encoder_type; pSp's files have the same names and shapes, and another word here


class E4E(PublishedEncoder):
    """One latent for all layers and an offset for each, one pass."""
    name = 'e4e'
    takes = f'StyleGAN2 networks with latents of {CHANNELS} numbers (the published file: FFHQ, 1024 pixels)'

    def fits(self, generator: Generator) -> bool:
        return generator.family == 'stylegan2' and generator.w_dim == CHANNELS

    def architecture(self, generator: Generator) -> nn.Module:
        return E4EEncoder(generator.num_ws)

    def see(self, images: Tensor) -> Tensor:  # [N, 3, H, H] in [-1, 1] -> [N, 3, 256, 256]
        return resample(images, INPUT_SIZE)

    def read(self, source: Path, generator: Generator) -> tuple[dict[str, Tensor], Tensor | None, dict]:
        """The encoder's part of the file; the decoder only tells whether it is this generator."""
        content = weight_files.load_plain(source, 'a checkpoint of an e4e training')
        tensors = content.get('state_dict') if isinstance(content, dict) else None
        if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
            raise InputError(f'{source} holds {weight_files.describe(content)}; expected the checkpoint of an e4e training with the '
                             'entries state_dict, latent_avg and opts.')
        # Names that belong to neither part stay in, so that load_into names them.
        state = {str(name).removeprefix(ENCODER): value for name, value in tensors.items() if not str(name).startswith(DECODER)}
        options = content.get('opts')
        options = options if isinstance(options, dict) else {}
        kind = options.get('encoder_type')
        if isinstance(kind, str) and kind != KIND:
            raise InputError(f'{source} is a file for another encoder than e4e: its opts say encoder_type {shown(kind)}, expected {KIND}. '
                             'Use --inversion=w+, which needs no encoder.')
        check_size(state, source, generator)
        mean, notes = None, {}       # the generator's, if the file has none
        if content.get('latent_avg') is not None:
            mean = mean_latent(content['latent_avg'], f'latent_avg of {source}', generator)
            notes = {'mean_latent': 'latent_avg of the weights file'}
        elif options.get('start_from_latent_avg') is False:
            mean = torch.zeros(generator.num_ws, generator.w_dim)
            notes = {'mean_latent': 'none: the encoder was trained without (start_from_latent_avg is off)'}
        return state, mean, {**notes, **compare_decoder(tensors, generator)}


def check_size(state: dict[str, Tensor], source: Path, generator: Generator) -> None:
    """Raise InputError for the encoder of a generator of another size."""
    count = len({name.split('.')[1] for name in state if name.startswith('styles.')})
    if count and count != generator.num_ws:
        raise InputError(f'{source} makes {count} latents, for a StyleGAN2 of {2 ** (count // 2 + 1)} pixels; this network has '
                         f'{generator.num_ws} ({generator.img_resolution} pixels). Use the network that the encoder was trained '
                         'with, or --inversion=w+.')


def compare_decoder(tensors: dict[str, Tensor], generator: Generator) -> dict:
    """Notes on whether the file was trained with this generator: two trainings never share a latent space.

    Only the mapping network is compared: fine-tuning and unlearning leave it as it is.
    """
    theirs = tensors.get(DECODER_MAPPING)
    ours = generator.network.state_dict().get(GENERATOR_MAPPING)
    if theirs is None or ours is None:
        return {'trained_with_this_generator': None}
    theirs, ours = theirs.float(), ours.float().cpu()
    if theirs.shape == ours.shape and (theirs - ours).norm() < SAME * ours.norm():
        return {'trained_with_this_generator': True}
    return {'trained_with_this_generator': False,
            'warning': "the encoder was trained with another generator than this one (their mapping networks differ): its latents may "
                       'not show the photo here'}
