"""Networks by upstream's class name."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

from torch import nn

from torch_utils_ext.errors import InputError


def build(
    class_name: str,  # a key of KNOWN
    init_kwargs: dict,  # upstream's init arguments, plain python
) -> nn.Module:
    """A network with random weights, in evaluation mode, with its parameters' gradients on.

    ``class_name`` and ``init_kwargs`` become attributes of the network.  Raises InputError for a class that is not
    known and for init arguments that are unknown or missing, naming them.
    """
    if class_name not in KNOWN:
        raise InputError(f"no network of the class {class_name!r} is known; known are {', '.join(KNOWN)}.")
    net = KNOWN[class_name](copy.deepcopy(dict(init_kwargs)))
    net.class_name, net.init_kwargs = class_name, init_kwargs
    return net.eval()


def _options(*functions: Callable) -> set[str]:
    """Names of all parameters that have a default."""
    parameters = [p for function in functions for p in inspect.signature(function).parameters.values()]
    return {p.name for p in parameters if p.default is not p.empty}


def _check(what: str, given: dict, allowed: set[str], required: tuple[str, ...] = ()) -> None:
    unknown = sorted(set(given) - allowed - set(required))
    if unknown:
        raise InputError(f"{what} has unknown arguments: {', '.join(unknown)}. Known: {', '.join(sorted(allowed))}.")
    missing = [name for name in required if name not in given]
    if missing:
        raise InputError(f"{what} lacks the arguments {', '.join(missing)}.")


_SIZES = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels')


def _stylegan2(kwargs: dict) -> nn.Module:
    from eg3d_unlearn.networks import layers, stylegan2

    allowed = _stylegan2_options() | {'mapping_kwargs'}
    _check('init_kwargs of the StyleGAN2 generator', kwargs, allowed, _SIZES)
    _check('mapping_kwargs', kwargs.get('mapping_kwargs') or {}, _options(layers.MappingNetwork))
    return stylegan2.Generator(**kwargs)


def _stylegan2_ada(kwargs: dict) -> nn.Module:
    from eg3d_unlearn.networks import layers, stylegan2

    _check('init_kwargs of the StyleGAN2-ADA generator', kwargs, _options(stylegan2.AdaGenerator), _SIZES)
    _check('mapping_kwargs', kwargs.get('mapping_kwargs') or {}, _options(layers.MappingNetwork))
    _check('synthesis_kwargs', kwargs.get('synthesis_kwargs') or {}, _stylegan2_options() - {'fused_modconv_default'})
    return stylegan2.AdaGenerator(**kwargs)


def _stylegan2_options() -> set[str]:
    from eg3d_unlearn.networks import stylegan2 as sg2

    return _options(sg2.SynthesisNetwork) | _block_options()


def _block_options() -> set[str]:
    from eg3d_unlearn.networks import stylegan2 as sg2

    return (_options(sg2.SynthesisBlock) | _options(sg2.SynthesisLayer)) - {'up'}


def _eg3d(kwargs: dict) -> nn.Module:
    from eg3d_unlearn.networks import eg3d, layers, superresolution

    allowed = _options(eg3d.TriPlaneGenerator) | _stylegan2_options()
    _check('init_kwargs of the EG3D generator', kwargs, allowed, (*_SIZES, 'rendering_kwargs'))
    _check('mapping_kwargs', kwargs.get('mapping_kwargs') or {}, _options(layers.MappingNetwork))
    of_module = _options(superresolution.Superresolution) - {'sr_antialias'}
    _check('sr_kwargs', kwargs.get('sr_kwargs') or {}, of_module | _block_options())
    return eg3d.TriPlaneGenerator(**kwargs)


def _stylegan3(kwargs: dict) -> nn.Module:
    from eg3d_unlearn.networks import stylegan3

    allowed = _options(stylegan3.Generator, stylegan3.SynthesisNetwork, stylegan3.SynthesisLayer)
    _check('init_kwargs of the StyleGAN3 generator', kwargs, allowed | {'mapping_kwargs'}, _SIZES)
    _check('mapping_kwargs', kwargs.get('mapping_kwargs') or {}, _options(stylegan3.MappingNetwork))
    return stylegan3.Generator(**kwargs)


KNOWN: dict[str, Callable[[dict], nn.Module]] = {
    'training.triplane.TriPlaneGenerator': _eg3d,
    'training.networks.Generator': _stylegan2_ada,
    'training.networks_stylegan2.Generator': _stylegan2,
    'training.networks_stylegan3.Generator': _stylegan3,
}
