"""What a pickle says about a network beside its arguments and tensors: honoured, refused, or said.

A pickle holds every module's attributes as they were when it was written, and NVIDIA's code computes with them; ours is
built from the network's init arguments.  So each attribute of the file either equals what ours has, or is taken over, or
has no part in a picture, or is an error.  The same goes for the modules' classes.  What the file's own source code does
differently cannot be seen without running it: that is said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.networks.arguments import NONE, number, one_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import ModuleRecord, NetworkRecord
from torch_utils_ext.pickle_tensors import TensorRecord
from torch_utils_ext.user_files import shown

TRUST = "If you trust it, --trust-pickle --upstream=DIR hands it to the checkout's own loader, which runs the file's code."

# SHA-256 of NVIDIA's source files, without a byte order mark and white space at the end,
KNOWN_SOURCES = {
    '080ff82a529f1d93c29019029807d56168faf9410f29f9fa5db7a66df1bc28a1',  # eg3d, triplane.py
    '29238fbe0add6d4b4f9bddb65e60c4766e9b0d1604cccd75148394dc8fd6f317',  # eg3d, networks_stylegan2.py
    'b07adbf29d66cd3eb856b6be75516858d02f07b443a108e24f193d093e4e044c',  # eg3d, networks_stylegan3.py
    'b2b4b4bf725b7dc8118e1b81c2109f746640e5ac15675ce0858d3d76867cdd6b',  # eg3d, superresolution.py
    'b96fe1839789dede13e89632a0f75fa6f87e3bdd0b68c5101d939ab727245364',  # stylegan2-ada-pytorch, networks.py
    '1fd76911f54e40b18a6085bf5fb79436b59e7ff6e8ac555f9b43b8f8158322be',  # stylegan3 8fb5177, networks_stylegan2.py
    '9fd9bc7a5eec1bcc943eba51ea3f6a268527d0e10385822ec86a5e8c3552572a',  # stylegan3 583f2bd, networks_stylegan2.py
    '42c251a657d761520bab66cacb00f2887e51857b6f03dc14d612413daaca2a4c',  # stylegan3 8fb5177, networks_stylegan3.py
    'f848022c08fd46384640bb2dc7d956e9ae7a83dd8ce4172da5a54aff2708c94a',  # stylegan3 583f2bd, networks_stylegan3.py
}
CLASS_NAMES = {'AdaGenerator': 'Generator', 'TriplaneDecoder': 'OSGDecoder'}  # ours: upstream's, where they differ
# Modules of EG3D that hold nothing; ours are functions.
FUNCTIONS = {'renderer.ray_marcher': 'MipRayMarcher2', 'ray_sampler': 'RaySampler'}
CONTAINERS = ('Sequential', 'ModuleList', 'ModuleDict')

# Attributes that have no part in a picture.
UNUSED = {
    'w_avg_beta', 'magnitude_ema_beta',  # read in training only
    'fused_modconv_default', 'channels_last',  # other ways to the same result
    # read while the module is made, and in its tensors since
    'img_resolution_log2', 'num_fp16_res', 'hidden_dim', 'num_critical', 'margin_size', 'is_critically_sampled',
    'in_sampling_rate', 'out_sampling_rate', 'tmp_sampling_rate', 'in_cutoff', 'out_cutoff', 'in_half_width', 'out_half_width',
    'up_taps', 'down_taps', 'down_radial',
}


# Attributes that our forward passes read under upstream's name, with what they may be.
HONOURED = {
    **dict.fromkeys(('use_fp16', 'sr_antialias'), one_of(True, False)),
    **dict.fromkeys(('weight_gain', 'bias_gain', 'act_gain', 'output_scale'), number(-1e30, 1e30)),
    'conv_clamp': number(0, 1e30) | NONE,
}
# What upstream's modules have that ours keep under another name, or in the shapes of their weights.
DERIVED: dict[str, Callable[[nn.Module], Any]] = {
    'in_channels': lambda module: module.weight.shape[1],
    'out_channels': lambda module: module.weight.shape[0],
    'w_dim': lambda module: module.affine.in_features,
    'num_layers': lambda module: len(module.layer_names) - 1,
    'channels': lambda module: module.signal.channels,
    'size': lambda module: [module.signal.size] * 2,
    'sampling_rate': lambda module: module.signal.sampling_rate,
    'bandwidth': lambda module: module.signal.cutoff,
    'in_size': lambda module: [module.source.size] * 2,
    'out_size': lambda module: [module.result.size] * 2,
    'conv_kernel': lambda module: module.weight.shape[-1],
    'up_factor': lambda module: module.up,
    'down_factor': lambda module: module.down,
}
# EG3D's own, which `networks.set_attributes` has taken over already.
OF_THE_NETWORK = {'neural_rendering_resolution', 'rendering_kwargs'}


def take_over(network: nn.Module, record: NetworkRecord) -> list[str]:
    """Let ``network``, built from the arguments of ``record``, compute with the attributes of the file.

    Returns sentences about what cannot be known.  Raises InputError for a class or an attribute that ours cannot follow.
    """
    # A network that this package saved has attributes of its own only.
    in_file = record.modules or {'': ModuleRecord(record.class_name, None, record.attributes)}
    ours = dict(network.named_modules())
    _compare_classes(ours, in_file, bool(record.modules))
    known = {source for source in {module.module_src for module in in_file.values()} if source is not None and _is_nvidias(source)}
    unread, foreign = [], set()
    for path, module in in_file.items():
        if module.module_src not in {*known, None} or path not in ours and path not in FUNCTIONS:
            foreign.add(module.class_name)
        for name, value in module.attributes.items():
            place = f'{path}.{name}' if path else name
            if path in ours and not _take(ours[path], name, value, place, record) and module.module_src not in known:
                unread.append(place)
    return _sentences(sorted(foreign), unread)


def _sentences(classes: list[str], attributes: list[str]) -> list[str]:
    said = []
    if classes:
        said.append(f'The file brings its own version of {_some(classes)}, which is none of those that NVIDIA published as source code. '
                    f'What it does differently is not honoured: compare a picture with one by NVIDIA\'s own tools. {TRUST}')
    if attributes:
        said.append(f'The file has attributes that NVIDIA\'s code as published does not know, and that were not used: {_some(attributes)}.')
    return said


def _some(names: list[str], limit: int = 5) -> str:
    listed = ', '.join(shown(name) for name in names[:limit])
    return listed if len(names) <= limit else f'{listed} and {len(names) - limit} more'


def _is_nvidias(source: str) -> bool:
    """Whether this is one of NVIDIA's source files as published."""
    return hashlib.sha256(source.rstrip().encode('utf-8', 'replace')).hexdigest() in KNOWN_SOURCES


