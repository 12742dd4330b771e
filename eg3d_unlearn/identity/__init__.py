"""Face recognisers: pictures in, unit vectors out; frozen, so that gradients reach the pictures only."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn import weights as weight_files
from eg3d_unlearn.identity import crop
from eg3d_unlearn.resample import Box, resample
from torch_utils_ext.errors import InputError

NAMES = ('facenet', 'arcface', 'curricularface')
ALIGNMENTS = ('eg3d', 'ffhq', 'full')


class Recogniser(nn.Module):
    """A frozen face recogniser together with the crop that it was trained on.

    Attributes:
        name: 'facenet', 'arcface', 'curricularface' or the path of a TorchScript file.
        input_size: pixels, height = width of the pictures that the network takes.
        source: the file that the weights came from; None for untrained weights.
    """

    def __init__(
        self,
        name: str,                     # what the report calls it
        network: nn.Module,            # [N, 3, input_size, input_size] in [-1, 1] -> [N, D]
        input_size: int,               # pixels
        box: Callable[[str], Box],     # alignment -> the face's box in the picture
        source: Path | None = None,    # file of the weights; None = untrained
    ):
        super().__init__()
        self.name, self.input_size, self.source = name, input_size, source
        self.network = network
        self._box = box
        self.eval()
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def crop_for(
        self,
        alignment: str,  # 'eg3d' | 'ffhq' | 'full'
    ) -> Box:            # fractions of the picture's side
        """The part of an aligned picture that this recogniser looks at."""
        return self._box(alignment)

    def forward(
        self,
        faces: Tensor,  # [N, 3, input_size, input_size] float32 in [-1, 1], RGB
    ) -> Tensor:        # [N, D] float32, unit norm
        """Embeddings of pictures that are already cropped."""
        return F.normalize(self.network(faces))

    def embed(
        self,
        images: Tensor,  # [N, 3, H, W] float in [-1, 1], RGB, any size
        alignment: str,  # 'eg3d' | 'ffhq': how the pictures are aligned; 'full': the picture is the face crop
    ) -> Tensor:         # [N, D] float32, unit norm
        """Crop the face out, bring it to the network's size, embed it.  Wrap a constant side in ``torch.no_grad()``."""
        return self(resample(images, self.input_size, self.crop_for(alignment)))


def load_identity(
    name_or_path: str | Path,              # 'facenet' | 'arcface' | 'curricularface' | 'none' | a TorchScript file
    weights: str | Path | None = None,     # file of the weights; None = the cache, else a checked download
    device: torch.device | str = 'cpu',
    random_weights: bool = False,          # untrained: for tests and timings, the numbers mean nothing
    seed: int = 0,                         # of the untrained weights
    download: bool = True,                 # fetch missing weights where a checked address is known
) -> Recogniser | None:                    # None for 'none'
    """A recogniser by name, or any TorchScript module [N, 3, 112, 112] in [-1, 1] -> [N, D] by path.

    A TorchScript file is a program (a sandboxed one: tensors and arithmetic): load those that you trust.  It sees the
    same crop as ArcFace.

    Raises:
        InputError: unknown name, missing or foreign weights, a module that does not map pictures to vectors.
    """
    name = str(name_or_path)
    if name == 'none':
        return None
    if name not in NAMES:
        return _load_torchscript(Path(name).expanduser(), device)
    source = None if random_weights else weight_files.find(name, weights, download)
    network = _empty_network(name)
    if random_weights:
        _fill_randomly(network, _INPUT_SIZES[name], seed)
    else:
        network.load_published(weight_files.load_state(source), source)
    box = crop.facenet_box if name == 'facenet' else crop.arcface_box
    return Recogniser(name, network.fold(), _INPUT_SIZES[name], box, source).to(device)


_INPUT_SIZES = {'facenet': crop.FACENET_SIZE, 'arcface': crop.ARCFACE_SIZE, 'curricularface': crop.ARCFACE_SIZE}


