"""A step of GUIDE: its gradient, its draws, and no pass too many."""
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch
from small import SMALL, guide_loss, poor_mans_judges, poor_mans_recogniser, small_generator

from eg3d_unlearn.config import LossOptions
from eg3d_unlearn.judges.identity import identity_distance
from eg3d_unlearn.report.results import curves as report_curves
from eg3d_unlearn.unlearning.loss import ADJACENT, GLOBAL, LOCAL, TERMS, Term, UnlearningLoss, curves, feature_distance
from eg3d_unlearn.unlearning.target import ufo_target


def make(family, batch=1, seed=0, **options):
    g_u = small_generator(family)
    parameters = g_u.freeze_except([g_u.trainable])
    g_s = g_u.twin()
    g_s.network.requires_grad_(False)
    ws_source = g_u.map_seed(5)
    loss = UnlearningLoss(g_u, g_s, ws_source, ufo_target(ws_source, g_u.w_avg, 3.0), poor_mans_judges(), guide_loss(**options), batch, seed)
    return loss, parameters


@pytest.mark.parametrize('batch', [1, 8])
@pytest.mark.parametrize('family', SMALL)
def test_gradient_equals_the_whole_objective_written_out(family, batch):
    """The seams between backbone, rendering and judges change nothing: plain autograd through all of it agrees."""
    loss, parameters = make(family, batch=batch, alpha_max=2.0)
    terms = loss.accumulate_gradients(11)
    seamed = {name: parameter.grad.clone() for name, parameter in parameters.items() if parameter.grad is not None}
    for parameter in parameters.values():
        parameter.grad = None

    rows, camera = loss.draw(11)
    local, adjacent, retained, start = [], [], [], 0
    while start < len(rows):
        together = loss._together(rows[start:start + batch])
        stream = (11, start + 1)
        u = loss.g_u.synthesize(torch.cat([row.ws_u for row in together]), camera, loss.rng(*stream))
        with torch.no_grad():
            t = loss.g_s.synthesize(torch.cat([row.ws_t for row in together]), camera, loss.rng(*stream))
        lpips = loss.judges.perceptual.compare(loss.judges.perceptual.features(u.image), loss.judges.perceptual.features(t.image))
        identity = identity_distance(poor_mans_recogniser(u.image), poor_mans_recogniser(t.image))
        each = 1e-2 * feature_distance(u.features, t.features) + lpips + 0.1 * identity
        for i, row in enumerate(together):
            {LOCAL: local, ADJACENT: adjacent, GLOBAL: retained}[row.kind].append(lpips[i] if row.kind == GLOBAL else each[i])
        start += len(together)
    whole = sum(local) + sum(adjacent) + sum(retained)
    whole.backward()
    assert terms['loss'] == pytest.approx(whole.item(), rel=1e-4)
    scale = max(gradient.abs().max().item() for gradient in seamed.values())
    for name, gradient in seamed.items():
        torch.testing.assert_close(gradient, parameters[name].grad, atol=1e-4 * scale, rtol=1e-3)


@pytest.mark.parametrize('family, passes_s', [('eg3d', 4), ('stylegan2', 4), ('stylegan3', 4)])
def test_one_pass_for_each_distinct_latent_and_network(family, passes_s, monkeypatch):
    """N_a = N_g = 2: five latents through G_u, four through G_s, since w_t's pass was made before."""
    loss, _ = make(family)
    counts = {'u': 0, 's': 0}
    for side, generator in (('u', loss.g_u), ('s', loss.g_s)):
        def counted(ws, side=side, inner=generator.backbone):
            counts[side] += len(ws)
            return inner(ws)
        monkeypatch.setattr(generator, 'backbone', counted)
    loss.accumulate_gradients(0)
    assert counts == {'u': 5, 's': passes_s}


def test_steps_repeat_and_differ():
    loss, parameters = make('stylegan2')
    first, other, again = loss.accumulate_gradients(3), loss.accumulate_gradients(4), loss.accumulate_gradients(3)
    assert first == again and first != other


