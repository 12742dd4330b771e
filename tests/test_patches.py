"""Each patch against stand-in code that fails in the way that the patch mends; without the patch the test fails."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import inspect
import io
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import types
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils.file_baton import FileBaton

from patches import (
    cuda_in_pickle,
    cuda_to_cpu,
    distutils_gone,
    extension_arch_list,
    extension_cache,
    extension_lock,
    extension_std,
    fov_degrees,
    grid_sample_backward,
    half_on_cpu,
    imports,
    inplace_rgb,
    mps_float64,
    optional_packages,
    pillow_constants,
    pkg_resources_gone,
    plane_axes,
    plugin_fallback,
    registry,
    sampler_data_source,
    script_folder,
    sqrtm_disp,
    video_writer,
    visual_studio,
)
from patches.runner import Run
from torch_utils_ext.errors import InputError

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason='the patch is for machines without CUDA')


def make(tmp_path: Path, source: str, name: str = 'standin') -> types.ModuleType:
    """Write a module into a folder and import it, unpatched."""
    file = tmp_path / f'{name}.py'
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_of(tmp_path: Path, *args: str, script: str = 'gen_samples.py') -> Run:
    return Run(tmp_path / script, args)


class Hiding:
    """A finder that does not find some packages."""

    def __init__(self, finder, names):
        self.finder, self.names = finder, names

    def find_spec(self, name, *args):
        return None if name.split('.')[0] in self.names else self.finder.find_spec(name, *args)


@pytest.fixture
def hide(monkeypatch):
    """Return a function that makes packages look as if they were not installed."""
    def hide_packages(*names):
        finders = [Hiding(finder, names) for finder in sys.meta_path if hasattr(finder, 'find_spec')]
        monkeypatch.setattr(sys, 'meta_path', finders)
        for name in list(sys.modules):
            if name.split('.')[0] in names:
                monkeypatch.delitem(sys.modules, name)
    yield hide_packages
    for name, module in list(sys.modules.items()):
        if isinstance(getattr(module, '__loader__', None), imports._StandInFinder):
            del sys.modules[name]


# The list of patches.

def test_every_patch_is_listed_and_described():
    folder = Path(registry.__file__).parent
    files = {file.stem for file in folder.glob('*.py') if 'def needed()' in file.read_text()}
    assert files == set(registry.NAMES)
    for name in registry.NAMES:
        patch = registry.load(name)
        for word in ('Cause: ', 'Fix: ', 'Report: http'):
            assert word in patch.__doc__, f'{name}: {word}'
        assert isinstance(patch.needed(), bool) and callable(patch.apply)


def test_choose():
    assert registry.choose() == registry.NAMES
    assert registry.choose(only=['plane-axes', 'fov_degrees']) == ('fov_degrees', 'plane_axes')
    assert 'plane_axes' not in registry.choose(skip=['plane_axes'])
    with pytest.raises(InputError, match="no patch named 'plain_axes'.*--list"):
        registry.choose(skip=['plain_axes'])


# Imports.

def test_watching_offers_modules_of_the_checkout_once_and_executed(tmp_path):
    (tmp_path / 'watched_one.py').write_text('VALUE = 1\ndef f():\n    return VALUE\n')
    seen = []
    sys.path.insert(0, str(tmp_path))
    try:
        with imports.watching(tmp_path, lambda module: seen.append((module.__name__, getattr(module, 'VALUE', None)))):
            watched_one = importlib.import_module('watched_one')
            importlib.import_module('watched_one')
            importlib.import_module('colorsys')  # not of the checkout
        assert ('watched_one', 1) in seen and 'colorsys' not in dict(seen)
        assert len([name for name, _ in seen if name == 'watched_one']) == 1
        assert 'return VALUE' in inspect.getsource(watched_one.f)  # the pickles of the checkout's networks need this
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop('watched_one', None)


PERSISTENCE = """
import types
def persistent_class(cls):
    class Decorator(cls):
        pass
    return Decorator
_made = {}
def _src_to_module(src):
    if src not in _made:
        _made[src] = types.ModuleType('_imported_module_1')
        exec(src, _made[src].__dict__)
    return _made[src]
