"""The judges of the demo world: two face recognisers, a perceptual distance, features for Fréchet distances.

They stand where ArcFace, FaceNet, LPIPS and Inception stand for photos, and were trained on rendered people
(`train_judges`): each on people of its own, and no two of the four share an architecture.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.judges.identity import Recogniser
from eg3d_unlearn.judges.resample import FULL, Box, resample
from eg3d_unlearn.judges.weights import build_checked, load_plain
from eg3d_unlearn.run_folder import write_whole
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import did_you_mean, is_file, shown

SIZE = 64                             # pixels along each side of what recognisers and the feature network see
FOLDER = Path(__file__).parent / 'networks'
COMMANDS = {                          # judge -> what `python -m eg3d_unlearn.worlds.demo.train` calls its training
    'demo-loss': 'loss-recogniser', 'demo-measuring': 'measuring-recogniser',
    'demo-perceptual': 'perceptual', 'demo-features': 'features',
}
NAMES = tuple(COMMANDS)
SOFT_NORM = 0.1                       # features of this norm are scaled to a norm of 0.7 instead of 1


class LossRecogniser(nn.Module):
    """Strided and grouped convolutions with PReLU; each place of the last map has weights of its own in the embedding."""

    def __init__(self, channels: tuple[int, ...] = (32, 48, 96, 128), groups: int = 4, embedding: int = 64):
        super().__init__()
        self.options = {'channels': list(channels), 'groups': groups, 'embedding': embedding}
        layers, before = [], 3
        for width in channels:
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width),
                       nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)]
            before = width
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(before * (SIZE >> len(channels)) ** 2, embedding, bias=False)
        self.norm = nn.BatchNorm1d(embedding)

    def forward(
        self,
        faces: Tensor,  # [N, 3, 64, 64] in -1 to 1
    ) -> Tensor:        # [N, embedding], not yet of unit norm
        return self.norm(self.head(self.trunk(faces).flatten(1)))


class MeasuringRecogniser(nn.Module):
    """Residual blocks with SiLU and average pooling; each channel of the last map is weighed over the picture, then mixed."""

    def __init__(self, channels: tuple[int, ...] = (32, 64, 96, 112), embedding: int = 96):
        super().__init__()
        self.options = {'channels': list(channels), 'embedding': embedding}
        self.stem = nn.Sequential(nn.Conv2d(3, channels[0], 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(channels[0]), nn.SiLU())
        self.blocks = nn.ModuleList(_Residual(before, width) for before, width in zip(channels[:1] + channels[:-1], channels, strict=True))
        side = SIZE >> len(channels)
        self.weigh = nn.Conv2d(channels[-1], channels[-1], side, groups=channels[-1])
        self.head = nn.Linear(channels[-1], embedding)

    def forward(
        self,
        faces: Tensor,  # [N, 3, 64, 64] in -1 to 1
    ) -> Tensor:        # [N, embedding], not yet of unit norm
        x = self.stem(faces)
        for index, block in enumerate(self.blocks):
            x = block(F.avg_pool2d(x, 2) if index else x)
        return self.head(self.weigh(x).flatten(1))


class _Residual(nn.Module):
    """Two convolutions of 3x3 beside one of 1x1."""

    def __init__(self, before: int, width: int):
        super().__init__()
        self.side = nn.Conv2d(before, width, 1, bias=False)
        self.main = nn.Sequential(
            nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(
        self,
        x: Tensor,      # [N, before, H, W]
    ) -> Tensor:        # [N, width, H, W]
        return F.silu(self.side(x) + self.main(x))


class PerceptualNetwork(nn.Module):
    """VGG-like: pairs of 3x3 convolutions between max-poolings, tapped before each pooling; any size of picture.

    Negative values pass at a tenth, so that features vanish nowhere.
    """

    def __init__(self, channels: tuple[int, ...] = (32, 32, 64, 96, 128)):
        super().__init__()
        self.options = {'channels': list(channels)}
        stages, before = [], 3
        for width in channels:
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if stages else []
            for _ in range(2):
                layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.1)]
                before = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        # Weights of the stages in the distance [stages], > 0: set at the end of training.
        self.register_buffer('heads', torch.ones(len(channels)))

    def forward(
        self,
        images: Tensor,   # [N, 3, H, W] in -1 to 1
    ) -> list[Tensor]:    # per stage [N, C, H / 2**stage, W / 2**stage]
        tapped = []
        for stage in self.stages:
            images = stage(images)
            tapped.append(images)
        return tapped


class DemoLpips(nn.Module):
    """A perceptual distance with the interface of `perceptual.Lpips`.  Pictures of two people are about 0.5 apart.

    Attributes:
        net: 'demo'.
        resolution: pixels to which pictures are brought first; None = as they come.
        source: the file of the weights; None for an untrained network.
    """

    def __init__(self, network: PerceptualNetwork, resolution: int | None = None, source: Path | None = None):
        super().__init__()
        self.net, self.resolution, self.source = 'demo', resolution, source
        self.network = network
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def features(
        self,
        images: Tensor,  # [N, 3, H, W] float in -1 to 1
    ) -> list[Tensor]:   # per stage [N, C, H', W'] float32, norm over C nearly 1
        """What a constant side of a comparison needs to compute only once (under ``torch.no_grad()``)."""
        images = resample(images, self.resolution) if self.resolution else images.float()
        return [soft_unit(feature.float()) for feature in self.network(images)]

    def compare(
        self,
        a: list[Tensor],  # features of N pictures
        b: list[Tensor],  # features of N pictures
    ) -> Tensor:          # [N] float32, >= 0
        """Sum over stages of the weighted squared difference, averaged over pixels."""
        per_stage = [(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]
        return torch.stack(per_stage, dim=1) @ self.network.heads

    def forward(
        self,
        a: Tensor,  # [N, 3, H, W] float in -1 to 1
        b: Tensor,  # [N, 3, H, W] the same
    ) -> Tensor:    # [N] float32, >= 0; 0 for equal pictures
        """Distances of pairs of pictures.  A side that needs no gradient is computed without one."""
        return self.compare(self._side(a), self._side(b))

    def _side(self, images: Tensor) -> list[Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
            return self.features(images)


def soft_unit(
    x: Tensor,          # [N, C, H, W]
) -> Tensor:            # [N, C, H, W], norm over C below 1
    """Features divided by their norm over the channels; smooth where they vanish, with a gradient of at most 1 / SOFT_NORM."""
    return x * (x.square().sum(1, keepdim=True) + SOFT_NORM**2).rsqrt()


class FeatureNetwork(nn.Module):
    """MLP-Mixer: patches, then layers in turn over the places of a channel and over the channels of a place; a mean over places.

    Attributes:
        source: the file of the weights; None for an untrained network.
    """

    def __init__(self, width: int = 112, blocks: int = 3, bottleneck: int = 64):
        super().__init__()
        self.options = {'width': width, 'blocks': blocks, 'bottleneck': bottleneck}
        self.source: Path | None = None
        self.patches = nn.Sequential(nn.Conv2d(3, 48, 4, stride=4), nn.GELU(), nn.Conv2d(48, width, 2, stride=2))
        self.blocks = nn.Sequential(*(_Mixing((SIZE // 8) ** 2, width) for _ in range(blocks)))
        self.pooled_norm = nn.LayerNorm(width)
        self.bottleneck = nn.Linear(width, bottleneck)
        # Unit variance in each feature: the Fréchet distance then weighs all of them alike.
        self.standard = nn.BatchNorm1d(bottleneck, affine=False)

    def forward(
        self,
        images: Tensor,  # [N, 3, 64, 64] in -1 to 1
    ) -> Tensor:         # [N, bottleneck]
        places = self.blocks(self.patches(images).flatten(2).transpose(1, 2))
        return self.standard(self.bottleneck(self.pooled_norm(places.mean(1))))

    def features(
        self,
        images: Tensor,  # [N, 3, H, W] float in -1 to 1, any size
    ) -> Tensor:         # [N, bottleneck] float32, over photos of mean 0 and variance 1
        return self(resample(images, SIZE)).float()


class _Mixing(nn.Module):
    """A small network over the places, another over the channels, both beside the identity."""

    def __init__(self, places: int, width: int):
        super().__init__()
        self.over_places = nn.Sequential(nn.Linear(places, 2 * places), nn.GELU(), nn.Linear(2 * places, places))
        self.over_channels = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        x: Tensor,      # [N, places, width]
    ) -> Tensor:        # [N, places, width]
        x = x + self.over_places(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(x)


NETWORKS = {
    'demo-loss': LossRecogniser, 'demo-measuring': MeasuringRecogniser,
    'demo-perceptual': PerceptualNetwork, 'demo-features': FeatureNetwork,
}


def whole_picture(alignment: str) -> Box:
    """The face's box: demo pictures are all face."""
    return FULL


