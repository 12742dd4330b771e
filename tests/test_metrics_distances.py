"""FID, KID, precision and recall: closed forms, hand cases, and the library's own results on the same pictures."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from eg3d_unlearn.evaluation.metrics import distances
from eg3d_unlearn.evaluation.metrics.pairwise_identity import mean_of_pairs
from eg3d_unlearn.judges.verification import pairs_of, threshold_at

torch_fidelity = pytest.importorskip('torch_fidelity')


def exactly(mean, deviation, count=400, seed=0):
    """Features [count, D] whose sample mean and covariance are the given ones, not only nearly."""
    x = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T)).T)
    return x * torch.tensor(deviation, dtype=torch.float64) + torch.tensor(mean, dtype=torch.float64)


def drawn(count, dimensions, seed, shift=0.0):
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed)) + shift


def test_fid_of_known_gaussians():
    a, b = exactly([0.0, 1.0, 2.0], [1.0, 2.0, 0.5]), exactly([0.5, 1.0, 0.0], [2.0, 2.0, 1.5], seed=1)
    # |Δμ|² + Σ (σ_a - σ_b)² for diagonal covariances.
    expected = 0.25 + 4.0 + 1.0 + 0.0 + 1.0
    assert distances.fid(a, b) == pytest.approx(expected, abs=1e-9)
    assert distances.fid_symmetric(a, b) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('count, dimensions', [(200, 12), (30, 60)])
def test_the_fast_fid_is_the_library_s(count, dimensions):
    a, b = drawn(count, dimensions, 0), drawn(count, dimensions, 1, 0.3) * 1.5
    assert distances.fid_symmetric(a, b) == pytest.approx(distances.fid(a, b), rel=1e-5)


def test_equal_features_are_at_no_distance():
    a = drawn(120, 8, 0)
    for figure in (distances.fid_pre(a, a), distances.kid_pre(a, a), distances.fid_difference(a, a, drawn(120, 8, 1))):
        assert [figure.value, figure.low, figure.high] == pytest.approx([0, 0, 0], abs=1e-6) and figure.samples == 120
    precision, recall = distances.precision_recall(a, a)
    assert precision.value == recall.value == 1.0 and precision.low > 0.9 and precision.high == pytest.approx(1)


def test_kid_is_the_library_s():
    from torch_fidelity.metric_kid import kernel_poly, mmd2
    u, s = drawn(90, 6, 0), drawn(90, 6, 1, 0.4)
    a, b = u.double().numpy(), s.double().numpy()
    expected = mmd2(kernel_poly(a, a), kernel_poly(a, b), kernel_poly(b, b), mmd_est='u-statistic')
    assert distances.kid_pre(u, s).value == pytest.approx(float(expected), rel=1e-9)


def test_kid_does_not_depend_on_blocks(monkeypatch):
    u, s = drawn(90, 6, 0), drawn(90, 6, 1, 0.4)
    whole = distances.kid_pre(u, s)
    monkeypatch.setattr(distances, 'BLOCK', 32)
    parts = distances.kid_pre(u, s)
    assert [parts.value, parts.low, parts.high] == pytest.approx([whole.value, whole.low, whole.high], rel=1e-9)


def test_kid_without_a_group_is_kid_of_the_rest():
    """The jackknife's shortcut through block sums against doing it anew for each group."""
    u, s = drawn(80, 5, 0), drawn(80, 5, 1, 0.5)
    values = [distances.kid_pre(u[keep], s[keep]).value for keep in distances.kept(80, 0)]
    expected = distances.interval(distances.kid_pre(u, s).value, [values], 80, 0)
    assert distances.kid_pre(u, s, seed=0).high == pytest.approx(expected.high, rel=1e-9)


def test_precision_and_recall_are_not_swapped():
    """G_u makes one of the two kinds of pictures that G_s makes: all that it makes is right, half of what there was is missing."""
    rng = torch.Generator().manual_seed(0)
    near, far = torch.randn(60, 4, generator=rng), torch.randn(60, 4, generator=rng) + 100
    s = torch.cat([near, far])
    u = torch.cat([near, near + 0.01 * torch.randn(60, 4, generator=rng)])
    precision, recall = distances.precision_recall(u, s)
    assert precision.value > 0.95 and recall.value == pytest.approx(0.5, abs=0.05)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = drawn(20, 1, 0)[:, 0].double()
    leave_outs = [values[keep].mean().item() for keep in distances.kept(20, seed=3)]   # groups of one
    figure = distances.interval(values.mean().item(), [leave_outs], 20, 3)
    assert figure.high - figure.value == pytest.approx(1.959963984540054 * values.std().item() / math.sqrt(20), rel=1e-9)


