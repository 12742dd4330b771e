"""LPIPS against the package lpips on the same weights, forward and gradient, and by hand."""
import pytest
import torch
import torch.nn.functional as F

from eg3d_unlearn.judges.perceptual import NETS, Lpips, distance, unit_norm
from eg3d_unlearn.judges.resample import Box, resample
from eg3d_unlearn.judges.weights import fetching_nothing
from torch_utils_ext.errors import InputError


def pictures(n=2, size=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = resample(torch.rand(n, 3, size // 4, size // 4, generator=generator) * 2 - 1, size)
    return a, (a + 0.3 * torch.randn(a.shape, generator=generator)).clamp(-1, 1)


@pytest.fixture(scope='module')
def squeeze():
    return Lpips('squeeze', random_weights=True)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('net', NETS)
def test_equals_the_package(net):
    lpips = pytest.importorskip('lpips')
    ours, theirs = Lpips(net, random_weights=True), lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    trunk = ours.trunk.state_dict()
    theirs.net.load_state_dict({name: trunk['features.' + name.split('.', 1)[1]] for name in theirs.net.state_dict()})
    # In double precision, because in single a near-tie in max pooling may go the other way and move a few pixels.
    ours.double(), theirs.double()
    for height, width in ((48, 48), (67, 50)):
        a, b = (x.double()[:, :, :height, :width] for x in pictures(size=68))
        ours_a, theirs_a = a.clone().requires_grad_(), a.clone().requires_grad_()
        mine, expected = ours(ours_a, b), theirs(theirs_a, b).flatten()
        assert mine.shape == (2,)
        assert torch.allclose(mine, expected, rtol=0, atol=1e-6)
        mine.sum().backward()
        expected.sum().backward()
        assert torch.allclose(ours_a.grad, theirs_a.grad, rtol=1e-6, atol=1e-6 * theirs_a.grad.abs().max())


def test_equal_pictures_have_distance_zero_and_no_gradient(squeeze):
    a, _ = pictures()
    a.requires_grad_()
    found = squeeze(a, a.detach())
    assert torch.equal(found, torch.zeros(2))
    found.sum().backward()
    assert torch.equal(a.grad, torch.zeros_like(a))


def test_each_picture_by_itself(squeeze):
    a, b = pictures(3)
    one_by_one = torch.cat([squeeze(a[i:i + 1], b[i:i + 1]) for i in range(3)])
    assert torch.allclose(squeeze(a, b), one_by_one, rtol=1e-5)


def test_kept_features_give_the_same(squeeze):
    a, b = pictures()
    with torch.no_grad():
        target = squeeze.features(b)
    assert torch.equal(squeeze.compare(squeeze.features(a), target), squeeze(a, b))
    for feature in target:
        norms = feature.norm(dim=1)
        assert torch.allclose(norms[norms > 0], torch.ones(()), atol=1e-5)


def test_gradients_reach_pictures_only(squeeze):
    a, b = pictures()
    assert not squeeze(a, b).requires_grad
    a.requires_grad_()
    squeeze(a, b).sum().backward()
    assert a.grad.abs().sum() > 0 and a.grad.isfinite().all()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in squeeze.parameters())
    b.requires_grad_()
    squeeze(a.detach(), b).sum().backward()
    assert b.grad.abs().sum() > 0


def test_layer_distance_by_hand():
    # (3, 4) / 5 = (0.6, 0.8) against (0, 1): heads 2 and 1 give 2 * 0.36 + 0.04 = 0.76; the empty pixel 1; mean 0.88.
    x = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]], requires_grad=True)
    target = torch.tensor([[[[0.0, 0.0]], [[1.0, 1.0]]]])
    found = distance(unit_norm(x), target, torch.tensor([2.0, 1.0]))
    assert found.item() == pytest.approx(0.88)
    found.sum().backward()
    # d/du = (2 * 2 * 0.6, 2 * 1 * -0.2) / 2 = (1.2, -0.2); minus its part along u (0.56), over 5: (0.1728, -0.1296).
    assert x.grad[0, :, 0, 0].tolist() == pytest.approx([0.1728, -0.1296])


def test_dead_pixels_have_no_gradient():
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    out = unit_norm(x)
    assert torch.equal(out, torch.zeros_like(out))
    out.sum().backward()
    assert x.grad.isfinite().all()


def test_untrained_weights_are_reproducible_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    first, again = (Lpips('squeeze', random_weights=True) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.source is None
    a, b = pictures()
    assert torch.equal(first(a, b), again(a, b))


def test_resolution_brings_pictures_to_a_size_first(squeeze):
    a, b = pictures(size=96)
    small = Lpips('squeeze', random_weights=True, resolution=48)
    assert torch.allclose(small(a, b), squeeze(resample(a, 48), resample(b, 48)))


def test_weights_from_a_file(tmp_path, squeeze):
    path = tmp_path / 'squeezenet.pth'
    state = squeeze.trunk.state_dict()
    torch.save({**state, 'classifier.1.weight': torch.zeros(1)}, path)
    loaded = Lpips('squeeze', weights=path)
    assert loaded.source == path and torch.equal(loaded(*pictures()), squeeze(*pictures()))
    torch.save({name: value for name, value in state.items() if name != 'features.0.bias'}, path)
    with pytest.raises(InputError, match='does not fit .*missing: features.0.bias'):
        Lpips('squeeze', weights=path)


def test_errors(tmp_path, monkeypatch):
    with pytest.raises(InputError, match='--lpips-net=resnet is not known; expected vgg, alex, squeeze'):
        Lpips('resnet')
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with fetching_nothing(), pytest.raises(InputError, match='vgg16-397923af.pth, the trunk of LPIPS .*a run fetches it .553 MB. from '):
        Lpips('vgg')


@pytest.mark.parametrize('pixels, size', [(64, 112), (100, 33), (48, 48), (300, 112)])
def test_resampling_equals_antialiased_interpolation(pixels, size):
    x = torch.rand(1, 2, pixels, pixels)
    expected = F.interpolate(x, (size, size), mode='bilinear', antialias=True)
    assert torch.allclose(resample(x, size), expected, atol=1e-4)


def test_resampling_a_box_of_whole_pixels_is_a_slice():
    x = torch.rand(1, 3, 40, 80)
    cut = resample(x, 10, Box(left=20 / 80, top=5 / 40, right=30 / 80, bottom=15 / 40))
    assert torch.allclose(cut, x[:, :, 5:15, 20:30], atol=1e-6)


def test_beyond_the_edge_a_picture_goes_on():
    x = torch.rand(1, 1, 8, 8)
    wide = resample(x, 16, Box(-0.5, -0.5, 1.5, 1.5))
    assert torch.allclose(wide[0, 0, 4:12, 4:12], x[0, 0], atol=1e-6)
    assert torch.allclose(wide[0, 0, :4, 4:12], x[0, 0, :1].expand(4, 8), atol=1e-6)