def test_seeds_give_other_draws():
    a, b = (make('stylegan2', seed=seed)[0].draw(0)[0] for seed in (0, 1))
    assert not torch.equal(a[1].ws_u, b[1].ws_u)


def test_rows_are_what_the_paper_says():
    loss, _ = make('eg3d', alpha_max=2.0)
    rows, camera = loss.draw(0)
    assert [row.kind for row in rows] == [LOCAL, ADJACENT, ADJACENT, GLOBAL, GLOBAL]
    assert torch.equal(rows[0].ws_u, loss.ws_source) and torch.equal(rows[0].ws_t, loss.ws_target)
    for row in rows[1:3]:            # the same offset on both sides, no longer than alpha_max
        torch.testing.assert_close(row.ws_u - loss.ws_source, row.ws_t - loss.ws_target, atol=1e-5, rtol=1e-4)
        assert (row.ws_u - loss.ws_source).norm() <= 2.0 + 1e-4
    for row in rows[3:]:
        assert torch.equal(row.ws_u, row.ws_t)
    assert camera.shape == (1, 25)


@pytest.mark.parametrize('off, kinds', [
    (['adj'], [LOCAL, GLOBAL, GLOBAL]), (['global'], [LOCAL, ADJACENT, ADJACENT]), (['local', 'global'], [ADJACENT] * 2),
    (['adj', 'global'], [LOCAL]),
])
def test_what_is_switched_off_is_not_drawn(off, kinds):
    loss, _ = make('stylegan2', **{f'lambda_{name}': 0.0 for name in off})
    assert [row.kind for row in loss.draw(0)[0]] == kinds
    assert not set(off) & loss.accumulate_gradients(0).keys()


@pytest.mark.parametrize('family, off', [('stylegan2', {'l2'}), ('stylegan2', {'lpips'}), ('stylegan2', {'id'}), ('eg3d', {'lpips', 'id'})])
def test_terms_of_the_local_loss_switch_off(family, off):
    loss, parameters = make(family, n_global=0, **{f'lambda_{name}': 0.0 for name in off})
    figures = loss.accumulate_gradients(0)
    assert not off & figures.keys() and all(figures[name] > 0 for name in {'l2', 'lpips', 'id'} - off)
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in parameters.values())


def test_a_new_term_is_one_entry_and_the_option_of_its_weight(monkeypatch):
    """L1 of pictures: its gradient, its curve in stats.jsonl and in the report, and its part of the clock follow from the entry."""
    @dataclass(frozen=True, kw_only=True)
    class WithPixels(LossOptions):
        lambda_pixels: float = 0.0

    def run(lambda_pixels):
        loss, parameters = make('eg3d', group=WithPixels, n_global=0, n_adj=0, lambda_pixels=lambda_pixels)
        timed = []
        loss.clock = lambda part: timed.append(part) or nullcontext()
        figures = loss.accumulate_gradients(3)
        return loss, figures, timed, {name: p.grad for name, p in parameters.items() if p.grad is not None}
    before = run(2.0)[3]
    monkeypatch.setattr('eg3d_unlearn.unlearning.loss.TERMS', [*TERMS, Term(
        'pixels', 'L1 of pictures', None, see=lambda _, side: side.image, distance=lambda _, u, t: (u - t).abs().flatten(1).mean(1))])

    assert 'pixels' not in run(0.0)[1]                  # its weight is 0
    loss, figures, timed, after = run(2.0)
    assert curves()['pixels'] == 'L1 of pictures' and 'pixels' in timed
    drawn = report_curves([{'step': step, 'pixels': figures['pixels']} for step in (1, 2)])
    assert [title for title, _ in drawn.curves] == ['L1 of pictures']

    row, = loss.draw(3)[0]
    camera, stream = loss.draw(3)[1], (3, 1)
    with torch.no_grad():
        t = loss.g_s.synthesize(row.ws_t, camera, loss.rng(*stream)).image
    u = loss.g_u.synthesize(row.ws_u, camera, loss.rng(*stream)).image
    pixels = (u - t).abs().mean()
    assert figures['pixels'] == pytest.approx(pixels.item(), rel=1e-5)
    parameters = dict(loss.g_u.network.named_parameters())
    expected = dict(zip(after, torch.autograd.grad(2 * pixels, [parameters[name] for name in after]), strict=True))
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    for name in after:
        torch.testing.assert_close(after[name] - before[name], expected[name], atol=1e-4 * scale, rtol=1e-3)