def test_independent_sets_add_their_variances():
    one, two = [1.0, 2.0, 3.0, 4.0] * 5, [5.0, 5.5, 4.5, 5.0] * 5
    both = distances.interval(0.0, [one, two], 10, 0).high
    assert both**2 == pytest.approx(distances.interval(0.0, [one], 10, 0).high ** 2 + distances.interval(0.0, [two], 10, 0).high ** 2)


@pytest.mark.slow
@pytest.mark.parametrize('distance', ['fid', 'kid', 'dfid'])
def test_intervals_cover_what_they_should(distance):
    """Of intervals for 95 % about 95 % hold the mean of many repetitions."""
    values, bounds = [], []
    for repetition in range(150):
        s = drawn(200, 4, 2 * repetition)
        u = 1.2 * s + 0.5 * drawn(200, 4, 2 * repetition + 1) + 0.3
        if distance == 'dfid':
            figure = distances.fid_difference(u, s, drawn(200, 4, 10_000 + repetition))
        else:
            figure = {'fid': distances.fid_pre, 'kid': distances.kid_pre}[distance](u, s)
        values.append(figure.value)
        bounds.append((figure.low, figure.high))
    covered = np.mean([low <= np.mean(values) <= high for low, high in bounds])
    assert 0.88 <= covered <= 0.99, covered


class Means(torch.nn.Module):
    """[N, 3, H, W] uint8 -> [N, 12]: a feature network that the library and this package can both run."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pictures.float() / 255, [2, 2]).flatten(1)


def test_the_whole_way_from_pictures_is_the_library_s(tmp_path):
    """The same pictures through torch-fidelity's own command and through this package's feature network and distances."""
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    from eg3d_unlearn.judges.features import torchscript

    class Extractor(FeatureExtractorBase):
        INPUT_IMAGE_SIZE = 16

        def __init__(self, name, features_list, **options):
            super().__init__(name, features_list)
            self.means = Means()

        @staticmethod
        def get_provided_features_list():
            return ('means',)

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return 'means'

        def forward(self, pictures):
            return (self.means(pictures),)

    class Pictures(torch.utils.data.Dataset):
        def __init__(self, pictures):
            self.pictures = pictures

        def __len__(self):
            return len(self.pictures)

        def __getitem__(self, index):
            return self.pictures[index]

    torch_fidelity.register_feature_extractor('means-of-a-test', Extractor)
    rng = torch.Generator().manual_seed(0)
    u = torch.randint(0, 256, [60, 3, 16, 16], generator=rng).to(torch.uint8)
    s = torch.randint(0, 200, [60, 3, 16, 16], generator=rng).to(torch.uint8)
    options = dict(fid=True, prc=True, cuda=False, verbose=False, cache=False, feature_extractor='means-of-a-test', batch_size=7)
    expected = torch_fidelity.calculate_metrics(input1=Pictures(u), input2=Pictures(s), **options)
    torch.jit.script(Means()).save(tmp_path / 'means.pt')
    features = torchscript(tmp_path / 'means.pt', torch.device('cpu'), trust=True)
    first, second = features(u), features(s)
    assert distances.fid_pre(first, second).value == pytest.approx(expected['frechet_inception_distance'], rel=1e-4)
    precision, recall = distances.precision_recall(first, second)
    assert precision.value == pytest.approx(expected['precision'], abs=1e-6) and recall.value == pytest.approx(expected['recall'], abs=1e-6)


def test_mean_of_pairs_by_hand():
    cosines = torch.tensor([[1.0, 0.2, 0.4], [0.2, 1.0, 0.6], [0.4, 0.6, 1.0]])
    figure = mean_of_pairs(cosines)
    assert figure.value == pytest.approx(0.4) and figure.samples == 3
    assert 0.2 - 1e-6 <= figure.low <= 0.4 <= figure.high <= 0.6 + 1e-6
    two = mean_of_pairs(cosines[:2, :2])
    assert [two.value, two.low, two.high] == pytest.approx([0.2] * 3) and two.samples == 1  # one pair, of unknown spread


def test_the_threshold_lets_so_many_impostors_pass():
    cosines = torch.arange(101) / 100
    assert threshold_at(cosines, 0.1) == pytest.approx(0.9)
    assert pairs_of(torch.arange(9).view(3, 3)).tolist() == [1, 2, 5]


def test_a_threshold_of_many_impostors(monkeypatch):
    """More pairs than the 16 million that older torch.quantile takes."""
    def limited(values, *_):
        raise RuntimeError('quantile() input tensor is too large')
    monkeypatch.setattr(torch, 'quantile', limited)
    assert threshold_at(torch.zeros(2**24 + 1), 0.01) == 0
