"""Attributes of submodules that were changed in a pickle: our pictures are upstream's, or the file is refused.

    EG3D_DIR=~/eg3d/eg3d STYLEGAN2_ADA_DIR=~/stylegan2-ada-pytorch STYLEGAN3_DIR=~/stylegan3 pytest tests/test_attributes_upstream.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkouts import checkout_of

from eg3d_unlearn.generators.build import build
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle

pytestmark = [pytest.mark.upstream, pytest.mark.slow]
SCRIPTS = Path(__file__).resolve().parent / 'upstream_scripts'
# A change of each that has to be followed, not refused.
FOLLOWED = {'eg3d': ('renderer.plane_axes', 'neural_rendering_resolution', 'rendering_kwargs', 'conv_clamp'),
            'stylegan2-ada': ('conv_clamp', 'weight_gain', 'use_fp16'), 'stylegan2': ('act_gain',),
            'stylegan3-t': ('output_scale', 'bias_gain'), 'stylegan3-r': ('conv_clamp',)}
TOLERANCE = 1e-4  # of the largest number in the picture


@torch.no_grad()
def our_picture(network: torch.nn.Module) -> torch.Tensor:
    z = torch.from_numpy(np.random.RandomState(1).randn(1, network.z_dim))
    options = dict(noise_mode='const', force_fp32=True)
    if not hasattr(network, 'backbone'):
        return network(z, torch.zeros(1, 0), **options)
    sys.path.insert(0, str(SCRIPTS))
    from show import CAMERA
    return network(z, torch.tensor([CAMERA]), jitter='fixed', **options)['image']


@pytest.mark.parametrize('kind', FOLLOWED)
def test_changed_attributes_are_followed_or_refused(kind, tmp_path):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(checkout_of(kind)), str(SCRIPTS)]))
    done = subprocess.run([sys.executable, SCRIPTS / 'change_attributes.py', kind, tmp_path], env=environment, capture_output=True,
                          text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    wrong, followed = [], []
    for number, (what, theirs) in torch.load(tmp_path / 'changes.pt', weights_only=True).items():
        try:
            network = build(read_network_pickle(tmp_path / f'{number}.pkl').records['G_ema'])
        except InputError:
            if number == 0:
                raise
            continue
        if number == 0:
            assert network.notes == []
        if theirs is None:
            wrong.append(f'{what}: upstream has no picture, we have one')
            continue
        followed.append(what)
        ours = our_picture(network)
        if ours.shape != theirs.shape or not (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max().clamp_min(1):
            wrong.append(f'{what}: {float((ours - theirs).abs().max()) if ours.shape == theirs.shape else ours.shape}')
    assert not wrong, '\n'.join(wrong)
    for name in FOLLOWED[kind]:
        assert any(name in what for what in followed), f'{name} was refused'
