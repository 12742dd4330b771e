"""Metrics from Python: what is known beforehand, what must not matter, and what is counted."""
from __future__ import annotations

import importlib.metadata
import json

import numpy as np
import PIL.Image
import pytest
import torch
from evidence_stand_in import changed, other_recogniser, stand_in
from small import poor_mans_recogniser
from torch.nn import functional as F

from eg3d_unlearn.evaluation import cache as caching
from eg3d_unlearn.evaluation import detection, estimate, metrics, rendering, verification
from eg3d_unlearn.evaluation.metrics import distributions, retain
from eg3d_unlearn.evaluation.metrics.registry import Name, parse, parse_all
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.judges import features
from eg3d_unlearn.judges.verification import threshold_at
from eg3d_unlearn.person.photo.dataset import labels_of
from eg3d_unlearn.worlds.demo import truth
from torch_utils_ext.errors import InputError

QUIET = {'progress': False, 'impostors': 30, 'held_out': 0}


def compute(name, evidence, **options):
    return metrics.compute(name, evidence, **{**QUIET, **options})


@pytest.fixture
def quick(monkeypatch):
    return Settings(progress=False)


# Names.

@pytest.mark.parametrize('text, name', [
    ('id', Name('id', None)), ('id_others-half', Name('id_others', None, True)), ('fid_pre5k', Name('fid_pre', 5000)),
    ('fid_pre', Name('fid_pre', 5000)), ('fid_pre500-half', Name('fid_pre', 500, True)), ('retain', Name('retain', 200)),
    ('kid_pre1500', Name('kid_pre', 1500)), (' retain50 ', Name('retain', 50))])
def test_names(text, name):
    assert parse(text) == name
    assert parse(str(name)) == name


@pytest.mark.parametrize('text, sentence', [
    ('fid', "no metric 'fid'. Known: .*fid_pre5k"), ('id5k', 'a number too many. Ask for id'), ('fid_pre10', 'asks for 10 samples'),
    ('retain0', 'needs at least'), ('fid_pre5k-quarter', 'no metric'), ('', 'no metric')])
def test_names_that_are_none(text, sentence):
    with pytest.raises(InputError, match=sentence):
        parse(text)


def test_lists_of_names():
    assert parse_all('id,fid_pre5000, id') == [Name('id', None), Name('fid_pre', 5000)]
    with pytest.raises(InputError, match='names no metric'):
        parse_all(',')


def test_every_metric_says_what_it_is():
    assert all(len(metric.title) > 30 and metric.heading and metric.better in ('low', 'high') for metric in metrics.METRICS.values())


# Nothing was erased.

FAMILIES = ['stylegan2', '3d']


@pytest.mark.parametrize('family', [*FAMILIES, pytest.param('eg3d', marks=pytest.mark.slow)])
def test_two_equal_networks(family):
    evidence, cache = stand_in(family), metrics.Cache()
    views = 1 if family == 'stylegan2' else 11
    for name in ('id', 'id_others'):
        found = compute(name, evidence, cache=cache)
        assert found['value']['value'] == pytest.approx(1) and found['value']['samples'] == (1 if name == 'id' else 2)
        assert found['by']['loss']['verified_against_render']['value'] == 1 and found['by']['loss']['in_loss']
        assert len(found['by']['loss'].get('by_yaw', [0])) == views
    assert compute('fid_pre40', evidence, cache=cache)['value']['value'] == pytest.approx(0, abs=1e-5)
    assert compute('kid_pre40', evidence, cache=cache)['value']['value'] == pytest.approx(0, abs=1e-9)
    kept = compute('retain24', evidence, cache=cache)
    assert kept['value']['value'] == pytest.approx(1) and kept['sampled']['by']['other']['kept']['value'] == 1
    assert kept['sampled']['lpips']['value'] == 0
    assert kept['sampled']['depth_change'] is None if family == 'stylegan2' else kept['sampled']['depth_change']['value'] == 0
    json.dumps(kept)


def test_a_change_is_seen_by_all():
    evidence, cache = stand_in(by=0.5), metrics.Cache()
    assert compute('id', evidence, cache=cache)['value']['value'] < 0.999
    assert compute('fid_pre40', evidence, cache=cache)['value']['value'] > 0.01
    assert compute('retain24', evidence, cache=cache)['sampled']['lpips']['value'] > 0


