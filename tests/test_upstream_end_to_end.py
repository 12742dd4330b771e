"""From a pickle that NVIDIA's code wrote, through `unlearn.py`, to pictures that NVIDIA's code makes.

    EG3D_DIR=~/eg3d/eg3d STYLEGAN2_ADA_DIR=~/stylegan2-ada-pytorch STYLEGAN3_DIR=~/stylegan3 \\
        pytest tests/test_upstream_end_to_end.py

Upstream's code runs unmodified, in processes of its own; `unlearn.py` runs without it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkouts import VARIABLES, checkout_of, pixels
from PIL import Image
from torch import Tensor

from eg3d_unlearn.generators import cameras
from eg3d_unlearn.generators.build import build
from torch_utils_ext.network_pickle import read_network_pickle

pytestmark = [pytest.mark.upstream, pytest.mark.slow]

PROJECT = Path(__file__).resolve().parents[1]
SCRIPTS = Path(__file__).resolve().parent / 'upstream_scripts'
KINDS = ('eg3d', 'stylegan2-ada', 'stylegan2', 'stylegan3-t')
METHODS = ('guide', 'closed-form')
# Where the parameters that learn are.
TRAINED = {kind: 'backbone.synthesis.' if kind == 'eg3d' else 'synthesis.' for kind in KINDS}
SEEDS = (0, 1)
TOLERANCE = 1e-4  # of a picture in [-1, 1]
PERSON = ('--latent-seed=3', '--device=cpu')
OPTIONS = (*PERSON, '--method=guide', '--iters=3', '--lpips-net=squeeze', '--id-network=none', '--random-metric-weights')
FILES = ['before-after.png', 'log.txt', 'network-unlearned.pkl', 'report.html', 'report.json', 'stats.jsonl', 'training_options.json']


def python(*args: object, path: tuple[Path, ...] = (), cwd: Path | None = None) -> subprocess.CompletedProcess:
    """A Python process with `path` as its PYTHONPATH, and no word of a checkout otherwise."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment = dict(
        kept, PYTHONPATH=os.pathsep.join(map(str, path)), PYTHONDONTWRITEBYTECODE='1', CUDA_VISIBLE_DEVICES='',
        EG3D_UNLEARN_CACHE=os.devnull, TORCH_HOME=os.devnull)      # weights of judges, if any are here, are not for these tests
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=600)


def upstream(checkout: Path, script: str, *args: object) -> None:
    """`script` of tests/upstream_scripts with the checkout on its path."""
    done = python(SCRIPTS / script, *args, path=(checkout, SCRIPTS))
    assert done.returncode == 0, done.stderr[-3000:]


def shown(checkout: Path, network: Path) -> dict:
    """What upstream finds in a pickle, see show.py."""
    out = network.with_suffix('.pt')
    upstream(checkout, 'show.py', network, out, *SEEDS)
    return torch.load(out, weights_only=True)


@dataclasses.dataclass
class Case:
    """One network, before and after."""

    kind: str
    method: str
    checkout: Path
    source: Path      # the pickle that upstream wrote
    unlearned: Path   # the pickle that unlearn.py made of it
    before: dict      # what upstream finds in the one
    after: dict       # and in the other


def cases(*kinds: str):
    """Networks by both methods."""
    return [pytest.param((kind, method), id=f'{kind}-{method}') for kind in kinds for method in METHODS]


