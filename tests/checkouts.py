"""NVIDIA's checkouts, for tests marked `upstream`: which variable names the one of a network, and where it is."""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from torch_utils_ext.upstream import find_upstream

# Kind of a network, or a repository: the variable that names the checkout whose code makes it.
CHECKOUTS = {'eg3d': 'EG3D_DIR', 'stylegan2-ada': 'STYLEGAN2_ADA_DIR',
             **dict.fromkeys(('stylegan2', 'stylegan3', 'stylegan3-t', 'stylegan3-r'), 'STYLEGAN3_DIR')}
VARIABLES = tuple(dict.fromkeys(CHECKOUTS.values()))


def checkout_of(name: str) -> Path:
    """The folder that holds legacy.py, of a key of `CHECKOUTS` or of a variable; where there is none, the test is skipped."""
    variable = CHECKOUTS.get(name, name)
    if not os.environ.get(variable):
        pytest.skip(f'set {variable} to the folder of the checkout that holds legacy.py to run this test')
    return find_upstream(Path(os.environ[variable]).expanduser())


def pixels(image: Tensor) -> np.ndarray:  # [1, 3, H, W] -> [H, W, 3] as upstream rounds
    return (image[0].permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).byte().numpy().astype(int)
