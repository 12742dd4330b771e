"""e4e's encoder of StyleGAN2 (weights: ``e4e_ffhq_encode.pt``), and the inversion by it.

A latent for all layers and a small offset for each, read from three maps of the picture. Sources: Tov et al., e4e (SIGGRAPH 2021,
arXiv 2102.02766, section 4); Richardson et al., pSp (CVPR 2021, arXiv 2008.00951, section 3.1 and figure 2), whose network it is; Lin
et al., feature pyramid networks (CVPR 2017, arXiv 1612.03144), here with bilinear enlargement.

The published file is a dict: ``state_dict`` (``encoder.*``, whose names the parameters have, and the generator that it was trained
with, ``decoder.*``), ``latent_avg`` and the training's ``opts``.
"""
from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.networks.layers import FullyConnectedLayer
from eg3d_unlearn.judges import weights as weight_files
from eg3d_unlearn.judges.identity.arcface import IRSE50_BLOCKS
from eg3d_unlearn.judges.identity.iresnet import STAGE_WIDTHS, residual_body, stem
from eg3d_unlearn.judges.resample import resample
from eg3d_unlearn.person.inversion.published import PublishedEncoder, mean_latent
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

ENCODER, DECODER = 'encoder.', 'decoder.'
# The same tensor under the two names: the first layer of the mapping network.
DECODER_MAPPING, GENERATOR_MAPPING = 'decoder.style.1.weight', 'mapping.fc0.weight'
SAME = 1e-3                          # relative difference below which two mapping networks are one; two trainings differ by 1.4
KIND = 'Encoder4Editing'             # opts.encoder_type; pSp's files have the same names and shapes, and another word here
INPUT_SIZE = 256                     # pixels
CHANNELS = STAGE_WIDTHS[-1]          # of every map, and of a latent
COARSE, MIDDLE = 3, 4                # latents read from the coarse and from the middle map; the rest from the fine one


class StyleBlock(nn.Module):
    """Reads one latent from a map: strided convolutions until one pixel is left, then a linear layer with equalised learning rate."""

    def __init__(self, size: int):   # pixels a side of the map, a power of two
        super().__init__()
        halvings = size.bit_length() - 1
        self.convs = nn.Sequential(*(layer for _ in range(halvings) for layer in (
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1), nn.LeakyReLU(0.01))))
        self.linear = FullyConnectedLayer(CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:  # [N, 512, size, size] -> [N, 512]
        return self.linear(self.convs(x).flatten(1))


class E4EEncoder(nn.Module):
    """[N, 3, 256, 256] in [-1, 1], FFHQ-aligned -> [N, num_ws, 512], to be added to the mean latent."""

    def __init__(
        self,
        num_ws: int = 18,                                   # latents of the generator: 18 at 1024 pixels, 16 at 512
        image_size: int = INPUT_SIZE,                       # pixels, a power of two
        blocks: tuple[int, int, int, int] = IRSE50_BLOCKS,  # residual units in each stage of the trunk
    ):
        super().__init__()
        self.blocks = blocks
        self.input_layer = stem()
        self.body = residual_body(blocks, squeeze_excite=True)
        fine = max(num_ws - COARSE - MIDDLE, 0)
        sizes = [image_size // 16] * COARSE + [image_size // 8] * MIDDLE + [image_size // 4] * fine
        self.styles = nn.ModuleList(StyleBlock(size) for size in sizes[:num_ws])
        # Projections of the second and third stage; last, as in the published files.
        self.latlayer1 = nn.Conv2d(STAGE_WIDTHS[2], CHANNELS, 1)
        self.latlayer2 = nn.Conv2d(STAGE_WIDTHS[1], CHANNELS, 1)
        self.eval().requires_grad_(False)

    def maps(
        self,
        images: Tensor,                  # [N, 3, S, S] float32 in [-1, 1], RGB
    ) -> tuple[Tensor, Tensor, Tensor]:  # [N, 512, S/16, S/16], [N, 512, S/8, S/8], [N, 512, S/4, S/4]
        """Coarse, middle and fine map: the last three stages, each finer one with the coarser map added."""
        x, stages, first = self.input_layer(images), [], 0
        for count in self.blocks:
            x = self.body[first:first + count](x)
            stages.append(x)
            first += count
        _, second, third, coarse = stages
        middle = enlarge(coarse, third) + self.latlayer1(third)
        fine = enlarge(middle, second) + self.latlayer2(second)
        return coarse, middle, fine

    def forward(
        self,
        images: Tensor,  # [N, 3, image_size, image_size] float32 in [-1, 1], RGB
    ) -> Tensor:         # [N, num_ws, 512] float32, offset from the mean latent
        coarse, middle, fine = self.maps(images)
        seen = [coarse] * COARSE + [middle] * MIDDLE + [fine] * max(len(self.styles) - COARSE - MIDDLE, 0)
        read = torch.stack([style(x) for style, x in zip(self.styles, seen, strict=False)], dim=1)
        # Section 4.2: E(x) = (w, w + Δ_1, ..., w + Δ_(N-1)); training switched the Δ on one by one, all are on now.
        w, deltas = read[:, :1], read[:, 1:]
        return torch.cat([w, w + deltas], dim=1)


def enlarge(
    x: Tensor,     # [N, C, h, w]
    like: Tensor,  # [N, C', H, W]
) -> Tensor:       # [N, C, H, W]
    """Bilinear, the corner pixels kept in place."""
    return F.interpolate(x, size=like.shape[2:], mode='bilinear', align_corners=True)


class E4E(PublishedEncoder):
    """One latent for all layers and an offset for each, one pass."""
    name = 'e4e'
    weights = weight_files.WeightFile(
        'e4e_ffhq_encode.pt', 'inversion encoder of StyleGAN2 FFHQ-1024 (e4e)', 'encoder4editing: MIT', '--encoder',
        page='https://drive.google.com/file/d/1cUv_reLE6k3604or78EranS7XzuVMWeO/view', size=1_201_649_680,
        sha256='2ace1d9a8c05c10a399bcd500b8dda118f759ff1aac89dbdab7435f2136a0999')
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
