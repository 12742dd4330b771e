"""The generator that the rest of the package sees: one adapter for each family, the same contract for all."""
from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.networks.arguments import Table
from eg3d_unlearn.generators.trained_on import TrainedOn, by_options
from torch_utils_ext.errors import InputError

W_AVG_SAMPLES = 4096                 # latents averaged when a network never tracked its mean latent


@dataclass(frozen=True)
class NetworkClass:
    """A class of upstream's, and ours in its place."""
    title: str                       # what its users call it
    module: type[nn.Module]          # takes upstream's init arguments, has upstream's parameter names
    arguments: Table                 # which init arguments there are, and what they may be


@dataclass
class Backbone:
    """What one pass of the part that learns gives: enough to show the picture from any camera."""
    ws: Tensor                       # [N, num_ws, w_dim]
    features: list[Tensor]           # F of the paper, each [N, C, H, W] float32; for EG3D the tri-planes alone
    image: Tensor | None = None      # [N, 3, H, W], only where the pass already makes the picture (StyleGAN2/3)

    def __getitem__(self, rows: slice) -> Backbone:
        image = None if self.image is None else self.image[rows]
        return Backbone(self.ws[rows], [feature[rows] for feature in self.features], image)


@dataclass
class Output:
    """A picture with what it was made from."""
    image: Tensor                    # [N, 3, H, W] float32, about [-1, 1]; the raw rendering where that was asked for
    features: list[Tensor]           # as in `Backbone`
    depth: Tensor | None = None      # [N, 1, h, w] distance along the ray, world units; EG3D only


