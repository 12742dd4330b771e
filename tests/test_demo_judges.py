"""The judges of the demo world: interfaces, files, training that goes on to the same bytes; the shipped ones know strangers."""
import math

import numpy as np
import pytest
import torch

from eg3d_unlearn.judges.identity import ALIGNMENTS, Recogniser
from eg3d_unlearn.judges.resample import FULL, resample
from eg3d_unlearn.worlds.demo import photos, scene, train_judges
from eg3d_unlearn.worlds.demo.judges import (
    FOLDER,
    NAMES,
    NETWORKS,
    DemoLpips,
    LossRecogniser,
    MeasuringRecogniser,
    PerceptualNetwork,
    as_judge,
    load_judge,
    load_network,
    save_network,
    soft_unit,
)
from eg3d_unlearn.worlds.demo.people import IDENTITY, NUISANCE, held_out_people, training_people
from eg3d_unlearn.worlds.demo.photos import PhotoSet, photo_set, to_floats
from eg3d_unlearn.worlds.demo.train_judges import SEEDS, WHICH, Schedule, train
from torch_utils_ext.errors import InputError

RECOGNISERS = ('demo-loss', 'demo-measuring')
TINY = {
    'demo-loss': dict(channels=(8, 8, 8), groups=2, embedding=6),
    'demo-measuring': dict(channels=(4, 8), embedding=5),
    'demo-perceptual': dict(channels=(4, 6, 8)),
    'demo-features': dict(width=12, blocks=1, bottleneck=7),
}


def tiny(name, seed=0):
    """An untrained network whose norms are not the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = NETWORKS[name](**TINY[name])
        for key, value in network.state_dict().items():
            if key.endswith('running_var'):
                value.uniform_(0.5, 1.5)
    return network.eval()


def pictures(count=2, size=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return resample(torch.rand(count, 3, 12, 12, generator=generator) * 2 - 1, size)


def random_photos(kind, people, photos, seed, resolution=64, cache='.'):
    """A `PhotoSet` of random pictures, which takes no time."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (people, photos, 3, resolution, resolution), generator=generator).byte()
    nuisance = torch.rand(people, photos, len(NUISANCE), generator=generator) * 2 - 1
    cameras = scene.cameras_at_random(people * photos, seed).unflatten(0, (people, photos))
    return PhotoSet(images, training_people(people, seed).attributes[:, :len(IDENTITY)], nuisance, cameras)


# ---- Recognisers

@pytest.mark.parametrize('name', RECOGNISERS)
def test_recognisers_take_any_size_and_give_unit_vectors(name):
    judge = as_judge(name, tiny(name))
    assert isinstance(judge, Recogniser) and judge.name == name and judge.input_size == 64 and judge.source is None
    for size in (64, 50, 128):
        embeddings = judge.embed(pictures(size=size), 'eg3d')
        assert embeddings.shape == (2, TINY[name]['embedding']) and embeddings.dtype == torch.float32
        assert torch.allclose(embeddings.norm(dim=1), torch.ones(2), atol=1e-5)
    assert all(judge.box(alignment) == FULL for alignment in ALIGNMENTS)


@pytest.mark.parametrize('name', RECOGNISERS)
def test_gradients_reach_pictures_and_nothing_else(name):
    judge = as_judge(name, tiny(name))
    images = pictures(size=128).requires_grad_()
    (judge.embed(images, 'full') @ judge.embed(pictures(seed=1), 'full').T.detach()).sum().backward()
    assert images.grad.isfinite().all() and images.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in judge.parameters())


def test_the_two_recognisers_share_no_kind_of_layer_and_no_size():
    loss, measuring = LossRecogniser(), MeasuringRecogniser()
    kinds = [{type(module).__name__ for module in network.modules() if not list(module.children())} for network in (loss, measuring)]
    assert 'PReLU' in kinds[0] - kinds[1] and 'SiLU' in kinds[1] - kinds[0]
    assert loss.options['embedding'] != measuring.options['embedding']
    shapes = [{tuple(p.shape) for p in network.parameters() if p.ndim == 4} for network in (loss, measuring)]
    assert not shapes[0] & shapes[1]


def test_nobody_is_in_two_training_sets():
    assert set(SEEDS) == set(WHICH) and len(set(SEEDS.values())) == 4
    everybody = torch.cat([training_people(300, seed).attributes for seed in SEEDS.values()])
    everybody = torch.cat([everybody, held_out_people(200, train_judges.HELD_OUT_SEED).attributes])
    apart = torch.cdist(everybody, everybody) + 10 * torch.eye(len(everybody))
    assert apart.min() > 0.5