"""


def test_watching_offers_modules_out_of_a_pickle(tmp_path):
    persistence = make(tmp_path, PERSISTENCE)
    seen = []
    imports.watch_pickled_sources(persistence, seen.append)
    module = persistence._src_to_module('VALUE = 2')
    assert module.VALUE == 2 and seen == [module]


def test_a_patch_is_applied_once_to_a_module(tmp_path):
    module = make(tmp_path, BLOCK)
    offer = registry.offer(['inplace_rgb'])
    offer(module)
    once = module.SynthesisBlockNoUp.forward
    offer(module)
    assert module.SynthesisBlockNoUp.forward is once


def test_own_classes_finds_the_class_under_the_decorator(tmp_path):
    module = make(tmp_path, PERSISTENCE + '@persistent_class\nclass Net:\n    pass\n')
    assert 'Net' in [cls.__name__ for cls in imports.own_classes(module)]
    imported = types.ModuleType('another')
    imported.Net = module.Net
    assert imports.own_classes(imported) == []


# Start patches.

def test_script_folder(tmp_path, monkeypatch):
    checkout, elsewhere = tmp_path / 'checkout', tmp_path / 'site'
    for folder, text in ((checkout, 'theirs'), (elsewhere, 'foreign')):
        (folder / 'torch_utils').mkdir(parents=True)
        (folder / 'torch_utils' / '__init__.py').write_text(f'WHOSE = {text!r}')
        (folder / 'torch_utils' / 'persistence.py').write_text('')
    monkeypatch.setattr(sys, 'path', [str(elsewhere), *sys.path])
    monkeypatch.delitem(sys.modules, 'torch_utils', raising=False)
    assert importlib.import_module('torch_utils').WHOSE == 'foreign'
    run = Run(checkout / 'tools' / 'gen.py')
    assert run.root == checkout
    sys.path.insert(0, str(run.script.parent))
    script_folder.apply(run)
    assert importlib.import_module('torch_utils').WHOSE == 'theirs'
    assert sys.path[:2] == [str(checkout / 'tools'), str(checkout)]
    monkeypatch.delitem(sys.modules, 'torch_utils')


def test_pkg_resources_gone(tmp_path, hide):
    hide('pkg_resources')
    source = ("from pkg_resources import parse_version\n"
              "NEW = parse_version('1.12.1+cu113') >= parse_version('1.12.0a')\n"
              "OLD = parse_version('1.9.0') >= parse_version('1.11.0a')\n")
    with pytest.raises(ModuleNotFoundError):
        make(tmp_path, source)
    assert pkg_resources_gone.needed()
    pkg_resources_gone.apply(run_of(tmp_path))
    module = make(tmp_path, source)
    assert module.NEW and not module.OLD


def test_distutils_gone(tmp_path, hide):
    hide('distutils')
    source = 'from distutils.util import strtobool\n'
    with pytest.raises(ModuleNotFoundError):
        make(tmp_path, source)
    assert distutils_gone.needed()
    distutils_gone.apply(run_of(tmp_path))
    strtobool = make(tmp_path, source).strtobool
    assert [strtobool(word) for word in ('y', 'YES', 'On', '1', 'n', 'False', '0')] == [1, 1, 1, 1, 0, 0, 0]
    with pytest.raises(ValueError, match='maybe'):
        strtobool('maybe')


def test_stand_ins_are_for_the_checkout_alone(tmp_path, hide, monkeypatch):
    hide('distutils', 'mrcfile')
    (tmp_path / 'checkout').mkdir()
    for patch in (distutils_gone, optional_packages):
        patch.apply(run_of(tmp_path / 'checkout'))
    with pytest.raises(ModuleNotFoundError):
        make(tmp_path, 'import mrcfile')  # a library that looks whether a package is there
    exec('import distutils.util', {'__name__': '_imported_module_7'})  # a source out of a network pickle
    (tmp_path / 'checkout' / 'watched_two.py').write_text('import distutils.util, mrcfile\n')
    monkeypatch.syspath_prepend(str(tmp_path / 'checkout'))
    with imports.watching(tmp_path / 'checkout', lambda module: None):
        watched_two = importlib.import_module('watched_two')
    assert watched_two.distutils.util.strtobool('on') == 1
    assert 'distutils' not in sys.modules and 'mrcfile' not in sys.modules


def test_optional_packages(tmp_path, hide):
    hide('mrcfile')
    source = 'import mrcfile\ndef save():\n    mrcfile.new_mmap("a.mrc")\n'
    with pytest.raises(ModuleNotFoundError):
        make(tmp_path, source)
    assert optional_packages.needed()
    optional_packages.apply(run_of(tmp_path, '--seeds=0', '--shapes=False'))
    module = make(tmp_path, source)
    assert not hasattr(module.mrcfile, 'anything') and not hasattr(module.mrcfile, '__wrapped__')
    with pytest.raises(InputError, match='mrcfile.new_mmap.*pip install mrcfile'):
        module.save()


@pytest.mark.parametrize('script, args, missing', [
    ('gen_samples.py', ['--shapes=True'], 'mrcfile'),
    ('gen_samples.py', ['--shapes', '1'], 'mrcfile'),
    ('gen_samples.py', ['--shapes=yes', '--shape-format=.ply'], 'plyfile scikit-image'),
    ('gen_videos.py', ['--shapes=true'], 'plyfile scikit-image'),
    ('gen_samples.py', ['--shapes=0'], None),
    ('gen_samples.py', ['--seeds=1', '--shape-res=64'], None),
])
def test_shapes_without_their_packages_fail_at_once(tmp_path, hide, script, args, missing):
    hide('mrcfile', 'plyfile', 'skimage')
    run = run_of(tmp_path, *args, script=script)
    if missing is None:
        optional_packages.check_shapes(run)
    else:
        with pytest.raises(InputError, match=f'pip install {missing}$'):
            optional_packages.check_shapes(run)


@without_cuda
def test_cuda_to_cpu_tensors():
    device = torch.device('cuda')
    calls = [
        lambda: torch.zeros([2], device=device),
        lambda: torch.tensor([1.0], device='cuda:0'),
        lambda: torch.from_numpy(np.zeros([2])).to(device),
        lambda: torch.ones([1]).to('cuda', torch.float64),
        lambda: torch.ones([1]).cuda(),
        lambda: torch.ones([1]).new_zeros([3], device=device),
        lambda: torch.ones([1]).pin_memory().to(torch.device('cuda', 0)),
        lambda: torch.nn.Linear(2, 2).to(device).weight,
        lambda: torch.nn.Linear(2, 2, device='cuda').cuda().weight,
    ]
    for call in calls:
        with pytest.raises((RuntimeError, AssertionError)):
            call()
    with cuda_to_cpu.CudaMeans(torch.device('cpu')):
        for call in calls:
            assert call().device.type == 'cpu'
        assert torch.ones([1]).to('cuda', torch.float64).dtype == torch.float64
        x = torch.ones([2], device=device, requires_grad=True)
        (x * 3).sum().backward()
        assert x.grad.tolist() == [3, 3]


@without_cuda
def test_cuda_to_cpu_whole(tmp_path):
    code = ("import torch\n"
            "start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)\n"
            "start.record(torch.cuda.current_stream('cuda'))\n"
            "torch.cuda.synchronize()\n"
            "end.record()\n"
            "end.synchronize()\n"
            "torch.cuda.reset_peak_memory_stats()\n"
            "print(start.elapsed_time(end) >= 0, torch.cuda.max_memory_allocated('cuda'), torch.cuda.is_available())\n"
            "print(torch.ones(1, device='cuda').device)\n")
    assert python(code).returncode != 0
    patched = python("from pathlib import Path\nfrom patches import cuda_to_cpu\nfrom patches.runner import Run\n"
                     "cuda_to_cpu.apply(Run(Path('/x.py')))\n" + code)
    assert patched.stdout == 'True 0 False\ncpu\n'
    assert patched.stderr.count('no CUDA device: running on the CPU') == 1


def python(code: str) -> subprocess.CompletedProcess:
    root = str(Path(registry.__file__).parents[1])
    return subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True)


@without_cuda
def test_cuda_in_pickle(monkeypatch):
    with monkeypatch.context() as patch:  # a pickle as a machine with CUDA would write it
        patch.setattr(torch.serialization, 'location_tag', lambda storage: 'cuda:0')
        data = pickle.dumps(torch.arange(3.0))
    with pytest.raises(RuntimeError, match='Attempting to deserialize object on a CUDA device'):
        pickle.loads(data)
    monkeypatch.setattr(torch, 'load', torch.load)
    monkeypatch.setattr(torch.jit, 'load', torch.jit.load)
    cuda_in_pickle.apply()
    assert pickle.loads(data).tolist() == [0, 1, 2]
    buffer = io.BytesIO()
    torch.save(torch.ones([2]), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True).tolist() == [1, 1]


def test_mps_float64(monkeypatch):
    monkeypatch.setattr(mps_float64, 'WITHOUT_FLOAT64', ('meta',))  # the one other device that is everywhere
    latent = torch.from_numpy(np.random.RandomState(0).randn(1, 4))
    assert latent.to('meta').dtype == torch.float64
    with mps_float64.Float32OnTheWay():
        assert latent.to(torch.device('meta')).dtype == torch.float32
        assert torch.tensor(np.zeros(2), device='meta').dtype == torch.float32
        assert latent.to('cpu').dtype == torch.float64
        assert torch.tensor([1], device='meta').dtype == torch.int64


def test_extension_cache(tmp_path, monkeypatch):
    monkeypatch.delenv('TORCH_EXTENSIONS_DIR', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert not extension_cache.needed() and list(tmp_path.iterdir()) == []
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file' / 'cache'))  # cannot be made, not even by root
    assert extension_cache.needed()
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    monkeypatch.setenv('TORCH_EXTENSIONS_DIR', 'restored after the test')
    extension_cache.apply()
    folder = Path(os.environ['TORCH_EXTENSIONS_DIR'])
    assert folder.parent == tmp_path and folder.is_dir()
    assert not extension_cache.needed()


@pytest.mark.skipif(os.name == 'nt', reason='modes of files')
def test_extension_cache_avoids_a_folder_that_others_can_write(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    monkeypatch.setenv('TORCH_EXTENSIONS_DIR', 'restored after the test')
    extension_cache.apply()
    shared = Path(os.environ['TORCH_EXTENSIONS_DIR'])
    shared.chmod(0o777)
    extension_cache.apply()
    assert Path(os.environ['TORCH_EXTENSIONS_DIR']) != shared


# Patches of libraries.

def test_extension_lock(tmp_path, monkeypatch, capsys):
    lock = tmp_path / 'lock'
    lock.write_text('')
    os.utime(lock, (time.time() - 3600,) * 2)
    unpatched = threading.Thread(target=FileBaton(str(lock)).wait, daemon=True)
    unpatched.start()
    unpatched.join(0.5)
    assert unpatched.is_alive()  # it would wait for ever

    assert extension_lock.concerns(sys.modules['torch.utils.file_baton'])
    module = types.SimpleNamespace(FileBaton=type('Baton', (FileBaton,), {}))
    extension_lock.apply(module)
    with pytest.raises(extension_lock.StaleLock, match=f'{lock} is 60 minutes old.*Delete it'):
        module.FileBaton(str(lock)).wait()

    os.utime(lock)
    monkeypatch.setattr(extension_lock, 'NAME_AFTER', 0)
    threading.Timer(0.4, lock.unlink).start()
    module.FileBaton(str(lock)).wait()
    unpatched.join()
    assert capsys.readouterr().err.count(f'waiting for another build to end: {lock}') == 1


def test_extension_std():
    flags = {}
    module = types.ModuleType('torch.utils.cpp_extension')
    module.load = lambda **kwargs: flags.update(kwargs)
    assert extension_std.concerns(module)
    extension_std.apply(module)
    module.load(name='p', extra_cflags=['-O3', '-std=c++14'], extra_cuda_cflags=['--use_fast_math', '--std=c++17'])
    assert flags == {'name': 'p', 'extra_cflags': ['-O3'], 'extra_cuda_cflags': ['--use_fast_math']}


@pytest.mark.parametrize('name, value', [('ANTIALIAS', 1), ('LINEAR', 2), ('CUBIC', 3)])    # as in Pillow 9
def test_pillow_constants(name, value):
    import PIL.Image
    module = types.ModuleType('PIL.Image')
    module.Resampling = PIL.Image.Resampling
    assert pillow_constants.concerns(module) and 'PIL.Image' in imports.LIBRARIES
    pillow_constants.apply(module)
    assert getattr(module, name) == value and not pillow_constants.concerns(module)


def test_sqrtm_disp():
    linalg = pytest.importorskip('scipy.linalg')
    module = types.ModuleType('scipy.linalg')
    module.norm, module.sqrtm = linalg.norm, lambda A: linalg.sqrtm(A)
    with pytest.raises(TypeError, match='disp'):
        module.sqrtm(np.eye(2), disp=False)
    assert sqrtm_disp.concerns(module)
    sqrtm_disp.apply(module)
    root, error = module.sqrtm(np.diag([4.0, 9.0]), disp=False)
    assert np.allclose(root, np.diag([2, 3])) and error < 1e-12
    assert np.allclose(module.sqrtm(np.diag([4.0, 9.0])), np.diag([2, 3]))
    assert not sqrtm_disp.concerns(module)


def test_video_writer(monkeypatch, hide, capsys):
    def get_writer(uri, format=None, mode='?', **options):
        if format != 'FFMPEG' and 'bitrate' in options:
            raise TypeError("unexpected keyword argument 'bitrate'")
        return uri, format

    module = types.ModuleType('imageio')
    module.get_writer = get_writer
    with pytest.raises(TypeError):
        module.get_writer('a.mp4', mode='I', bitrate='10M')
    assert video_writer.concerns(module)
    installed = types.ModuleType('imageio_ffmpeg')
    installed.__spec__ = importlib.machinery.ModuleSpec('imageio_ffmpeg', None)
    monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', installed)
    video_writer.apply(module)
    assert module.get_writer('a.mp4', mode='I', bitrate='10M') == ('a.mp4', 'FFMPEG')
    assert module.get_writer('a.png') == ('a.png', None)

    hide('imageio_ffmpeg')
    with pytest.raises(InputError, match='pip install imageio-ffmpeg'):
        module.get_writer('a.mp4', mode='I', bitrate='10M')
    assert capsys.readouterr().err == ''
    video_writer.apply(module)
    assert 'pip install imageio-ffmpeg' in capsys.readouterr().err  # when imageio is imported, before anything slow


def test_fov_degrees():
    module = types.ModuleType('click')
    module.option = click.option

    def answer(*args):
        @click.command()
        @module.option('--fov-deg', type=int, default=18.837)
        @module.option('--shape-res', type=int, default=512)
        def command(fov_deg, shape_res):
            click.echo(f'{fov_deg} {shape_res}')
        return CliRunner().invoke(command, args)

    assert answer('--fov-deg=18.837').exit_code == 2
    assert fov_degrees.concerns(module)
    fov_degrees.apply(module)
    assert answer('--fov-deg=20.5').output == '20.5 512\n'
    assert answer().output == '18.837 512\n'
    assert answer('--shape-res=1.5').exit_code == 2


# Patches of modules of the checkout.

def test_sampler_data_source(tmp_path):
    module = make(tmp_path, """