# What must not matter.

@pytest.mark.parametrize('name', ['id_others', 'fid_pre40', 'kid_pre40', 'pr_pre40', 'retain24'])
@pytest.mark.parametrize('family', FAMILIES)
def test_batch_size_does_not_matter(family, name, batches=(1, 4, 7)):
    evidence = stand_in(family, by=0.3)
    values = [compute(name, evidence, batch=batch)['value'] for batch in batches]
    numbers = [[value[key] for key in ('value', 'low', 'high')] for value in values]
    assert all(number == pytest.approx(numbers[0], rel=2e-3, abs=1e-6) for number in numbers[1:])


@pytest.mark.slow
def test_batch_size_does_not_matter_to_eg3d():
    test_batch_size_does_not_matter('eg3d', 'fid_pre40', (1, 7))


def test_half_the_rays_is_another_protocol():
    evidence = stand_in('3d', by=0.3)
    full, half = (compute(name, evidence) for name in ('retain24', 'retain24-half'))
    assert half['name'] == 'retain24-half' and half['protocol']['rays'] == 'half' and full['protocol']['rays'] == 'full'
    assert full['value']['value'] != half['value']['value'] and full['sampled']['depth_change']['value'] > 0


def test_the_seed_matters_and_repeats():
    evidence = stand_in(by=0.3)
    first, again, other = (compute('fid_pre40', evidence, seed=seed)['value']['value'] for seed in (0, 0, 1))
    assert first == again != other


def test_streams_are_not_the_one_that_training_draws_from():
    trained = torch.randn([4], generator=torch.Generator().manual_seed(0))
    drawn = [torch.randn([4], generator=Settings(seed=0).rng(purpose)) for purpose in ('people', 'pictures')]
    assert not torch.equal(drawn[0], trained) and not torch.equal(drawn[1], trained) and not torch.equal(*drawn)


# Likeness.

def test_id_is_the_cosine_of_the_renders():
    evidence = stand_in(by=0.5)
    found = compute('id', evidence)
    with torch.no_grad():
        shown = [rendering.to_floats(rendering.to_bytes(g.synthesize(evidence.ws_mine[:1]).image)) for g in (evidence.g_s, evidence.g_u)]
    for name, embed in (('loss', poor_mans_recogniser), ('other', other_recogniser)):
        assert found['by'][name]['against_render']['value'] == pytest.approx((embed(shown[0]) * embed(shown[1])).sum().item(), abs=1e-5)
    assert found['value'] == found['by']['other']['against_render'] and not found['by']['other']['in_loss']
    # The photos of the stand-in are renders of G_s.
    assert found['by']['loss']['before_against_photo']['value'] == pytest.approx(1, abs=1e-5)
    assert found['by']['loss']['against_photo']['value'] == pytest.approx(found['by']['loss']['against_render']['value'], abs=1e-5)


def test_id_of_3d_networks_looks_from_eleven_sides():
    evidence = stand_in('3d', by=0.5)
    found = compute('id', evidence)
    by_yaw = found['by']['other']['by_yaw']
    assert found['protocol']['yaws_deg'] == list(range(-15, 16, 3)) and len(by_yaw) == 11
    assert found['value']['value'] == pytest.approx(np.mean(by_yaw), abs=1e-5)
    worst = found['by']['other']['worst_view']
    assert worst['cosine'] == max(by_yaw) and worst['yaw_deg'] == list(range(-15, 16, 3))[int(np.argmax(by_yaw))]


def test_verification_by_hand(monkeypatch, quick):
    """Four people with known cosines: the threshold at half of the pairs, and who passes it."""
    people = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 1.0], [0.0, 1.0]]), dim=1)
    monkeypatch.setattr(verification, 'embedded', lambda *arguments: people)
    monkeypatch.setattr(verification, 'threshold_at', lambda cosines: threshold_at(cosines, 0.5))
    quick.impostors = 4
    fitted = verification.impostors(stand_in(), 'loss', quick, False)
    cosines = sorted((people[i] @ people[j]).item() for i in range(4) for j in range(i))
    assert fitted.threshold == pytest.approx((cosines[2] + cosines[3]) / 2) and fitted.pairs == 6 and fitted.people == 4
    assert fitted.different_people == pytest.approx(np.mean(cosines))


