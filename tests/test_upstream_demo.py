"""The demo networks in unmodified NVIDIA checkouts, before and after erasing.

    EG3D_DIR=~/eg3d/eg3d STYLEGAN2_ADA_DIR=~/stylegan2-ada-pytorch STYLEGAN3_DIR=~/stylegan3 pytest tests/test_upstream_demo.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkouts import checkout_of, pixels
from PIL import Image

from eg3d_unlearn.generators import cameras
from eg3d_unlearn.generators.build import build
from eg3d_unlearn.worlds.demo import shipped
from torch_utils_ext.network_pickle import read_network_pickle

pytestmark = [pytest.mark.upstream, pytest.mark.slow]
PROJECT = Path(__file__).resolve().parents[1]


def run(*command: object) -> None:
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE='1', CUDA_VISIBLE_DEVICES='')
    done = subprocess.run([sys.executable, *map(str, command)], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """name -> the demo network as it came, and with the person of seed 3 erased in a few steps; made when first asked for."""
    made = {}

    def of(name: str) -> tuple[Path, Path]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            shipped.write_pickle(name, folder / 'before.pkl')
            run('unlearn.py', f'--network={folder / "before.pkl"}', '--latent-seed=3', '--iters=3', f'--outdir={folder / "out"}')
            made[name] = folder / 'before.pkl', folder / 'out' / 'network-unlearned.pkl'
        return made[name]

    return of


def latent(net, seed: int, camera: torch.Tensor | None) -> torch.Tensor:
    return net.mapping(torch.from_numpy(np.random.RandomState(seed).randn(1, net.z_dim)).float(), camera)


@pytest.mark.parametrize('which', (0, 1), ids=('before', 'after'))
@pytest.mark.parametrize(('variable', 'script'), [('STYLEGAN2_ADA_DIR', 'generate.py'), ('STYLEGAN3_DIR', 'gen_images.py')])
def test_stylegan2_in_both_repositories(variable, script, which, pair, tmp_path):
    host, network = checkout_of(variable), pair('demo-stylegan2')[which]
    run('-m', 'patches.run', host / script, '--', f'--network={network}', f'--outdir={tmp_path}', '--seeds=3', '--noise-mode=const')
    net = build(read_network_pickle(network).records['G_ema'])
    found = np.asarray(Image.open(tmp_path / 'seed0003.png')).astype(int)
    assert abs(found - pixels(net.synthesis(latent(net, 3, None)))).max() <= 1


@pytest.mark.parametrize('which', (0, 1), ids=('before', 'after'))
def test_samples_and_videos_of_eg3d(which, pair, tmp_path):
    imageio = pytest.importorskip('imageio.v2')
    pytest.importorskip('imageio_ffmpeg', reason='pip install imageio imageio-ffmpeg to run this test')
    host, network = checkout_of('EG3D_DIR'), pair('demo-eg3d')[which]
    run('-m', 'patches.run', host / 'gen_samples.py', '--', f'--network={network}', f'--outdir={tmp_path}', '--seeds=3')
    net = build(read_network_pickle(network).records['G_ema'])
    options = net.rendering_kwargs['avg_camera_pivot'], net.rendering_kwargs['avg_camera_radius'], None
    ws = latent(net, 3, cameras.look_at(0.0, 0.0, *options))
    views = [net.synthesis(ws, cameras.look_at(yaw, -0.2, *options))['image'] for yaw in (0.4, 0, -0.4)]
    found = np.asarray(Image.open(tmp_path / 'seed0003.png')).astype(int)
    # The script draws depths without a seed.
    assert abs(found - np.concatenate([pixels(view) for view in views], axis=1)).mean() < 2
    run('-m', 'patches.run', host / 'gen_videos.py', '--', f'--network={network}', f'--outdir={tmp_path}', '--seeds=0-3', '--grid=2x1',
        '--w-frames=1', '--sample_mult=1')
    # Not list(...): the reader says that its length is infinite.
    frames = [frame for frame in imageio.get_reader(tmp_path / 'interpolation.mp4')]  # noqa: C416
    assert len(frames) == 2 and frames[0].shape == (128, 256, 3) and frames[0].std() > 10