# ---- The perceptual distance

def test_distance_of_equal_pictures_is_0_and_sides_may_change_places():
    judge = as_judge('demo-perceptual', tiny('demo-perceptual'))
    assert isinstance(judge, DemoLpips) and judge.net == 'demo' and judge.resolution is None and judge.source is None
    a, b = pictures(3), pictures(3, seed=1)
    a.requires_grad_()
    same = judge(a, a.detach())
    assert torch.equal(same, torch.zeros(3))
    same.sum().backward()
    assert torch.equal(a.grad, torch.zeros_like(a))
    assert (judge(a, b) > 0).all() and torch.allclose(judge(a, b), judge(b, a), rtol=1e-6)
    one_by_one = torch.cat([judge(a[i:i + 1], b[i:i + 1]) for i in range(3)])
    assert torch.allclose(judge(a, b), one_by_one, rtol=1e-5)


def test_distance_by_hand():
    judge = as_judge('demo-perceptual', PerceptualNetwork(channels=(2, 2)))
    judge.network.heads.copy_(torch.tensor([2.0, 3.0]))
    first = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]]]), torch.tensor([[[[0.6]], [[0.8]]]])
    second = torch.tensor([[[[0.0, 0.0]], [[1.0, 0.0]]]]), torch.tensor([[[[0.6]], [[0.2]]]])
    # Stage 1: squared differences 2 and 0, mean 1, twice; stage 2: 0.36, three times.
    assert judge.compare(list(first), list(second)).tolist() == pytest.approx([2 + 3 * 0.36])
    # 3, 4 over the root of 25 + 0.01.
    expected = torch.tensor([3.0, 4.0]) / math.sqrt(25.01)
    assert torch.allclose(soft_unit(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten(), expected)


def test_gradient_where_features_vanish_is_finite_and_not_0():
    features = torch.zeros(1, 3, 2, 2, requires_grad=True)
    soft_unit(features).sum().backward()
    assert torch.allclose(features.grad, torch.full_like(features, 10.0))


@pytest.mark.parametrize('size', [64, 128, 40])
def test_perceptual_features_of_any_size(size):
    judge = as_judge('demo-perceptual', tiny('demo-perceptual'))
    images = pictures(size=size)
    features = judge.features(images)
    assert [tuple(feature.shape) for feature in features] == [(2, width, size >> i, size >> i) for i, width in enumerate((4, 6, 8))]
    assert all(feature.norm(dim=1).max() <= 1 for feature in features)
    assert torch.equal(judge.compare(features, judge.features(pictures(size=size, seed=1))), judge(images, pictures(size=size, seed=1)))
    smaller = DemoLpips(tiny('demo-perceptual'), resolution=32)
    assert smaller.features(images)[0].shape[-1] == 32


def test_perceptual_gradients_reach_pictures_only():
    judge = as_judge('demo-perceptual', tiny('demo-perceptual'))
    a, b = pictures(), pictures(seed=1)
    assert not judge(a, b).requires_grad
    a.requires_grad_()
    judge(a, b).sum().backward()
    assert a.grad.isfinite().all() and a.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in judge.parameters())


# ---- The feature network

def test_feature_vectors():
    judge = as_judge('demo-features', tiny('demo-features'))
    for size in (64, 128):
        assert judge.features(pictures(3, size)).shape == (3, 7)
    images = pictures().requires_grad_()
    judge.features(images).square().sum().backward()
    assert images.grad.abs().sum() > 0


def test_frechet_distance_by_hand():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(500, 4, generator=generator, dtype=torch.float64)
    assert train_judges.frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert train_judges.frechet(a, a + torch.tensor([3.0, 0.0, 4.0, 0.0])) == pytest.approx(25)
    # (1 - 3)**2 times the variances.
    assert train_judges.frechet(a, 3 * (a - a.mean(0)) + a.mean(0)) == pytest.approx(4 * a.var(0).sum().item())


# ---- Files

