"""Runs unlearn.py and kills it, as ``kill -9`` does, at a chosen moment: python kill_at.py MOMENT COUNT OPTIONS..."""
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from eg3d_unlearn import run  # noqa: E402
from eg3d_unlearn.command import main  # noqa: E402
from eg3d_unlearn.person.inversion import optimise  # noqa: E402
from eg3d_unlearn.unlearning import loss  # noqa: E402
from torch_utils_ext import atomic_file, network_patch  # noqa: E402


def die_at(module, name: str, count: int, halfway=None) -> None:
    """Replace ``module.name`` so that its ``count``-th call ends the process, after ``halfway`` was done."""
    inner, calls = getattr(module, name), [0]

    def wrapped(*arguments, **options):
        calls[0] += 1
        if calls[0] == count:
            if halfway is not None:
                halfway(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments, **options)
    setattr(module, name, wrapped)


def half_a_copy(original, copy) -> None:
    copy.write(original.read(100_000))
    copy.flush()


MOMENTS = {
    'inverting': (optimise, 'shrink', None),
    'step': (loss.UnlearningLoss, 'accumulate_gradients', None),
    'before a file is put in place': (atomic_file.os, 'replace', None),
    'half of the network is written': (network_patch, '_copy', half_a_copy),
    'before the report': (run.figures, 'measure', None),
}

if __name__ == '__main__':
    moment, count = sys.argv[1], int(sys.argv[2])
    if moment != 'never':
        module, name, halfway = MOMENTS[moment]
        die_at(module, name, count, halfway)
    main(sys.argv[3:])