def test_the_threshold_is_fitted_on_people_whom_the_network_before_shows():
    """A G_u that shows one face to everybody would have a threshold nobody reaches."""
    evidence = stand_in(by=0.5)
    with torch.no_grad():
        for parameter in evidence.g_u.network.parameters():
            parameter.zero_()
    found, same = compute('id', evidence), compute('id', stand_in())
    assert found['by']['loss']['threshold'] == same['by']['loss']['threshold']


@pytest.mark.parametrize('family', FAMILIES)
def test_a_latent_without_photos_has_no_photo_to_compare_with(family):
    evidence = stand_in(family)
    evidence.person.images = None
    assert 'against_photo' not in compute('id', evidence)['by']['loss']


# Faces that are gone.

def test_lost_faces_are_counted_and_nobody_is_dropped(monkeypatch):
    """Before, a face is found in all pictures but the first; after, in none: so many failures, and not one cosine less."""
    evidence = stand_in(by=0.3, of_world=False)
    calls = []

    def finds(pictures_before):
        def find_faces(image):
            calls.append(image)
            return ['face'] if 1 < len(calls) <= pictures_before else []
        return find_faces
    monkeypatch.setattr('eg3d_unlearn.person.photo.detect.find_faces', finds(24))
    monkeypatch.setattr(verification, 'threshold_at', lambda cosines: -1.0)     # everybody is recognised who has a face
    found = compute('retain24', evidence)['sampled']
    assert found['detection'] == {'detector': detection.DETECTOR, 'failed': 23, 'of': 24, 'without_a_face_before': 1}
    assert found['by']['other']['kept']['value'] == pytest.approx(1 / 24, abs=1e-6) and found['by']['other']['cosine']['samples'] == 24
    calls.clear()
    monkeypatch.setattr('eg3d_unlearn.person.photo.detect.find_faces', finds(3))
    found = compute('id_others', evidence)
    assert found['detection']['failed'] == 1 and found['detection']['of'] == 2 and found['value']['samples'] == 2


def test_the_demo_world_has_no_detector():
    assert compute('id', stand_in())['detection'] == {'detector': detection.NO_DETECTOR, 'failed': None, 'of': None}


# Other people.

def test_points_are_coarse_by_hand():
    """A twentieth of the largest distance of 40.2 is 2.0, to two digits."""
    got = estimate.coarse(torch.tensor([40.2, 3.1, 2.9, 0.4, 3.2]), torch.tensor([-0.51, 0.98, 0.13, 0.999, -0.02]))
    assert got == [(0.0, 1.0), (2.0, 0.15), (4.0, 0.0), (4.0, 1.0), (40.0, -0.5)]
    assert str(got[2]) == '(4.0, 0.0)' and estimate.coarse(torch.zeros(2), torch.zeros(2)) == [(0.0, 0.0)] * 2
    assert estimate.coarse(torch.zeros(0), torch.zeros(0)) == []


def trilaterated(latents, distances):
    """Where somebody lies whose distances to known latents are known: |x - p|^2 less that of the first is linear in p."""
    squares = latents.square().sum(1) - distances.square()
    return torch.linalg.lstsq(2 * (latents[1:] - latents[0]), (squares[1:] - squares[0])[:, None]).solution[:, 0]


def test_points_do_not_give_the_erased_latent_away():
    """From exact distances in the order that the seed repeats it comes back; from what is written it does not."""
    rng = torch.Generator().manual_seed(0)
    latents, person = torch.randn(200, 64, generator=rng).double(), torch.randn(64, generator=rng).double()
    distance = (latents - person).norm(dim=1)
    written = retain.curve(distance, torch.rand(200, generator=rng))['points']
    exact, coarse = (F.cosine_similarity(trilaterated(latents, values), person, 0).item()
                     for values in (distance, torch.tensor(written['distance']).double()))
    assert exact > 0.999 and abs(coarse) < 0.3