import torch
class InfiniteSampler(torch.utils.data.Sampler):
    def __init__(self, dataset, rank=0):
        super().__init__(dataset)
        self.dataset = dataset
    def __iter__(self):
        return iter(range(len(self.dataset)))
""")
    if not sampler_data_source.needed():
        module.InfiniteSampler([5, 6])
        pytest.skip("this PyTorch's Sampler still takes a data source")
    with pytest.raises(TypeError):
        module.InfiniteSampler([5, 6])
    assert sampler_data_source.concerns(module)
    sampler_data_source.apply(module)
    loader = torch.utils.data.DataLoader([5, 6], sampler=module.InfiniteSampler([5, 6]), batch_size=2)
    assert next(iter(loader)).tolist() == [5, 6]
    assert not sampler_data_source.concerns(module)


GRID_SAMPLE = """
import torch
enabled = False
class _GridSample2dBackward:
    pass
class Old(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, grid):
        ctx.save_for_backward(image, grid)
        return torch.nn.functional.grid_sample(image, grid, align_corners=False)
    @staticmethod
    def backward(ctx, gradient):
        image, grid = ctx.saved_tensors
        return torch._C._jit_get_operation('aten::grid_sampler_2d_backward')(gradient, image, grid, 0, 0, False)
def grid_sample(input, grid):
    return Old.apply(input, grid) if enabled else torch.nn.functional.grid_sample(input, grid, align_corners=False)
