"""`python -m patches.run` on the real scripts, for those who have NVIDIA's code at hand.

    EG3D_DIR=~/eg3d/eg3d STYLEGAN2_ADA_DIR=~/stylegan2-ada-pytorch STYLEGAN3_DIR=~/stylegan3 pytest -m upstream
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkouts import checkout_of
from PIL import Image

pytestmark = pytest.mark.upstream

PROJECT = Path(__file__).resolve().parents[1]

TINY_2D = dict(z_dim=32, c_dim=0, w_dim=32, img_resolution=32, img_channels=3, mapping_kwargs=dict(num_layers=2))
TINY_EG3D = dict(
    z_dim=512, w_dim=512, c_dim=25, img_resolution=128, img_channels=3, mapping_kwargs=dict(num_layers=2),
    channel_base=2048, channel_max=64, fused_modconv_default='inference_only', num_fp16_res=0, sr_num_fp16_res=0,
    conv_clamp=None, sr_kwargs=dict(channel_base=2048, channel_max=64, fused_modconv_default='inference_only'),
    rendering_kwargs=dict(
        disparity_space_sampling=False, clamp_mode='softplus', superresolution_noise_mode='none', sr_antialias=True,
        superresolution_module='training.superresolution.SuperresolutionHybrid2X', decoder_lr_mul=1.0, box_warp=1,
        ray_start=2.25, ray_end=3.3, depth_resolution=8, depth_resolution_importance=8, image_resolution=128,
        avg_camera_radius=2.7, avg_camera_pivot=[0, 0, 0.2], c_gen_conditioning_zero=True, c_scale=0,
    ),
)

# Environment variable of the checkout: class and arguments of a network with random weights.
NETWORKS = {
    'EG3D_DIR': ('training.triplane.TriPlaneGenerator', TINY_EG3D),
    'STYLEGAN2_ADA_DIR': ('training.networks.Generator', TINY_2D | dict(
        synthesis_kwargs=dict(channel_base=1024, channel_max=32, num_fp16_res=2, conv_clamp=256))),
    'STYLEGAN3_DIR': ('training.networks_stylegan3.Generator', TINY_2D | dict(channel_base=1024, channel_max=32)),
}

# Writes a pickle with the checkout's own classes.  legacy.load_network_pkl asks for a D that is a module: G will do.
MAKE = """
import json, pickle, sys
from pathlib import Path
from patches.runner import Run, prepare
root, class_name, arguments, out = sys.argv[1:]
prepare(Run(Path(root) / 'legacy.py'))
import torch
import dnnlib
torch.manual_seed(0)
G = dnnlib.util.construct_class_by_name(class_name=class_name, **json.loads(arguments)).eval().requires_grad_(False)
if hasattr(G, 'neural_rendering_resolution'):
    G.neural_rendering_resolution = 32
with open(out, 'wb') as f:
    pickle.dump(dict(G=G, D=G, G_ema=G, training_set_kwargs=None, augment_pipe=None), f)
"""


def python(*args: object, **options) -> subprocess.CompletedProcess:
    env = dict(os.environ, PYTHONPATH=str(PROJECT), OMP_NUM_THREADS='2', CUDA_VISIBLE_DEVICES='')
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, **options)


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """Return a function that gives checkout and network pickle for an environment variable."""
    made = {}

    def network_of(variable: str) -> tuple[Path, Path]:
        folder = checkout_of(variable)
        if variable not in made:
            file = tmp_path_factory.mktemp('networks') / 'network.pkl'
            class_name, arguments = NETWORKS[variable]
            result = python('-c', MAKE, folder, class_name, json.dumps(arguments), file)
            assert result.returncode == 0, result.stderr
            made[variable] = file
        return folder, made[variable]

    return network_of


def run(folder: Path, script: str, *args: object, cwd: Path) -> str:
    """Run a script with patches; return what it and the patches printed."""
    before = {file: file.stat().st_mtime_ns for file in folder.rglob('*.py')}
    result = python('-m', 'patches.run', '--verbose', folder / script, '--', *args, cwd=cwd)
    assert result.returncode == 0, result.stderr
    assert 'no CUDA device: running on the CPU' in result.stderr
    assert {file: file.stat().st_mtime_ns for file in folder.rglob('*.py')} == before
    return result.stdout + result.stderr


def assert_picture(file: Path, height: int, width: int):
    pixels = np.asarray(Image.open(file))
    assert pixels.shape == (height, width, 3) and pixels.std() > 1


def frames_of(file: Path) -> list[np.ndarray]:
    imageio = pytest.importorskip('imageio.v2')
    return [frame for frame in imageio.get_reader(file)]  # not list(): the reader says that its length is infinite


def needs_videos():
    pytest.importorskip('imageio_ffmpeg', reason='pip install imageio imageio-ffmpeg to run this test')
    pytest.importorskip('scipy', reason='pip install scipy to run this test')


def test_without_patches_the_scripts_fail(network, tmp_path):
    folder, file = network('EG3D_DIR')
    result = python(folder / 'gen_samples.py', f'--network={file}', '--seeds=0', '--outdir=out', cwd=tmp_path)
    assert result.returncode != 0


@pytest.mark.parametrize('reload', [False, True])
def test_eg3d_gen_samples(network, tmp_path, reload):
    folder, file = network('EG3D_DIR')
    shapes = ['--shapes=True', '--shape-res=16'] if _has('mrcfile') else []
    said = run(folder, 'gen_samples.py', f'--network={file}', '--seeds=3', '--outdir=out', '--fov-deg=18.837',
               f'--reload_modules={reload}', *shapes, cwd=tmp_path)
    assert 'applied inplace_rgb to _imported_module_' in said
    assert_picture(tmp_path / 'out' / 'seed0003.png', 128, 3 * 128)
    assert not shapes or (tmp_path / 'out' / 'seed0003.mrc').stat().st_size > 4 * 16 ** 3


def _has(package: str) -> bool:
    import importlib.util
    return importlib.util.find_spec(package) is not None


def test_eg3d_gen_videos(network, tmp_path):
    needs_videos()
    folder, file = network('EG3D_DIR')
    run(folder, 'gen_videos.py', f'--network={file}', '--seeds=0-3', '--grid=2x1', '--w-frames=1', '--sample_mult=1',
        '--outdir=out', cwd=tmp_path)
    frames = frames_of(tmp_path / 'out' / 'interpolation.mp4')
    assert len(frames) == 2 and frames[0].shape == (128, 256, 3) and frames[0].std() > 1


def test_eg3d_gradients_where_no_size_changes(network, tmp_path):
    """At 64 pixels the rendering goes straight into SuperresolutionHybrid2X; a backward pass failed there."""
    folder, file = network('EG3D_DIR')
    script = tmp_path / 'gradient.py'
    script.write_text(f"""
