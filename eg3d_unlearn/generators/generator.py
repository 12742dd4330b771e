"""The generator that the rest of the package sees: one adapter for each family, the same contract for all."""
from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from eg3d_unlearn.generators import cameras, networks
from eg3d_unlearn.generators.networks import attributes
from eg3d_unlearn.generators.trained_on import ORBITS, TrainedOn, by_options, orbit_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import NetworkRecord
from torch_utils_ext.user_files import shown

W_AVG_SAMPLES = 4096                 # latents averaged when a network never tracked its mean latent


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
    trainable = ''                   # prefix of the parameters that GUIDE trains
    features_are = ''                # what stands for F in L_local, and why
    alignment = 'ffhq'               # how FFHQ's faces lie in pictures of this family
    is_3d = False

    def __init__(self, network: nn.Module, class_label: int | None = None, precision: str = 'fp32', data: TrainedOn | None = None):
        self.network = network.eval()
        self.trained_on = by_options(getattr(network, 'rendering_kwargs', None)) if data is None else data
        self.notes = [*getattr(network, 'notes', []), *filter(None, [self.trained_on.note])]
        if not self.trained_on.aligned:
            self.alignment = 'full'
        self.precision = precision
        self.z_dim, self.c_dim, self.w_dim = network.z_dim, network.c_dim, network.w_dim
        self.img_resolution = network.img_resolution
        self.class_label = class_label
        self.num_ws = self.mapping_network.num_ws
        self.w_avg, self.w_avg_source = self._mean_latent()

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

        3D networks only: ``raw`` gives the neural rendering, ``half`` takes half as many rays along each side.
        """
        return Output(backbone.image, backbone.features)

    def synthesize(self, ws: Tensor, camera: Tensor | None = None, rng: torch.Generator | None = None,
                   raw: bool = False) -> Output:
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


class EG3D(Generator):
    """Tri-planes from a StyleGAN2 backbone, volume rendering, super-resolution."""
    family = 'eg3d'
    trainable = 'backbone.synthesis'
    features_are = 'the tri-planes [96, 256, 256]: all that the renderer sees of a person passes through them'
    alignment = 'eg3d'
    is_3d = True

    def __init__(self, network: nn.Module, class_label: int | None = None, precision: str = 'fp32', data: TrainedOn | None = None,
                 fov_deg: float | None = None):
        self.fov_deg = fov_deg
        self.orbit, guessed = orbit_of(network.rendering_kwargs, by_options(network.rendering_kwargs) if data is None else data)
        super().__init__(network, class_label, precision, data)
        self.notes += filter(None, [guessed if fov_deg is None else None])

    @property
    def mapping_network(self) -> nn.Module:
        return self.network.backbone.mapping

    def camera(self, yaw: float, pitch: float = cameras.PITCH) -> Tensor:  # [1, 25]
        """A camera on the network's own sphere; yaw and pitch offset in radians."""
        pivot = self.network.rendering_kwargs.get('avg_camera_pivot', [0, 0, self.orbit.height])
        return cameras.look_at(yaw, pitch, list(pivot), self.orbit.radius, self.fov_deg, self.orbit.focal).to(self.device)

    @property
    def sees_like_ffhq(self) -> bool:
        """Whether the cameras are FFHQ's, which a photo's landmarks tell of."""
        ffhq = ORBITS['FFHQ']
        return abs(self.camera(0.0)[0, 16].item() - ffhq.focal) < 0.05 and abs(self.orbit.radius - ffhq.radius) < 0.05

    def frontal(self) -> Tensor:
        return self.camera(0.0, 0.0)

    def condition(self, count: int) -> Tensor:
        return self.frontal().expand(count, -1) if self.c_dim == 25 else torch.zeros([count, self.c_dim], device=self.device)

    def backbone(self, ws: Tensor) -> Backbone:
        with self._casts():
            planes = self.network.planes(ws, noise_mode='const', force_fp32=self._force_fp32)
        return Backbone(ws, [planes.float()])

    def render(self, backbone: Backbone, camera: Tensor | None = None, rng: torch.Generator | None = None,
               raw: bool = False, half: bool = False) -> Output:
        camera = self.camera(0.0) if camera is None else camera.to(self.device)
        camera = camera.expand(len(backbone.ws), -1)
        with self._casts(), self._rays(half):
            shown = self.network.render(backbone.features[0], backbone.ws, camera, superresolve=not raw, generator=rng,
                                        jitter='fixed' if rng is None else 'random', force_fp32=self._force_fp32)
        image = shown['image_raw'] if raw else shown['image']
        return Output(image.float(), backbone.features, shown['image_depth'])

    @contextlib.contextmanager
    def _rays(self, half: bool) -> Iterator[None]:
        usual = self.network.neural_rendering_resolution
        try:
            self.network.neural_rendering_resolution = usual // 2 if half else usual
            yield
        finally:
            self.network.neural_rendering_resolution = usual


