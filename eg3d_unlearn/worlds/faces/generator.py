"""The generator of the world of real faces: MobileStyleGAN, made from the package random-face, and its small picture, fitted here."""
from __future__ import annotations

import hashlib
import math
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.generators.networks import bridge
from eg3d_unlearn.generators.networks.mobilestylegan import MobileStyleGAN as Network
from eg3d_unlearn.worlds.faces.openvino import Layer, read_graph
from eg3d_unlearn.worlds.faces.packages import RANDOM_FACE, SETUP, folder, member
from eg3d_unlearn.worlds.faces.preview import HELD_OUT, fit_preview
from torch_utils_ext.download import make_folder, recorded, sha256_once, write_record
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_save import save_network_pickle
from torch_utils_ext.user_files import is_file

CLASS = 'eg3d_unlearn.MobileStyleGAN'
MARK = 'eg3d_unlearn.faces'          # the "data set" that a pickle of this world's network names; in files of users, so it stays
SMALL = 256                          # pixels of the small picture
VERSION = 1                          # of how the network is made from the package; another one is made anew
SAMPLES = 96                         # pictures that the small one is fitted to


def from_package() -> tuple[dict, dict[str, Tensor]]:
    """Init arguments and tensors of the generator in the package; the small picture is not among them."""
    mapping, synthesis = (read_graph(member(RANDOM_FACE, f'random_face/data/{name}.xml'), member(RANDOM_FACE, f'random_face/data/{name}.bin'),
                                     f'{name} of {RANDOM_FACE.title}') for name in ('MappingNetwork', 'SynthesisNetwork'))
    tensors = {**mapping_tensors(mapping), **synthesis_tensors(synthesis)}
    return arguments_of(tensors, SMALL), tensors


def arguments_of(tensors: dict[str, Tensor], small_resolution: int) -> dict:
    """What the tensors' shapes say of the network."""
    resolutions, channels = [4], [len(tensors['synthesis.const'])]
    while (weight := tensors.get(f'synthesis.b{2 * resolutions[-1]}.conv2.weight')) is not None:
        resolutions.append(2 * resolutions[-1])
        channels.append(len(weight))
    layers = sum(name.startswith('mapping.') and name.endswith('.weight') for name in tensors)
    w_dim, z_dim = tensors[f'mapping.fc{layers - 1}.weight'].shape[0], tensors['mapping.fc0.weight'].shape[1]
    return dict(z_dim=z_dim, c_dim=0, w_dim=w_dim, img_resolution=2 * resolutions[-1], img_channels=3, small_resolution=small_resolution,
                channels=channels, mapping_kwargs={'num_layers': layers, 'lr_multiplier': 1.0})


def mapping_tensors(layers: list[Layer]) -> dict[str, Tensor]:
    """The mapping network's: products and biases, in the order of the file."""
    tensors = {}
    products = [layer for layer in layers if layer.kind == 'MatMul']
    biases = [layer for layer in layers if layer.kind == 'Reshape']
    for number, (product, bias) in enumerate(zip(products, biases, strict=True)):
        weight = as_tensor(product.constant())
        tensors[f'mapping.fc{number}.weight'] = weight * math.sqrt(weight.shape[1])   # NVIDIA's layers divide by it
        tensors[f'mapping.fc{number}.bias'] = as_tensor(next(layer.value for layer in bias.inputs if layer.value is not None))
    return tensors


