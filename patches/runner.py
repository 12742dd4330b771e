"""Run a script as ``python script.py`` would, with patches."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.machinery
import json
import os
import sys
from pathlib import Path
from types import ModuleType

from . import imports, registry

# Tells the processes that the script starts what to patch (`worker`).
WORKER_VARIABLE = 'EG3D_UNLEARN_PATCHES_RUN'

# Contexts that last as long as the process.  Held here: one that is forgotten is left.
_FOR_GOOD = contextlib.ExitStack()


@dataclasses.dataclass(frozen=True)
class Run:
    """One script to run."""

    script: Path                # absolute
    args: tuple[str, ...] = ()  # what the script finds in sys.argv[1:]
    names: tuple[str, ...] = registry.NAMES  # the patches to use, where needed
    device: str = 'cpu'         # what stands for CUDA where there is none: 'cpu' or 'mps'
    verbose: bool = False       # say on stderr which patches were applied
    is_worker: bool = False     # a process that the script started: it prints nothing

    @property
    def root(self) -> Path:
        """The checkout: the nearest folder, from the script's own upwards, that holds NVIDIA's `torch_utils`."""
        for folder in self.script.parents:
            if (folder / 'torch_utils' / 'persistence.py').is_file():
                return folder
        return self.script.parent

    def say(self, line: str) -> None:
        """Print a line for the user, beside the script's own output."""
        if not self.is_worker:
            print(f'patches: {line}', file=sys.stderr, flush=True)

    def to_json(self) -> str:
        """Return this run for a process that the script starts."""
        return json.dumps(dataclasses.asdict(self) | {'script': str(self.script), 'is_worker': True})

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Undo `to_json`."""
        fields = json.loads(text)
        return cls(**fields | {'script': Path(fields['script']), 'args': tuple(fields['args']),
                               'names': tuple(fields['names'])})


def prepare(run: Run) -> None:
    """Apply the start patches, and have the module patches wait for their modules.  Stays so for this process."""
    _set_path(run.script)
    report = run.say if run.verbose else lambda line: None
    registry.start(run.names, run, report)
    _FOR_GOOD.enter_context(imports.watching(run.root, registry.offer(run.names, report)))


def _set_path(script: Path) -> None:
    """Make `sys.path` what `python script.py` has: the script's folder first, not the current one."""
    ours = str(Path(__file__).resolve().parents[1])
    rest = [entry for entry in sys.path if entry not in ('', str(Path.cwd()), str(script.parent), ours)]
    sys.path[:] = [str(script.parent), *rest, ours]  # ours, last, is for the processes that the script starts


def execute(run: Run) -> None:
    """Execute the script as `__main__`."""
    main = ModuleType('__main__')
    main.__dict__.update(__file__=str(run.script), __builtins__=__builtins__, __cached__=None)
    # A process started with `spawn` imports the parent's main module again: this name leads it to the patches first.
    main.__spec__ = importlib.machinery.ModuleSpec(f'{__package__}.worker', loader=None)
    os.environ[WORKER_VARIABLE] = run.to_json()
    sys.modules['__main__'] = main
    sys.argv = [str(run.script), *run.args]
    code = compile(run.script.read_bytes(), str(run.script), 'exec', dont_inherit=True)
    exec(code, main.__dict__)
