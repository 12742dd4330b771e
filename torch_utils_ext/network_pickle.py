"""Network pickles of EG3D, StyleGAN2-ADA and StyleGAN3, read without NVIDIA's code and without running what is in them.

A network pickle is a dict of `G`, `D`, `G_ema`, `training_set_kwargs` and `augment_pipe`.  `read_network_pickle` finds
the networks and where each of their tensors lies; tensors are read when `NetworkRecord.state_dict` asks for them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from torch_utils_ext.errors import InputError
from torch_utils_ext.foreign_files import describe_file, describe_folder
from torch_utils_ext.network_copies import copies_elsewhere
from torch_utils_ext.network_patch import check_writable, write_unlearned_pickle
from torch_utils_ext.network_save import BRIDGE_VERSION, save_network_pickle
from torch_utils_ext.pickle_tensors import TensorRecord
from torch_utils_ext.pickle_values import TRUST, Plain, Unread, elements, is_persistent, mapping, module_state, network_policy, persistent_meta
from torch_utils_ext.safe_pickle import Budget, Call, Machine, PickleError, Window
from torch_utils_ext.user_files import shown

__all__ = [
    'NetworkPickle', 'NetworkRecord', 'check_writable', 'copies_elsewhere', 'read_network_pickle', 'save_network_pickle',
    'write_unlearned_pickle',
]

NETWORK_KEYS = ('G', 'D', 'G_ema')
MAX_ENTRIES = 50_000  # modules and tensors in one network; a large EG3D has about 1,000
MAX_NESTING = 50
MAX_TENSOR_NAME = 200

@dataclass(frozen=True)
class KnownClass:
    """What in a pickle tells a class of generators, beside the name of the class."""

    tensors: set[str]  # its networks have them
    source: str = ''  # its source code has this text
    without: str = ''  # its constructor takes no argument of this name


# By where NVIDIA's repositories keep the class; the first that fits counts.  A generator of another family is a line here.
CLASSES = {
    'training.triplane.TriPlaneGenerator': KnownClass({'backbone.mapping.w_avg', 'backbone.synthesis.b4.const', 'decoder.net.0.weight'}),
    'training.networks_stylegan3.Generator': KnownClass({'mapping.w_avg', 'synthesis.input.freqs'}),
    # StyleGAN2-ADA takes the arguments of the synthesis network as one dict; the later repositories take them one by one, and only
    # they know the option fused_modconv_default.
    'training.networks_stylegan2.Generator': KnownClass({'mapping.w_avg', 'synthesis.b4.const'}, 'fused_modconv_default', 'synthesis_kwargs'),
    'training.networks.Generator': KnownClass({'mapping.w_avg', 'synthesis.b4.const'}),
}


@dataclass
class ModuleRecord:
    """One module inside a network: its class and the attributes that its code set, torch's own left out."""

    class_name: str  # persistent: the name alone; by reference: with its module, e.g. 'training.triplane.OSGDecoder'
    module_src: str | None  # the Python source that the file carries for it; None for a class by reference
    attributes: dict[str, Any]  # plain values; `TensorRecord` for plain tensors and non-persistent buffers; else `Unread`


