"""Networks by upstream's class name."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown


def build(
    class_name: str,  # a key of KNOWN
    init_kwargs: dict,  # upstream's init arguments, plain python
) -> nn.Module:
    """A network with random weights, in evaluation mode, with its parameters' gradients on.

    ``class_name`` and ``init_kwargs`` become attributes of the network.  Under ``torch.device('meta')`` it has shapes
    only, and takes neither memory nor time.  Raises InputError for a class that is not known and for init arguments
    that are unknown, missing or not what `arguments` says of them, naming them.
    """
    if class_name not in KNOWN:
        raise InputError(f"no network of the class {shown(repr(class_name))} is known; known are {', '.join(KNOWN)}.")
    from eg3d_unlearn.generators.networks import arguments

    arguments.check(f'init_kwargs of the {KNOWN[class_name]} generator', init_kwargs, arguments.GENERATORS[class_name])
    net = _class_of(class_name)(**copy.deepcopy(init_kwargs))
    net.class_name, net.init_kwargs = class_name, init_kwargs
    return net.eval()


def set_attributes(
    net: nn.Module,
    attributes: dict[str, Any],  # of the network in a pickle
) -> None:
    """What training and tools change after construction, and NVIDIA's tools take from the pickle too.

    Raises InputError: a value that is not what `arguments` says of it.
    """
    from eg3d_unlearn.generators.networks import arguments, rendering

    if not hasattr(net, 'neural_rendering_resolution'):
        return
    arguments.check('The network', attributes, arguments.ATTRIBUTES)
    for name in arguments.ATTRIBUTES.entries:
        if attributes.get(name) is not None:
            setattr(net, name, attributes[name])
    rendering.check_options(net.rendering_kwargs)
    arguments.check_rendering(net.rendering_kwargs, net.neural_rendering_resolution)


def _class_of(class_name: str) -> type[nn.Module]:
    from eg3d_unlearn.generators.networks import eg3d, stylegan2, stylegan3

    return {
        'training.triplane.TriPlaneGenerator': eg3d.TriPlaneGenerator,
        'training.networks.Generator': stylegan2.AdaGenerator,
        'training.networks_stylegan2.Generator': stylegan2.Generator,
        'training.networks_stylegan3.Generator': stylegan3.Generator,
    }[class_name]


# What its users call each class.
KNOWN = {
    'training.triplane.TriPlaneGenerator': 'EG3D',
    'training.networks.Generator': 'StyleGAN2-ADA',
    'training.networks_stylegan2.Generator': 'StyleGAN2',
    'training.networks_stylegan3.Generator': 'StyleGAN3',
}
