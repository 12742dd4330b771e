# This network is MobileStyleGAN, for which NVIDIA's code has no class.  Unpickling runs this text, which takes the class from the package
# eg3d_unlearn: where that is installed, NVIDIA's scripts show the network like one of theirs.

import torch


class MobileStyleGAN(torch.nn.Module):
    def __setstate__(self, state):
        try:
            from eg3d_unlearn.generators.networks.mobilestylegan import MobileStyleGAN as Network
        except ImportError:
            raise ImportError('This network is MobileStyleGAN, which is no network of NVIDIA\'s: install eg3d_unlearn to open it.') from None
        network = Network(**dict(state['_init_kwargs']))
        network.load_state_dict(dict(state['tensors']))
        network.eval().requires_grad_(False)
        self.__dict__.update(network.__dict__)
        object.__setattr__(self, '__class__', Network)
