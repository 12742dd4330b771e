"""Holds networks of the checkout's loader against our own: compare_trusted.py CHECKOUT NETWORK.pkl (outside a checkout)."""

import sys
from pathlib import Path

import torch

from eg3d_unlearn.foreign import load_trusted
from eg3d_unlearn.generator import build, wrap
from torch_utils_ext.network_pickle import read_network_pickle

checkout, network = sys.argv[1:]
record = read_network_pickle(network).records['G_ema']
trusted, family = load_trusted(Path(network), checkout)
assert family == record.family, (family, record.family)
ours, theirs = wrap(build(record), family), wrap(trusted, family).twin()
assert list(ours.network.state_dict()) == list(theirs.network.state_dict())
results = []
for generator in (ours, theirs):
    generator.freeze_except([generator.trainable])
    shown = generator.synthesize(generator.map_seed(0), rng=torch.Generator().manual_seed(0))
    shown.image.square().mean().backward()
    gradients = [parameter.grad for parameter in generator.network.parameters() if parameter.grad is not None]
    results.append((shown, gradients))
(a, grads_a), (b, grads_b) = results
assert len(a.features) == len(b.features) and len(grads_a) == len(grads_b) > 0
torch.testing.assert_close(a.features, b.features, rtol=1e-4, atol=1e-4)
# EG3D's depths are drawn in another order, so pictures and gradients are near each other there and the same elsewhere.
if family == 'eg3d':
    assert (a.image - b.image).abs().mean() < 0.1 * a.image.std()
else:
    torch.testing.assert_close(a.image, b.image, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grads_a, grads_b, rtol=1e-2, atol=1e-4)
# With no draws the same picture comes twice, and torch's own generator is left alone.
before = torch.random.get_rng_state()
pictures = [theirs.synthesize(theirs.map_seed(0)).image for _ in range(2)]
assert torch.equal(*pictures) and torch.equal(before, torch.random.get_rng_state())