@pytest.mark.parametrize('name', NAMES)
def test_a_file_gives_the_network_back_in_half_precision(name, tmp_path):
    network, path = tiny(name), tmp_path / 'judge.pt'
    save_network(path, name, network, {'figures': {'auc': 1.0}})
    again, meta, source = load_network(name, path)
    assert source == path and meta['figures'] == {'auc': 1.0} and meta['name'] == name
    for key, value in again.state_dict().items():
        if not key.endswith('num_batches_tracked'):
            assert torch.equal(value, network.state_dict()[key].half().to(value.dtype)), key
    judge = load_judge(name, path)
    assert judge.source == path and not any(parameter.requires_grad for parameter in judge.parameters()) and not judge.training
    save_network(tmp_path / 'other-name.pt', name, again, {'figures': {'auc': 1.0}})
    assert (tmp_path / 'other-name.pt').read_bytes() == path.read_bytes()


def test_the_error_for_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(InputError, match=r'absent.pt is missing.*eg3d_unlearn.worlds.demo.train measuring-recogniser --outdir='):
        load_judge('demo-measuring', tmp_path / 'absent.pt')


def test_other_peoples_files_are_refused(tmp_path):
    path = tmp_path / 'judge.pt'
    path.write_bytes(b'<html>')
    with pytest.raises(InputError, match='is a web page.*Expected a network of the demo world'):
        load_judge('demo-loss', path)
    save_network(path, 'demo-loss', tiny('demo-loss'), {})
    with pytest.raises(InputError):
        load_judge('demo-measuring', path)
    network = tiny('demo-loss')
    network.options['embedding'] = 9
    save_network(path, 'demo-loss', network, {})
    with pytest.raises(InputError, match='head.weight'):
        load_judge('demo-loss', path)
    with pytest.raises(InputError, match='demo-hearsay.*expected demo-loss, demo-measuring, demo-perceptual, demo-features'):
        load_judge('demo-hearsay')


def test_numbers_beyond_half_precision_are_not_written(tmp_path):
    network = tiny('demo-loss')
    network.norm.running_var[0] = 1e6
    with pytest.raises(ValueError, match='norm.running_var'):
        save_network(tmp_path / 'judge.pt', 'demo-loss', network, {})
    assert not list(tmp_path.iterdir())


# ---- Photo sets

@pytest.fixture
def quick_photos(monkeypatch):
    """Files of two people, and pictures of one colour that takes no time but is every photo's own."""
    def render(who, camera, resolution):
        color = torch.cat([who.attributes[:, -1], camera[:, 3], camera[:, 7]]).clamp(-1, 1)
        return scene.Picture(color.view(1, 3, 1, 1).expand(1, 3, resolution, resolution), None, None)

    monkeypatch.setattr(photos, 'CHUNK', 2)
    monkeypatch.setattr(scene, 'render', render)


def test_a_killed_rendering_goes_on_after_the_last_whole_file(quick_photos, monkeypatch, tmp_path):
    whole = photo_set('training', 5, 2, seed=3, resolution=8, cache=tmp_path / 'whole')
    assert whole.images.shape == (5, 2, 3, 8, 8) and whole.images.dtype == torch.uint8 and whole.attributes.shape == (5, len(IDENTITY))
    assert whole.nuisance.shape == (5, 2, len(NUISANCE)) and whole.cameras.shape == (5, 2, 25)
    render, taken = scene.render, []

    def killed_at_the_sixth(*args, **options):
        taken.append(None)
        if len(taken) == 6:
            raise KeyboardInterrupt
        return render(*args, **options)

    monkeypatch.setattr(scene, 'render', killed_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        photo_set('training', 5, 2, seed=3, resolution=8, cache=tmp_path / 'killed')
    again = photo_set('training', 5, 2, seed=3, resolution=8, cache=tmp_path / 'killed')
    assert len(taken) == 6 + 6                     # the four photos of the first file are not taken again
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    files = [sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob('*.npy')) for name in ('whole', 'killed')]
    assert files[0] == files[1]
    assert all(np.array_equal(np.load(tmp_path / 'whole' / file), np.load(tmp_path / 'killed' / file)) for file in files[0])


def test_photos_of_another_look_are_not_taken(quick_photos, monkeypatch, tmp_path):
    photo_set('training', 2, 1, 3, 8, tmp_path)
    monkeypatch.setattr(photos, 'look', lambda: 'earlier')
    photo_set('training', 2, 1, 3, 8, tmp_path)
    assert len(list(tmp_path.glob('training-3-2x1-8px-*'))) == 2


