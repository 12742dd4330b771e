"""From what ``--network`` and ``--device`` say to a generator that is ready to be used."""
from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from eg3d_unlearn.config import NetworkOptions
from eg3d_unlearn.generators.build import build, wrap
from eg3d_unlearn.generators.checkout import check_picture, load_trusted
from eg3d_unlearn.generators.families import family_of
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.trained_on import TrainedOn, trained_on
from eg3d_unlearn.generators.trusted import Trusted
from eg3d_unlearn.worlds.registry import known_networks
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import NetworkPickle, NetworkRecord, read_network_pickle
from torch_utils_ext.network_url import resolve_network


def choose_device(name: str) -> torch.device:
    """The device of ``--device``; 'auto' takes a GPU where there is one."""
    if name in ('auto', 'cuda') and 'LOCAL_RANK' in os.environ and torch.cuda.is_available():   # torchrun: a GPU for each process
        name = f'cuda:{os.environ["LOCAL_RANK"]}'
        torch.cuda.set_device(name)
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f'--device={name} is no device; expected auto, cpu, cuda, cuda:N or mps.') from None
    if device.type not in ('cpu', 'cuda', 'mps'):
        raise InputError(f'--device={name} is no device; expected auto, cpu, cuda, cuda:N or mps.')
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise InputError(f'--device={name}, but torch sees no CUDA GPU here. Use --device=cpu, or install a driver and a CUDA build of torch.')
    if device.type == 'cuda' and device.index is not None and device.index >= torch.cuda.device_count():
        raise InputError(f'--device={name}, but there are only {torch.cuda.device_count()} GPUs, counted from 0.')
    if device.type == 'mps' and not torch.backends.mps.is_available():
        raise InputError(f'--device={name}, but torch sees no MPS device here. Use --device=cpu.')
    return device


def file_of(network: str) -> Path:
    """The pickle that ``--network`` names: a network of a world, a published name, a URL or a path."""
    known = known_networks()
    return known[network].network_path(network) if network in known else Path(resolve_network(network, also=known))


def load_generator(options: NetworkOptions, device: torch.device, data: TrainedOn | None = None) -> tuple[NetworkPickle, Generator]:
    """The pickle of ``--network`` and its G_ema, ready to use; ``data`` None: trained on what the pickle says."""
    path = file_of(options.network)
    pickle = read_network_pickle(path, allow_unknown=options.trust_pickle)
    record = pickle.records.get('G_ema')
    if record is None:
        raise InputError(f'{path} holds no G_ema network, only {", ".join(pickle.records) or "no network at all"}.')
    network, family = make_network(options, record, path, device)
    if network.img_resolution < 32:
        raise InputError(f'The network makes pictures of {network.img_resolution} pixels; at least 32 are needed.')
    data = data or trained_on(pickle, getattr(network, 'rendering_kwargs', None))
    generator = wrap(network, family, options.class_label, fov_deg=options.fov_deg, data=data)
    if is_trusted(generator):
        check_picture(generator)
    return pickle, generator


def is_trusted(generator: Generator) -> bool:
    """Whether the network is run by a checkout's code."""
    return isinstance(generator.network, Trusted)


def make_network(options: NetworkOptions, record: NetworkRecord, path: Path, device: torch.device) -> tuple[nn.Module, str]:
    """Our own network where it fits the file, and its family; with ``--trust-pickle`` the checkout's where ours does not."""
    family = family_of(record.upstream_class)
    if family is not None or not options.trust_pickle:
        try:
            network = build(record, device)
            if not options.trust_pickle or not network.notes:
                return network, family
        except InputError:           # a fork that kept the class's name
            if not options.trust_pickle:
                raise
    network, family = load_trusted(path, options.upstream)
    return network.to(device), family