def _empty_network(name: str) -> nn.Module:
    """The network without values: making initial ones would take a second and draw from the global generator."""
    with torch.device('meta'):
        if name == 'arcface':
            from eg3d_unlearn.identity.arcface import ArcFaceIRSE50 as Network
        elif name == 'curricularface':
            from eg3d_unlearn.identity.curricularface import CurricularFaceIR101 as Network
        else:
            from eg3d_unlearn.identity.facenet import FaceNet as Network
        return Network().to_empty(device='cpu')


@torch.no_grad()
def _fill_randomly(network: nn.Module, input_size: int, seed: int):
    """He-scaled weights, then the BatchNorms measured on noise pictures, so that embeddings differ between pictures."""
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for name, tensor in network.named_parameters():
        if tensor.ndim >= 2:
            fan_in = tensor[0].numel()
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / fan_in) ** 0.5)
        else:
            tensor.fill_(0 if name.endswith('bias') else 0.25)  # the slope of PReLU
    for norm in norms:
        norm.reset_running_stats()
        if norm.affine:
            norm.weight.fill_(1)
        norm.momentum = None  # running statistics = those of the one batch below
        norm.train()
    coarse = torch.rand(4, 3, 14, 14, generator=generator) * 2 - 1
    network(resample(coarse, input_size))
    network.eval()


def _load_torchscript(path: Path, device: torch.device | str) -> Recogniser:
    """A user's own recogniser, tried at once on two pictures."""
    if not path.is_file():
        raise InputError(f'--id-network={path} is neither one of {", ".join(NAMES)}, none, nor a file. '
                         'Expected a TorchScript file (torch.jit.save).')
    if not _is_torchscript(path):
        raise InputError(f'--id-network={path} is not a TorchScript file. Save the recogniser with torch.jit.script or '
                         'torch.jit.trace and torch.jit.save; a file of weights belongs to --id-weights.')
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='.*torch.jit.load')  # new torch calls the format deprecated
            module = torch.jit.load(str(path), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise InputError(f'--id-network={path} cannot be loaded: {str(error).strip().splitlines()[0]}') from None
    recogniser = Recogniser(str(path), _Unoptimised(module), crop.ARCFACE_SIZE, crop.arcface_box, path).to(device)
    _try_out(recogniser.network, path, device)
    return recogniser


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return any('/code/' in name for name in names) and any(name.endswith('/constants.pkl') for name in names)


class _Unoptimised(nn.Module):
    """Runs TorchScript as written: its optimiser changes roundings after the first calls; a resumed run must not."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(
        self,
        faces: Tensor,  # [N, 3, 112, 112] float32 in [-1, 1]
    ) -> Tensor:        # [N, D]
        with torch.jit.optimized_execution(False):
            return self.module(faces)


def _try_out(network: nn.Module, path: Path, device: torch.device | str):
    """Raise InputError unless two pictures give two finite vectors that gradients can pass."""
    size = crop.ARCFACE_SIZE
    faces = torch.linspace(-1, 1, 2 * 3 * size * size, device=device).sin().reshape(2, 3, size, size).requires_grad_()
    expected = f'expected [N, 3, {size}, {size}] in [-1, 1] -> [N, D], a finite float vector for each picture'
    with torch.enable_grad():
        try:
            out = network(faces)
        except Exception as error:  # whatever the user's program raises
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise InputError(f'--id-network={path} fails on pictures [2, 3, {size}, {size}] ({reason}); '
                             f'{expected}.') from None
        if not isinstance(out, Tensor) or out.ndim != 2 or out.shape[0] != 2 or not out.is_floating_point():
            got = f'{out.dtype} {list(out.shape)}' if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f'--id-network={path} maps [2, 3, {size}, {size}] to {got}; {expected}.')
        if not out.isfinite().all() or (out == 0).all(1).any():
            raise InputError(f'--id-network={path} gives NaN, infinite or zero vectors; {expected}.')
        if not out.requires_grad:
            raise InputError(f'--id-network={path} passes no gradient to its pictures, so that the identity loss could '
                             'not work. Save it without torch.no_grad() or detach().')
