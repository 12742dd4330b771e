"""The targets of Eq. 3 against values worked out by hand."""
import pytest
import torch

from eg3d_unlearn.unlearning.target import mean_target, ufo_target
from torch_utils_ext.errors import InputError


def test_ufo_by_hand():
    # w_id = (3, 0; 0, 4) has Frobenius norm 5; d = 10 goes two of them beyond the mean.
    w_avg = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    source = w_avg[None] + torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])
    torch.testing.assert_close(ufo_target(source, w_avg, 10.0), torch.tensor([[[-5.0, 1.0], [1.0, -7.0]]]))


def test_ufo_at_distance_zero_is_the_mean_target():
    w_avg, source = torch.randn(14, 512), torch.randn(2, 14, 512)
    torch.testing.assert_close(ufo_target(source, w_avg, 0.0), mean_target(source, w_avg))


def test_ufo_lies_d_beyond_the_mean_for_each_person():
    w_avg, source = torch.randn(14, 512), torch.randn(3, 14, 512) * torch.tensor([0.1, 1.0, 5.0])[:, None, None]
    target = ufo_target(source, w_avg, 30.0)
    torch.testing.assert_close((target - w_avg).flatten(1).norm(dim=1), torch.full([3], 30.0))
    cosine = torch.nn.functional.cosine_similarity((target - w_avg).flatten(1), (source - w_avg).flatten(1))
    torch.testing.assert_close(cosine, torch.full([3], -1.0))


def test_ufo_of_the_mean_itself_is_an_error():
    w_avg = torch.randn(14, 512)
    with pytest.raises(InputError, match='--target=mean'):
        ufo_target(w_avg[None].clone(), w_avg)