def test_frozen_parts_collect_no_gradient():
    loss, parameters = make('eg3d')
    loss.accumulate_gradients(0)
    for generator in (loss.g_u, loss.g_s):
        for name, parameter in generator.network.named_parameters():
            assert parameter.grad is None or (generator is loss.g_u and name in parameters), name


def test_half_resolution_takes_half_the_rays_on_both_sides(monkeypatch):
    loss, _ = make('eg3d', loss_resolution='half', lambda_adj=0.0, lambda_global=0.0)
    rays = []
    for generator in (loss.g_u, loss.g_s):
        def noted(*arguments, render=generator.network.render, network=generator.network, **options):
            rays.append(network.neural_rendering_resolution)
            return render(*arguments, **options)
        monkeypatch.setattr(generator.network, 'render', noted)
    loss.accumulate_gradients(0)
    assert rays == [8, 8]


def test_mixed_resolution_sees_the_full_picture_every_fourth_step(monkeypatch):
    loss, _ = make('eg3d', loss_resolution='mixed', lambda_adj=0.0, lambda_global=0.0)
    sizes = []
    monkeypatch.setattr(loss.judges.perceptual, 'features', lambda images: sizes.append(images.shape[-1]) or [images.mean((2, 3))])
    monkeypatch.setattr(loss.judges.perceptual, 'compare', lambda a, b: (a[0] - b[0]).square().mean(1))
    for step in range(5):
        loss.accumulate_gradients(step)
    assert sizes == [128, 128, 16, 16, 16, 16, 16, 16, 128, 128]


def test_several_photos_take_turns():
    loss, _ = make('stylegan2', n_global=0)
    second = loss.g_u.map_seed(6)
    sources = torch.cat([loss.ws_source, second])
    targets = torch.cat([loss.ws_target, ufo_target(second, loss.g_u.w_avg, 3.0)])
    both = UnlearningLoss(loss.g_u, loss.g_s, sources, targets, loss.judges, guide_loss(n_global=0))
    for step in range(4):
        local, neighbour = both.draw(step)[0][:2]
        assert torch.equal(local.ws_u[0], sources[step % 2]) and torch.equal(local.ws_t[0], targets[step % 2])
        assert torch.allclose(neighbour.ws_u - local.ws_u, neighbour.ws_t - local.ws_t, atol=1e-5)
    alone = UnlearningLoss(loss.g_u, loss.g_s, second, targets[1:], loss.judges, guide_loss(n_global=0))
    assert both.accumulate_gradients(1)['loss'] == pytest.approx(alone.accumulate_gradients(1)['loss'], rel=1e-5)
    # What is kept of a photo's target is that photo's.
    assert both.accumulate_gradients(3)['local'] == pytest.approx(alone.accumulate_gradients(1)['local'], rel=1e-5)


def test_people_near_the_person_are_nearer():
    loss, _ = make('stylegan2', n_global=4, n_near=2)
    person = loss.ws_source - loss.g_u.w_avg

    def likeness(rows):
        return [torch.cosine_similarity((row.ws_u - loss.g_u.w_avg).flatten(1), person.flatten(1)).item() for row in rows]
    drawn = [[row for row in loss.draw(step)[0] if row.kind == GLOBAL] for step in range(12)]
    assert all(len(rows) == 4 for rows in drawn)
    near, anybody = sum((likeness(rows[2:]) for rows in drawn), []), sum((likeness(rows[:2]) for rows in drawn), [])
    assert min(near) > sum(anybody) / len(anybody)
    assert len({row.ws_u.sum().item() for rows in drawn for row in rows}) > 40
