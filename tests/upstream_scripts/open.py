"""Opens a network pickle with NVIDIA's code: open.py IN.pkl STATES.pt [RESAVED.pkl] (inside a checkout).

Copies the network, pickles it again and makes it anew from its arguments; all four must give one picture, whose
checksum is printed.
"""

import copy
import hashlib
import pickle
import sys

import legacy
import torch
from torch_utils import misc

CAMERA = [1.0, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.26, 0, 0.5, 0, 4.26, 0.5, 0, 0, 1]


def picture(network: torch.nn.Module) -> str:
    torch.manual_seed(0)
    z = torch.randn(1, network.z_dim)
    if network.c_dim:
        image = network(z, torch.tensor([CAMERA]), neural_rendering_resolution=16, noise_mode='const', force_fp32=True)[
            'image'
        ]
    else:
        image = network(z, None, noise_mode='const', force_fp32=True)
    assert image.isfinite().all() and image.std() > 0
    return hashlib.sha256(image.numpy().tobytes()).hexdigest()


source, states, *resaved = sys.argv[1:]
with open(source, 'rb') as file:
    data = legacy.load_network_pkl(file)
network = data['G_ema']
reloaded = type(network)(*network.init_args, **network.init_kwargs).eval().requires_grad_(False)
misc.copy_params_and_buffers(network, reloaded, require_all=True)
for name in ('neural_rendering_resolution', 'rendering_kwargs'):
    if hasattr(network, name):
        setattr(reloaded, name, getattr(network, name))
again = pickle.loads(pickle.dumps(network))
pictures = {picture(each) for each in (network, copy.deepcopy(network), again, reloaded)}
assert len(pictures) == 1 and data['G'] is not network
print(pictures.pop())
torch.save({key: data[key].state_dict() for key in ('G', 'D', 'G_ema')}, states)
if resaved:
    with open(resaved[0], 'wb') as file:
        pickle.dump(data, file)