def test_distances_are_those_of_the_latents():
    evidence = stand_in(by=0.3)
    found = compute('retain24', evidence)['sampled']
    people = verification.in_measured_views(evidence.g_s, Settings(), 24)
    with torch.no_grad():
        ws = evidence.g_s.map(people.z)
    expected = (ws - evidence.ws_mine[:1]).flatten(1).norm(dim=1)
    step = estimate.coarse_step(expected)
    assert found['curve']['points']['distance'] == pytest.approx(sorted(expected.tolist()), abs=0.501 * step)
    assert found['worst'][0]['cosine'] == found['by']['other']['worst'] and 'distance' not in json.dumps(found['worst'])
    assert 'would give the erased latent away' in compute('retain24', evidence)['protocol']['points']


def test_without_a_person_there_is_no_curve():
    found = compute('retain24', stand_in(by=0.3, person=False))
    assert found['sampled']['curve'] is None


def test_people_are_mapped_by_the_network_s_own_mapping():
    """An edit of the mapping network changes whom a user gets for a seed: other people are hurt by it, too."""
    evidence = stand_in()
    evidence.g_u = changed(evidence.g_s, 0.0)
    with torch.no_grad():
        for parameter in evidence.g_u.mapping_network.parameters():
            parameter.mul_(-1)
    assert compute('id', evidence)['value']['value'] == pytest.approx(1)
    assert compute('retain24', evidence)['value']['value'] < 0.999


