"""From what a pickle says of a network to a generator."""
from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from eg3d_unlearn.generators.families import adapters
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.networks import arguments, attributes, rendering
from eg3d_unlearn.generators.trained_on import TrainedOn
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import NetworkRecord
from torch_utils_ext.user_files import shown

FORK = f"Is it a fork's network? {attributes.TRUST}"


def build_network(
    class_name: str,                 # upstream's, known to one of `families`
    init_kwargs: dict,               # upstream's init arguments, plain python
) -> nn.Module:
    """A network with random weights, in evaluation mode, with its parameters' gradients on.

    ``class_name`` and ``init_kwargs`` become attributes of the network.  Under ``torch.device('meta')`` it has shapes
    only, and takes neither memory nor time.  Raises InputError for a class that is not known and for init arguments
    that are unknown, missing or not what `arguments` says of them, naming them.
    """
    known = {name: kind for family in adapters().values() for name, kind in family.classes.items()}
    if class_name not in known:
        raise InputError(f"no network of the class {shown(repr(class_name))} is known; known are {', '.join(known)}.")
    kind = known[class_name]
    arguments.check(f'init_kwargs of the {kind.title} generator', init_kwargs, kind.arguments)
    network = kind.module(**copy.deepcopy(init_kwargs))
    network.class_name, network.init_kwargs = class_name, init_kwargs
    return network.eval()


def set_attributes(
    network: nn.Module,
    attributes: dict[str, Any],  # of the network in a pickle
) -> None:
    """What training and tools change after construction, and NVIDIA's tools take from the pickle too.

    Raises InputError: a value that is not what `arguments` says of it.
    """
    if not hasattr(network, 'neural_rendering_resolution'):
        return
    arguments.check('The network', attributes, arguments.ATTRIBUTES)
    for name in arguments.ATTRIBUTES.entries:
        if attributes.get(name) is not None:
            setattr(network, name, attributes[name])
    rendering.check_options(network.rendering_kwargs)
    arguments.check_rendering(network.rendering_kwargs, network.neural_rendering_resolution)


def wrap(network: nn.Module, family: str, class_label: int | None = None, precision: str = 'fp32',
         fov_deg: float | None = None, data: TrainedOn | None = None) -> Generator:
    """The adapter of ``family`` around ``network``, trained on ``data`` (None: by its options alone).

    A class-conditional network needs ``class_label``.
    """
    # EG3D's super-resolution makes three channels, whatever the argument says.
    kind = adapters()[family]
    if not kind.is_3d and network.img_channels != 3:
        raise InputError(f'The network makes pictures of {network.img_channels} channel{"s" * (network.img_channels != 1)}; networks of '
                         'colour pictures (3 channels) are supported.')
    conditional = kind.has_classes(network)
    if conditional and class_label is None:
        raise InputError(f'The network is class-conditional ({network.c_dim} classes): give the class of the person with '
                         f'--class=0 to {network.c_dim - 1}.')
    if class_label is not None and not conditional:
        raise InputError(f'--class={class_label} was given, but the network has no classes. Leave it out.')
    if conditional and not 0 <= class_label < network.c_dim:
        raise InputError(f"--class={class_label} is outside the network's classes 0 to {network.c_dim - 1}.")
    return kind(network, class_label, precision, data, fov_deg)


def build(record: NetworkRecord, device: torch.device | str = 'cpu') -> nn.Module:
    """The network of a pickle, built by our own code and filled with the file's tensors.

    Its ``notes`` say what in the file could not be followed.

    Raises InputError before any memory is taken where the file's tensors are not those that its arguments describe, and
    where its attributes ask for what ours cannot do.
    """
    try:
        with torch.device('meta'):
            network = build_network(record.upstream_class, record.init_kwargs)
        set_attributes(network, record.attributes)
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
