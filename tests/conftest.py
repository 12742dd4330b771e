"""The cores are shared among the processes that pytest-xdist makes; tests for what is not here are skipped."""
import os

import pytest
import torch
from checkouts import VARIABLES

# Marker: whether what it needs is here, and how to get it.
NEEDS = {
    'gpu': (torch.cuda.is_available, 'needs a GPU: run it where torch.cuda.is_available(), pytest -m gpu for these tests alone'),
    'upstream': (lambda: any(map(os.environ.get, VARIABLES)), f'needs NVIDIA checkouts: set {", ".join(VARIABLES)} to their folders that '
                 'hold legacy.py'),
}


def pytest_configure(config):
    workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
    if workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def pytest_runtest_setup(item):
    for marker, (here, sentence) in NEEDS.items():
        if item.get_closest_marker(marker) and not here():
            pytest.skip(sentence)
