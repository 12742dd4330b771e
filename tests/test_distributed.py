"""Several processes split the pairs of a step: the same loss and gradient as one, the same network out."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from click.testing import CliRunner
from small import SMALL, small_generator
from test_loss_step import make

from eg3d_unlearn import distributed
from eg3d_unlearn.command import main
from torch_utils_ext.network_pickle import save_network_pickle

PROJECT = Path(__file__).resolve().parents[1]


def step(family: str) -> dict:
    """Terms and gradient of one step on top of a gradient that is there already."""
    loss, parameters = make(family, batch=1, alpha_max=2.0)
    first = next(iter(parameters.values()))
    first.grad = torch.ones_like(first)
    terms = loss.accumulate_gradients(11)
    return {'terms': terms, 'gradient': {name: p.grad for name, p in parameters.items() if p.grad is not None}}


def process(rank: int, count: int, family: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=count)
    asked = [distributed.anybody(rank == 1), distributed.anybody(False)]
    torch.save({**step(family), 'asked': asked, 'from first': distributed.from_first({'rank': rank})}, f'{folder}/{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.parametrize('family', ['eg3d', 'stylegan2'])
def test_two_processes_have_the_loss_and_gradient_of_one(family, tmp_path):
    mp.spawn(process, (2, family, str(tmp_path)), nprocs=2)
    alone = step(family)
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pt')
        assert found['asked'] == [True, False] and found['from first'] == {'rank': 0}
        assert found['terms'] == pytest.approx(alone['terms'], rel=1e-6, abs=1e-6)
        for name, gradient in alone['gradient'].items():
            torch.testing.assert_close(found['gradient'].get(name, torch.zeros_like(gradient)), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_torchrun_gives_the_network_of_one_process(tmp_path):
    save_network_pickle(tmp_path / 'n.pkl', *SMALL['stylegan2'], small_generator('stylegan2').network.state_dict())
    words = ['--network', str(tmp_path / 'n.pkl'), '--latent-seed=1', '--method=guide', '--iters=3', '--random-metric-weights', '--device=cpu',
             '--batch=1', '--report=brief', '--lpips-net=squeeze', '--lpips-resolution=32', '--id-network=none']
    assert CliRunner().invoke(main, [*words, f'--outdir={tmp_path / "one"}'], catch_exceptions=False).exit_code == 0
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(PROJECT))
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', 'unlearn.py', *words,
                           f'--outdir={tmp_path / "two"}'], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in (tmp_path / 'one').iterdir()} == {path.name for path in (tmp_path / 'two').iterdir()}
    from eg3d_unlearn.generators.build import build
    from torch_utils_ext.network_pickle import read_network_pickle
    one, two = (build(read_network_pickle(tmp_path / side / 'network-unlearned.pkl').records['G_ema']).state_dict() for side in ('one', 'two'))
    source = small_generator('stylegan2').network.state_dict()
    assert any(not torch.equal(one[name], source[name]) for name in one)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6)