def _compare_classes(ours: dict[str, nn.Module], in_file: dict[str, ModuleRecord], complete: bool) -> None:
    for path, module in ours.items():
        expected = CLASS_NAMES.get(type(module).__name__, type(module).__name__)
        if path not in in_file:
            if complete:
                raise InputError(f'The network has no {path} in the file; {expected} was expected. {TRUST}')
            continue
        _check_class(path, in_file[path], expected)
    for path in set(in_file) - set(ours):
        if path in FUNCTIONS:
            _check_class(path, in_file[path], FUNCTIONS[path])
        elif _name(in_file[path.rpartition('.')[0]]) in CONTAINERS:
            raise InputError(f'The file has a layer {shown(path)} that NVIDIA\'s networks do not have. {TRUST}')


def _check_class(path: str, found: ModuleRecord, expected: str) -> None:
    if _name(found) != expected:
        raise InputError(f'{path or "The network"} is of the class {shown(_name(found))} in the file; its arguments give {expected}. {TRUST}')


def _name(module: ModuleRecord) -> str:
    return module.class_name.rsplit('.', 1)[-1]


def _take(module: nn.Module, name: str, value: Any, place: str, record: NetworkRecord) -> bool:
    """Take over one attribute, see that it is as ours, or stop; False where no module of NVIDIA's has it."""
    if name in UNUSED:
        return True
    if name in OF_THE_NETWORK and vars(module).get(name) is value:
        return True
    if name == 'plane_axes' and hasattr(module, name):
        module.plane_axes = _plane_axes(value, place, record)
        return True
    try:
        expected = getattr(module, name) if hasattr(module, name) else DERIVED[name](module)
    except (KeyError, AttributeError):
        return value is None             # a part that the network does without, such as StyleGAN3's embed
    if _equal(value, expected):
        return True
    if name in HONOURED and name in vars(module) and HONOURED[name].holds(value):
        setattr(module, name, value)
        return True
    kind = shown(expected) if _is_plain(expected) else 'a part of the network'
    raise InputError(f'{shown(place)} is {_said(value)} in the file, where the network\'s arguments give {kind}; it cannot be followed. {TRUST}')


def _said(value: Any) -> str:
    return shown(value) if _is_plain(value) else 'a tensor' if isinstance(value, TensorRecord) else 'something else than plain data'


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list, tuple))


def _equal(a: Any, b: Any) -> bool:
    """Whether two plain values are the same; numbers up to their rounding."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a) < 1e30 and abs(a - b) <= 1e-6 * abs(b)
    return _is_plain(b) and type(a) is type(b) and a == b


def _plane_axes(value: Any, place: str, record: NetworkRecord) -> Tensor:
    """The renderer's [3, 3, 3] float32 plane axes."""
    axes = torch.zeros(0)
    if isinstance(value, TensorRecord) and value.shape == (3, 3, 3):
        with record.source.open() as file:
            axes = value.read(file).float()
    # Determinants: planes whose axes lie in one plane or line give no places.
    if axes.shape != (3, 3, 3) or not torch.isfinite(axes).all() or (torch.linalg.det(axes).abs() < 1e-3).any():
        raise InputError(f'{place} in the file is no tensor of three times three axes [3, 3, 3]. {TRUST}')
    return axes