class StyleGAN2(Generator):
    """GUIDE-SG2."""
    family = 'stylegan2'
    trainable = 'synthesis'
    features_are = ('the feature map that leaves each resolution block: with skip connections every block paints a part of '
                    'the picture itself, so no single map carries the whole person')

    def backbone(self, ws: Tensor) -> Backbone:
        with self._casts():
            image, features = self.network.synthesis(ws, noise_mode='const', force_fp32=self._force_fp32, return_features=True)
        return Backbone(ws, [feature.float() for feature in features], image.float())

    def render(self, backbone: Backbone, camera: Tensor | None = None, rng: torch.Generator | None = None,
               raw: bool = False, half: bool = False) -> Output:
        if raw or half:
            raise InputError('--loss-resolution=raw, half and mixed need a neural rendering, which 2D networks have not. Use '
                             '--loss-resolution=full.')
        return super().render(backbone, camera, rng)


class StyleGAN3(StyleGAN2):
    """The same for alias-free networks."""
    family = 'stylegan3'
    features_are = ('the output of each synthesis layer: one chain without skips, whose maps only together fix the picture at '
                    'every frequency')


FORK = f"Is it a fork's network? {attributes.TRUST}"
FAMILIES = {cls.family: cls for cls in (EG3D, StyleGAN2, StyleGAN3)}


def has_classes(network: nn.Module, family: str) -> bool:
    """Whether the label of ``network`` is a class; EG3D's is a camera."""
    return network.c_dim > 0 and not (family == 'eg3d' and network.c_dim == 25)


def wrap(network: nn.Module, family: str, class_label: int | None = None, precision: str = 'fp32',
         fov_deg: float | None = None, data: TrainedOn | None = None) -> Generator:
    """The adapter of ``family`` around ``network``, trained on ``data`` (None: by its options alone).

    A class-conditional network needs ``class_label``.
    """
    # EG3D's super-resolution makes three channels, whatever the argument says.
    if family != 'eg3d' and network.img_channels != 3:
        raise InputError(f'The network makes pictures of {network.img_channels} channel{"s" * (network.img_channels != 1)}; networks of '
                         'colour pictures (3 channels) are supported.')
    conditional = has_classes(network, family)
    if conditional and class_label is None:
        raise InputError(f'The network is class-conditional ({network.c_dim} classes): give the class of the person with '
                         f'--class=0 to {network.c_dim - 1}.')
    if class_label is not None and not conditional:
        raise InputError(f'--class={class_label} was given, but the network has no classes. Leave it out.')
    if conditional and not 0 <= class_label < network.c_dim:
        raise InputError(f"--class={class_label} is outside the network's classes 0 to {network.c_dim - 1}.")
    if family == 'eg3d':
        return EG3D(network, class_label, precision, data, fov_deg)
    return FAMILIES[family](network, class_label, precision, data)


def build(record: NetworkRecord, device: torch.device | str = 'cpu') -> nn.Module:
    """The network of a pickle, built by our own code and filled with the file's tensors.

    Its ``notes`` say what in the file could not be followed.

    Raises InputError before any memory is taken where the file's tensors are not those that its arguments describe, and
    where its attributes ask for what ours cannot do.
    """
    try:
        with torch.device('meta'):
            network = networks.build(record.upstream_class, record.init_kwargs)
        networks.set_attributes(network, record.attributes)
    except InputError as error:
        raise InputError(f'{shown(record.class_name)} of the file cannot be built: {error} {FORK}') from None
    state = network.state_dict()
    wrong = [f'{shown(name)} is missing' for name in state.keys() - record.tensors.keys()]
    wrong += [f'{shown(name)} is unexpected' for name in record.tensors.keys() - state.keys()]
    wrong += [f'{name} has the shape {list(place.shape)}, expected {list(state[name].shape)}'
              for name, place in record.tensors.items() if name in state and place.shape != tuple(state[name].shape)]
    wrong += [f'{name} is of the type {place.dtype}, expected a floating-point type'
              for name, place in record.tensors.items() if name in state and place.dtype.is_floating_point != state[name].is_floating_point()]
    if wrong:
        raise InputError(f'The tensors of {shown(record.class_name)} in the file do not fit its init_kwargs: {min(wrong)} '
                         f'({len(wrong)} such in all). {FORK}')
    network.notes = attributes.take_over(network, record)
    network.to_empty(device='cpu')
    with record.source.open() as file:
        for name, value in network.state_dict().items():
            value.copy_(record.tensors[name].read(file))
            if not value.isfinite().all():
                raise InputError(f'{name} of {shown(record.class_name)} in the file holds numbers that are NaN or infinite: the file is '
                                 'damaged, or its training failed.')
    return network.to(device).eval().requires_grad_(False)