def as_judge(
    name: str,                        # of the `NAMES`
    network: nn.Module,               # of the class that belongs to it
    source: Path | None = None,       # file of the weights; None = untrained
) -> Recogniser | DemoLpips | FeatureNetwork:
    """The network, frozen, behind the interface that the rest of the package uses."""
    network = network.float().eval().requires_grad_(False)
    if name in ('demo-loss', 'demo-measuring'):
        return Recogniser(name, network, SIZE, whole_picture, source)
    if name == 'demo-perceptual':
        return DemoLpips(network, source=source)
    network.source = source
    return network


def load_judge(
    name: str,                        # 'demo-loss' | 'demo-measuring' | 'demo-perceptual' | 'demo-features'
    path: str | Path | None = None,   # file of the weights; None = the one that comes with the package
    device: torch.device | str = 'cpu',
) -> Recogniser | DemoLpips | FeatureNetwork:
    """A judge of the demo world.

    Raises:
        InputError: unknown name; a file that is missing or holds something else.
    """
    network, _, source = load_network(name, path)
    return as_judge(name, network, source).to(device)


def save_network(
    path: str | Path,
    name: str,                        # of the `NAMES`
    network: nn.Module,
    meta: dict,                       # plain numbers and texts to go with the weights
) -> None:
    """Write weights in half precision and ``meta`` as one file that `load_network` reads; equal weights give equal bytes."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items() if not key.endswith('num_batches_tracked')}
    state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    if broken := [key for key, value in state.items() if not value.isfinite().all()]:
        raise ValueError(f'no finite half-precision numbers: {broken[0]}')
    content = {'state': state, 'meta': {'name': name, 'options': network.options, **meta}}
    write_whole(Path(path), lambda file: torch.save(content, file))


def load_network(
    name: str,                        # of the `NAMES`
    path: str | Path | None = None,   # None = the file that comes with the package
) -> tuple[nn.Module, dict, Path]:    # the network in float32, what `save_network` was given as meta, the file
    if name not in NETWORKS:
        raise InputError(f'{shown(name)} is no judge of the demo world; expected {", ".join(NAMES)}.{did_you_mean(name, NAMES)}')
    path = FOLDER / f'{name}.pt' if path is None else Path(os.path.expanduser(path))
    make = f'python -m eg3d_unlearn.worlds.demo.train {COMMANDS[name]} --outdir=FOLDER'
    if not is_file(path):
        raise InputError(f'The network {shown(path, 300)} is missing. Make it with: {make} (FOLDER/{name}.pt).')
    content = load_plain(path, 'a network of the demo world')
    state, meta = (content.get(part) if isinstance(content, dict) else None for part in ('state', 'meta'))
    options = meta.get('options') if isinstance(meta, dict) else None
    if not isinstance(state, dict) or not isinstance(options, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f'{shown(path, 300)} is not a network of the demo world. Make one with: {make}.')
    if meta.get('name') != name:
        raise InputError(f'{shown(path, 300)} holds the network {shown(meta.get("name"))}, expected {name}.')
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    network = build_checked(lambda: NETWORKS[name](**given), state, path)
    return network.eval(), meta, path
