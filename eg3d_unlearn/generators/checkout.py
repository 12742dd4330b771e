"""Networks of classes that we do not know, loaded by the checkout's own loader when the user trusts the file to it."""
from __future__ import annotations

import contextlib
import copy
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

import torch
from torch import Tensor, nn

from torch_utils_ext.errors import InputError
from torch_utils_ext.upstream import find_upstream, importing
from torch_utils_ext.user_files import shown

if TYPE_CHECKING:
    from eg3d_unlearn.generators.generator import Generator


SIZES = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels')


def load_trusted(path: Path, upstream: str | None) -> tuple[nn.Module, str]:
    """G_ema of a pickle through ``legacy.load_network_pkl`` of the checkout, and the family that it behaves like.

    This runs code from the file: it is what ``--trust-pickle`` asks for, and nothing else calls it.
    """
    folder = find_upstream(upstream)
    if folder is None or not (folder / 'legacy.py').is_file():
        raise InputError(f'--trust-pickle needs an NVIDIA checkout with legacy.py, whose loader then runs the code of the file; '
                         f'--upstream={shown(upstream)} is none.')
    try:
        with importing(folder):
            import legacy
            with open(path, 'rb') as file:
                try:
                    network = legacy.load_network_pkl(file)['G_ema']
                except (AssertionError, KeyError):       # it insists on D and G, which a file with G_ema alone has not
                    file.seek(0)
                    network = pickle.load(file)['G_ema']
    except Exception as error:       # whatever the file's own code raises
        raise InputError(f'The loader of {folder} could not open {shown(path, 300)}: {type(error).__name__}: '
                         f'{shown(error, 300)}') from error
    network = network.eval().requires_grad_(False)
    if lacking := [name for name in SIZES if type(getattr(network, name, None)) is not int]:
        raise InputError(f'{type(network).__name__} in {shown(path)} has no {lacking[0]}, or not as one whole number: only networks that make '
                         'square pictures, with the attributes of NVIDIA\'s generators, are supported.')
    if all(hasattr(network, name) for name in ('backbone', 'superresolution', 'rendering_kwargs')):
        network.superresolution.register_forward_pre_hook(with_a_copy_of_the_rendering)
        return ForeignEG3D(network), 'eg3d'
    if hasattr(network, 'mapping') and hasattr(network, 'synthesis'):
        return Foreign2D(network), 'stylegan3' if hasattr(network.synthesis, 'layer_names') else 'stylegan2'
    raise InputError(f'{type(network).__name__} in {path} has neither backbone, superresolution and rendering_kwargs (EG3D) nor '
                     'mapping and synthesis (StyleGAN), so GUIDE cannot be run on it.')


@torch.no_grad()
def check_picture(generator: Generator) -> None:
    """Have one picture made, so that a fork that paints otherwise, or cannot be run in our way, is refused before anything is written."""
    side = generator.img_resolution
    try:
        shape = tuple(generator.synthesize(generator.map_seed(0)).image.shape)
    except Exception as error:       # whatever the checkout's or the file's own code raises
        raise InputError(f'The checkout\'s own code could not make a picture: {type(error).__name__}: {shown(error)}. This fork\'s generator '
                         'is called otherwise than NVIDIA\'s, and is not supported.') from error
    if shape != (1, 3, side, side):
        raise InputError(f'The network makes pictures of {" x ".join(map(str, shape[2:]))} pixels and {shape[1]} channels, with an '
                         f'img_resolution of {side}; only square pictures of 3 channels are supported.')


def with_a_copy_of_the_rendering(module: nn.Module, inputs: tuple) -> tuple:
    """EG3D's super-resolution writes into the picture that it is given, a view of what the backward pass still needs."""
    return (inputs[0].clone(), *inputs[1:])


@contextlib.contextmanager
def seeded(rng: torch.Generator | None) -> Iterator[None]:
    """Draws inside come from torch's global generator, seeded from ``rng`` and put back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(0 if rng is None else int(torch.randint(2**31, [], generator=rng, device=rng.device)))
        yield


class _Foreign(nn.Module):
    """Shows another module's parameters under their own names, and its attributes as they are."""
    notes: list[str] = []            # its own code computes with all that is in the file

    def __init__(self, network: nn.Module):
        super().__init__()
        self.__dict__['inner'] = network  # not registered: names in the state dict must stay the file's
        self._modules, self._parameters, self._buffers = network._modules, network._parameters, network._buffers
        self._non_persistent_buffers_set = network._non_persistent_buffers_set

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__['inner'], name)

    def __deepcopy__(self, memo: dict) -> _Foreign:
        return type(self)(copy.deepcopy(self.__dict__['inner'], memo))


class ForeignEG3D(_Foreign):
    """The split into planes and rendering that `eg3d_unlearn.generators.generator.EG3D` uses, from EG3D's cached backbone."""

    def planes(self, ws: Tensor, noise_mode: str, force_fp32: bool) -> Tensor:
        return self.inner.backbone.synthesis(ws, noise_mode=noise_mode, force_fp32=force_fp32)

    def render(self, planes: Tensor, ws: Tensor, c: Tensor, superresolve: bool, generator: torch.Generator | None, jitter: str,
               force_fp32: bool) -> dict[str, Tensor]:
        self.inner._last_planes = planes
        try:
            with seeded(generator):
                # Half as many rays may have been asked of this wrapper, whose attributes are not the inner network's.
                return self.inner.synthesis(ws, c, neural_rendering_resolution=self.neural_rendering_resolution,
                                            use_cached_backbone=True, force_fp32=force_fp32)
        finally:
            self.inner._last_planes = None


class Foreign2D(_Foreign):
    """A 2D generator whose feature maps are read by hooks: the same ones that our own networks return."""

    @property
    def synthesis(self):
        return self._synthesise

    def _synthesise(self, ws: Tensor, noise_mode: str, force_fp32: bool, return_features: bool) -> tuple[Tensor, list[Tensor]]:
        features = []

        def note(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
            features.append((output[0] if isinstance(output, tuple) else output).float())
        hooks = [part.register_forward_hook(note) for part in self._parts()]
        try:
            image = self.inner.synthesis(ws, noise_mode=noise_mode, force_fp32=force_fp32)
        finally:
            for hook in hooks:
                hook.remove()
        return image, [feature for feature in features if feature.ndim == 4]

    def _parts(self) -> list[nn.Module]:
        """StyleGAN3's layers but ToRGB; StyleGAN2's blocks, which return features and picture."""
        synthesis = self.inner.synthesis
        if hasattr(synthesis, 'layer_names'):
            return [getattr(synthesis, name) for name in synthesis.layer_names[:-1]]
        return list(synthesis.children())