def test_held_out_people_come_from_photos(tmp_path):
    """Pictures of a folder are inverted into G_s and shown by both."""
    rng = np.random.RandomState(0)
    for number in range(3):
        PIL.Image.fromarray(rng.randint(0, 255, [48, 48, 3], np.uint8)).save(tmp_path / f'{number}.png')
    evidence = stand_in(of_world=False, inversion_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('eg3d_unlearn.person.photo.detect.find_faces', lambda image: ['face'])
        found = compute('retain20', evidence, held_out=2, data=str(tmp_path))['held_out']
    assert found['people'] == 2 and found['by']['other']['cosine']['value'] == pytest.approx(1) and found['curve']['points']['distance'][0] > 0


def test_held_out_people_are_inverted_one_by_one(tmp_path, monkeypatch):
    """Memory does not grow with their number, and nobody's latent depends on the others."""
    rng = np.random.RandomState(0)
    for number in range(3):
        PIL.Image.fromarray(rng.randint(0, 255, [48, 48, 3], np.uint8)).save(tmp_path / f'{number}.png')
    evidence, counts = stand_in(of_world=False, inversion_steps=2), []
    invert = type(evidence).invert

    def counting(self, generator, images, *rest):
        counts.append(len(images))
        return invert(self, generator, images, *rest)
    monkeypatch.setattr(type(evidence), 'invert', counting)
    three, one = (retain.from_data(evidence, Settings(progress=False, data=str(tmp_path), held_out=count))['ws'] for count in (3, 1))
    assert counts == [1] * 4 and torch.equal(three[:1], one)


def test_latents_of_another_encoder_are_not_taken_from_the_cache(tmp_path, monkeypatch):
    for name in ('one', 'two'):
        (tmp_path / f'{name}.pt').write_text(name)
    made = []
    monkeypatch.setattr(retain, 'from_world', lambda evidence, numbers: made.append(evidence.config.encoder) or {'ws': torch.zeros(2)})
    for name in ('one', 'two', 'one'):
        evidence = stand_in(encoder=str(tmp_path / f'{name}.pt'))
        retain.inverted(evidence, Settings(progress=False, cache=metrics.Cache(tmp_path / 'cache')), 2)
    assert [path.rsplit('/')[-1] for path in made] == ['one.pt', 'two.pt']


# Several erased people.

def test_targets_that_are_one_face_are_told():
    one, two = stand_in(by=0.3, seed=1), stand_in(by=0.3, seed=2)
    apart = compute('targets_apart', one, others=(two,))
    assert apart['value']['samples'] == 1 and apart['protocol']['pairs'] == 1  # a pair has no spread
    for evidence in (one, two):      # networks that show everybody the same grey face
        with torch.no_grad():
            for parameter in evidence.g_u.network.synthesis.parameters():
                parameter.zero_()
            evidence.g_u.network.synthesis.b32.torgb.bias.fill_(0.3)
    collapsed = compute('targets_apart', one, others=(two,))
    assert collapsed['value']['value'] == pytest.approx(1, abs=1e-4) and collapsed['by']['other']['pairs_taken_for_one'] == 1
    assert collapsed['by']['other']['excess']['value'] > 0
    assert collapsed['by']['other']['before'] == apart['by']['other']['before']


@pytest.mark.parametrize('forget_from', ['first', 'mean', 'all'])
def test_photos_that_took_part_are_no_held_out_ones(forget_from):
    protocol = compute('id_others', stand_in(forget_from=forget_from))['protocol']
    assert protocol['other_photos_took_part'] == (forget_from != 'first')


@pytest.mark.parametrize('samples', [2, 3, 5, 30])
def test_intervals_of_means_hold_what_they_promise(samples):
    """95 of 100 hold the true mean; a plain bootstrap's hold 50 of two samples, 74 of three."""
    values = torch.randn(300, samples, generator=torch.Generator().manual_seed(samples), dtype=torch.float64)
    found = [estimate.mean(one, seed) for seed, one in enumerate(values)]
    held = sum(figure.low <= 0 <= figure.high for figure in found) / len(found)
    assert 0.9 < held < 0.99


def test_intervals_end_at_what_can_be():
    found = estimate.mean(torch.tensor([0.9, 0.99, 0.95]), bounds=estimate.COSINE)
    assert found.low < 0.9 and found.high == 1.0
    one = estimate.mean(torch.tensor([0.3]))
    assert one.low == one.high == one.value and one.samples == 1


# The cache.

def test_the_network_before_is_rendered_once(monkeypatch):
    evidence, cache = stand_in(by=0.3), metrics.Cache()
    first = {name: compute(name, evidence, cache=cache) for name in ('retain24', 'fid_pre40')}
    renders = []
    backbone = type(evidence.g_s).backbone

    def counting(self, ws):
        renders.append((self is evidence.g_s, len(ws)))
        return backbone(self, ws)
    monkeypatch.setattr(type(evidence.g_s), 'backbone', counting)
    evidence.g_u = changed(evidence.g_s, 0.1, seed=5)
    second = {name: compute(name, evidence, cache=cache) for name in ('retain24', 'fid_pre40')}
    assert not any(before for before, _ in renders) and sum(count for _, count in renders) == 24 + 40
    assert all(first[name]['value'] != second[name]['value'] for name in first)
    alone = compute('fid_pre40', evidence)
    assert alone['value'] == second['fid_pre40']['value']


def test_a_cache_that_cannot_be_made_does_not_stop_the_measurement(tmp_path, capsys):
    (tmp_path / 'file').write_text('x')
    assert compute('fid_pre40', stand_in(), cache=metrics.Cache(tmp_path / 'file' / 'cache'))['value']
    assert capsys.readouterr().err.count('EG3D_UNLEARN_CACHE names another folder. The measurement goes on without the cache.') == 1


def test_another_network_before_is_another_key():
    one = stand_in()
    key = caching.fingerprint(one.g_s)
    assert key == caching.fingerprint(changed(one.g_s, 0.0)) != caching.fingerprint(changed(one.g_s, 1e-3))


def test_the_folder_holds_random_people_only(tmp_path, monkeypatch):
    evidence, cache = stand_in(by=0.3), metrics.Cache(tmp_path)
    for name in ('id', 'id_others', 'retain24', 'fid_pre40'):
        compute(name, evidence, cache=cache)
    kept = [torch.load(path, weights_only=True) for path in tmp_path.iterdir()]
    assert [tuple(content.shape) for content in kept] == [(40, 64)]   # features of random people, G_s
    monkeypatch.setattr(type(evidence.g_s), 'backbone', None)
    settings = Settings(cache=metrics.Cache(tmp_path), progress=False)
    people, network = distributions.as_trained(evidence, settings, 40), distributions.load_features(evidence, settings)
    found = distributions.features_of(evidence.g_s, people, network, settings, False, '', True)
    assert torch.equal(found, kept[0])


def test_a_damaged_file_is_made_anew(tmp_path):
    cache = metrics.Cache(tmp_path)
    cache.get({'a': 1}, lambda: torch.ones(2), on_disk=True)
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:50])
    assert metrics.Cache(tmp_path).get({'a': 1}, lambda: torch.zeros(2), on_disk=True).tolist() == [0, 0]


