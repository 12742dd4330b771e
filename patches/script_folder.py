"""`No module named 'torch_utils'` (or dnnlib, legacy, training) when a network pickle is opened.

Cause: a network pickle holds the source of its own module only; that source imports `torch_utils` and `dnnlib`, which
must come from the checkout.  `python script.py` puts the script's folder first on the path, other ways to start do not;
and `pip install torch_utils` brings something else of that name.
Fix: the checkout (and the script's own folder) first on the path, and modules of these names from elsewhere forgotten.
Report: https://github.com/NVlabs/stylegan2-ada-pytorch/issues/45 and many more; the most frequent one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .imports import is_under
from .runner import Run

# What the scripts and the sources in network pickles import from the checkout.
PACKAGES = ('torch_utils', 'dnnlib', 'legacy', 'training', 'metrics', 'camera_utils', 'shape_utils', 'gui_utils', 'viz')


def needed() -> bool:
    return True


def apply(run: Run) -> None:
    ours = str(Path(__file__).resolve().parents[1])
    # `python -m` put the current folder first; `python script.py` would not.  Ours goes last, for worker processes.
    path = [entry for entry in sys.path if entry not in ('', str(Path.cwd()), ours)]
    folders = list(dict.fromkeys([str(run.script.parent), str(run.root)]))
    sys.path[:] = folders + [entry for entry in path if entry not in folders] + [ours]
    for name, module in list(sys.modules.items()):
        if name.split('.')[0] in PACKAGES and not is_under(getattr(module, '__file__', None), run.root):
            del sys.modules[name]
