"""Who lives in the demo world: attributes and latents, the three ranges, poses."""

from __future__ import annotations

import pytest
import torch

from eg3d_unlearn.worlds.demo import heads
from eg3d_unlearn.worlds.demo.people import (
    ATTRIBUTES,
    IDENTITY,
    NUISANCE,
    ODDITIES,
    RANGES,
    Z_DIM,
    attributes_of,
    latents_of,
    nuisances,
    people,
    pose_of,
)

# What expression and light move, of a head's parameters.
POSED = {'open', 'smile', 'light'}


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, Z_DIM, generator=torch.Generator().manual_seed(seed))


def test_latents_come_back_from_their_attributes():
    attributes = attributes_of(latents(2000))
    assert attributes.shape == (2000, len(ATTRIBUTES)) and attributes.abs().max() <= 1
    z = latents_of(attributes)
    assert (attributes_of(z) - attributes).abs().max() < 1e-3 + 1e-5
    # Of unit mean square, as the mapping network makes them, so that nothing is lost there.
    torch.testing.assert_close(z.square().mean(1), torch.ones(2000))


def test_only_the_direction_of_a_latent_counts():
    z = latents(8)
    torch.testing.assert_close(attributes_of(5 * z), attributes_of(z))
    assert (attributes_of(-z) + attributes_of(z)).abs().max() < 1e-5
    torch.testing.assert_close(pose_of(0.2 * z), pose_of(z))


def largest_gap(values: torch.Tensor) -> torch.Tensor:
    """Largest distance of each column's distribution from the uniform one on -1 to 1 (Kolmogorov-Smirnov)."""
    steps = torch.linspace(-1, 1, len(values))[:, None]
    return (values.sort(dim=0).values - steps).abs().amax(0) / 2


@pytest.mark.parametrize('drawn', [
    lambda count: attributes_of(latents(count)),
    lambda count: pose_of(latents(count)),
    lambda count: nuisances(count, 3),
    lambda count: people('held-out', count).attributes,
], ids=['attributes_of', 'pose_of', 'nuisances', 'people'])
def test_draws_are_uniform(drawn):
    # 0.03 is where a true uniform sample of 4000 ends up once in 700 draws.
    assert largest_gap(drawn(4000)).max() < 0.03


def test_attributes_and_pose_tell_nothing_of_each_other():
    z = latents(4000)
    correlation = torch.corrcoef(torch.cat([attributes_of(z), pose_of(z)], dim=1).T)
    assert correlation.shape == (len(ATTRIBUTES) + 2,) * 2
    assert (correlation - torch.eye(len(correlation))).abs().max() < 0.08


@pytest.mark.parametrize('kind', RANGES)
def test_the_seed_says_who_comes(kind):
    first, again, others = people(kind, 20, 5), people(kind, 20, 5), people(kind, 20, 6)
    assert torch.equal(first.attributes, again.attributes)
    if kind == 'out-of-domain':
        assert torch.equal(first.oddities, again.oddities)
    assert torch.cdist(first.attributes, others.attributes).min() > 1


def test_nobody_is_in_two_ranges():
    everybody = torch.cat([people(kind, 100, seed).attributes for kind in RANGES for seed in range(3)])
    apart = torch.cdist(everybody, everybody) + 100 * torch.eye(len(everybody))
    # Two people at random are 4.5 apart on average; a person that came twice would be at 0.
    assert apart.min() > 1


def test_only_people_out_of_the_domain_wear_oddities():
    assert people('training', 3).oddities is None and people('held-out', 3).oddities is None
    worn = people('out-of-domain', 400).oddities
    assert worn.shape == (400, len(ODDITIES)) and set(worn.unique().tolist()) == {0.0, 1.0}
    assert (worn.sum(1) >= 1).all()
    # 0.35 each, and one of four for sure: 1 - 0.65 * 0.75.
    assert ((worn.mean(0) - 0.51).abs() < 0.08).all()


@pytest.mark.parametrize('kind', ['held-out', 'out-of-domain'])
def test_posing_keeps_who_it_is(kind):
    before = people(kind, 10)
    faces = nuisances(10, 1)
    after = before.posing(faces)
    assert torch.equal(after.attributes[:, : len(IDENTITY)], before.attributes[:, : len(IDENTITY)])
    assert torch.equal(after.attributes[:, len(IDENTITY) :], faces) and faces.shape == (10, len(NUISANCE))
    assert after.oddities is before.oddities
    was, now = heads.parameters(before), heads.parameters(after)
    assert {name for name in was if not torch.equal(was[name], now[name])} == POSED


def test_a_part_of_the_people_keeps_their_oddities():
    everybody = people('out-of-domain', 6)
    some = everybody[torch.tensor([4, 1])]
    assert len(some) == 2 and torch.equal(some.oddities, everybody.oddities[[4, 1]])
    assert torch.equal(some.attributes, everybody.attributes[[4, 1]])
    assert people('training', 3)[1:].oddities is None


def test_every_attribute_shows():
    # A dead one would make people alike whom the truth calls different.
    middle = people('held-out', 1)
    for i, name in enumerate(ATTRIBUTES):
        shown = []
        for value in (-0.9, 0.9):
            changed = middle.attributes.clone()
            # Hair and no bald head, so that length, curls and buns can show.
            changed[:, ATTRIBUTES.index('hair_volume')] = 0.5
            changed[:, i] = value
            shown.append(heads.parameters(type(middle)(changed)))
        assert any(not torch.equal(shown[0][key], shown[1][key]) for key in shown[0]), name
