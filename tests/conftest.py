"""The cores are shared among the processes that pytest-xdist makes, the longest first; tests for what is not here are skipped."""
import os

import pytest
import torch
from checkouts import VARIABLES

# Marker: whether what it needs is here, and how to get it.
NEEDS = {
    'gpu': (torch.cuda.is_available, 'needs a GPU: run it where torch.cuda.is_available(), pytest -m gpu for these tests alone'),
    'upstream': (lambda: any(map(os.environ.get, VARIABLES)), f'needs NVIDIA checkouts: set {", ".join(VARIABLES)} to their folders that '
                 'hold legacy.py'),
    'faces': (lambda: bool(os.environ.get('EG3D_UNLEARN_FACES')), 'needs the world of real faces: python -m eg3d_unlearn.worlds.faces setup, '
              'then EG3D_UNLEARN_FACES=1'),
}


def pytest_configure(config):
    workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
    if workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
        os.environ.setdefault('OMP_NUM_THREADS', str(torch.get_num_threads()))       # for commands in processes of their own


def pytest_collection_modifyitems(items):
    """Files with slow tests first: at the end no process waits long for the other."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files side by side, as --dist=loadfile does, but the runs of minutes one by one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return nodeid if 'test_demo_run.py' in nodeid else super()._split_scope(nodeid)
    return Scheduling(config, log) if config.getvalue('dist') == 'loadfile' else None


def pytest_runtest_setup(item):
    for marker, (here, sentence) in NEEDS.items():
        if item.get_closest_marker(marker) and not here():
            pytest.skip(sentence)
