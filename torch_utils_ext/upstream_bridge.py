# This network was saved without upstream's source code.  Unpickling runs this text inside an NVIDIA checkout (EG3D,
# StyleGAN2-ADA or StyleGAN3): it builds the network with the checkout's own class and gives it the saved numbers.
# What comes out is an ordinary object of that class, which upstream's tools can use, copy, reload and save again.

import importlib

import dnnlib
import torch

# StyleGAN2 lives under two names.  The first takes the synthesis network's arguments as one dict, the second one by
# one, and their defaults differ.
STYLEGAN2_NESTED = 'training.networks'
STYLEGAN2_FLAT = 'training.networks_stylegan2'
STYLEGAN2_DEFAULTS = {
    STYLEGAN2_NESTED: {'num_fp16_res': 0, 'conv_clamp': None},
    STYLEGAN2_FLAT: {'num_fp16_res': 4, 'conv_clamp': 256},
}
GENERATOR_ARGUMENTS = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels', 'mapping_kwargs')


def easy(value):
    if isinstance(value, dict):
        return dnnlib.EasyDict({key: easy(part) for key, part in value.items()})
    return value


def import_host(upstream_class):
    module, name = upstream_class.rsplit('.', 1)
    candidates = [module]
    if module in STYLEGAN2_DEFAULTS:
        candidates += [other for other in STYLEGAN2_DEFAULTS if other != module]
    for candidate in candidates:
        try:
            return candidate, getattr(importlib.import_module(candidate), name)
        except ModuleNotFoundError as error:
            if error.name not in (candidate, 'training'):
                raise
    raise ImportError(f"This network needs {upstream_class}: run it inside a checkout of NVIDIA's code that has it.")


def translate(kwargs, saved_module, host_module):
    if saved_module == host_module:
        return kwargs
    kwargs = dict(kwargs)
    if host_module == STYLEGAN2_FLAT:
        synthesis = dict(kwargs.pop('synthesis_kwargs', {}))
    else:
        synthesis = {name: kwargs.pop(name) for name in list(kwargs) if name not in GENERATOR_ARGUMENTS}
        synthesis.pop('fused_modconv_default', None)
    synthesis = {**STYLEGAN2_DEFAULTS[saved_module], **synthesis}
    return {**kwargs, **synthesis} if host_module == STYLEGAN2_FLAT else {**kwargs, 'synthesis_kwargs': synthesis}


class SavedNetwork(torch.nn.Module):
    def __setstate__(self, state):
        host_module, host_class = import_host(state['upstream_class'])
        kwargs = translate(state['_init_kwargs'], state['upstream_class'].rsplit('.', 1)[0], host_module)
        with torch.random.fork_rng(devices=[]):
            network = host_class(*state['_init_args'], **easy(kwargs))
        network.load_state_dict(state['tensors'])
        network.eval().requires_grad_(False)
        for name, value in state['attributes'].items():
            setattr(network, name, value)
        self.__dict__.update(network.__dict__)
        object.__setattr__(self, '__class__', type(network))


Generator = TriPlaneGenerator = SavedNetwork