"""


def test_grid_sample_backward(tmp_path):
    module = make(tmp_path, GRID_SAMPLE)
    torch.manual_seed(0)
    image = torch.randn([2, 3, 5, 4], dtype=torch.float64, requires_grad=True)
    grid = (torch.rand([2, 3, 4, 2], dtype=torch.float64) * 2.4 - 1.2).requires_grad_()
    module.enabled = True
    with pytest.raises((TypeError, RuntimeError)):
        module.grid_sample(image, grid).sum().backward()
    module.enabled = False
    assert grid_sample_backward.needed() and grid_sample_backward.concerns(module)
    grid_sample_backward.apply(module)
    assert not grid_sample_backward.concerns(module) and module.enabled is False

    def gradients():
        output = module.grid_sample(image, grid)
        return output, *torch.autograd.grad(output.square().sum(), [image, grid])

    plain = gradients()
    module.enabled = True
    for ours, theirs in zip(gradients(), plain, strict=True):
        assert torch.allclose(ours, theirs)
    fixed = grid.detach()
    assert torch.autograd.gradgradcheck(lambda image: module.grid_sample(image, fixed).sin(), [image])


OP = """
custom_ops = None
_plugin = None
def _init():
    global _plugin
    if _plugin is None:
        raise RuntimeError('Error building extension') from RuntimeError({message!r})
    return True
