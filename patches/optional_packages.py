"""`No module named 'mrcfile'`, even for `gen_samples.py --help`.

Cause: EG3D's scripts import at their top what only `--shapes` (mrcfile, plyfile, trimesh) or a video (imageio) needs.
Fix: a stand-in, for the checkout alone, that fails when it is used, with the command that installs the package; and a
look at the script's options first, so that `--shapes` without its packages fails at once and not after the rendering.
Report: https://github.com/NVlabs/eg3d (gen_samples.py, gen_videos.py).
"""

from __future__ import annotations

import importlib.util
import re

from torch_utils_ext.errors import InputError

from .imports import stand_in
from .runner import Run

# Module: what to install.
PACKAGES = {'mrcfile': 'mrcfile', 'plyfile': 'plyfile', 'trimesh': 'trimesh', 'imageio': 'imageio imageio-ffmpeg'}

# What `--shapes` really uses, by the format that it writes.
SHAPE_PACKAGES = {'.mrc': {'mrcfile': 'mrcfile'}, '.ply': {'plyfile': 'plyfile', 'skimage': 'scikit-image'}}


class MissingPackage(InputError, AttributeError):
    """Something of a package that is not installed was used.  An AttributeError too, for code that only looks."""


def needed() -> bool:
    return bool(_missing(PACKAGES))


def apply(run: Run) -> None:
    check_shapes(run)
    stand_in({name: {'__getattr__': _refuse(name)} for name in _missing(PACKAGES)}, run.root)


def check_shapes(run: Run) -> None:
    """Raise InputError if the script is asked for shapes whose packages are missing."""
    options = ' '.join(run.args)
    if not re.search(r'--shapes[= ](1|t|true|y|yes|on)\b', options, re.IGNORECASE):
        return
    # gen_videos.py always writes .ply, gen_samples.py what --shape-format says.
    is_ply = run.script.name == 'gen_videos.py' or re.search(r'--shape-format[= ]\.ply', options)
    missing = _missing(SHAPE_PACKAGES['.ply' if is_ply else '.mrc'])
    if missing:
        raise InputError(f'--shapes needs packages that are not installed: pip install {" ".join(missing.values())}')


def _missing(packages: dict[str, str]) -> dict[str, str]:
    return {name: install for name, install in packages.items() if importlib.util.find_spec(name) is None}


def _refuse(package: str):
    def refuse(attribute: str):
        if attribute.startswith('__'):
            raise AttributeError(attribute)
        raise MissingPackage(f'the script uses {package}.{attribute}, but the package is not installed: '
                             f'pip install {PACKAGES[package]}')
    return refuse
