"""Act on modules just after they were executed, and stand in for modules that are gone."""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import Callable, Iterator

# Libraries that a patch may want to see, besides the modules of the checkout.
LIBRARIES = ('PIL.Image', 'click', 'imageio', 'scipy.linalg', 'torch.utils.cpp_extension', 'torch.utils.file_baton')

# What a checkout has at its top.  A script from elsewhere may put a checkout on the path by itself.
PACKAGES = ('torch_utils', 'dnnlib', 'legacy', 'training', 'metrics', 'camera_utils', 'shape_utils', 'gui_utils', 'viz')

# `torch_utils.persistence` gives this name to the modules that it makes from the sources in a network pickle.
PICKLED_PREFIX = '_imported_module_'


@contextlib.contextmanager
def watching(root: Path, callback: Callable[[ModuleType], None]) -> Iterator[None]:
    """Call `callback(module)` for every module under `root`, in `PACKAGES` or `LIBRARIES`, just after it was executed.

    So also for modules made from the sources inside a network pickle.  Libraries that are already there are offered at
    once.
    """
    def seen(module: ModuleType) -> None:
        _forget_stand_ins()
        callback(module)
        watch_pickled_sources(module, callback)

    finder = _WatchingFinder(root.resolve(), seen)
    sys.meta_path.insert(0, finder)
    try:
        for name in LIBRARIES:
            if name in sys.modules:
                seen(sys.modules[name])
        yield
    finally:
        sys.meta_path.remove(finder)


def watch_pickled_sources(module: ModuleType, callback: Callable[[ModuleType], None]) -> None:
    """If `module` is a `torch_utils.persistence`, call `callback` for the modules that it makes from sources.

    Its public `import_hook` sees the source, not the module, and changing the source would change what the network
    writes when it is pickled again; so the function that executes the source is wrapped.
    """
    execute = getattr(module, '_src_to_module', None)
    if execute is None or not hasattr(module, 'persistent_class'):
        return

    @functools.wraps(execute)
    def execute_and_offer(source: str) -> ModuleType:
        made = execute(source)
        callback(made)
        return made

    module._src_to_module = execute_and_offer


class _WatchingFinder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: asks the other finders, and adds a callback to what they found."""

    def __init__(self, root: Path, callback: Callable[[ModuleType], None]):
        self.root = root
        self.callback = callback

    def find_spec(self, name, path=None, target=None):
        spec = _spec_from_the_others(self, name, path, target)
        if spec is None or spec.loader is None or not hasattr(spec.loader, 'exec_module'):
            return spec
        if name in LIBRARIES or is_of_checkout(name) or is_under(spec.origin, self.root):
            execute = spec.loader.exec_module

            def execute_and_offer(module: ModuleType) -> None:
                execute(module)
                self.callback(module)

            # On the instance, so that the loader stays what it is (inspect.getsource asks it for the source).
            spec.loader.exec_module = execute_and_offer
        return spec


def _spec_from_the_others(finder, name, path, target):
    for other in sys.meta_path:
        if other is not finder and hasattr(other, 'find_spec'):
            spec = other.find_spec(name, path, target)
            if spec is not None:
                return spec
    return None


def stand_in(
    modules: dict[str, dict[str, object]],  # dotted name -> what the module holds; parents must be listed too
    root: Path,                             # only for imports by the checkout, or by pickled sources
) -> None:
    """Provide modules that cannot be found otherwise.

    Other libraries, which may try an import to see whether a package is there, still get their ImportError.
    """
    sys.meta_path.append(_StandInFinder(modules, root.resolve()))


def _forget_stand_ins() -> None:
    """Leave the stand-ins to those who imported them: others who import these names must not find them."""
    for finder in sys.meta_path:
        if isinstance(finder, _StandInFinder):
            for name in finder.modules:
                if getattr(sys.modules.get(name), '__loader__', None) is finder:
                    del sys.modules[name]


class _StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, modules: dict[str, dict[str, object]], root: Path):
        self.modules = modules
        self.root = root

    def find_spec(self, name, path=None, target=None):
        if name not in self.modules or not is_upstream(_importing_frame(), self.root):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return None  # an ordinary module

    def exec_module(self, module):
        module.__dict__.update(self.modules[module.__name__])


def _importing_frame() -> FrameType | None:
    """Return the frame of the import statement that is being served."""
    frame = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename.startswith('<frozen importlib')
                                 or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    return frame


def is_upstream(frame: FrameType | None, root: Path) -> bool:
    """Tell whether a frame runs code of the checkout, or code out of a network pickle."""
    if frame is None:
        return False
    name = frame.f_globals.get('__name__') or ''
    return name.startswith(PICKLED_PREFIX) or is_of_checkout(name) or is_under(frame.f_code.co_filename, root)


def is_of_checkout(name: str) -> bool:
    """Tell whether a module's dotted name is one that a checkout has."""
    return name.split('.')[0] in PACKAGES


def is_under(file: str | None, root: Path) -> bool:
    """Tell whether a file lies in a folder or below it, through links too."""
    return bool(file) and file.endswith('.py') and Path(file).resolve().is_relative_to(root)


def own_classes(module: ModuleType) -> list[type]:
    """Return the classes that a module defines, those beneath NVIDIA's `persistent_class` decorator included.

    The decorator puts a subclass of its own in the place of the class.
    """
    found = []
    for value in list(vars(module).values()):
        for cls in value.__mro__ if isinstance(value, type) else ():
            if cls.__module__ == module.__name__ and cls not in found:
                found.append(cls)
    return found
