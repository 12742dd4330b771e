"""`Could not find a backend to open *.mp4`, or `unexpected keyword argument 'bitrate'`.

Cause: imageio writes videos through a package of its own, imageio-ffmpeg; without it there is no backend, or another
one (pyav) that knows other options.
Fix: videos ask for the FFMPEG backend by name, and a missing package is named before the network is loaded.
Report: https://github.com/NVlabs/stylegan3/issues/641
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from torch_utils_ext.errors import InputError

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm')
MISSING = 'videos need a package that is not installed: pip install imageio-ffmpeg'


def needed() -> bool:
    return importlib.util.find_spec('imageio_ffmpeg') is None or importlib.util.find_spec('av') is not None


def concerns(module: ModuleType) -> bool:
    return module.__name__ == 'imageio' and hasattr(module, 'get_writer')


def apply(module: ModuleType) -> None:
    get_writer = module.get_writer
    if importlib.util.find_spec('imageio_ffmpeg') is None:
        print(f'patches: {MISSING}', file=sys.stderr, flush=True)

    @functools.wraps(get_writer)
    def get_ffmpeg_writer(uri, format=None, *args, **kwargs):
        if format is None and Path(str(uri)).suffix.lower() in VIDEOS:
            if importlib.util.find_spec('imageio_ffmpeg') is None:
                raise InputError(MISSING)
            format = 'FFMPEG'
        return get_writer(uri, format, *args, **kwargs)

    module.get_writer = get_ffmpeg_writer