@pytest.fixture(scope='module', params=cases(*KINDS))
def case(request, tmp_path_factory) -> Case:
    kind, method = request.param
    checkout, folder = checkout_of(kind), tmp_path_factory.mktemp(kind)
    source, out = folder / 'network.pkl', folder / 'out'
    upstream(checkout, 'make_trained.py', kind, source)
    # The closed form as everybody has it who has the pickle alone.
    options = OPTIONS if method == 'guide' else (*PERSON, '--method=closed-form', '--report=brief')
    done = python(PROJECT / 'unlearn.py', f'--network={source}', f'--outdir={out}', *options, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    # TensorBoard's curves are there where it is installed.
    assert sorted(file.name for file in out.iterdir() if 'tfevents' not in file.name) == [
        name for name in FILES if method == 'guide' or name != 'stats.jsonl']
    assert ('goes without' in done.stdout + done.stderr) == (method == 'closed-form')
    unlearned = (out / FILES[2]).rename(folder / FILES[2])  # show.py leaves a file beside it
    return Case(kind, method, checkout, source, unlearned, shown(checkout, source), shown(checkout, unlearned))


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    assert list(a) == list(b)
    return [name for name in a if not torch.equal(a[name], b[name])]


def test_upstream_finds_the_unlearned_network_and_all_the_rest(case):
    before, after = case.before, case.after
    states, unlearned = after['states'], read_network_pickle(case.unlearned).records['G_ema'].state_dict()
    assert not differing(states['G'], unlearned) and not differing(states['G_ema'], unlearned)
    # G_ema was the source: what learns has changed, what is frozen has not.  G was another network.
    changed = differing(before['states']['G_ema'], unlearned)
    if case.method == 'guide':
        assert changed and all(name.startswith(TRAINED[case.kind]) for name in changed)
    else:                            # the weight of every affine, and most biases; the super-resolution's with them
        affines = [name for name in unlearned if '.affine.' in name]
        assert set(changed) <= set(affines) and {name for name in affines if name.endswith('weight')} <= set(changed)
        assert any(name.startswith('superresolution.') for name in changed) == (case.kind == 'eg3d')
    frozen = set(unlearned) - set(changed)
    assert differing(before['states']['G'], before['states']['G_ema']) and any('mapping' in name for name in frozen)
    for key in ('D', 'augment_pipe'):
        assert not differing(before['states'][key], states[key])
    for name in ('classes', 'attributes', 'arguments', 'others'):
        assert before[name] == after[name]
    assert after['others']['training_set_kwargs']['path'] == '/data'


def test_only_numbers_of_the_generators_differ(case):
    source, before, after = read_network_pickle(case.source), case.source.read_bytes(), case.unlearned.read_bytes()
    assert len(before) == len(after)
    open_to_change = np.zeros(len(before), bool)
    for key in ('G', 'G_ema'):
        for place in source.records[key].tensors.values():
            open_to_change[place.offset:place.offset + place.length] = True
    # No more than the numbers that upstream itself finds in the two networks.
    numbers = sum(tensor.nbytes for key in ('G', 'G_ema') for tensor in case.before['states'][key].values())
    assert open_to_change.sum() == numbers
    differ = np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8)
    assert differ.any() and not (differ & ~open_to_change).any()
    if case.method == 'closed-form':  # G_ema is the source: of it, nothing but affines
        fixed = [place for name, place in source.records['G_ema'].tensors.items() if '.affine.' not in name]
        assert fixed and not any(differ[place.offset:place.offset + place.length].any() for place in fixed)


def our_pictures(network: Path, key: str, seed: int, camera: Tensor) -> dict[str, Tensor]:
    """The pictures of show.py, by our own networks."""
    net = build(read_network_pickle(network).records[key])
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, net.z_dim)).float()
    if not net.c_dim:
        return {'image': net(z, torch.zeros(1, 0), noise_mode='const')}
    ws = net.mapping(z, camera)
    fixed = net.synthesis(ws, camera, noise_mode='const', jitter='fixed')
    torch.manual_seed(seed)
    return dict(fixed, image_random_depths=net.synthesis(ws, camera, noise_mode='const')['image'])


def test_pictures_are_ours_and_not_the_sources(case):
    for seed in SEEDS:
        theirs = case.after['pictures']['G_ema'][seed]
        ours = our_pictures(case.unlearned, 'G_ema', seed, case.after['camera'])
        assert set(theirs) == set(ours)
        errors = {name: (theirs[name] - ours[name]).abs().max().item() for name in theirs}
        moved = (theirs['image'] - case.before['pictures']['G_ema'][seed]['image']).abs().max().item()
        print(f'{case.kind}, seed {seed}: largest errors {errors}, moved {moved:.1e}')
        assert all(error < TOLERANCE for error in errors.values()), errors
        assert torch.equal(theirs['image'], case.after['pictures']['G'][seed]['image'])
        assert moved > 20 * TOLERANCE and theirs['image'].std() > 0.1


# Upstream's own scripts, by way of `patches.run`, because they insist on a GPU.


def script(case: Case, name: str, folder: Path, *options: str) -> None:
    options = (f'--network={case.unlearned}', f'--outdir={folder}', *options)
    done = python('-m', 'patches.run', case.checkout / name, '--', *options, cwd=PROJECT)
    assert done.returncode == 0, done.stderr[-3000:]


def read(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)


@pytest.mark.parametrize('case', cases(*(kind for kind in KINDS if kind != 'eg3d')), indirect=True)
def test_upstream_scripts_for_pictures(case, tmp_path):
    name = 'generate.py' if case.kind == 'stylegan2-ada' else 'gen_images.py'
    script(case, name, tmp_path / 'out', '--seeds=0,1', '--noise-mode=const')
    for seed in SEEDS:
        found = read(tmp_path / 'out' / f'seed{seed:04d}.png')
        ours = our_pictures(case.unlearned, 'G_ema', seed, case.after['camera'])
        assert found.shape == (64, 64, 3) and found.std() > 10
        assert abs(found - pixels(ours['image'])).max() <= 1