@dataclass
class NetworkRecord:
    """One network of a pickle."""

    class_name: str
    upstream_class: str | None  # a key of CLASSES, or what `save_network_pickle` was told; None: a discriminator, or unknown
    module_src: str  # upstream's Python source that the file carries; never run
    init_args: tuple
    init_kwargs: dict[str, Any]
    attributes: dict[str, Any]  # plain attributes of the network itself, e.g. neural_rendering_resolution
    modules: dict[str, ModuleRecord]  # by dotted name, '' is the network itself; {} for a network of our own
    tensors: dict[str, TensorRecord]  # by name in the state dict, in its order
    source: NetworkPickle = field(repr=False)
    value: Any = field(repr=False)  # the inert object in the pickle

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All parameters and persistent buffers: fresh contiguous copies on the CPU, dtypes as in the file."""
        with self.source.open() as file:
            return {name: record.read(file) for name, record in self.tensors.items()}


@dataclass
class NetworkPickle:
    """What a network pickle holds.  The file is open only while something is read from it."""

    path: Path
    size: int  # bytes
    identity: tuple  # tells whether the file was changed since
    records: dict[str, NetworkRecord] = field(default_factory=dict)  # keys among 'G', 'D', 'G_ema'
    training_set_kwargs: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)  # what a user may want to know, one sentence each
    contents: dict[str, Any] = field(default_factory=dict, repr=False)  # all entries of the file, inert

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the file."""
        with self.open() as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return digest.hexdigest()

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file for reading.  Raises InputError when it is gone, or is not or does not stay the one that was read."""
        try:
            with open(self.path, 'rb') as file:
                self.check_unchanged(file)
                try:
                    yield file
                finally:
                    self.check_unchanged(file)  # before anything that a file seems to hold while it changes
        except PickleError as error:
            raise InputError(f'Cannot read {shown(self.path, 300)}: {error}.') from None
        except OSError as error:
            raise InputError(f'Cannot read {shown(self.path, 300)}: {error.strerror or error}.') from None

    def check_unchanged(self, file: BinaryIO) -> None:
        """Raises InputError where `file` was changed since the pickle was read."""
        if _identity(file) != self.identity:
            raise InputError(f'{shown(self.path, 300)} was changed while it was in use; start again.')


def read_network_pickle(path: str | os.PathLike, allow_unknown: bool = False) -> NetworkPickle:
    """The networks in the pickle at `path`.

    Nothing in the file is imported or called.  With `allow_unknown`, classes that are not NVIDIA's are let through (and
    not called either); their `upstream_class` is None.

    Raises InputError: no such file, not a network pickle, damaged, or not acceptable.  Its message names the file.
    """
    path, name = Path(path), shown(path, 300)
    try:
        if '\0' in str(path):
            raise FileNotFoundError
        if path.is_dir():
            raise InputError(f'{name} is a folder; expected a network pickle (.pkl){describe_folder(path)}.')
        if path.exists() and not path.is_file():
            raise InputError(f'{name} is a device or a pipe; expected a network pickle (.pkl).')
        with open(path, 'rb') as file:
            source = NetworkPickle(path, os.fstat(file.fileno()).st_size, _identity(file))
            try:
                foreign = describe_file(file, source.size)
                if foreign is not None:
                    raise InputError(f'{name} is not a network pickle: {foreign}.')
                _read_into(source, Window(file, source.size), allow_unknown)
            finally:
                source.check_unchanged(file)  # before anything that a file seems to hold while it changes
    except FileNotFoundError:
        raise InputError(f'{name} does not exist; expected a network pickle (.pkl).') from None
    except OSError as error:
        raise InputError(f'Cannot read {name}: {error.strerror or error}.') from None
    except PickleError as error:
        raise InputError(f'Cannot use {name} as a network pickle: {error}.') from None
    return source


def _read_into(source: NetworkPickle, data: Window, allow_unknown: bool) -> None:
    machine = Machine(data, 0, len(data), network_policy(allow_unknown), Budget(len(data)))
    contents = mapping(machine.run())
    if machine.position != len(data):
        raise PickleError(f'{len(data) - machine.position:,} bytes follow the end of the pickle')
    if contents is None or 'G_ema' not in contents:
        raise PickleError("it does not hold a dictionary with a network under 'G_ema'")
    source.contents = contents
    for key in NETWORK_KEYS:
        if is_persistent(contents.get(key)):
            # Nothing here needs the discriminator, so one that is out of the ordinary stands in nobody's way.
            with suppress(PickleError) if key == 'D' else nullcontext():
                source.records[key] = _network(contents[key], data, source, key != 'D', allow_unknown)
    if 'G_ema' not in source.records:
        raise PickleError("what it holds under 'G_ema' is not a network of torch_utils.persistence")
    if 'G' not in source.records:
        source.notes.append(
            "The file holds no 'G', only 'G_ema' (as GUIDE writes them); upstream's tools refuse it, and the unlearned file that is made of it."
        )
    settings = contents.get('training_set_kwargs')
    source.training_set_kwargs = None if settings is None else Plain(data)(mapping(settings) or {})


def _network(
    value: Call, data: Window, source: NetworkPickle, generator: bool, allow_unknown: bool
) -> NetworkRecord:
    meta = persistent_meta(value)
    state = mapping(meta['state']) or {}
    plain = Plain(data)
    init_args, init_kwargs = plain(state.get('_init_args', ())), plain(state.get('_init_kwargs', {}))
    if not isinstance(init_args, tuple) or not isinstance(init_kwargs, dict):
        raise PickleError('the arguments that its network was made with are damaged')
    bridged = state.get('_bridge_version') == BRIDGE_VERSION
    walk = None if bridged else _ModuleWalk(value, plain)
    tensors = dict(_bridged_tensors(state)) if walk is None else walk.tensors
    if sum(record.length for record in tensors.values()) > source.size:
        raise PickleError('its network claims more numbers than the file holds')
    upstream_class = None
    if generator:
        upstream_class = state.get('upstream_class') if bridged else _upstream_class(meta, init_kwargs, tensors)
        upstream_class = upstream_class if isinstance(upstream_class, str) else None
        if upstream_class is None and not allow_unknown:
            raise PickleError(
                f"its network {shown(meta['class_name'])} is not a generator of EG3D, StyleGAN2 or StyleGAN3, "
                f"so nothing was run; {TRUST}"
            )
    modules = {} if walk is None else walk.modules
    attributes = plain(mapping(state.get('attributes')) or {}) if bridged else _plain_only(modules[''].attributes)
    return NetworkRecord(
        class_name=meta['class_name'],
        upstream_class=upstream_class,
        module_src=meta['module_src'],
        init_args=init_args,
        init_kwargs=init_kwargs,
        attributes=attributes,
        modules=modules,
        tensors=tensors,
        source=source,
        value=value,
    )


def _upstream_class(meta: dict, init_kwargs: dict, tensors: dict[str, TensorRecord]) -> str | None:
    """Where NVIDIA's repositories keep the class; None for one that is none of `CLASSES`."""
    for path, known in CLASSES.items():
        is_named = path.rpartition('.')[2] == meta['class_name']
        if is_named and known.tensors <= tensors.keys() and known.source in meta['module_src'] and known.without not in init_kwargs:
            return path
    return None


