"""Every loss against values worked out by hand, and their gradients."""
from dataclasses import asdict, fields

import pytest
import torch
from small import guide_loss

from eg3d_unlearn.config import LossOptions
from eg3d_unlearn.judges.identity import identity_distance
from eg3d_unlearn.unlearning.loss import TERMS, adjacent_offsets, feature_distance, local_loss, total_loss


def test_feature_distance_is_zero_for_equal_features():
    planes = [torch.randn(3, 96, 4, 4)]
    assert torch.equal(feature_distance(planes, planes), torch.zeros(3))


def test_feature_distance_by_hand():
    # One map: (1 + 9 + 0 + 4) / 4 = 3.5. Two maps: the mean of 3.5 and 0.25.
    u = torch.tensor([1.0, 3.0, 0.0, -2.0]).reshape(1, 1, 2, 2)
    half = torch.full([1, 2, 1, 1], 0.5)
    assert feature_distance([u], [torch.zeros_like(u)]).item() == pytest.approx(3.5)
    assert feature_distance([u, half], [torch.zeros_like(u), torch.zeros_like(half)]).item() == pytest.approx(1.875)


def test_feature_distance_gradient_by_hand():
    # d/du mean((u - t)^2) = 2 (u - t) / 4.
    u = torch.tensor([1.0, 3.0, 0.0, -2.0]).reshape(1, 1, 2, 2).requires_grad_()
    feature_distance([u], [torch.zeros(1, 1, 2, 2)]).sum().backward()
    assert u.grad.flatten().tolist() == [0.5, 1.5, 0.0, -1.0]


def test_feature_distance_does_not_depend_on_the_order_in_memory():
    u, t = torch.randn(2, 2, 5, 4, 3)
    last = [part.contiguous(memory_format=torch.channels_last) for part in (u, t)]
    expected = (u - t).square().flatten(1).mean(1)
    for a, b in ((u, t), (last[0], last[1]), (last[0], t), (u, last[1])):
        torch.testing.assert_close(feature_distance([a], [b]), expected)


def test_feature_distance_is_per_sample():
    u = torch.stack([torch.zeros(2, 3, 3), torch.ones(2, 3, 3)])
    assert feature_distance([u], [torch.zeros_like(u)]).tolist() == [0.0, 1.0]


def test_identity_distance_by_hand():
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    b = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.8, 0.6]])
    torch.testing.assert_close(identity_distance(a, b), torch.tensor([0.0, 2.0, 0.04]))


def test_identity_distance_gradient_by_hand():
    a = torch.tensor([[0.6, 0.8]], requires_grad=True)
    identity_distance(a, torch.tensor([[1.0, 0.0]])).sum().backward()
    assert a.grad.tolist() == [[-1.0, 0.0]]


def test_local_loss_by_hand():
    # 1e-2 * 3 + 1 * 0.5 + 0.1 * 0.2 = 0.55.
    distances = {'l2': torch.tensor([3.0]), 'lpips': torch.tensor([0.5]), 'id': torch.tensor([0.2])}
    value = local_loss(distances, guide_loss())
    assert value.item() == pytest.approx(0.55)


def test_total_loss_sums_over_neighbours_and_people():
    options = guide_loss(lambda_local=2.0, lambda_adj=0.5, lambda_global=3.0)
    value = total_loss(torch.tensor([1.0]), torch.tensor([2.0, 4.0]), torch.tensor([0.1, 0.3]), options)
    assert value.item() == pytest.approx(2 * 1 + 0.5 * 6 + 3 * 0.4)


@pytest.mark.parametrize('off, expected', [('local', 3.0 + 0.2), ('adj', 1.0 + 0.2), ('global', 1.0 + 3.0)])
def test_a_weight_of_zero_switches_a_loss_off(off, expected):
    value = total_loss(torch.tensor([1.0]), torch.tensor([3.0]), torch.tensor([0.2]), guide_loss(**{f'lambda_{off}': 0.0}))
    assert value.item() == pytest.approx(expected)


def test_adjacent_offsets_by_hand():
    source = torch.zeros(1, 2, 2)
    random = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, -2.0]]])  # norms 5 and 2 over the whole latent
    offsets = adjacent_offsets(random, source, torch.tensor([10.0, 1.0]))
    torch.testing.assert_close(offsets[0], torch.tensor([[6.0, 0.0], [0.0, 8.0]]))
    torch.testing.assert_close(offsets[1], torch.tensor([[0.0, 0.0], [0.0, -1.0]]))


def test_adjacent_offsets_have_length_alpha_for_each_sample():
    offsets = adjacent_offsets(torch.randn(4, 14, 512), torch.randn(1, 14, 512), torch.tensor([0.0, 1.0, 7.5, 15.0]))
    assert offsets.dtype == torch.float32
    torch.testing.assert_close(offsets.flatten(1).norm(dim=1), torch.tensor([0.0, 1.0, 7.5, 15.0]))


def test_published_weights():
    weights = {name: value for name, value in asdict(guide_loss()).items() if name.startswith('lambda_') and value}
    assert weights == {'lambda_local': 1, 'lambda_adj': 1, 'lambda_global': 1, 'lambda_l2': 0.01, 'lambda_lpips': 1, 'lambda_id': 0.1}


def test_every_term_has_the_option_of_its_weight():
    assert all(term.option in {field.name for field in fields(LossOptions)} for term in TERMS)
