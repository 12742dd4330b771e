"""Holds a network of the checkout's loader against ours: compare_trusted.py CHECKOUT NETWORK.pkl (without its path)."""

import sys
from pathlib import Path
from unittest import mock

import torch
from show import middle, quantiles

from eg3d_unlearn.generators.build import build, wrap
from eg3d_unlearn.generators.checkout import load_trusted
from eg3d_unlearn.generators.families import family_of
from torch_utils_ext.network_pickle import read_network_pickle

checkout, network = sys.argv[1:]
record = read_network_pickle(network).records['G_ema']
trusted, family = load_trusted(Path(network), checkout)
assert family == family_of(record.upstream_class), (family, record.upstream_class)
ours, theirs = wrap(build(record), family), wrap(trusted, family).twin()
assert list(ours.network.state_dict()) == list(theirs.network.state_dict())
results = []
for generator in (ours, theirs):
    generator.freeze_except([generator.trainable])
    # Without a generator of random numbers ours renders at fixed depths; upstream's draws are replaced by the same.
    with mock.patch("torch.rand_like", middle), mock.patch("torch.rand", quantiles):
        shown = generator.synthesize(generator.map_seed(0))
    shown.image.square().mean().backward()
    gradients = [parameter.grad for parameter in generator.network.parameters() if parameter.grad is not None]
    results.append((shown, gradients))
(a, grads_a), (b, grads_b) = results
assert len(a.features) == len(b.features) and len(grads_a) == len(grads_b) > 0
for one, other in zip([a.image, *a.features], [b.image, *b.features], strict=True):
    assert (one - other).abs().max() < 1e-4 * max(1, one.std())
for one, other in zip(grads_a, grads_b, strict=True):
    assert (one - other).norm() < 1e-3 * one.norm() + 1e-7
# Random depths come from the generator alone: torch's own draws are left as they were.
before = torch.random.get_rng_state()
pictures = [theirs.synthesize(theirs.map_seed(0), rng=torch.Generator().manual_seed(seed)).image for seed in (0, 0, 1)]
assert torch.equal(pictures[0], pictures[1]) and torch.equal(before, torch.random.get_rng_state())
assert torch.equal(pictures[0], pictures[2]) == (family != "eg3d")
