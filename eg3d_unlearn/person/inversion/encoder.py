"""An encoder of our own for any network: a few looks at a picture give its latent.

Nobody publishes encoders for cats, cars and private networks.  This one learns from the network's own samples, whose latents
are known (`python -m eg3d_unlearn.bench.train_encoder`).
"""
from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.precision import arithmetic
from eg3d_unlearn.judges.weights import build_checked, load_state
from eg3d_unlearn.person.inversion.inverter import Encoder, shrink
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import parse_json, shown

ROUNDS, STRIDE = 6, 0.5               # of `closest`
BATCH = 16                           # pictures at once
META = 'options'                     # key of the file's description, json as bytes
LIMITS = {                           # of the options in it
    'size': (16, 1024), 'w_dim': (1, 1 << 16), 'camera_dim': (0, 25), 'width': (8, 1 << 12), 'hidden': (1, 1 << 16), 'num_ws': (1, 1 << 10),
}


class EncoderNetwork(nn.Module):
    """Strided residual blocks down to 4 x 4, then two full layers; the camera of 3D networks joins before them."""

    def __init__(
        self,
        size: int,                   # pixels a side of the pictures it sees, a power of two from 16
        w_dim: int,
        camera_dim: int,             # 25 for 3D networks, 0 for 2D
        width: int = 32,             # channels of the first block; later ones have up to 8 times as many
        hidden: int = 256,
        num_ws: int = 1,             # 1: one vector for all layers, else how each layer's departs from it
    ):
        super().__init__()
        self.options = {'size': size, 'w_dim': w_dim, 'camera_dim': camera_dim, 'width': width, 'hidden': hidden, 'num_ws': num_ws}
        blocks, channels = [nn.Conv2d(3, width, 3, padding=1)], width
        for level in range((size // 4).bit_length() - 1):
            wider = min(width * 2 ** ((level + 2) // 2), 8 * width)
            blocks.append(Down(channels, wider))
            channels = wider
        self.trunk = nn.Sequential(*blocks)
        self.camera = nn.Linear(camera_dim, 64) if camera_dim else None
        self.head = nn.Sequential(nn.Linear(channels * 16 + (64 if camera_dim else 0), hidden), nn.SiLU(), nn.Linear(hidden, w_dim))
        self.layers = nn.Linear(hidden, num_ws * w_dim) if num_ws > 1 else None
        if self.layers is not None:  # in the beginning they do not depart
            nn.init.zeros_(self.layers.weight)
            nn.init.zeros_(self.layers.bias)
        self.register_buffer('w_avg', torch.zeros(w_dim))
        self.register_buffer('spread', torch.ones([]))

    def forward(
        self,
        images: Tensor,              # [N, 3, H, H] in [-1, 1], H at least ``size``
        camera: Tensor | None,       # [N, 25]; None for 2D networks
    ) -> Tensor:                     # [N, num_ws, w_dim]
        x = self.trunk(shrink_to(images, self.options['size'])).flatten(1)
        if self.camera is not None:
            x = torch.cat([x, F.silu(self.camera(camera))], dim=1)
        x = self.head[:-1](x)
        found = self.head[-1](x)[:, None]
        if self.layers is not None:
            found = found + self.layers(x).unflatten(1, (self.options['num_ws'], -1))
        return self.w_avg + self.spread * found


class Down(nn.Module):
    """A residual block that halves the picture."""

    def __init__(self, before: int, width: int):
        super().__init__()
        groups = 8
        self.norm1, self.norm2 = nn.GroupNorm(groups, before), nn.GroupNorm(groups, width)
        self.conv1, self.conv2 = nn.Conv2d(before, width, 3, stride=2, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(before, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [N, before, H, H] -> [N, width, H / 2, H / 2]
        return self.skip(F.avg_pool2d(x, 2)) + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


def shrink_to(images: Tensor, size: int) -> Tensor:   # [N, 3, H, H] -> [N, 3, size, size]
    return images if images.shape[-1] == size else F.interpolate(images, size=(size, size), mode='area')


def load_encoder(path: Path, generator: Generator) -> EncoderNetwork:
    """The encoder of a file that `bench.train_encoder` wrote, checked against the generator."""
    if not os.path.exists(path):
        raise InputError(f'The encoder {shown(path, 300)} is not there. Train one: python -m eg3d_unlearn.bench.train_encoder --network=PKL '
                         '--outdir=DIR, or choose --inversion=w+.')
    state = load_state(path)
    options = options_of(state.pop(META, None), path)
    if options['w_dim'] != generator.w_dim or (options['camera_dim'] > 0) != generator.is_3d or options['size'] > generator.img_resolution:
        kind = {True: '3D', False: '2D'}
        raise InputError(f'The encoder {shown(path, 300)} is for a {kind[options["camera_dim"] > 0]} network with w_dim {options["w_dim"]} and '
                         f'at least {options["size"]} px; this one is {kind[generator.is_3d]} with {generator.w_dim} and '
                         f'{generator.img_resolution} px. Train one for it: python -m eg3d_unlearn.bench.train_encoder.')
    if options['num_ws'] not in (1, generator.num_ws):
        raise InputError(f'The encoder {shown(path, 300)} finds latents of {options["num_ws"]} layers; this network has {generator.num_ws}. '
                         'Train one for it: python -m eg3d_unlearn.bench.train_encoder.')
    network = build_checked(lambda: EncoderNetwork(**options), state, path)
    return network.eval().requires_grad_(False).to(generator.device)


def options_of(
    described: Tensor | None,        # json as bytes
    path: Path,
) -> dict[str, int]:
    """What `EncoderNetwork` is made with, as the file says it.

    Raises:
        InputError: no encoder of ours, or options of another kind.
    """
    name = f'{shown(path, 300)} is no encoder of this package'
    if described is None:
        raise InputError(f'{name}: it has no "{META}". Give the encoder.pt of eg3d_unlearn.bench.train_encoder.')
    if described.dtype != torch.uint8 or described.ndim != 1:
        raise InputError(f'{name}: its "{META}" are no text.')
    options = parse_json(described.numpy().tobytes(), f'The text "{META}" in {shown(path, 300)}', dict)
    options.pop('network_sha256', None)
    options = {'num_ws': 1, **options}   # encoders of before there was a choice
    wrong = sorted(set(options) ^ set(LIMITS)) + [key for key, limit in LIMITS.items() if type(options.get(key)) is not int
                                                  or not limit[0] <= options[key] <= limit[1]]
    if wrong or options['size'] & (options['size'] - 1) or options['camera_dim'] not in (0, 25):
        raise InputError(f'{name}, or is damaged: its option {shown((wrong or ["size or camera_dim"])[0])} is missing, unknown or out of range.')
    return options


class OwnEncoder(Encoder):
    """The inverter around an `EncoderNetwork`."""

    def __init__(self, path: str | Path | None):
        if path is None:
            raise InputError('This inversion needs an encoder for the network. Train one: python -m eg3d_unlearn.bench.train_encoder '
                             '--network=PKL --outdir=DIR, and give --encoder=DIR/encoder.pt; or choose --inversion=w+.')
        self.path = Path(os.path.expanduser(path))

    def check(self, generator: Generator) -> None:
        load_encoder(self.path, generator)

    @torch.no_grad()
    def encode(self, generator: Generator, images: Tensor, camera: Tensor | None) -> tuple[Tensor, dict]:
        """By `closest`."""
        network = load_encoder(self.path, generator)
        labels = None if camera is None else camera.to(generator.device).expand(len(images), -1)
        # In single precision: of so few passes coarser products would save next to no time.
        with arithmetic('fp32', generator.device):
            found = [closest(network, generator, part, None if labels is None else labels[start:start + BATCH])
                     for start, part in zip(range(0, len(images), BATCH), images.split(BATCH), strict=True)]
        notes = {'weights': self.path.name, 'sha256': sha256_of(self.path)}
        return torch.cat(found).expand(-1, generator.num_ws, -1).contiguous(), notes


def closest(
    network: EncoderNetwork,
    generator: Generator,
    images: Tensor,                  # [N, 3, H, W] in [-1, 1]
    camera: Tensor | None,           # [N, 25]
) -> Tensor:                         # [N, num_ws or 1, w_dim]
    """What the encoder says of each picture, corrected by what it says of the generator's own: w + (E(x) - E(G(w))) / 2.

    Where the encoder is nearly the generator's inverse, the same bias is in both and goes out; where it is not, the way may
    lead astray.  So of all rounds the one whose picture is nearest counts, the first word among them.
    """
    said, wanted = network(images, camera), shrink(images)
    now = best = said
    least = torch.full([len(images)], torch.inf, device=said.device)
    for left in reversed(range(ROUNDS)):
        shown = generator.synthesize(now.expand(-1, generator.num_ws, -1), camera).image.clamp(-1, 1)
        error = (shrink(shown) - wanted).square().flatten(1).mean(1)
        best = torch.where((error < least)[:, None, None], now, best)
        least = torch.minimum(error, least)
        if left:
            now = now + STRIDE * (said - network(shown, camera))
    return best
