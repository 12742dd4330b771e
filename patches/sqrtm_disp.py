"""`sqrtm() got an unexpected keyword argument 'disp'` when FID is computed.

Cause: scipy dropped the argument; `frechet_inception_distance.py` asks with it for a pair of root and error.
Fix: `scipy.linalg.sqrtm` takes it again.
Report: https://github.com/scipy/scipy/pull/24334; https://github.com/Project-MONAI/MONAI/pull/9076
"""

from __future__ import annotations

import inspect
from types import ModuleType


def needed() -> bool:
    import scipy.linalg
    return _lacks_disp(scipy.linalg)


def concerns(module: ModuleType) -> bool:
    return module.__name__ == 'scipy.linalg' and _lacks_disp(module)


def apply(module: ModuleType) -> None:
    sqrtm = module.sqrtm

    def sqrtm_with_disp(A, disp=True, blocksize=None):
        """Matrix square root of `A`; with disp=False a pair of root and error."""
        root = sqrtm(A)
        return root if disp else (root, _error_estimate(module, root, A))

    module.sqrtm = sqrtm_with_disp


def _lacks_disp(module: ModuleType) -> bool:
    return 'disp' not in inspect.signature(module.sqrtm).parameters


def _error_estimate(module: ModuleType, root, A) -> float:
    """|root^2 - A|^2 / |A| in the Frobenius norm: the number that scipy used to return."""
    return module.norm(root @ root - A) ** 2 / module.norm(A)
