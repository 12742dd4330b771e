"""GOAE's encoder of EG3D FFHQ (weights: ``encoder_FFHQ.pt``), as GUIDE uses it, and the inversion by it.

One latent for all layers, and what each adds by attention to finer and finer tokens. Source: Yuan et al., GOAE (ICCV 2023, arXiv
2303.12326, section 3.1: W+ encoder); parameter names are the published ones.  The encoder runs in evaluation mode; GUIDE's
published code leaves dropout on, so that the same photo gives it another latent each time.  Offsets are added to the network's own
mean latent as in GOAE's code; ``mean=w_avg_ffhqrebalanced512-128.pt`` takes GUIDE's average instead.
"""
from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges import weights as weight_files
from eg3d_unlearn.person.inversion.published import PublishedEncoder
from eg3d_unlearn.person.inversion.swin_v2 import PATCH, SwinV2

RESOLUTION = 512                     # pixels of ffhqrebalanced512-128.pkl
INPUT_SIZE = 256                     # pixels
W_DIM = 512
LEVELS = {'coarse': 3, 'mid': 3, 'fine': 7}  # latents that each level refines; latent 0 stays the base
NUM_WS = 1 + sum(LEVELS.values())    # 14: EG3D's backbone of 256 pixels
ATTENTION_HEADS = 4


def mlp(*widths: int, last_activation: bool = False) -> nn.Sequential:  # [..., widths[0]] -> [..., widths[-1]]
    """Linear layers with leaky ReLUs between them."""
    layers: list[nn.Module] = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.01)]
    return nn.Sequential(*(layers if last_activation else layers[:-1]))


class CrossAttention(nn.Module):
    """Queries look at the tokens of one level, then pass two linear layers."""

    def __init__(self):
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(W_DIM, ATTENTION_HEADS, batch_first=True)
        self.linear1 = nn.Linear(W_DIM, 2 * W_DIM)
        self.linear2 = nn.Linear(2 * W_DIM, W_DIM)

    def forward(
        self,
        queries: Tensor,  # [N, latents, 512]
        tokens: Tensor,   # [N, T, 512], keys and values
    ) -> Tensor:          # [N, latents, 512]
        x = queries + self.multihead_attn(queries, tokens, tokens, need_weights=False)[0]
        x = F.layer_norm(x, (W_DIM,))
        return x + self.linear2(self.linear1(x).relu())


class GOAEEncoder(nn.Module):
    """[N, 3, 256, 256] in [-1, 1], EG3D-aligned -> two [N, 14, 512], to be added to the mean latent."""

    def __init__(
        self,
        image_size: int = INPUT_SIZE,                      # pixels
        channels: int = 128,                               # width of Swin's first stage
        depths: tuple[int, int, int, int] = (2, 2, 18, 2),
        heads: tuple[int, int, int, int] = (4, 8, 16, 32),
        window: int = 16,
        pretrained_windows: tuple[int, int, int, int] = (12, 12, 12, 6),
    ):
        super().__init__()
        self.swin_model = SwinV2(image_size, channels, depths, heads, window, pretrained_windows)
        tokens = [(image_size // PATCH >> i) ** 2 for i in range(4)]  # of each stage: 4096, 1024, 256, 64
        widths = [channels << i for i in range(4)]                    # 128, 256, 512, 1024
        self._add_reader('base', '', 1, tokens[3], widths[3])
        for level, latents in LEVELS.items():
            self._add_reader('query', f'_{level}', latents, tokens[3], widths[3])
        self.mapper_coarse_channel = mlp(widths[2], W_DIM, last_activation=True)
        self.mapper_mid_channel = mlp(widths[1], W_DIM, last_activation=True)
        self.mapper_fine_channel = mlp(widths[0], 2 * widths[0], W_DIM, last_activation=True)
        self.mapper_coarse_to_mid_spatial = mlp(tokens[2], 2 * tokens[2], tokens[1], last_activation=True)
        self.mapper_mid_to_fine_spatial = mlp(tokens[1], 2 * tokens[1], tokens[0], last_activation=True)
        for level in LEVELS:
            self.add_module(f'cross_att_{level}', CrossAttention())
        self.eval().requires_grad_(False)

    def _add_reader(self, kind: str, level: str, latents: int, tokens: int, width: int):
        """Two networks that make ``latents`` vectors of a stage: one along its tokens, one along its channels."""
        self.add_module(f'mapper_{kind}_spatial{level}', mlp(tokens, tokens, latents))
        self.add_module(f'mapper_{kind}_channel{level}', mlp(width, width, W_DIM))

    def _read(self, x: Tensor, kind: str, level: str = '') -> Tensor:  # [N, tokens, width] -> [N, latents, 512]
        """Weighted sums of the tokens plus their maximum, brought to the width of a latent."""
        sums = self.get_submodule(f'mapper_{kind}_spatial{level}')(x.mT).mT
        return self.get_submodule(f'mapper_{kind}_channel{level}')(sums + x.amax(dim=1, keepdim=True))

    def forward(
        self,
        images: Tensor,           # [N, 3, image_size, image_size] float32 in [-1, 1], RGB
    ) -> tuple[Tensor, Tensor]:   # ws and its base, [N, 14, 512] float32, offsets from the mean latent
        fine, mid, coarse, query, result = self.swin_model(images)
        base = self._read(result, 'base')  # [N, 1, 512]
        # Each level's tokens carry those of the coarser one.
        levels = {'coarse': self.mapper_coarse_channel(coarse)}
        levels['mid'] = self.mapper_mid_channel(mid) + self.mapper_coarse_to_mid_spatial(levels['coarse'].mT).mT
        levels['fine'] = self.mapper_fine_channel(fine) + self.mapper_mid_to_fine_spatial(levels['mid'].mT).mT
        refined = [self.get_submodule(f'cross_att_{level}')(self._read(query, 'query', f'_{level}'), tokens)
                   for level, tokens in levels.items()]
        offsets = torch.cat([torch.zeros_like(base), *refined], dim=1)
        return base + offsets, base.expand(-1, NUM_WS, -1)


class GOAE(PublishedEncoder):
    """Base latent and refinements by cross-attention, one pass."""
    name = 'goae'
    weights = weight_files.WeightFile(
        'encoder_FFHQ.pt', 'inversion encoder of EG3D FFHQ (GOAE)', 'no licence is stated for the weights', '--encoder',
        page='https://drive.google.com/drive/folders/1tl7zLPZgwOpa6xWmRsjz7LMrysfSbh_8')
    takes = f'the EG3D network of FFHQ ({RESOLUTION} pixels, {NUM_WS} latents of {W_DIM} numbers)'

    def fits(self, generator: Generator) -> bool:
        return (generator.family, generator.img_resolution, generator.num_ws, generator.w_dim) == ('eg3d', RESOLUTION, NUM_WS, W_DIM)

    def architecture(self, generator: Generator) -> nn.Module:
        return GOAEEncoder()

    def read(self, source: Path, generator: Generator) -> tuple[dict[str, Tensor], None, dict]:
        return weight_files.load_state(source), None, {}

    def see(self, images: Tensor) -> Tensor:  # [N, 3, H, H] in [-1, 1] -> [N, 3, 256, 256]
        # Pillow's default, which training and GUIDE shrink with, is bicubic and antialiased; it overshoots at edges.
        size = (INPUT_SIZE, INPUT_SIZE)
        return F.interpolate(images, size=size, mode='bicubic', align_corners=False, antialias=True).clamp(-1, 1)
