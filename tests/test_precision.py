"""Precision: what a run gets, and that it is given back."""

from __future__ import annotations

import pytest
import torch

from eg3d_unlearn.generators.precision import MKLDNN, arithmetic, choose_precision, cpu_takes_bf16
from eg3d_unlearn.worlds.demo.world import WORLD
from torch_utils_ext.errors import InputError

CPU, CUDA, MPS = map(torch.device, ('cpu', 'cuda', 'mps'))


def test_what_a_run_gets():
    assert choose_precision(None, None, CPU) == choose_precision(None, WORLD, CUDA) == choose_precision(None, WORLD, MPS) == 'fp32'
    assert choose_precision(None, WORLD, CPU) == ('bf16' if cpu_takes_bf16() else 'fp32')
    assert all(choose_precision(name, WORLD, CUDA) == name for name in ('fp32', 'tf32', 'bf16', 'fp16'))
    assert choose_precision('fp32', WORLD, CPU) == 'fp32'


@pytest.mark.parametrize('precision, device', [('tf32', CPU), ('fp16', CPU), ('bf16', MPS), ('fp16', MPS)])
def test_what_it_cannot_get(precision, device):
    with pytest.raises(InputError, match=f'--precision={precision} needs a CUDA GPU; this is {device.type}'):
        choose_precision(precision, None, device)


def test_an_old_torch_is_told(monkeypatch):
    monkeypatch.setattr('eg3d_unlearn.generators.precision.cpu_takes_bf16', lambda: False)
    assert choose_precision(None, WORLD, CPU) == 'fp32'
    with pytest.raises(InputError, match='needs torch 2.9'):
        choose_precision('bf16', WORLD, CPU)


@pytest.mark.skipif(not cpu_takes_bf16(), reason='torch older than 2.9 has no such setting')
def test_products_in_bf16_and_only_inside():
    """Near to the result in single precision, and everything as before afterwards, also after an error."""
    torch.manual_seed(0)
    image, weight = torch.randn(2, 32, 32, 32), torch.randn(32, 32, 3, 3)
    exact = torch.nn.functional.conv2d(image, weight)
    before = [getattr(torch.backends.mkldnn, name).fp32_precision for name in MKLDNN]
    with pytest.raises(KeyError), arithmetic('bf16', CPU):
        assert [getattr(torch.backends.mkldnn, name).fp32_precision for name in MKLDNN] == ['bf16', 'bf16']
        coarse = torch.nn.functional.conv2d(image, weight)
        raise KeyError
    assert [getattr(torch.backends.mkldnn, name).fp32_precision for name in MKLDNN] == before
    assert (coarse - exact).abs().max() < 0.02 * exact.std() * 10
    assert torch.equal(torch.nn.functional.conv2d(image, weight), exact)


@pytest.mark.skipif(not cpu_takes_bf16(), reason='torch older than 2.9 has no such setting')
def test_single_precision_inside_bf16():
    with arithmetic('bf16', CPU):
        with arithmetic('fp32', CPU):
            assert all(getattr(torch.backends.mkldnn, name).fp32_precision == 'ieee' for name in MKLDNN)
        assert all(getattr(torch.backends.mkldnn, name).fp32_precision == 'bf16' for name in MKLDNN)


@pytest.mark.parametrize('coarse', [
    pytest.param(lambda: arithmetic('bf16', CPU), marks=pytest.mark.skipif(not cpu_takes_bf16(), reason='torch older than 2.9'), id='bf16'),
    pytest.param(lambda: torch.autocast('cpu', torch.bfloat16), id='autocast')])
def test_rays_are_exact_whatever_the_precision(coarse):
    """A ray with bfloat16's eight bits passes half a pixel beside its place."""
    from eg3d_unlearn.generators.cameras import look_at
    from eg3d_unlearn.generators.networks.rendering import camera_rays
    camera = look_at(0.2, -0.2, [0, 0, 0.2], 2.7)
    matrices = camera[:, :16].view(-1, 4, 4), camera[:, 16:].view(-1, 3, 3)
    exact = camera_rays(*matrices, 64)
    with coarse():
        found = camera_rays(*matrices, 64)
    assert all(torch.equal(a, b) for a, b in zip(exact, found, strict=True))


@pytest.mark.skipif(not cpu_takes_bf16(), reason='torch older than 2.9 has no such setting')
@pytest.mark.parametrize('name', ['demo-eg3d', 'demo-stylegan2'])
@torch.no_grad()
def test_pictures_in_bf16_are_those_in_single_precision(name):
    from eg3d_unlearn.worlds.demo.check import load
    generator = load(name)
    ws = generator.sample(2, torch.Generator().manual_seed(3))
    exact = generator.synthesize(ws).image
    with arithmetic('bf16', CPU):
        found = generator.synthesize(ws).image
    psnr = 10 * torch.log10(4 / (found - exact).square().flatten(1).mean(1))
    assert psnr.min() > 45
