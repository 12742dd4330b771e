"""What all engines of evaluation stand on: pictures of latents in batches, by one network and by both; embeddings, cosines, LPIPS."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from evidence_stand_in import other_recogniser, stand_in
from small import PoorMansLpips, small_generator

from eg3d_unlearn.evaluation import rendering
from eg3d_unlearn.evaluation.cache import Cache
from eg3d_unlearn.evaluation.likeness import cosines, embedded, embeddings, likeness, lpips
from eg3d_unlearn.evaluation.pictures import photograph
from eg3d_unlearn.evaluation.rendering import by_both, from_yaws, render, rendered, to_bytes, to_floats
from eg3d_unlearn.judges.verification import FALSE_ACCEPTS, pairs_of
from eg3d_unlearn.unlearning import margin

FAMILIES = ['stylegan2', '3d']


def people(generator, count=5):
    """Latents, and a camera of their own for each where there are cameras."""
    ws = torch.cat([generator.map_seed(seed) for seed in range(count)])
    return ws, from_yaws(generator, np.linspace(-0.25, 0.2, count).tolist())


@pytest.mark.parametrize('batch', [1, 2, 5])
@pytest.mark.parametrize('family', FAMILIES)
def test_every_latent_is_seen_from_its_own_camera_or_from_all(family, batch):
    generator = stand_in(family).g_s
    ws, cameras = people(generator)
    own = rendered(generator, ws, None if cameras is None else cameras[:, None], batch=batch)
    every = rendered(generator, ws, cameras, batch=batch)
    assert own.images.shape == (5, 1, 3, 32, 32) and every.images.shape == (5, 1 if cameras is None else 5, 3, 32, 32)
    with torch.no_grad():
        for i in range(5):
            alone = generator.synthesize(ws[i, None], None if cameras is None else cameras[i, None])
            assert torch.allclose(own.images[i], alone.image, atol=1e-4)
            assert torch.allclose(every.images[i, 0 if cameras is None else i], alone.image[0], atol=1e-4)
            assert own.depth is None if cameras is None else torch.allclose(own.depth[i], alone.depth, atol=1e-4)
    assert cameras is None or not torch.allclose(every.images[:, 0], every.images[:, 4], atol=0.1)


@pytest.mark.parametrize('count, batch, sizes', [(5, 2, [2, 2, 1]), (4, 2, [2, 2]), (3, 8, [3]), (1, 1, [1])])
def test_batches(count, batch, sizes):
    generator = stand_in().g_s
    assert [len(images) for images, _ in render(generator, people(generator, count)[0], None, batch=batch)] == sizes


def test_random_codes_are_mapped_by_the_network_that_shows_them():
    evidence = stand_in()
    z = torch.randn(3, evidence.g_s.z_dim)
    with torch.no_grad():
        for parameter in evidence.g_u.mapping_network.parameters():
            parameter.mul_(-1)
        ws = evidence.g_u.map(z)
    assert torch.equal(rendered(evidence.g_u, z, None).images, rendered(evidence.g_u, ws, None).images)


@pytest.mark.parametrize('family', FAMILIES)
def test_both_networks_show_the_same_latents_side_by_side(family):
    evidence = stand_in(family, by=0.5)
    ws, cameras = people(evidence.g_s, 3)
    pair = by_both(evidence, ws, cameras, batch=1)
    views = 1 if cameras is None else 3
    before, after = (rendered(generator, ws, cameras, batch=1).images.clamp(-1, 1) for generator in (evidence.g_s, evidence.g_u))
    assert len(pair) == 3 * views and torch.equal(pair.before, before.flatten(0, 1)) and torch.equal(pair.after, after.flatten(0, 1))
    expected = [(one - evidence.person.ws[0]).norm().item() for one in ws for _ in range(views)]
    assert pair.distance.tolist() == pytest.approx(expected, rel=1e-5)
    if cameras is None:
        assert pair.depth_change is None
        return
    by_hand = [(two - one).abs().mean().item() for one, two in zip(pair.depth_before, pair.depth_after, strict=True)]
    assert pair.depth_change.tolist() == pytest.approx(by_hand, rel=1e-5) and min(by_hand) > 0


def test_what_was_rendered_before_is_not_rendered_again(monkeypatch):
    evidence = stand_in(by=0.5, person=False)
    ws, _ = people(evidence.g_s, 2)
    before, seen = rendered(evidence.g_s, ws, None, as_bytes=True), []
    backbone = type(evidence.g_s).backbone
    monkeypatch.setattr(type(evidence.g_s), 'backbone', lambda self, ws: (seen.append(self), backbone(self, ws))[1])
    pair = by_both(evidence, ws, None, as_bytes=True, before=before)
    assert seen == [evidence.g_u] and torch.equal(pair.before, before.images[:, 0]) and pair.distance is None


def test_bytes_are_rounded_as_nvidia_s_tools_round():
    values = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 2.0])
    assert to_bytes(values).tolist() == [0, 0, 128, 255, 255, 255]
    assert torch.equal(to_bytes(to_floats(torch.arange(256, dtype=torch.uint8))), torch.arange(256, dtype=torch.uint8))
    assert torch.equal(to_floats(values), values)


def test_nothing_that_is_shown_has_a_gradient():
    generator = small_generator('stylegan2')
    ws = generator.map_seed(0).requires_grad_(True)
    assert not rendered(generator, ws, None).images.requires_grad
    assert torch.is_grad_enabled()
    for images, _ in render(generator, ws, None):
        assert torch.is_grad_enabled() and not images.requires_grad


@pytest.mark.parametrize('shape', [(3,), (2, 4), (40,)])
def test_embeddings_do_not_depend_on_batches_and_keep_the_shape(shape):
    pictures = to_bytes(torch.rand(*shape, 3, 16, 16) * 2 - 1)
    found = embeddings(other_recogniser, pictures)
    flat = torch.cat([other_recogniser(to_floats(one[None])) for one in pictures.flatten(0, -4)])
    assert found.shape == (*shape, 12) and torch.allclose(found.flatten(0, -2), flat, atol=1e-6)
    assert torch.equal(found, embeddings(other_recogniser, to_floats(pictures)))


def test_embeddings_are_kept(monkeypatch):
    evidence, cache = stand_in(), Cache()
    pictures = torch.rand(2, 3, 8, 8)
    first = embedded(evidence, 'other', pictures, cache)
    monkeypatch.setitem(evidence.recognisers, 'other', None)
    assert embedded(evidence, 'other', pictures.clone(), cache) is first


def test_likeness_is_the_cosine_before_against_after():
    evidence = stand_in(by=0.5)
    pair = by_both(evidence, people(evidence.g_s)[0], None)
    found = likeness(evidence, 'other', pair, Cache())
    assert found.tolist() == pytest.approx([(other_recogniser(a[None]) @ other_recogniser(b[None]).T).item()
                                            for a, b in zip(pair.before, pair.after, strict=True)], abs=1e-6)
    assert cosines(torch.eye(2), torch.tensor([[0.6, 0.8], [0.0, -1.0]])).tolist() == pytest.approx([0.6, -1.0])


@pytest.mark.parametrize('count', [1, 8, 11])
def test_lpips_of_each_pair(count):
    judge, (a, b) = PoorMansLpips(), torch.rand(2, count, 3, 16, 16)
    by_hand = [judge.compare(judge.features(one[None]), judge.features(other[None])).item() for one, other in zip(a, b, strict=True)]
    assert lpips(judge, a, b).tolist() == pytest.approx(by_hand, rel=1e-5)


def test_the_closed_form_takes_the_threshold_at_the_rate_of_all_others(monkeypatch):
    """One in a thousand pairs of random people lies above it, as with metrics, audit and page."""
    generator = small_generator('stylegan2')
    seen = []

    def recogniser(images):
        seen.append(other_recogniser(images))
        return seen[-1]
    found = margin.strangers(generator, recogniser)
    faces = torch.cat(seen)
    pairs = [(faces[i] @ faces[j]).item() for i in range(len(faces)) for j in range(i)]
    assert len(faces) == margin.PEOPLE and FALSE_ACCEPTS == 1e-3
    assert found.threshold == pytest.approx(np.quantile(pairs, 0.999), abs=1e-6)
    assert found.usual == pytest.approx(np.quantile(pairs, 0.95), abs=1e-6)
    assert pairs_of(torch.arange(9.0).view(3, 3)).tolist() == [1, 2, 5]


def test_a_bar_is_shown_only_where_there_is_a_title(capsys):
    generator = stand_in().g_s
    ws, _ = people(generator, 2)
    rendered(generator, ws, None)
    assert capsys.readouterr().err == ''
    assert list(rendering.in_batches(3, 2, None)) == [slice(0, 2), slice(2, 3)]


def test_large_pictures_of_a_page_are_made_smaller():
    picture = photograph(torch.rand(3, 700, 700) * 2 - 1)
    assert (picture.width, picture.height) == (512, 512) and picture.uri.startswith('data:image/jpeg;base64,')
