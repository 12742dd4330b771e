"""`python -m patches.run` on stand-in checkouts, in processes of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]

# A checkout of our own shape, with several of the known failures.
CHECKOUT = {
    'torch_utils/__init__.py': '',
    'torch_utils/persistence.py': """
import sys, types
_made = {}
def persistent_class(cls):
    return cls
def _src_to_module(src):
    if src not in _made:
        module = _made[src] = types.ModuleType('_imported_module_42')
        sys.modules[module.__name__] = module
        exec(src, module.__dict__)
    return _made[src]
def rebuild(src, name):
    return getattr(_src_to_module(src), name)()
""",
    'dnnlib/__init__.py': 'from distutils.util import strtobool',
    'gen.py': '''
"""A script that insists on CUDA and unpickles code."""
import pickle, sys
import numpy as np
import torch
from torch_utils import persistence

SOURCE = """
import torch
class SynthesisBlockNoUp(torch.nn.Module):
    def forward(self, x, img):
        return x, img.add_(x.mean(1, keepdim=True))
"""

class Network:
    def __reduce__(self):
        return persistence.rebuild, (SOURCE, 'SynthesisBlockNoUp')

def main(device=torch.device('cuda')):
    with open('network.pkl', 'wb') as f:
        pickle.dump(Network(), f)
    with open('network.pkl', 'rb') as f:
        block = pickle.load(f).to(device)
    x = (torch.from_numpy(np.ones([1, 4, 2, 2])).to(device).requires_grad_() * 2).tanh()
    block(x, x[:, :3])[1].sum().backward()
    print('ran', sys.argv, sys.path[0], __file__, __name__, torch.zeros(1, device=device).device)
    sys.exit(3)

if __name__ == '__main__':
    main()
''',
}


def python(*args: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    env = dict(os.environ, PYTHONPATH=str(PROJECT), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', **variables)
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=240)


def run(*args: object, cwd: Path = PROJECT) -> subprocess.CompletedProcess:
    return python('-m', 'patches.run', *args, cwd=cwd)


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / 'checkout'
    for name, text in CHECKOUT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (tmp_path / 'work').mkdir()
    return folder


def test_an_unmodified_script_runs(checkout):
    work = checkout.parent / 'work'
    before = {file: file.read_bytes() for file in checkout.rglob('*.py')}
    assert python(checkout / 'gen.py', cwd=work).returncode == 1
    result = run(checkout / 'gen.py', '--', '--seeds=0-3', '--', 'x y', cwd=work)
    script = str(checkout / 'gen.py')
    args = [script, '--seeds=0-3', '--', 'x y']
    assert result.stdout == f'ran {args} {checkout} {script} __main__ cpu\n', result.stderr
    assert result.returncode == 3  # the script's own
    assert result.stderr.count('no CUDA device: running on the CPU') == 1
    assert {file: file.read_bytes() for file in checkout.rglob('*.py')} == before


def test_relative_path_options_without_dashes_and_verbose(checkout):
    result = run('--verbose', '../checkout/gen.py', '--verbose', cwd=checkout.parent / 'work')
    assert result.returncode == 3, result.stderr
    assert "'--verbose']" in result.stdout
    assert 'applied inplace_rgb to _imported_module_42' in result.stderr


@pytest.mark.parametrize('patch, error', [('inplace-rgb', 'inplace operation'), ('cuda_to_cpu', 'NVIDIA driver|CUDA')])
def test_without_a_patch_the_script_fails(checkout, patch, error):
    result = run('--skip', patch, checkout / 'gen.py', cwd=checkout.parent / 'work')
    assert result.returncode == 1 and re.search(error, result.stderr)


def test_only_the_patches_that_it_needs(checkout):
    result = run('--only=inplace_rgb', '--only=cuda_to_cpu', checkout / 'gen.py', cwd=checkout.parent / 'work')
    assert result.returncode == 3, result.stderr


WORKERS = """
import multiprocessing
import torch
from dnnlib import strtobool

def job(x):
    return int((torch.ones(x, device='cuda') * strtobool('yes')).sum())

if __name__ == '__main__':
    multiprocessing.set_start_method('spawn')
    with multiprocessing.Pool(1) as pool:
        print(pool.map(job, [3]))
"""


def test_processes_of_the_script_are_patched_too(checkout):
    """DataLoader workers, started by `spawn`, import the script again: there too CUDA and distutils are missing."""
    (checkout / 'train.py').write_text(WORKERS)
    result = run(checkout / 'train.py', cwd=checkout.parent / 'work')
    assert result.stdout == '[3]\n', result.stderr
    assert result.stderr.count('no CUDA device') == 1


@pytest.mark.parametrize('args, message', [
    ([], 'no script was given'),
    (['{folder}/none.py'], 'there is no script .*none.py'),
    (['{folder}'], 'is a folder, not a script'),
    (['{folder}/readme.txt'], 'is not a Python script'),
    (['--only=nothing', '{folder}/gen.py'], "there is no patch named 'nothing'"),
    (['--device=cuda', '{folder}/gen.py'], 'PyTorch sees no CUDA device'),
])
def test_wrong_arguments_give_one_clear_line(tmp_path, args, message):
    (tmp_path / 'gen.py').write_text('print(1)')
    (tmp_path / 'readme.txt').write_text('')
    result = run(*[arg.format(folder=tmp_path) for arg in args])
    assert result.returncode == 1 and result.stdout == ''
    assert result.stderr.startswith('Error: ') and len(result.stderr.splitlines()) == 1
    assert re.search(message, result.stderr)


def test_list_and_help():
    result = run('--list')
    lines = result.stdout.splitlines()
    assert lines[0].split() == ['patch', 'needed', 'here', 'without', 'it'] and len(lines) == 23
    assert any(line.startswith('sampler_data_source') and 'object.__init__()' in line for line in lines)
    assert 'SCRIPT' in run('--help').stdout
