"""Precision: what a run gets, and that it is given back."""

from __future__ import annotations

import pytest
import torch

from eg3d_unlearn.arithmetic import MKLDNN, arithmetic, choose_precision, cpu_takes_bf16
from torch_utils_ext.errors import InputError

CPU, CUDA, MPS = map(torch.device, ('cpu', 'cuda', 'mps'))


def test_what_a_run_gets():
    assert choose_precision(None, False, CPU) == choose_precision(None, True, CUDA) == choose_precision(None, True, MPS) == 'fp32'
    assert choose_precision(None, True, CPU) == ('bf16' if cpu_takes_bf16() else 'fp32')
    assert all(choose_precision(name, True, CUDA) == name for name in ('fp32', 'tf32', 'bf16', 'fp16'))
    assert choose_precision('fp32', True, CPU) == 'fp32'


@pytest.mark.parametrize('precision, device', [('tf32', CPU), ('fp16', CPU), ('bf16', MPS), ('fp16', MPS)])
def test_what_it_cannot_get(precision, device):
    with pytest.raises(InputError, match=f'--precision={precision} needs a CUDA GPU; this is {device.type}'):
        choose_precision(precision, False, device)


def test_an_old_torch_is_told(monkeypatch):
    monkeypatch.setattr('eg3d_unlearn.arithmetic.cpu_takes_bf16', lambda: False)
    assert choose_precision(None, True, CPU) == 'fp32'
    with pytest.raises(InputError, match='needs torch 2.9'):
        choose_precision('bf16', True, CPU)


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