def test_what_one_network_showed_can_be_forgotten():
    cache = metrics.Cache()
    for network in ('a', 'b'):
        cache.get({'network': network}, lambda: torch.ones(2))
    cache.get({'what': 'else'}, lambda: torch.ones(2))
    cache.forget('a')
    assert len(cache.kept) == 2
    assert cache.get({'network': 'a'}, lambda: torch.zeros(2)).tolist() == [0, 0]
    assert cache.get({'network': 'b'}, lambda: torch.zeros(2)).tolist() == [1, 1]


# Cameras and real pictures.

def test_cameras_of_the_demo_world_are_those_of_its_photos():
    evidence = stand_in('3d')
    people = distributions.as_trained(evidence, Settings(), 200)
    places = people.cameras[:, 0, :16].view(-1, 4, 4)[:, :3, 3]
    yaws = torch.atan2(places[:, 0], places[:, 2])
    assert yaws.abs().max() <= 0.6 + 1e-3 and yaws.std().item() == pytest.approx(0.6 / 3**0.5, rel=0.15) and 'uniform' in people.cameras_are


def test_cameras_without_labels_are_normal_and_said_to_be():
    people = distributions.as_trained(stand_in('3d', of_world=False), Settings(), 300)
    places = people.cameras[:, 0, :16].view(-1, 4, 4)[:, :3, 3]
    assert torch.atan2(places[:, 0], places[:, 2]).std().item() == pytest.approx(0.3, rel=0.15)
    assert 'normal about the frontal one' in people.cameras_are


def folder_of(path, count, size=32, labels=None):
    rng = np.random.RandomState(0)
    (path / '00000').mkdir(parents=True)
    for number in range(count):
        PIL.Image.fromarray(rng.randint(0, 255, [size, size, 3], np.uint8)).save(path / '00000' / f'img{number:03d}.png')
    if labels is not None:
        content = {'labels': [[f'00000/img{number:03d}.png', label] for number, label in enumerate(labels)]}
        (path / 'dataset.json').write_text(json.dumps(content))
    return path


def test_cameras_of_a_data_set_are_its_labels(tmp_path):
    evidence = stand_in('3d', of_world=False)
    labels = torch.cat([evidence.g_s.camera(yaw) for yaw in (-0.5, 0.1, 0.4)])
    folder_of(tmp_path / 'data', 3, labels=labels.tolist())
    people = distributions.as_trained(evidence, Settings(data=str(tmp_path / 'data')), 50)
    assert 'the 3 labels of --data' in people.cameras_are
    assert len(people.cameras.unique(dim=0)) == 3 and all((labels - row).abs().sum(1).min() < 1e-4 for row in people.cameras)


def test_dfid_real_is_the_difference(tmp_path):
    """Real pictures of a folder and of a zip of it give the same; G_u = G_s gives 0."""
    import shutil
    folder_of(tmp_path / 'data', 45)
    archive = shutil.make_archive(str(tmp_path / 'data'), 'zip', tmp_path / 'data')
    evidence = stand_in(by=0.5)
    found = [compute('dfid_real40', evidence, data=data) for data in (str(tmp_path / 'data'), archive)]
    assert found[0]['value'] == found[1]['value'] and '40 of the 45 pictures' in found[0]['protocol']['real']
    assert found[0]['value']['value'] == pytest.approx(found[0]['after'] - found[0]['before'], abs=1e-3) and found[0]['value']['value'] != 0
    assert compute('dfid_real40', stand_in(), data=archive)['value']['value'] == pytest.approx(0, abs=1e-6)


def test_demo_truth_is_rendered_once(tmp_path, monkeypatch):
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path))
    monkeypatch.setattr(truth, 'CHUNK', 2)

    def pictures(rows):
        def batches(total, size, title):
            return (slice(start, start + size) for start in range(0, total, size))
        return truth.Truth('eg3d', 16, batches).pictures(rows, 3)
    first = pictures(range(0, 3))
    monkeypatch.setattr(truth.scene, 'render', None)
    again = pictures(range(1, 3))
    assert first.shape == (3, 3, 16, 16) and first.dtype == torch.uint8 and torch.equal(first[1:], again)
    assert len({picture.numpy().tobytes() for picture in first}) == 3


