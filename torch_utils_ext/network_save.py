"""Saves a network of our own as a pickle that an unmodified NVIDIA checkout opens.

The pickle holds no source code of NVIDIA's.  In its place stands `upstream_bridge.py`, which upstream's persistence
runs on loading: it builds the checkout's own class from the saved arguments and loads the tensors by name.

`G` and `G_ema` are two objects in the loaded pickle, but their numbers are in the file once: a network of our own has
only one set of them, the file is half as long, and no second copy can stay behind when it is patched.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

import torch

from torch_utils_ext.atomic_file import replacing
from torch_utils_ext.errors import InputError
from torch_utils_ext.pickle_tensors import FORMAT_VERSION, MAGIC, STORAGE_DTYPES
from torch_utils_ext.pickle_values import PERSISTENCE_VERSION, PERSISTENT
from torch_utils_ext.safe_pickle import Call, Global

BRIDGE_VERSION = 1
_STORAGE_NAMES = {dtype: name for name, dtype in STORAGE_DTYPES.items()}


def save_network_pickle(
    out_path: str | Path,
    upstream_class: str,  # e.g. 'training.triplane.TriPlaneGenerator'
    init_kwargs: dict[str, Any],  # plain Python: what the class is made with
    state_dict: dict[str, torch.Tensor],
    attributes: dict[str, Any] | None = None,  # set on the network, e.g. neural_rendering_resolution; None: none
    training_set_kwargs: dict[str, Any] | None = None,
    source: str | None = None,  # Python that runs on loading and builds the network; None: `upstream_bridge`, for upstream's classes
) -> None:
    """Write a network pickle of `G`, `D` (an empty module), `G_ema`, `training_set_kwargs` and `augment_pipe` (None).

    Whole or not at all; the same input gives the same bytes.  Raises InputError: not writable, or a value that is
    neither plain Python nor a tensor.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in state_dict.items()}
    state = {
        '_bridge_version': BRIDGE_VERSION,
        'upstream_class': upstream_class,
        '_init_args': (),
        '_init_kwargs': init_kwargs,
        'attributes': attributes or {},
        'tensors': tensors,
    }
    meta = {
        'type': 'class',
        'version': PERSISTENCE_VERSION,
        'module_src': source or Path(__file__).with_name('upstream_bridge.py').read_text(encoding='utf-8'),
        'class_name': upstream_class.rsplit('.', 1)[1],
        'state': state,
    }
    network = Call(PERSISTENT, (meta,))
    with replacing(Path(out_path)) as file:
        file.write(b'\x80\x04')
        emitter = Emitter(file)
        emitter.emit(
            {
                'G': network,
                'D': Call(Global('torch.nn.modules.linear', 'Identity'), ()),  # upstream insists on a module
                'G_ema': Call(PERSISTENT, (dict(meta, state=dict(state)),)),
                'training_set_kwargs': training_set_kwargs,
                'augment_pipe': None,
            }
        )
        file.write(b'.')


class Emitter:
    """Writes inert values, plain Python ones and tensors as pickle operations (protocol 4).

    Python's own pickler would import the classes to write their names.  A tensor that comes twice is written once.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.memo: dict[int, int] = {}  # id of a tensor -> its index in the pickle's memo
        self.kept: list[torch.Tensor] = []  # so that no id is used twice

    def emit(self, value: Any) -> None:
        """Write the operations that push `value`.  Raises InputError for what is not plain data."""
        if value is None or isinstance(value, bool):
            self.file.write({None: b'N', True: b'\x88', False: b'\x89'}[value])
        elif isinstance(value, int):
            raw = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
            self.file.write(b'\x8a' + struct.pack('<B', len(raw)) + raw)
        elif isinstance(value, float):
            self.file.write(b'G' + struct.pack('>d', value))
        elif isinstance(value, str):
            raw = value.encode('utf-8', 'surrogatepass')
            self.file.write(b'X' + struct.pack('<I', len(raw)) + raw)
        elif isinstance(value, bytes):
            self.file.write(b'B' + struct.pack('<I', len(value)) + value)
        elif isinstance(value, torch.Tensor):
            self._tensor(value)
        elif isinstance(value, Global):
            self.file.write(f'c{value.module}\n{value.name}\n'.encode())
        else:
            self._container(value)

    def _container(self, value: Any) -> None:
        if isinstance(value, tuple):
            self._marked(value, b't')
        elif isinstance(value, list):
            self.file.write(b']')
            self._marked(value, b'e')
        elif isinstance(value, (set, frozenset)):
            self.file.write(b'\x8f')
            self._marked(sorted(value), b'\x90')
        elif isinstance(value, dict):
            self.file.write(b'}')
            self._marked([part for item in value.items() for part in item], b'u')
        elif isinstance(value, Call):
            self.emit(value.function)
            self.emit(value.args)
            self.file.write(b'R')
            if value.state is not None:
                self.emit(value.state)
                self.file.write(b'b')
        else:
            raise InputError(f'Cannot save {type(value).__name__} in a network pickle, only plain Python and tensors.')

    def _marked(self, parts: Any, operation: bytes) -> None:
        self.file.write(b'(')
        for part in parts:
            self.emit(part)
        self.file.write(operation)

    def _tensor(self, tensor: torch.Tensor) -> None:
        if id(tensor) in self.memo:
            self.file.write(b'j' + struct.pack('<I', self.memo[id(tensor)]))
            return
        values = tensor.detach().cpu().contiguous()
        if values.dtype not in _STORAGE_NAMES:
            raise InputError(f'Cannot save a tensor of {values.dtype} in a network pickle.')
        self.emit(Global('torch._utils', '_rebuild_tensor_v2'))
        self.file.write(b'(')
        self._storage(values)
        self.emit(0)
        self.emit(tuple(values.shape))
        self.emit(tuple(values.stride()))
        self.emit(False)
        self.emit(ORDERED)
        self.file.write(b'tR')
        self.memo[id(tensor)] = len(self.memo)
        self.kept.append(tensor)
        self.file.write(b'r' + struct.pack('<I', self.memo[id(tensor)]))

    def _storage(self, values: torch.Tensor) -> None:
        """``torch.storage._load_from_bytes(b)`` with b as the legacy ``torch.save`` writes it, see pickle_tensors."""
        raw = values.reshape(-1).view(torch.uint8).numpy()
        header = _storage_header(values)
        self.emit(Global('torch.storage', '_load_from_bytes'))
        self.file.write(b'\x8e' + struct.pack('<Q', len(header) + raw.nbytes) + header)
        self.file.write(raw.data)
        self.file.write(b'\x85R')


def _storage_header(values: torch.Tensor) -> bytes:
    """All that stands before the numbers."""
    out = io.BytesIO()
    emitter = Emitter(out)
    system = {
        'protocol_version': FORMAT_VERSION,
        'little_endian': True,
        'type_sizes': {'short': 2, 'int': 4, 'long': 4},
    }
    storage = ('storage', Global('torch', _STORAGE_NAMES[values.dtype]), '0', 'cpu', values.numel(), None)
    for value, end in ((MAGIC, b'.'), (FORMAT_VERSION, b'.'), (system, b'.'), (storage, b'Q.'), (['0'], b'.')):
        out.write(b'\x80\x02')
        emitter.emit(value)
        out.write(end)
    out.write(struct.pack('<q', values.numel()))
    return out.getvalue()


ORDERED = Call(Global('collections', 'OrderedDict'), ())
