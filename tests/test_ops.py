"""bias_act, upfirdn2d, conv2d_resample against their definitions, and the choice of upstream's kernels."""

from __future__ import annotations

import importlib
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from checkouts import checkout_of

from torch_utils_ext import ops, upstream
from torch_utils_ext.errors import InputError
from torch_utils_ext.ops import select


def naive_upfirdn2d(x, f, up, down, padding, flip, gain):
    """By the definition: loops over every output pixel and every tap."""
    (up_x, up_y), (down_x, down_y), (x0, x1, y0, y1) = up, down, padding
    x, f = x.double().numpy(), f.double().numpy()
    f = np.outer(f, f) if f.ndim == 1 else f
    f = f if flip else f[::-1, ::-1]
    n, c, height, width = x.shape
    spread = np.zeros([n, c, height * up_y, width * up_x])
    spread[:, :, ::up_y, ::up_x] = x
    full = np.zeros([n, c, height * up_y + y0 + y1, width * up_x + x0 + x1])
    for i in range(full.shape[2]):
        for j in range(full.shape[3]):
            if 0 <= i - y0 < spread.shape[2] and 0 <= j - x0 < spread.shape[3]:
                full[:, :, i, j] = spread[:, :, i - y0, j - x0]
    rows = range(0, full.shape[2] - f.shape[0] + 1, down_y)
    columns = range(0, full.shape[3] - f.shape[1] + 1, down_x)
    y = [[(full[:, :, i : i + f.shape[0], j : j + f.shape[1]] * f).sum((2, 3)) for j in columns] for i in rows]
    return torch.from_numpy(np.array(y).transpose(2, 3, 0, 1) * gain)


