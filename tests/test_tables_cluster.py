"""Runs by worker processes: the same results as one after another, whatever becomes of a worker, and no folder shared."""
import dataclasses
import json
import sys
import types

import cluster_stand_ins as stand_ins
import pytest
import torch
from click.testing import CliRunner
from test_tables import JOB, put

from eg3d_unlearn.bench.tables import cluster, command, runner
from eg3d_unlearn.bench.tables.jobs import PEOPLE_FILE
from eg3d_unlearn.person.person import Person
from eg3d_unlearn.unlearning.training_loop import STOP, Interruption
from torch_utils_ext.errors import InputError

TASKS = (stand_ins.check, stand_ins.find, stand_ins.run)
needs_dask = pytest.mark.skipif('distributed' not in sys.modules and not __import__('importlib.util').util.find_spec('distributed'),
                                reason="needs dask: pip install -e '.[cluster]'")


@pytest.fixture(scope='module')
def client():
    pytest.importorskip('distributed', reason="needs dask: pip install -e '.[cluster]'")
    with cluster.connected(2) as client:
        yield client
