"""What was rendered of a network once need not be rendered again: many unlearned networks are measured against one."""
from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Callable

import torch
from torch import Tensor

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.run_folder import load_whole, write_whole
from torch_utils_ext.download import make_folder
from torch_utils_ext.errors import InputError


class Cache:
    """Tensors by protocol, in memory, and in a folder where there is one.

    A key is the whole protocol: network, latents, cameras, judge.  The folder only ever gets what shows random people.
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = None if folder is None else Path(folder)
        self.kept: dict[str, Any] = {}
        self.network_of: dict[str, str] = {}  # name of a content -> fingerprint of the network that made it

    def get(
        self,
        key: dict,                   # plain values that fix the content
        make: Callable[[], Any],     # a tensor, or a dict of tensors
        on_disk: bool = False,       # also into the folder; never for what shows the person, or a person's photo
    ) -> Any:
        """The content for ``key``, made on first use."""
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        if name in self.kept:
            return self.kept[name]
        path = None if self.folder is None or not on_disk else self.folder / f'{name[:32]}.pt'
        content = None if path is None else read(path)
        if content is None:
            content = make()
            if path is not None:
                self._keep(path, content)
        self.kept[name] = content
        if 'network' in key:
            self.network_of[name] = key['network']
        return content

    def _keep(self, path: Path, content: Any) -> None:
        try:
            make_folder(path.parent)
            write_whole(path, lambda file: torch.save(content, file))
        except InputError as error:  # a full disk costs time when the same is asked for again, not the figure
            self.folder = None
            print(f'{error} The measurement goes on without the cache.', file=sys.stderr)

    def forget(self, network: str) -> None:
        """Let go, in memory, of what one network showed; ``network`` is its `fingerprint`."""
        for name in [name for name, of in self.network_of.items() if of == network]:
            del self.kept[name], self.network_of[name]


def read(path: Path) -> Any | None:
    """The content of a file; None where there is none, or a damaged one, which is then made anew."""
    if not path.is_file():
        return None
    try:
        return load_whole(path)
    except Exception:                # a damaged file fails in many ways
        return None


def checksum(tensor: Tensor | None) -> str | None:
    """A fingerprint of a tensor's values."""
    return None if tensor is None else hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def fingerprint(generator: Generator) -> str:
    """Checksum of all that decides a network's pictures: tensors, class, arithmetic, field of view, rays."""
    digest = hashlib.sha256()
    for name, tensor in generator.network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    settings = [generator.family, generator.class_label, generator.precision, str(generator.device),
                getattr(generator, 'fov_deg', None), getattr(generator.network, 'neural_rendering_resolution', None)]
    settings += ['light'] if generator.is_light else []
    digest.update(repr(settings).encode())
    return digest.hexdigest()