import sys
sys.path.insert(0, {str(folder)!r})
import legacy, torch
with open({str(file)!r}, 'rb') as f:
    G = legacy.load_network_pkl(f)['G_ema'].cuda()
ws = torch.zeros([1, G.backbone.num_ws, 512], device='cuda', requires_grad=True)
c = torch.tensor([[1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.26, 0, .5, 0, 4.26, .5, 0, 0, 1]]).cuda()
G.synthesis(ws, c, neural_rendering_resolution=64)['image'].sum().backward()
print('gradient', bool(ws.grad.abs().sum() > 0))
""")
    for skip, code in (('plane_axes', 0), ('inplace_rgb', 1)):
        result = python('-m', 'patches.run', f'--skip={skip}', script, cwd=tmp_path)
        assert result.returncode == code, result.stderr
        assert ('gradient True' in result.stdout) == (code == 0)


def test_stylegan2_ada_generate(network, tmp_path):
    folder, file = network('STYLEGAN2_ADA_DIR')
    said = run(folder, 'generate.py', f'--network={file}', '--seeds=0,1', '--outdir=out', cwd=tmp_path)
    assert 'applied half_on_cpu to _imported_module_' in said
    for seed in (0, 1):
        assert_picture(tmp_path / 'out' / f'seed000{seed}.png', 32, 32)


def test_stylegan3_gen_images(network, tmp_path):
    folder, file = network('STYLEGAN3_DIR')
    run(folder, 'gen_images.py', f'--network={file}', '--seeds=0', '--outdir=out', cwd=tmp_path)
    assert_picture(tmp_path / 'out' / 'seed0000.png', 32, 32)


def test_stylegan3_gen_video(network, tmp_path):
    needs_videos()
    folder, file = network('STYLEGAN3_DIR')
    run(folder, 'gen_video.py', f'--network={file}', '--seeds=0-3', '--grid=2x1', '--w-frames=1',
        '--output=a.mp4', cwd=tmp_path)
    assert len(frames_of(tmp_path / 'a.mp4')) == 2


@pytest.mark.parametrize('variable', list(NETWORKS))
def test_small_parts(variable, tmp_path):
    """What the scripts above do not reach: the sampler of training, second gradients of grid_sample, FID's root."""
    pytest.importorskip('scipy', reason='pip install scipy to run this test')
    result = python('-c', """
import sys
from pathlib import Path
from patches.runner import Run, prepare
prepare(Run(Path(sys.argv[1]) / 'train.py'))
import torch
from torch_utils import misc
from torch_utils.ops import grid_sample_gradfix
from metrics import frechet_inception_distance as fid
print('sampler', next(iter(misc.InfiniteSampler([5, 6], shuffle=False))))
grid_sample_gradfix.enabled = True
image = torch.randn([1, 1, 4, 4], dtype=torch.float64, requires_grad=True)
grid = torch.rand([1, 3, 3, 2], dtype=torch.float64)
print('second', torch.autograd.gradgradcheck(lambda x: grid_sample_gradfix.grid_sample(x, grid).sin(), [image]))
print('root', fid.scipy.linalg.sqrtm([[4.0, 0], [0, 9]], disp=False)[0].tolist())
""", checkout_of(variable))
    assert result.stdout == 'sampler 0\nsecond True\nroot [[2.0, 0.0], [0.0, 3.0]]\n', result.stderr