def op(x):
    return 'cuda' if _init() else 'plain'
"""


def test_plugin_fallback(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin_fallback._State, 'has_failed', False)
    first = make(tmp_path, OP.format(message='Ninja is required to load C++ extensions'), 'bias_act')
    second = make(tmp_path, OP.format(message='another reason'), 'upfirdn2d')
    with pytest.raises(RuntimeError):
        first.op(0)
    for module in (first, second):
        assert plugin_fallback.concerns(module)
        plugin_fallback.apply(module)
    with pytest.warns(UserWarning, match='bias_act.*plain PyTorch.*pip install ninja') as caught:
        assert first.op(0) == 'plain'
        assert second.op(0) == 'plain'
        assert first.op(0) == 'plain'
    assert len(caught) == 1


def test_plugin_fallback_leaves_a_plugin_that_works(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin_fallback._State, 'has_failed', False)
    module = make(tmp_path, OP.format(message='unused'))
    module._plugin = object()
    plugin_fallback.apply(module)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert module.op(0) == 'cuda'


@pytest.mark.parametrize('message, named', [
    ('Ninja is required to load C++ extensions', 'pip install ninja'),
    ('CUDA_HOME environment variable is not set. Please set it to your CUDA install root.', 'nvcc'),
    ('The detected CUDA version (11.8) mismatches the version that was used to compile PyTorch (12.1).', 'built with'),
    ('#error -- unsupported GNU version! gcc versions later than 12 are not supported!', 'C\\+\\+ compiler'),
    ('Could not find MSVC/GCC/CLANG installation on this computer.', 'no C\\+\\+ compiler was found'),
    ('the lock file /x/lock is 60 minutes old. Delete it', 'lock file'),
    ("[Errno 30] Read-only file system: '/home/user/.cache'", 'TORCH_EXTENSIONS_DIR'),
    ('something new\nand more', '^something new$'),
])
def test_plugin_fallback_names_the_cause(message, named):
    assert re.search(named, plugin_fallback.cause(RuntimeError(message)))
    assert plugin_fallback.cause(ValueError()) == 'ValueError'


def test_extension_arch_list(tmp_path, monkeypatch):
    module = make(tmp_path, """