class _ModuleWalk:
    """All modules of a network in the pickle, and all parameters and persistent buffers, in the order of torch's state_dict."""

    def __init__(self, root: Any, plain: Plain) -> None:
        self.plain = plain
        self.left = MAX_ENTRIES
        self.modules: dict[str, ModuleRecord] = {}
        self.tensors: dict[str, TensorRecord] = {}
        waiting: list[tuple[str, int, Any]] = [('', 0, root)]
        while waiting:
            prefix, depth, value = waiting.pop()
            if depth > MAX_NESTING or len(prefix) > MAX_TENSOR_NAME:
                raise PickleError('the modules of its network are nested without end')
            state = module_state(value)
            if state is None:
                raise PickleError(f"{shown(prefix.rstrip('.')) or 'the network'} in it is not a module")
            attributes = self._attributes(state) | self._own(prefix, state)
            self.modules[prefix.rstrip('.')] = ModuleRecord(*_class_of(value), attributes)
            children = [(f'{prefix}{name}.', depth + 1, child) for name, child in self._entries(state, '_modules')]
            waiting.extend(reversed(children))

    def _own(self, prefix: str, state: dict) -> dict[str, TensorRecord]:
        """Enter the module's own tensors; the non-persistent buffers, which no state dict has, are returned."""
        transient = elements(state.get('_non_persistent_buffers_set')) or ()
        self._count(len(transient))
        hidden = {name for name in transient if isinstance(name, str)}
        buffers = dict(self._entries(state, '_buffers'))
        found = self._entries(state, '_parameters') + [(name, buffers[name]) for name in buffers if name not in hidden]
        for name, tensor in found:
            if not isinstance(tensor, TensorRecord):
                raise PickleError(f'{shown(prefix + name)} in it is not a tensor')
            self.tensors[prefix + name] = tensor
        return {name: buffers[name] for name in buffers if name in hidden}

    def _attributes(self, state: dict) -> dict[str, Any]:
        self._count(len(state))
        return {
            name: value if isinstance(value, TensorRecord) else self.plain.or_unread(value)
            for name, value in state.items()
            if isinstance(name, str) and not name.startswith('_') and name != 'training' and module_state(value) is None
        }

    def _entries(self, state: dict, group: str) -> list[tuple[str, Any]]:
        """What stands under each name in ``_parameters``, ``_buffers`` or ``_modules``, None left out."""
        entries = mapping(state.get(group))
        self._count(len(entries or ()) + 1)
        if entries is None or not all(isinstance(name, str) and len(name) <= MAX_TENSOR_NAME for name in entries):
            raise PickleError('a module of its network is damaged')
        return [(name, value) for name, value in entries.items() if value is not None]

    def _count(self, entries: int) -> None:
        # Each mention counts: modules that share their children can describe more names than there are bytes.
        self.left -= entries
        if self.left < 0:
            raise PickleError(f'its network has more than {MAX_ENTRIES:,} modules and tensors')


def _bridged_tensors(state: dict) -> Iterator[tuple[str, TensorRecord]]:
    """The same for a network that `save_network_pickle` wrote: its tensors are in one dict."""
    for name, tensor in (mapping(state.get('tensors')) or {}).items():
        if not isinstance(name, str) or len(name) > MAX_TENSOR_NAME or not isinstance(tensor, TensorRecord):
            raise PickleError('a tensor of its network is damaged')
        yield name, tensor


def _class_of(value: Call) -> tuple[str, str | None]:
    """Name and source of a module's class."""
    if is_persistent(value):
        meta = persistent_meta(value)
        return meta['class_name'], meta['module_src']
    return str(value.function), None


def _plain_only(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if not isinstance(value, (TensorRecord, Unread))}


def _identity(file: BinaryIO) -> tuple:
    status = os.fstat(file.fileno())
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
