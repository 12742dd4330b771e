"""Opens a network pickle with NVIDIA's code and shows what is in it: show.py IN.pkl OUT.pt SEED... (inside a checkout).

OUT.pt holds everything in the file as tensors and plain values, and pictures of G and G_ema for each seed, with
constant noise, in float32; EG3D's with and without random depths.
"""

import sys
from unittest import mock

import numpy as np
import torch

CAMERA = [1.0, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.26, 0, 0.5, 0, 4.26, 0.5, 0, 0, 1]


def middle(like: torch.Tensor, **options) -> torch.Tensor:
    return torch.full_like(like, 0.5)


def quantiles(*shape: int, device: torch.device) -> torch.Tensor:
    return torch.linspace(0, 1, shape[-1], device=device).expand(shape)


def pictures(network: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, network.z_dim))
    options = dict(noise_mode='const', force_fp32=True)
    if not hasattr(network, 'backbone'):
        return {'image': network(z, torch.zeros(1, 0), **options)}
    camera = torch.tensor([CAMERA])
    with mock.patch('torch.rand_like', middle), mock.patch('torch.rand', quantiles):
        shown = network(z, camera, **options)
    torch.manual_seed(seed)
    return dict(shown, image_random_depths=network(z, camera, **options)['image'])


def plain(module: torch.nn.Module) -> dict:
    """Attributes of a module that are numbers, strings and the like."""
    kinds = (bool, int, float, str, list, tuple)
    return {name: value for name, value in vars(module).items() if isinstance(value, kinds)}


def unwrapped(value):
    """EasyDicts as dicts, all the way down."""
    return {name: unwrapped(inner) for name, inner in value.items()} if isinstance(value, dict) else value


if __name__ == '__main__':
    import legacy

    source, out, *seeds = sys.argv[1:]
    with open(source, 'rb') as file:
        data = legacy.load_network_pkl(file)
    networks = {key: value for key, value in data.items() if isinstance(value, torch.nn.Module)}
    found = dict(
        classes={key: type(network).__name__ for key, network in networks.items()},
        states={key: dict(network.state_dict()) for key, network in networks.items()},
        attributes={key: plain(network) for key, network in networks.items()},
        arguments={key: unwrapped(network.init_kwargs) for key, network in networks.items()},
        others={key: unwrapped(value) for key, value in data.items() if key not in networks},
        camera=torch.tensor([CAMERA]),
        pictures={key: {int(seed): pictures(data[key], int(seed)) for seed in seeds} for key in ('G', 'G_ema')},
    )
    torch.save(found, out)