def synthesis_tensors(layers: list[Layer]) -> dict[str, Tensor]:
    """The synthesis network's; layers bear names of the form m.layers.0.conv1.conv.modulation.weight, the rest follows from the graph."""
    named = {layer.name: layer for layer in layers if layer.value is not None}
    blocks = 1 + max((int(name.split('.')[2]) for name in named if name.startswith('m.layers.')), default=-1)
    if 'm.input.input' not in named or blocks < 1:
        raise InputError(f'The synthesis network of {RANDOM_FACE.title} is not of the form that is known.')
    tensors = {'synthesis.const': as_tensor(named['m.input.input'].value)[0]}
    dense = [layer for layer in layers if layer.kind == 'Convolution']   # in the order of the network, one for each bias below
    places = {'m.conv1': 'conv'}
    for number in range(blocks):
        for part in ('conv1', 'conv2'):
            places[f'm.layers.{number}.{part}'] = f'b{8 << number}.{part}'
        tensors |= style(named, f'm.layers.{number}.up', f'synthesis.b{8 << number}.up')
    for (theirs, ours), convolution in zip({**places, f'm.layers.{blocks - 1}.to_img': 'torgb'}.items(), dense, strict=True):
        tensors |= style(named, f'{theirs}.conv', f'synthesis.{ours}')
        tensors[f'synthesis.{ours}.weight'] = as_tensor(convolution.constant())
        if (spatial := named.get(f'{theirs}.conv.weight_dw')) is not None:
            tensors[f'synthesis.{ours}.spatial'] = as_tensor(spatial.value)[:, 0]
        if ours != 'torgb':
            tensors[f'synthesis.{ours}.noise'] = as_tensor(convolution.users[0].constant())
        tensors[f'synthesis.{ours}.bias'] = as_tensor(named[f'{theirs}.bias'].value).flatten()
    return tensors


def style(named: dict[str, Layer], theirs: str, ours: str) -> dict[str, Tensor]:
    """A style's affine map, with the number that the graph multiplies it by."""
    weight, bias = (named[f'{theirs}.modulation.{part}'] for part in ('weight', 'bias'))
    # product -> sum -> shape -> times a number, where there is one
    shaped = bias.users[0].users[0]
    after = shaped.users[0] if shaped.kind in ('Reshape', 'Unsqueeze') else shaped
    factors = [layer.value for layer in after.inputs if layer.value is not None and layer.value.size == 1]
    factor = float(factors[0].item()) if after.kind == 'Multiply' and factors else 1.0
    matrix = as_tensor(weight.value) * factor
    return {f'{ours}.affine.weight': matrix * math.sqrt(matrix.shape[1]), f'{ours}.affine.bias': as_tensor(bias.value).flatten() * factor}


def as_tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(value.astype(np.float32))


def network_path() -> Path:
    """The network in the cache that the setup wrote.  Raises InputError: there is none, or it was changed since."""
    path = made_path()
    if not is_file(path) or recorded(path) is None:
        raise InputError(f'The network of real faces has not been made on this machine yet. Run: {SETUP}')
    if sha256_once(path) != recorded(path):
        raise InputError(f'{path} is not what the setup wrote there (its checksum differs). Delete it and run: {SETUP}')
    return path


def made_path() -> Path:
    """Where the setup writes the network; another file for another package or another way to make it."""
    mark = hashlib.sha256(f'{RANDOM_FACE.sha256} {VERSION}'.encode()).hexdigest()[:12]
    return folder() / f'faces-{mark}.pkl'


def make_network(samples: int = SAMPLES) -> Path:
    """Make the network from the package in the cache, fit its small picture, and write it; nothing where that was done before."""
    path = made_path()
    if is_file(path) and recorded(path) == sha256_once(path):
        return path
    arguments, tensors = from_package()
    network = Network(**arguments).eval().requires_grad_(False)
    network.load_state_dict(tensors, strict=False)
    rng = torch.Generator().manual_seed(0)
    network.mapping.w_avg.copy_(mean_latent(network, rng))
    quality = fit_preview(network, samples, rng)
    click.echo(f'The small picture ({SMALL} px) is the whole one, shrunk, to {quality:.1f} dB, on {HELD_OUT} pictures that the fit did not see.')
    make_folder(path.parent)
    write_network(path, arguments, network.state_dict())
    write_record(path)
    return path


def write_network(path: Path, arguments: dict, tensors: dict[str, Tensor]) -> None:
    """Write a network of this class as a network pickle; `bridge` says what opens it."""
    data = {'class_name': 'training.dataset.ImageFolderDataset', 'path': MARK, 'resolution': arguments['img_resolution'], 'use_labels': False,
            'max_size': None, 'xflip': False}
    source = Path(bridge.__file__).read_text(encoding='utf-8')
    save_network_pickle(path, CLASS, arguments, tensors, training_set_kwargs=data, source=source)


@torch.no_grad()
def mean_latent(network: Network, rng: torch.Generator) -> Tensor:   # [w_dim]
    total = sum(network.mapping(torch.randn([1024, network.z_dim], generator=rng), None)[:, 0].double().sum(0) for _ in range(16))
    return (total / (16 * 1024)).float()