import os
def get_plugin(name, fail=False):
    os.environ['TORCH_CUDA_ARCH_LIST'] = ''
    if fail:
        raise RuntimeError('no compiler')
    return name
""")
    monkeypatch.setenv('TORCH_CUDA_ARCH_LIST', '8.6')
    module.get_plugin('p')
    assert os.environ['TORCH_CUDA_ARCH_LIST'] == ''
    monkeypatch.setenv('TORCH_CUDA_ARCH_LIST', '8.6')
    assert extension_arch_list.concerns(module)
    assert not extension_arch_list.concerns(types.ModuleType('other'))
    extension_arch_list.apply(module)
    assert module.get_plugin('p') == 'p' and os.environ['TORCH_CUDA_ARCH_LIST'] == '8.6'
    with pytest.raises(RuntimeError):
        module.get_plugin('p', fail=True)
    assert os.environ['TORCH_CUDA_ARCH_LIST'] == '8.6'
    monkeypatch.delenv('TORCH_CUDA_ARCH_LIST')
    module.get_plugin('p')
    assert 'TORCH_CUDA_ARCH_LIST' not in os.environ


def test_visual_studio(tmp_path, monkeypatch):
    module = make(tmp_path, """
import glob
def _find_compiler_bindir():
    found = glob.glob('C:/Program Files (x86)/Microsoft Visual Studio/*/Community/VC/Tools/MSVC/*/bin/Hostx64/x64')
    return found[-1] if found else None