class Generator:
    """A network behind the contract ``map`` and ``synthesize``; subclasses know one family each.

    Attributes: ``z_dim, c_dim, w_dim, num_ws, img_resolution``, ``w_avg`` [num_ws, w_dim] float32, ``trained_on`` and
    ``notes``, sentences that whoever believes a result should have read.
    """
    family = ''
    classes: dict[str, NetworkClass] = {}  # by upstream's name of the class
    trainable = ''                   # prefix of the parameters that GUIDE trains
    features_are = ''                # what stands for F in L_local, and why
    about: str | None = None         # what whoever sees the network must know of this family
    alignment = 'ffhq'               # how FFHQ's faces lie in pictures of this family
    is_3d = False
    has_half = False                 # whether `render` can make a cheaper picture
    searches_by_half = False         # whether latents of photos are looked for by such pictures: they show as much of a face
    is_light = False                 # every picture is such a one

    def __init__(
        self,
        network: nn.Module,
        class_label: int | None = None,  # of the person, class-conditional networks only
        precision: str = 'fp32',
        data: TrainedOn | None = None,  # None: by the network's options alone
        fov_deg: float | None = None,  # of the cameras, 3D networks only; None: the training pictures'
    ):
        self.network = network.eval()
        self.trained_on = by_options(getattr(network, 'rendering_kwargs', None)) if data is None else data
        self.notes = [*getattr(network, 'notes', []), *filter(None, [self.about, self.trained_on.note])]
        if not self.trained_on.aligned:
            self.alignment = 'full'
        self.precision = precision
        self.z_dim, self.c_dim, self.w_dim = network.z_dim, network.c_dim, network.w_dim
        self.img_resolution = network.img_resolution
        self.class_label = class_label
        self.num_ws = self.mapping_network.num_ws
        self.w_avg, self.w_avg_source = self._mean_latent()

    @classmethod
    def has_classes(cls, network: nn.Module) -> bool:
        """Whether the label of ``network`` is a class of pictures."""
        return network.c_dim > 0

    @classmethod
    def trusted(cls, network: nn.Module) -> nn.Module | None:
        """A network of somebody else's code behind the interface of ours; None where it does not behave like this family."""
        return None

    @property
    def mapping_network(self) -> nn.Module:
        return self.network.mapping

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def frontal(self) -> Tensor | None:                # [1, 25], None for 2D networks
        """The camera that latents are conditioned on: frontal, level, at the network's own radius and pivot."""
        return None

    def condition(self, count: int) -> Tensor:         # [N, c_dim]
        """The label that the mapping network gets: the class, if there are classes."""
        label = torch.zeros([count, self.c_dim], device=self.device)
        if self.c_dim > 0:
            label[:, self.class_label] = 1
        return label

    def map(self, z: Tensor, truncation_psi: float = 1.0) -> Tensor:  # z [N, z_dim] -> [N, num_ws, w_dim] float32
        """Latents of random codes, under the frontal camera (EG3D) or the chosen class."""
        # float32: NVIDIA's tools draw z as float64, which MPS has not.
        return self.network.mapping(z.to(self.device, torch.float32), self.condition(len(z)), truncation_psi=truncation_psi)

    @torch.no_grad()
    def map_seed(self, seed: int, truncation_psi: float = 1.0) -> Tensor:  # [1, num_ws, w_dim]
        """The latent that NVIDIA's tools show for ``--seeds=SEED``."""
        return self.map(torch.from_numpy(np.random.RandomState(seed).randn(1, self.z_dim)), truncation_psi)

    @torch.no_grad()
    def sample(self, count: int, rng: torch.Generator) -> Tensor:  # [count, num_ws, w_dim]
        """Latents of random people, z ~ N(0, I) drawn from ``rng``."""
        return self.map(torch.randn([count, self.z_dim], generator=rng, device=rng.device))

    def backbone(self, ws: Tensor) -> Backbone:        # ws [N, num_ws, w_dim]
        """The pass that learns; noise is the network's constant noise, so that it depends on ``ws`` alone."""
        raise NotImplementedError

    def render(self, backbone: Backbone, camera: Tensor | None = None, rng: torch.Generator | None = None,
               raw: bool = False, half: bool = False) -> Output:
        """The picture from ``camera`` [1 or N, 25]; depth jitter from ``rng``, without one at fixed depths.

        3D networks only: ``raw`` gives the neural rendering. Where `has_half`: ``half`` gives a cheaper picture, of half as many rays
        along each side, or a small one.
        """
        return Output(backbone.image, backbone.features)

    def resolution(self, half: bool = False) -> int:
        """Pixels along each side of the pictures of `render`, with or without ``half``."""
        return self.img_resolution

    def synthesize(
        self,
        ws: Tensor,                  # [N, num_ws, w_dim]
        camera: Tensor | None = None,  # [1 or N, 25]; 3D networks only, None: frontal
        rng: torch.Generator | None = None,
        raw: bool = False,
    ) -> Output:
        """``render`` of ``backbone``: one pass gives the picture and its features."""
        return self.render(self.backbone(ws), camera, rng, raw)

    def twin(self) -> Generator:
        """A copy whose trainable part is its own while everything frozen is shared: G_u beside G_s in little memory."""
        shared = {id(tensor): tensor for tensor in [*self.network.parameters(), *self.network.buffers()]
                  if not getattr(tensor, 'requires_grad', False)}
        other = copy.copy(self)
        other.network = copy.deepcopy(self.network, memo=shared)
        return other

    def freeze_except(self, prefixes: list[str]) -> dict[str, nn.Parameter]:
        """Let only parameters under one of ``prefixes`` learn ('all' = every one) and return them by name."""
        chosen = {}
        for name, parameter in self.network.named_parameters():
            learns = any(prefix == 'all' or name == prefix or name.startswith(prefix + '.') for prefix in prefixes)
            parameter.requires_grad_(learns)
            if learns:
                chosen[name] = parameter
        for prefix in prefixes:
            if prefix != 'all' and not any(name == prefix or name.startswith(prefix + '.') for name in chosen):
                parts = sorted({name.split('.')[0] for name, _ in self.network.named_parameters()} | {self.trainable})
                raise InputError(f'--trainable={prefix} names no parameter of this network. Its parts: {", ".join(parts)}.')
        return chosen

    def _mean_latent(self) -> tuple[Tensor, str]:
        tracked = getattr(self.mapping_network, 'w_avg', None)
        if tracked is not None and tracked.any():
            name = 'mapping.w_avg' if self.network.mapping is self.mapping_network else 'backbone.mapping.w_avg'
            return tracked.detach().float().expand(self.num_ws, -1).clone(), name
        rng = torch.Generator(self.device if self.device.type == 'cuda' else 'cpu').manual_seed(0)
        mean = torch.stack([self.sample(W_AVG_SAMPLES // 8, rng).mean(0) for _ in range(8)]).mean(0)
        return mean, f'mean of {W_AVG_SAMPLES} random latents (the network tracked none)'

    def _casts(self) -> contextlib.AbstractContextManager:
        if self.precision == 'bf16' and self.device.type != 'cpu':  # on a CPU: `arithmetic`
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    @property
    def _force_fp32(self) -> bool:
        # 'fp16' means the network's own half-precision blocks; the other settings keep them in float32.
        return self.precision != 'fp16'
