"""`module 'PIL.Image' has no attribute 'ANTIALIAS'` in EG3D's scripts that download, crop and align FFHQ.

Cause: Pillow 10 dropped three old names of filters.
Fix: they stand again for the filters that they always were.
Report: https://pillow.readthedocs.io/en/stable/releasenotes/10.0.0.html; https://github.com/genforce/idinvert_pytorch/issues/41
"""

from __future__ import annotations

from types import ModuleType

NAMES = {'ANTIALIAS': 'LANCZOS', 'CUBIC': 'BICUBIC', 'LINEAR': 'BILINEAR'}


def needed() -> bool:
    import PIL.Image
    return concerns(PIL.Image)


def concerns(module: ModuleType) -> bool:
    return module.__name__ == 'PIL.Image' and not all(hasattr(module, name) for name in NAMES)


def apply(module: ModuleType) -> None:
    for name, today in NAMES.items():
        if not hasattr(module, name):
            setattr(module, name, getattr(module.Resampling, today))