@pytest.mark.parametrize('up', [(1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize('down', [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize('padding', [(0, 0, 0, 0), (2, 1, 2, 1), (5, 4, 6, 7), (-1, 3, 4, -1)])
@pytest.mark.parametrize('taps', [[1, 3, 3, 1], [[1, 2, 3], [4, 5, 6]], list(range(1, 9))])
def test_upfirdn2d_is_its_definition(up, down, padding, taps):
    f = ops.setup_filter(taps)
    x = torch.randn([2, 2, 9, 8], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for flip in (False, True):
        expected = naive_upfirdn2d(x, f, up, down, padding, flip, gain=1.5)
        y = ops.upfirdn2d(x, f, up=up, down=down, padding=padding, flip_filter=flip, gain=1.5)
        torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)


def test_setup_filter():
    f = ops.setup_filter([1, 3, 3, 1])
    assert f.shape == (4, 4) and f.sum() == 1 and f[0, 1] == 3 / 64
    assert ops.setup_filter(list(range(8))).shape == (8,)
    assert ops.setup_filter(None).tolist() == [[1]]
    with pytest.raises(ValueError, match='at least one tap'):
        ops.setup_filter([])
    taps = torch.tensor([[1.0, 1.0]])
    ops.setup_filter(taps)
    assert taps.tolist() == [[1, 1]]


def test_resampling_keeps_a_constant_inside():
    f = ops.setup_filter([1, 3, 3, 1])
    x = torch.full([1, 1, 8, 8], 2.0)
    up = ops.upsample2d(x, f)
    assert up.shape == (1, 1, 16, 16)
    torch.testing.assert_close(up[..., 2:-2, 2:-2], torch.full([1, 1, 12, 12], 2.0))


@pytest.mark.parametrize('kernel', [1, 3])
@pytest.mark.parametrize('up', [1, 2, 3])
@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('flip_weight', [False, True])
def test_conv2d_resample_is_its_definition(kernel, up, groups, flip_weight):
    """Upsample and convolve, each by itself at the full resolution."""
    rng = torch.Generator().manual_seed(0)
    f = ops.setup_filter([1, 3, 3, 1])
    x = torch.randn([2, 4, 8, 8], generator=rng)
    w = torch.randn([6, 4 // groups, kernel, kernel], generator=rng)
    p = kernel // 2
    # Zeros are padded once, before everything: enough for both steps.
    before, after = (p + (up + 3) // 2, p + (4 - up) // 2) if up > 1 else (p, p)
    full = ops.upfirdn2d(x, f if up > 1 else None, up=up, padding=(before, after) * 2, gain=up * up)
    expected = F.conv2d(full, w if flip_weight else w.flip((2, 3)), groups=groups)
    y = ops.conv2d_resample(x, w, f, up=up, padding=p, groups=groups, flip_weight=flip_weight)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


REFERENCE = {
    'linear': lambda x: x, 'relu': lambda x: np.maximum(x, 0) * 2**0.5, 'lrelu': lambda x: np.where(x > 0, x, 0.2 * x) * 2**0.5,
    'tanh': np.tanh, 'sigmoid': lambda x: 1 / (1 + np.exp(-x)), 'elu': lambda x: np.where(x > 0, x, np.expm1(x)),
    'selu': lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    'softplus': lambda x: np.log1p(np.exp(x)), 'swish': lambda x: x / (1 + np.exp(-x)) * 2**0.5,
}


@pytest.mark.parametrize('act', list(ops.activation_funcs))
def test_bias_act(act):
    x = torch.randn([3, 4, 5], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    b = torch.linspace(-1, 1, 4, dtype=torch.float64)
    before = x.clone()
    expected = torch.from_numpy(REFERENCE[act]((x + b[:, None]).numpy()))
    torch.testing.assert_close(ops.bias_act(x, b, act=act), expected)
    clamped = ops.bias_act(x, b, act=act, gain=0.5, clamp=0.3)
    torch.testing.assert_close(clamped, (expected / ops.activation_funcs[act].gain * 0.5).clamp(-0.3, 0.3))
    assert torch.equal(x, before), 'the input must not change'
    torch.testing.assert_close(ops.bias_act(x, act='lrelu', alpha=0, gain=1), x.clamp_min(0))


def test_gradients():
    rng = torch.Generator().manual_seed(2)
    x = torch.randn([1, 2, 4, 4], generator=rng, dtype=torch.float64, requires_grad=True)
    w = torch.randn([2, 2, 3, 3], generator=rng, dtype=torch.float64, requires_grad=True)
    b = torch.randn([2], generator=rng, dtype=torch.float64, requires_grad=True)
    f = ops.setup_filter([1, 3, 3, 1])
    check = torch.autograd.gradcheck
    assert check(lambda x: ops.upfirdn2d(x, f, up=2, down=3, padding=(3, 2)), x)
    assert check(lambda x, w: ops.conv2d_resample(x, w, f, up=2, padding=1, flip_weight=False), (x, w))
    assert check(lambda x, b: ops.bias_act(x, b, act='lrelu', clamp=1), (x, b))
    assert check(lambda x, b: ops.bias_act(x, b, act='swish'), (x, b))


# ---- upstream's kernels ----

@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout, and a machine that looks as if it had a GPU and a compiler."""
    monkeypatch.delenv('EG3D_DIR', raising=False)
    for mark in upstream.MARKS:
        (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / mark).write_text('')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(select, '_has_compiler', lambda: True)
    monkeypatch.setattr(select, '_wait_for_lock', lambda plugin: None)
    monkeypatch.setattr(select, '_compare', lambda name, module: None)
    yield tmp_path
    upstream.use_kernels({})


def modules(monkeypatch, init):
    """Stand-ins for the checkout's modules, whose kernels build as `init` says."""
    module = SimpleNamespace(_init=init, _plugin=None, bias_act=lambda *a, **k: "the kernel's")
    monkeypatch.setattr(upstream, 'import_upstream', lambda folder, name: module)
    return module


def test_plain_without_gpu(monkeypatch):
    monkeypatch.delenv('EG3D_DIR', raising=False)
    assert ops.select_ops(None, 'cpu') == 'operations: plain PyTorch (no GPU)'
    assert upstream.kernel('bias_act') is None


def test_plain_without_checkout_or_compiler(checkout, monkeypatch):
    assert '--upstream=DIR' in ops.select_ops(None, 'cuda')
    monkeypatch.setattr(select, '_has_compiler', lambda: False)
    assert 'no nvcc' in ops.select_ops(checkout, 'cuda')


def test_kernels_are_used(checkout, monkeypatch):
    module = modules(monkeypatch, lambda: None)
    module._plugin = object()
    monkeypatch.setenv('TORCH_CUDA_ARCH_LIST', '9.0')
    module._init = lambda: os.environ.__setitem__('TORCH_CUDA_ARCH_LIST', '')
    line = ops.select_ops(checkout, 'cuda')
    assert line == f'operations: CUDA kernels of {checkout.resolve()} (bias_act)'
    assert os.environ['TORCH_CUDA_ARCH_LIST'] == '9.0'
    assert upstream.kernel('bias_act') is module.bias_act
    assert upstream.kernel('bias_act', torch.zeros(1)) is None, 'not for a tensor on the CPU'
    with monkeypatch.context() as patch:
        patch.setattr(torch, 'is_autocast_enabled', lambda device: True)
        patch.setattr(torch, 'get_autocast_dtype', lambda device: torch.bfloat16)
        assert upstream.kernel('bias_act') is None, 'not compiled for bfloat16'
    ops.select_ops(None, 'cpu')
    assert upstream.kernel('bias_act') is None


def test_a_failed_build_names_its_cause(checkout, monkeypatch):
    def fails():
        raise RuntimeError('Ninja is required to load C++ extensions\nand more')

    modules(monkeypatch, fails)
    line = ops.select_ops(checkout, 'cuda')
    assert 'plain PyTorch' in line and 'RuntimeError: Ninja is required' in line and 'and more' not in line
    modules(monkeypatch, lambda: False)  # StyleGAN2-ADA warns and goes on without
    assert 'did not build' in ops.select_ops(checkout, 'cuda')


def test_a_differing_kernel_is_not_used(checkout, monkeypatch):
    def differs(name, module):
        raise select._NotUsable(f'{name} of the CUDA kernels differs from plain PyTorch by 1.0e+00')

    modules(monkeypatch, lambda: True)._plugin = object()
    monkeypatch.setattr(select, '_compare', differs)
    assert 'differs from plain PyTorch' in ops.select_ops(checkout, 'cuda')
    assert upstream.kernel('bias_act') is None


def test_comparison_with_a_kernel(monkeypatch):
    monkeypatch.setattr(torch.Tensor, 'cuda', lambda self: self)
    for name, plain in (('bias_act', ops.bias_act), ('upfirdn2d', ops.upfirdn2d)):
        select._compare(name, SimpleNamespace(**{name: plain}))
        with pytest.raises(select._NotUsable, match='differs from plain PyTorch'):
            select._compare(name, SimpleNamespace(**{name: lambda *a, plain=plain, **k: plain(*a, **k) + 1e-3}))


def test_stale_lock(tmp_path, monkeypatch):
    from torch.utils import cpp_extension

    monkeypatch.setattr(cpp_extension, '_get_build_directory', lambda name, verbose: str(tmp_path))
    select._wait_for_lock('bias_act_plugin')
    lock = tmp_path / 'digest-gpu' / 'lock'
    lock.parent.mkdir()
    lock.write_text('')
    os.utime(lock, (time.time() - 2 * select.LOCK_SECONDS,) * 2)
    with pytest.raises(select._NotUsable, match='stale lock .*lock: .*delete'):
        select._wait_for_lock('bias_act_plugin')
    monkeypatch.setattr(cpp_extension, '_get_build_directory', raising_read_only)
    with pytest.raises(select._NotUsable, match='TORCH_EXTENSIONS_DIR'):
        select._wait_for_lock('bias_act_plugin')


def raising_read_only(name, verbose):
    raise PermissionError(13, 'Permission denied', '/read/only')


def test_find_upstream(tmp_path, monkeypatch):
    monkeypatch.delenv('EG3D_DIR', raising=False)
    assert upstream.find_upstream(None) is None
    with pytest.raises(InputError, match='--upstream=.*is no folder.*expected a checkout of EG3D'):
        upstream.find_upstream(tmp_path / 'nowhere')
    monkeypatch.setenv('EG3D_DIR', str(tmp_path))
    with pytest.raises(InputError, match='EG3D_DIR=.*has neither'):
        upstream.find_upstream(None)
    for mark in upstream.MARKS:
        (tmp_path / 'eg3d' / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'eg3d' / mark).write_text('')
    assert upstream.find_upstream(None) == (tmp_path / 'eg3d').resolve()


@pytest.mark.upstream
def test_modules_come_from_the_checkout():
    module = upstream.import_upstream(checkout_of('eg3d'), 'torch_utils.ops.bias_act')
    assert set(module.activation_funcs) == set(ops.activation_funcs)
    for name, spec in ops.activation_funcs.items():
        assert spec.gain == pytest.approx(module.activation_funcs[name].def_gain)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('channels', [1, 2, 3, 7])
def test_filtered_lrelu_takes_some_channels_at_a_time_without_gradients(channels, bias, monkeypatch):
    """As a whole where gradients are asked for; in parts of ``channels``, the last one smaller, where not."""
    module = importlib.import_module('torch_utils_ext.ops.filtered_lrelu')
    rng = torch.Generator().manual_seed(0)
    x, f = torch.randn(2, 7, 9, 9, generator=rng).double(), torch.randn(6, generator=rng)
    b = torch.randn(7, generator=rng).double() if bias else None
    monkeypatch.setattr(module, 'AT_ONCE', channels * 2 * 9 * 9 * 4)
    parts, bias_act_ = [], module.bias_act
    monkeypatch.setattr(module, 'bias_act', lambda x, *args, **options: parts.append(x.shape[1]) or bias_act_(x, *args, **options))

    def filtered() -> torch.Tensor:
        return module.filtered_lrelu(x, f, f, b, up=2, down=2, padding=5, clamp=1.0)
    whole = filtered()
    assert parts == [7, 7]
    with torch.no_grad():
        in_parts = filtered()
    assert max(parts[2:]) == channels and sum(parts[2:]) == 2 * 7
    assert torch.allclose(in_parts, whole, atol=1e-9)