def test_every_photo_has_its_own_camera_expression_and_light(quick_photos, tmp_path):
    first, second = (photo_set('held-out', 4, 3, seed, 4, tmp_path) for seed in (1, 2))
    for values in (torch.cat([s.nuisance for s in (first, second)]), torch.cat([s.cameras for s in (first, second)])):
        assert len(values.flatten(0, 1).unique(dim=0)) == 24
    assert not torch.equal(first.attributes, second.attributes)
    # Light and yaw come from separate draws.
    answers = train_judges.wanted_answers(first).flatten(0, 1)[:, len(IDENTITY):]
    assert answers.abs().max() <= 1 + 1e-5
    assert torch.corrcoef(answers.T).fill_diagonal_(0).abs().max() < 0.95


def test_the_photo_shows_what_the_set_says(tmp_path):
    photo = photo_set('held-out', 2, 2, 7, 16, tmp_path)
    person = held_out_people(2, 7)[1:2].posing(photo.nuisance[1, 1:2])
    expected = scene.render(person, photo.cameras[1, 1:2], 16).image
    assert (to_floats(photo.images[1, 1]) - expected[0]).abs().max() <= 1 / 255 + 1e-6


def test_angles_of_cameras():
    cameras = torch.cat([scene.camera_at(0.3, 0.0), scene.camera_at(0.0, 0.1)]).view(1, 2, 25)
    empty = PhotoSet(torch.empty(0), torch.zeros(1, len(IDENTITY)), torch.zeros(1, 2, len(NUISANCE)), cameras)
    angles = train_judges.wanted_answers(empty)[0, :, -2:]
    assert torch.allclose(angles, torch.tensor([[0.3 / scene.MAX_YAW, 0], [0, 0.1 / scene.MAX_PITCH]]), atol=1e-4)


# ---- Training

@pytest.mark.parametrize('change', ['moved', 'blurred', 'generator_like', 'spoiled'])
@pytest.mark.parametrize('size', [64, 128])
def test_changes_keep_pictures_pictures(change, size):
    images = pictures(7, size)
    torch.manual_seed(0)
    changed = train_judges.moved(images, 2.0, 0.5) if change == 'moved' else getattr(train_judges, change)(images)
    if change == 'spoiled':
        changed, quality = changed
        assert quality.shape == (7, 2) and quality.abs().max() <= 1 and quality[:, 0].tolist() == [1] * 3 + [-1] * 4
    assert changed.shape == images.shape and changed.isfinite().all() and changed.abs().max() <= 1
    assert 0.005 < (changed - images).abs().mean() < 0.5


def test_moving_by_nothing_changes_nothing():
    images = pictures(2)
    assert torch.allclose(train_judges.moved(images, 0.0), images, atol=1e-4)
    assert torch.allclose(train_judges.gaussian(torch.ones(1, 3, 9, 9), 0.7), torch.ones(1, 3, 9, 9), atol=1e-6)


