"""The list of patches, and what a patch is.

A patch is a module of this package for one known failure.  The first line of its docstring is the symptom; the rest
says why it happens, what the patch does and where it was reported.  It has

* ``needed() -> bool``: would code written the old way fail on this machine?  Tested by attribute or behaviour, never
  by version; always true where the mistake is in NVIDIA's own code.

and is of one of two kinds:

* a *start patch* has ``apply(run: runner.Run) -> None``, called once before the script starts, if it is needed;
* a *module patch* has ``concerns(module) -> bool`` and ``apply(module) -> None``.  Every module of the checkout, every
  module that comes out of a network pickle and every watched library (`imports.LIBRARIES`) is offered to it once, just
  after it has been executed.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Callable, Iterable

from torch_utils_ext.errors import InputError

if TYPE_CHECKING:
    from .runner import Run

# In the order in which they are applied.
NAMES = (
    'script_folder',
    'pkg_resources_gone',
    'distutils_gone',
    'optional_packages',
    'mps_float64',
    'cuda_to_cpu',
    'cuda_in_pickle',
    'extension_cache',
    'extension_lock',
    'extension_std',
    'extension_arch_list',
    'visual_studio',
    'plugin_fallback',
    'half_on_cpu',
    'sampler_data_source',
    'grid_sample_backward',
    'sqrtm_disp',
    'pillow_constants',
    'video_writer',
    'fov_degrees',
    'inplace_rgb',
    'plane_axes',
)


def load(name: str) -> ModuleType:
    """Return the patch of that name."""
    return importlib.import_module(f'{__package__}.{name}')


def symptom(patch: ModuleType) -> str:
    """Return what a user sees without the patch, in one line."""
    return patch.__doc__.splitlines()[0]


def is_module_patch(patch: ModuleType) -> bool:
    """Tell whether the patch waits for a module, rather than for the start of the script."""
    return hasattr(patch, 'concerns')


def choose(only: Iterable[str] = (), skip: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names of the patches that are in `only` (empty: all) and not in `skip`, in the order of `NAMES`.

    ``-`` and ``_`` are the same in a name.  Raises InputError for a name that is not a patch.
    """
    only, skip = ([name.strip().replace('-', '_') for name in names] for names in (only, skip))
    for name in only + skip:
        if name not in NAMES:
            raise InputError(f'there is no patch named {name!r}. python -m patches.run --list shows their names.')
    return tuple(name for name in NAMES if name not in skip and (not only or name in only))


def start(names: Iterable[str], run: Run, report: Callable[[str], None] = lambda line: None) -> None:
    """Apply those start patches that are needed here."""
    for name in names:
        patch = load(name)
        if not is_module_patch(patch) and patch.needed():
            patch.apply(run)
            report(f'applied {name}')


def offer(names: Iterable[str], report: Callable[[str], None] = lambda line: None) -> Callable[[ModuleType], None]:
    """Return a function that takes a module and applies those module patches to it that concern it, once."""
    patches = [(name, load(name)) for name in names if is_module_patch(load(name))]
    seen = []  # the modules themselves: a module that is alive keeps its identity

    def offer_module(module: ModuleType) -> None:
        if any(module is known for known in seen):
            return
        seen.append(module)
        for name, patch in patches:
            if patch.concerns(module):
                patch.apply(module)
                report(f'applied {name} to {module.__name__}')

    return offer_module