# Feature networks.

class Channels(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.float().mean([2, 3])


class WithFeatures(torch.nn.Module):
    """The signature of NVIDIA's inception-2015-12-05.pt."""

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        means = img.float().mean([2, 3])
        if return_features:
            return means
        return torch.softmax(means, 1)


@pytest.mark.parametrize('network', [Channels, WithFeatures])
def test_any_feature_network_by_path(tmp_path, network):
    torch.jit.script(network()).save(tmp_path / 'network.pt')
    found = compute('fid_pre40', stand_in(by=0.5, trust_file=True), features=str(tmp_path / 'network.pt'))
    assert found['protocol']['features'] == 'network.pt' and found['protocol']['dimensions'] == 3 and found['value']['value'] > 1
    assert len(found['protocol']['features_sha256']) == 64


def test_inception_is_torch_fidelity_s_and_read_as_plain_tensors(tmp_path):
    """Weights of the published form by path: every tensor arrives, and nothing is unpickled."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    untrained = features.inception(None, True, torch.device('cpu'))
    state = untrained.network.__closure__[0].cell_contents.state_dict()
    torch.save(state, tmp_path / 'inception.pth')
    loaded = features.inception(str(tmp_path / 'inception.pth'), False, torch.device('cpu'))
    theirs = FeatureExtractorInceptionV3('inception-v3-compat', ['2048'], feature_extractor_weights_path=str(tmp_path / 'inception.pth'))
    pictures = torch.randint(0, 256, [2, 3, 40, 40], generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    with torch.no_grad():
        expected = theirs(pictures)[0]
    assert torch.equal(loaded(pictures), expected) and expected.shape == (2, 2048) and expected.std() > 0
    assert torch.equal(untrained(pictures), expected)
    del state['Mixed_7c.branch_pool.conv.weight']
    torch.save(state, tmp_path / 'short.pth')
    with pytest.raises(InputError, match='missing: Mixed_7c.branch_pool.conv.weight'):
        features.inception(str(tmp_path / 'short.pth'), False, torch.device('cpu'))


# Errors.

def wrong(tmp_path, name):
    """Files that are no feature network."""
    path = tmp_path / name
    if name == 'text.pt':
        path.write_text('no network')
    elif name == 'floats.pt':
        torch.jit.script(torch.nn.Flatten()).save(path)
    elif name == 'nan.pt':
        torch.jit.script(NotANumber()).save(path)
    elif name == 'fails.pt':
        torch.jit.script(torch.nn.Linear(5, 5)).save(path)
    return str(path)


class NotANumber(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.float().mean([2, 3]) / 0 * 0


@pytest.mark.parametrize('name, sentence', [
    ('nowhere.pt', 'neither one of inception, demo, faces, nor a file'), ('text.pt', 'not a TorchScript file'),
    ('floats.pt', r'maps .* to torch.uint8 \[2, 12288\]'), ('nan.pt', 'NaN, infinite'),
    ('fails.pt', r'fails on pictures \[2, 3, 64, 64\]')])
def test_feature_networks_that_are_none(tmp_path, name, sentence):
    with pytest.raises(InputError, match=sentence):
        compute('fid_pre40', stand_in(trust_file=True), features=wrong(tmp_path, name))


@pytest.mark.parametrize('name, evidence, options, sentence', [
    ('id', dict(person=False), {}, 'id is about the erased person: say who'),
    ('id_others', dict(other_photos=0), {}, 'about other photos of the same person, and there is none'),
    ('targets_apart', {}, {}, 'one person is given; it needs two'),
    ('id-half', {}, {}, 'a stylegan2 network makes none. Ask for id'),
    ('fid_pre40', dict(of_world=False), {'features': 'demo'}, 'demo knows the demo world only'),
    ('fid_pre40', {}, {'inception_weights': 'x.pth'}, 'the features are those of demo'),
    ('fid_pre40', dict(of_world=False), {}, 'weights-inception-2015-12-05-6726825d.pth from https://github.com/toshas'),
    ('fid_pre40', {}, {'features': 'inception', 'inception_weights': 'nowhere.pth'}, '--inception-weights=nowhere.pth is not a file'),
    ('dfid_real40', dict(of_world=False), {'features': 'random'}, 'neither one of inception'),
    ('retain20', dict(of_world=False), {'held_out': 3}, 'no pictures of any: give them with --data'),
])
def test_what_cannot_be_measured(tmp_path, monkeypatch, name, evidence, options, sentence):
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr('eg3d_unlearn.judges.weights.fetch', unreachable)
    with pytest.raises(InputError, match=sentence):
        compute(name, stand_in(**evidence), **options)


def unreachable(url, dest, sha256, size):
    raise InputError(f'Cannot download {url}: no connection.')


@pytest.mark.parametrize('version, sentence', [(None, 'need the package torch-fidelity'), ('0.3.0', 'torch-fidelity 0.3.0 is too old')])
def test_the_library_is_missing_or_old(monkeypatch, version, sentence):
    def found(package):
        if version is None:
            raise importlib.metadata.PackageNotFoundError
        return version
    monkeypatch.setattr('importlib.metadata.version', found)
    with pytest.raises(InputError, match=sentence):
        compute('fid_pre40', stand_in())


def test_no_recogniser():
    evidence = stand_in()
    evidence.recognisers = {}
    for name in ('id', 'retain24'):
        with pytest.raises(InputError, match='needs a recogniser'):
            compute(name, evidence)


def test_people_of_different_networks_are_not_compared():
    other = stand_in(seed=2)
    other.g_s = changed(other.g_s, 0.1)
    with pytest.raises(InputError, match='networks before differ'):
        compute('targets_apart', stand_in(), others=(other,))
    with pytest.raises(InputError, match='one of them has none'):
        compute('targets_apart', stand_in(), others=(stand_in(person=False),))


@pytest.mark.parametrize('make, sentence', [
    (lambda path: None, 'is not there'), (lambda path: path.write_text('x'), 'neither a folder nor a zip'),
    (lambda path: path.mkdir(), 'holds no picture'), (lambda path: folder_of(path, 10), 'holds 10 pictures, and 40 are asked for'),
    (lambda path: (folder_of(path, 40), (path / '00000' / 'img000.png').write_text('x')), 'img000.png of --data=.* is not a picture'),
    (lambda path: (folder_of(path, 40), PIL.Image.new('RGB', (40, 30)).save(path / '00000' / 'img000.png')), '40 x 30 pixels. Expected squares'),
])
def test_data_that_cannot_do(tmp_path, make, sentence):
    make(tmp_path / 'data')
    with pytest.raises(InputError, match=sentence):
        compute('dfid_real40', stand_in(), data=str(tmp_path / 'data'))


def test_labels_that_cannot_do(tmp_path):
    data = folder_of(tmp_path / 'data', 3)
    (data / 'dataset.json').write_text('{"labels": 7}')
    with pytest.raises(InputError, match='The "labels" of dataset.json .* are not pairs'):
        labels_of(str(data))
    other = folder_of(tmp_path / 'classes', 2, labels=[1, 0])
    assert labels_of(str(other)) is None
    with pytest.raises(InputError, match='which needs their cameras, and 2 of 2 have none'):
        compute('retain20', stand_in('3d', of_world=False), held_out=2, data=str(other))
    with pytest.raises(InputError, match='holds 2 pictures, and 3 are asked for.*or --held-out'):
        compute('retain20', stand_in(of_world=False), held_out=3, data=str(other))


def test_untrained_judges_are_said_to_mean_nothing():
    assert 'MEANS NOTHING' in compute('id', stand_in(random_metric_weights=True))['MEANING']
    assert 'MEANING' not in compute('id', stand_in())


@pytest.mark.parametrize('damage', [lambda content: content[:100], lambda content: b'', lambda content: flipped(content)])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    key, made = {'what': 'x'}, []
    value = torch.arange(1000.0)
    caching.Cache(tmp_path).get(key, lambda: value, on_disk=True)
    (path,) = tmp_path.glob('*.pt')
    path.write_bytes(damage(path.read_bytes()))
    found = caching.Cache(tmp_path).get(key, lambda: made.append(1) or value, on_disk=True)
    assert made == [1] and torch.equal(found, value)


def flipped(content: bytes) -> bytes:
    place = content.index(torch.arange(1000.0).numpy().tobytes()) + 2000
    return content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1:]
