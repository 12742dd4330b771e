"""`No module named 'torch_utils'` (or dnnlib, legacy, training) when a network pickle is opened.

Cause: a network pickle holds the source of its own module only; that source imports `torch_utils` and `dnnlib`, which
must come from the checkout.  A script in a subfolder does not find them, and `pip install torch_utils` brings something
else of that name.
Fix: the checkout on the path behind the script's own folder, and modules of these names from elsewhere forgotten.
Report: https://github.com/NVlabs/stylegan2-ada-pytorch/issues/45 and many more; the most frequent one.
"""

from __future__ import annotations

import sys

from .imports import is_of_checkout, is_under
from .runner import Run


def needed() -> bool:
    return True


def apply(run: Run) -> None:
    if str(run.root) not in sys.path:
        sys.path.insert(1, str(run.root))  # after the script's own folder
    for name, module in list(sys.modules.items()):
        if is_of_checkout(name) and not is_under(getattr(module, '__file__', None), run.root):
            del sys.modules[name]