@pytest.mark.parametrize('which', WHICH)
def test_a_killed_training_goes_on_to_the_same_bytes(which, monkeypatch, tmp_path):
    monkeypatch.setattr(train_judges, 'photo_set', random_photos)
    schedule = Schedule(steps=4, batch=8, people=6, photos=2, held_out_people=6, held_out_photos=4)
    whole = train(which, tmp_path / 'whole', schedule, report_every=2, save_every=0)
    task, calls = type(train_judges.TASKS[which](schedule)), []
    loss = task.loss

    def killed_at_the_third(*args):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(task, 'loss', killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        train(which, tmp_path / 'killed', schedule, report_every=2, save_every=0)
    resumed = train(which, tmp_path / 'killed', schedule, report_every=2, save_every=0)
    assert len(calls) == 3 + 2
    assert resumed['figures'] == whole['figures'] and all(math.isfinite(value) for value in whole['figures'].values())
    (path,) = (tmp_path / 'whole').glob('demo-*.pt')
    assert path.read_bytes() == (tmp_path / 'killed' / path.name).read_bytes()
    assert load_network(path.stem, path)[1]['figures'] == whole['figures']


def test_training_recognises_four_plain_people(monkeypatch, tmp_path):
    """A few steps on people who are one colour each: the loss falls, and the colours come apart."""
    torch.manual_seed(0)
    task = train_judges.TASKS['loss-recogniser'](Schedule(1, 1, 4, 4))
    photos = random_photos('training', 4, 4, 0)
    colors = torch.tensor([[250, 20, 20], [20, 250, 20], [20, 20, 250], [230, 230, 230]]).byte()
    photos = photos._replace(images=colors.view(4, 1, 3, 1, 1).expand(4, 4, 3, 64, 64).contiguous())
    optimiser = torch.optim.AdamW(task.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        loss = task.loss(photos, Schedule(1, 16, 4, 4))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_the_stages_of_the_distance_weigh_the_same():
    task = train_judges.Regression(PerceptualNetwork(channels=(4, 6, 8)))
    photos = random_photos('training', 6, 2, 0)
    task.finish(photos)
    judge = as_judge('demo-perceptual', task.network)
    images = to_floats(photos.images[:, 0])
    a, b = judge.features(images), judge.features(images.roll(1, 0))
    per_stage = [judge.network.heads[i] * (x - y).square().sum(1).mean() for i, (x, y) in enumerate(zip(a, b, strict=True))]
    assert torch.tensor(per_stage).tolist() == pytest.approx([0.5 / 3] * 3, rel=1e-4)
    assert judge.compare(a, b).mean().item() == pytest.approx(0.5, rel=1e-4)


# ---- Figures

def test_area_under_the_curve_by_hand():
    # Of six pairs four are in order and one is a tie.
    assert train_judges.area_under_curve(torch.tensor([0.5, 0.9]), torch.tensor([0.1, 0.5, 0.7])) == pytest.approx((1.5 + 3) / 6)


def test_pairs_are_of_different_photos():
    embeddings = torch.nn.functional.normalize(torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    same, different = train_judges.pair_cosines(embeddings, embeddings)
    assert same.shape == (4 * 6,) and different.shape == (4 * 3 * 9,)
    assert same.max() < 1 - 1e-4
    assert same.sum().item() == pytest.approx(2 * sum((e[i] @ e[j]).item() for e in embeddings for i, j in ((0, 1), (0, 2), (1, 2))), abs=1e-4)
    assert train_judges.rank_1(embeddings[:, [0, 0]]) == 1.0


# ---- What comes with the package

shipped = pytest.mark.skipif(not all((FOLDER / f'{name}.pt').is_file() for name in NAMES), reason='the trained judges are not here')


@pytest.fixture(scope='module')
def strangers(tmp_path_factory):
    """Photos [8, 3, 3, 64, 64] of held-out people, -1 to 1."""
    return to_floats(photo_set('held-out', 8, 3, 55, 64, tmp_path_factory.mktemp('photos')).images)


@shipped
@pytest.mark.parametrize('name', RECOGNISERS)
@pytest.mark.parametrize('change', ['none', 'generator_like'])
def test_shipped_recognisers_separate_people_they_never_saw(name, change, strangers):
    judge = load_judge(name)
    images = strangers.flatten(0, 1)
    if change != 'none':
        torch.manual_seed(0)
        images = train_judges.generator_like(images)
    embeddings = judge.embed(images, 'eg3d').unflatten(0, (8, 3))
    same, different = train_judges.pair_cosines(embeddings, embeddings)
    assert train_judges.area_under_curve(same, different) > 0.98
    assert same.mean() > 0.5 > different.mean() + 0.2


@shipped
def test_shipped_perceptual_distance_has_the_range_of_lpips(strangers):
    judge = load_judge('demo-perceptual')
    someone, another = strangers[:, 0], strangers.roll(1, 0)[:, 0]
    torch.manual_seed(0)
    apart = judge(someone, another).mean()
    assert 0.35 < apart < 0.65
    assert judge(someone, (someone + 0.05 * torch.randn_like(someone)).clamp(-1, 1)).mean() < 0.5 * apart
    big = [resample(images, 128) for images in (someone, another)]
    assert 0.3 < judge(*big).mean() < 0.7


@shipped
def test_shipped_features_tell_soft_pictures_from_photos(strangers):
    judge = load_judge('demo-features')
    torch.manual_seed(0)
    features = judge.features(strangers.flatten(0, 1))
    soft = judge.features(train_judges.generator_like(strangers.flatten(0, 1)))
    assert features.shape == (24, 64) and features.square().mean() < 4
    assert (features.mean(0) - soft.mean(0)).square().sum() > 0.5


@shipped
@pytest.mark.parametrize('name', NAMES)
def test_shipped_files_are_small_and_say_how_good_they_are(name):
    _, meta, path = load_network(name)
    assert path.stat().st_size < 1.1e6
    assert meta['figures']