""")
    newest = 'C:/Program Files/Microsoft Visual Studio/2022/Community/VC/Tools/MSVC/14.38/bin/Hostx64/x64'
    files = [newest.replace('14.38', '14.29'), newest]
    monkeypatch.setattr('glob.glob', lambda pattern: [file for file in files if fnmatch.fnmatch(file, pattern)])
    assert module._find_compiler_bindir() is None
    assert visual_studio.concerns(module)
    visual_studio.apply(module)
    assert module._find_compiler_bindir() == newest
    files.clear()
    assert module._find_compiler_bindir() is None


HALF = PERSISTENCE + """
import torch
class Block(torch.nn.Module):
    use_fp16 = True
    def forward(self, x, img, force_fp32=False, **rest):
        return x.to(torch.float16 if self.use_fp16 and not force_fp32 else torch.float32), rest
class Decorated(Block):
    pass
class Careful(torch.nn.Module):
    use_fp16 = True
    def forward(self, x, force_fp32=False):
        return x.half() if self.use_fp16 and x.device.type == 'cuda' and not force_fp32 else x
"""


def test_half_on_cpu(tmp_path):
    module = make(tmp_path, HALF)
    x = torch.ones([1])
    assert module.Decorated()(x, None)[0].dtype == torch.float16
    careful = module.Careful.forward
    assert half_on_cpu.concerns(module)
    half_on_cpu.apply(module)
    for call in (dict(), dict(force_fp32=False), dict(force_fp32=True)):
        y, rest = module.Decorated()(x, None, noise_mode='const', **call)
        assert y.dtype == torch.float32 and rest == {'noise_mode': 'const'}
    assert module.Careful.forward is careful
    assert not half_on_cpu.concerns(make(tmp_path, 'class Other:\n    forward = 3\n', 'other'))


BLOCK = """
import torch
class SynthesisBlockNoUp(torch.nn.Module):
    def forward(self, x, img, ws=None, **rest):
        y = x.mean(1, keepdim=True)
        img = img.add_(y) if img is not None else y
        return x, img
"""


def test_inplace_rgb(tmp_path):
    module = make(tmp_path, BLOCK)

    def step():
        rendered = (torch.ones([1, 4, 2, 2], requires_grad=True) * 2).tanh()
        raw = rendered[:, :3]
        before = raw.detach().clone()
        _, image = module.SynthesisBlockNoUp()(rendered, raw, noise_mode='none')
        image.sum().backward()
        return torch.equal(raw, before), image

    with pytest.raises(RuntimeError, match='inplace operation'):
        step()
    assert inplace_rgb.concerns(module)
    inplace_rgb.apply(module)
    is_kept, image = step()
    assert is_kept and image.shape == (1, 3, 2, 2)
    assert module.SynthesisBlockNoUp()(torch.ones([1, 4, 2, 2]), None)[1].shape == (1, 1, 2, 2)


def test_plane_axes(tmp_path):
    module = make(tmp_path, """
import torch
class ImportanceRenderer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.plane_axes = torch.eye(3)
    def run_model(self, planes, decoder, coordinates):
        if planes.device != self.plane_axes.device:  # as CUDA kernels do
            raise RuntimeError('Expected all tensors to be on the same device')
        return planes @ self.plane_axes
""")
    renderer = module.ImportanceRenderer().to('meta')  # stands for CUDA: the one other device that is everywhere
    planes = torch.zeros([2, 3], device='meta')
    with pytest.raises(RuntimeError, match='same device'):
        renderer.run_model(planes, None, coordinates=None)
    assert plane_axes.concerns(module)
    plane_axes.apply(module)
    assert renderer.run_model(planes, None, coordinates=None).device.type == 'meta'
