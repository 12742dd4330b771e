"""Pickles in which one attribute of one module was changed, by NVIDIA's code: change_attributes.py KIND OUTDIR (inside a checkout).

KIND is one of make.py.  Of each class one module is taken, and each attribute that its code set gets other values, one by
one.  For each change OUTDIR gets NUMBER.pkl, and changes.pt holds by number what was changed and the picture that the
unpickled network makes, None where it makes none.  Number 0 is the unchanged network.
"""

import pickle
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from make import make_networks
from show import CAMERA, middle, quantiles

CORRECTED_AXES = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 0, 1], [0, 1, 0], [1, 0, 0]]])
SLANTED_AXES = CORRECTED_AXES + torch.tensor([[0, 0.3, 0], [0, 0, -0.2], [0.1, 0, 0]])
NAMES = {'lrelu': 'relu', 'linear': 'tanh', 'skip': 'orig', 'orig': 'skip', 'softplus': 'relu', 'auto': 2.0, 'none': 'const'}
BY_CONSTRUCTION = set(vars(torch.nn.Module())) | {'_init_args', '_init_kwargs', '_last_planes'}


def others(name: str, value: object) -> list:
    """Other values that the attribute could have had."""
    if name == 'plane_axes':
        return [CORRECTED_AXES, SLANTED_AXES, CORRECTED_AXES[:2]]
    if isinstance(value, (bool, np.bool_)):
        return [not value]
    if isinstance(value, (int, np.integer)):
        return [value + 1, value * 2, None]
    if isinstance(value, (float, np.floating)):
        return [value * 1.5, value / 2]
    if isinstance(value, str):
        return [NAMES[value]] if value in NAMES else []
    if isinstance(value, dict):
        return [type(value)({**value, key: changed}) for key in value for changed in others(key, value[key])[:1]]
    if isinstance(value, (list, tuple, np.ndarray)):
        return [value[::-1], value[:-1]] + ([value + 1] if isinstance(value, np.ndarray) else [])
    return [0.01, 2]


def picture(network: torch.nn.Module) -> torch.Tensor:
    z = torch.from_numpy(np.random.RandomState(1).randn(1, network.z_dim))
    options = dict(noise_mode='const', force_fp32=True)
    if not hasattr(network, 'backbone'):
        return network(z, torch.zeros(1, 0), **options)
    with mock.patch('torch.rand_like', middle), mock.patch('torch.rand', quantiles):
        return network(z, torch.tensor([CAMERA]), **options)['image']


def write(network: torch.nn.Module, path: Path) -> torch.Tensor | None:
    """Save the network; the picture that it makes once it is loaded."""
    with open(path, 'wb') as file:
        pickle.dump(dict(G=None, D=None, G_ema=network, training_set_kwargs=None, augment_pipe=None), file)
    with open(path, 'rb') as file:
        loaded = pickle.load(file)['G_ema']
    try:
        shown = picture(loaded)
    except Exception as error:       # a shape that does not fit: upstream has no picture either
        print(f'{path.name}: {type(error).__name__}: {error}'.splitlines()[0])
        return None
    return shown if torch.isfinite(shown).all() else None


if __name__ == '__main__':
    kind, folder = sys.argv[1], Path(sys.argv[2])
    torch.manual_seed(0)
    network = make_networks(kind)[0].eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith(('noise_strength', 'bias')):    # all zero at first: what they do would not be seen
            parameter.add_(0.3 * torch.randn_like(parameter))
    if kind == 'eg3d':
        network.neural_rendering_resolution = 32
    changes = {0: ('nothing', write(network, folder / '0.pkl'))}
    one_of_each = {(type(module).__name__, getattr(module, 'is_torgb', None), getattr(module, 'up', None)): (path, module)
                   for path, module in network.named_modules()}
    for path, module in one_of_each.values():
        for name in sorted(set(vars(module)) - BY_CONSTRUCTION):
            value = vars(module)[name]
            for other in others(name, value):
                vars(module)[name] = other
                number = len(changes)
                changes[number] = (f'{path}.{name} = {other}'.lstrip('.')[:200], write(network, folder / f'{number}.pkl'))
                vars(module)[name] = value
    assert torch.equal(write(network, folder / '0.pkl'), changes[0][1])
    torch.save(changes, folder / 'changes.pt')