@pytest.mark.parametrize('case', cases('eg3d'), indirect=True)
def test_upstream_scripts_for_eg3d(case, tmp_path):
    script(case, 'gen_samples.py', tmp_path / 'samples', '--seeds=0')
    found = read(tmp_path / 'samples' / 'seed0000.png')
    assert found.shape == (128, 3 * 128, 3) and found.std() > 10
    # The script draws noise and depths without a seed: near our picture, and nearer than another person's.
    assert abs(found - three_views(case.unlearned, 0)).mean() < 0.5 * abs(found - three_views(case.unlearned, 1)).mean()


def three_views(network: Path, seed: int) -> np.ndarray:
    """gen_samples.py's three cameras side by side."""
    net = build(read_network_pickle(network).records['G_ema'])
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, net.z_dim)).float()
    options = net.rendering_kwargs['avg_camera_pivot'], net.rendering_kwargs['avg_camera_radius'], None
    ws = net.mapping(z, cameras.look_at(0.0, 0.0, *options))
    seen = [cameras.look_at(yaw, -0.2, *options) for yaw in (0.4, 0, -0.4)]
    return np.concatenate([pixels(net.synthesis(ws, camera, noise_mode='const')['image']) for camera in seen], axis=1)


@pytest.mark.parametrize('case', cases('eg3d'), indirect=True)
def test_upstream_videos_of_eg3d(case, tmp_path):
    imageio = pytest.importorskip('imageio.v2')
    pytest.importorskip('imageio_ffmpeg', reason='pip install imageio imageio-ffmpeg to run this test')
    script(case, 'gen_videos.py', tmp_path, '--seeds=0-3', '--grid=2x1', '--w-frames=1', '--sample_mult=1')
    frames = [frame for frame in imageio.get_reader(tmp_path / 'interpolation.mp4')]
    assert len(frames) == 2 and frames[0].shape == (128, 256, 3) and frames[0].std() > 10


def test_networks_of_the_trusted_loader_do_the_same(case):
    done = python(SCRIPTS / 'compare_trusted.py', case.checkout, case.unlearned, path=(PROJECT,))
    assert done.returncode == 0, done.stderr[-3000:]


# Forks: upstream's loader knows them because their source is in the file, we do not.


@pytest.mark.parametrize(('kind', 'name'), [
    ('eg3d', 'PortraitGenerator'), ('stylegan2-ada', 'PortraitGenerator'), ('stylegan3-t', 'PortraitGenerator'),
    ('eg3d', 'TriPlaneGenerator'), ('stylegan2', 'Generator'),  # those keep the name of the original
])
def test_forks_need_trust(kind, name, tmp_path):
    checkout = checkout_of(kind)
    source, out = tmp_path / 'fork.pkl', tmp_path / 'out'
    upstream(checkout, 'make_trained.py', kind, source, name)
    command = (PROJECT / 'unlearn.py', f'--network={source}', f'--outdir={out}', *OPTIONS, '--iters=2')
    refused = python(*command, cwd=tmp_path)
    assert refused.returncode == 1 and not out.exists()
    assert refused.stderr.startswith('Error: ') and 'Traceback' not in refused.stderr
    assert name in refused.stderr and '--trust-pickle --upstream=DIR' in refused.stderr
    done = python(*command, '--trust-pickle', f'--upstream={checkout}', cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = json.loads((out / 'report.json').read_text())['loss']
    assert losses['last_step']['step'] == 2 and losses['first_step']['local'] > 0
    before, after = shown(checkout, source), shown(checkout, out / 'network-unlearned.pkl')
    assert after['classes']['G_ema'] == name and before['arguments'] == after['arguments']
    changed = differing(before['states']['G_ema'], after['states']['G_ema'])
    assert changed and all(each.startswith(TRAINED[kind]) for each in changed)
    assert not differing(after['states']['G'], after['states']['G_ema'])
    assert not differing(before['states']['D'], after['states']['D'])
    tint = 'tint' if kind == 'eg3d' else 'synthesis.tint'
    assert (tint in changed) == (kind != 'eg3d')
    for seed in SEEDS:
        old, new = (found['pictures']['G_ema'][seed]['image'] for found in (before, after))
        assert (old - new).abs().max() > 20 * TOLERANCE and new.isfinite().all()
