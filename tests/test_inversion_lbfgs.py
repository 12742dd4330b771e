"""L-BFGS on many latents at once: its directions by hand, its steps on functions whose least is known, its coordinates."""
from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from small import PoorMansLpips, small_generator

from eg3d_unlearn.command import main
from eg3d_unlearn.person.inversion.lbfgs import Coordinates, descent, gradients_of_picture, minimise
from eg3d_unlearn.person.inversion.optimise import Optimisation, shrink
from torch_utils_ext.errors import InputError


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bowls(count=3, size=12, condition=1e3):
    """``count`` quadratic functions of [1, size] numbers, ill-conditioned, and where each is least."""
    turns = torch.linalg.qr(gaussian(count, size, size))[0]
    matrices = turns @ torch.diag_embed(torch.logspace(0, torch.tensor(condition).log10(), size, dtype=torch.float64)) @ turns.transpose(1, 2)
    least = gaussian(count, 1, size, seed=1)

    def loss(x, which=slice(None)):
        off = x - least[which]
        slope = torch.einsum('nde,nle->nld', matrices[which], off)
        return 0.5 * (off * slope).flatten(1).sum(1), slope
    return loss, least


def test_directions_are_those_of_the_inverse_matrix():
    """The two loops give what the BFGS update of the whole inverse Hessian gives."""
    size, pairs = 6, []
    loss, _ = bowls(1, size, condition=20)
    points = gaussian(5, 1, 1, size, seed=2)
    inverse = scale = None
    for before, after in zip(points, points[1:], strict=False):
        s, y = after - before, loss(after)[1] - loss(before)[1]
        pairs.append((s, y, 1 / (s * y).sum().view(1)))
    s, y, _ = pairs[-1]
    scale = (s * y).sum().view(1) / (y * y).sum()
    inverse = scale * torch.eye(size, dtype=torch.float64)
    for s, y, rho in pairs:
        left = torch.eye(size, dtype=torch.float64) - rho * torch.outer(s.flatten(), y.flatten())
        inverse = left @ inverse @ left.T + rho * torch.outer(s.flatten(), s.flatten())
    gradient = gaussian(1, 1, size, seed=3)
    assert torch.allclose(descent(gradient, pairs, scale).flatten(), -inverse @ gradient.flatten())


def test_it_finds_the_least_of_each_of_many():
    loss, least = bowls()
    found, steps = minimise(loss, torch.zeros_like(least), steps=80, length=0.1)
    assert torch.allclose(found, least, atol=1e-3) and steps == 80


def test_problems_do_not_see_one_another():
    loss, least = bowls()
    together, _ = minimise(loss, torch.zeros_like(least), steps=15, length=0.1)
    for one in range(3):
        alone, _ = minimise(lambda x, one=one: loss(x, slice(one, one + 1)), torch.zeros_like(least[:1]), steps=15, length=0.1)
        assert torch.allclose(together[one], alone[0], rtol=1e-6)


@pytest.mark.parametrize('length', [1e-3, 1.0, 1e4])
def test_losses_never_rise_and_what_is_not_finite_is_no_step(length):
    """A narrow valley, and nothing beyond a wall; also from a first step that is far too long."""
    def valley(x):
        x = x.detach().requires_grad_(True)
        a, b = x[:, 0, 0], x[:, 0, 1]
        losses = (1 - a).square() + 100 * (b - a.square()).square()
        losses = torch.where(a.abs() > 1.4, torch.inf, losses)
        return losses.detach(), torch.autograd.grad(losses[losses.isfinite()].sum(), x)[0]

    seen = []
    begin = torch.tensor([[[-1.2, 1.0]], [[0.0, -1.0]]], dtype=torch.float64)
    found, _ = minimise(valley, begin, steps=120, length=length, watch=lambda step, losses: seen.append(losses.clone()))
    assert all((after <= before).all() for before, after in zip(seen, seen[1:], strict=False))
    assert torch.allclose(found, torch.ones_like(found), atol=1e-2), found


def test_it_ends_when_told():
    loss, least = bowls()
    _, steps = minimise(loss, torch.zeros_like(least), steps=50, length=0.1, watch=lambda step, losses: step == 7)
    assert steps == 7


def test_coordinates_keep_the_size_and_even_out_what_is_seen():
    rng = torch.Generator().manual_seed(0)
    width = 64
    strength = torch.ones(width)
    strength[:4] = 10.0              # four directions that the picture answers to most
    gradients = torch.randn(24, 3, width, generator=rng) * strength * torch.tensor([1.0, 1.0, 0.2])[:, None]
    x = torch.randn(500, 3, width, generator=rng)
    moved = Coordinates(gradients).offset(x)
    rms = moved.square().mean(dim=(0, 2)).sqrt()
    assert rms[0] / rms[1] == pytest.approx(1.0, abs=0.05)
    assert rms[2] / rms[0] == pytest.approx(5 ** 0.7, rel=0.1)      # the picture answers less to the third layer
    assert moved[:, 0, :4].std() < 0.5 * moved[:, 0, 4:].std()
    assert torch.allclose(Coordinates(gradients * 1e3).offset(x), moved, rtol=1e-3, atol=1e-4)
    # It is a symmetric map: its own transpose, which the gradient goes through.
    a, b = x[:1], x[1:2]
    assert (Coordinates(gradients).offset(a) * b).sum() == pytest.approx((Coordinates(gradients).offset(b) * a).sum().item(), rel=1e-3)


def test_gradients_of_the_picture_are_those_of_each_projection():
    generator = small_generator('stylegan2')
    found = gradients_of_picture(generator, shrink, None, seed=0)
    assert found.shape == (24, generator.num_ws, generator.w_dim)
    assert torch.equal(found, gradients_of_picture(generator, shrink, None, seed=0))
    # Against a difference: along any direction the projection changes as its gradient says.
    rng = torch.Generator().manual_seed(0)
    projection = torch.randn(4, 3, 32, 32, generator=rng)[1]
    direction = 1e-2 * found[1:2] / found[1].square().mean().sqrt()
    with torch.no_grad():
        change = (generator.synthesize(generator.w_avg + direction).image - generator.synthesize(generator.w_avg - direction).image) / 2
    assert (change[0] * projection).sum() / projection.numel() ** 0.5 == pytest.approx((found[1] * direction[0]).sum().item(), rel=0.05)


@pytest.mark.parametrize('family, space', [
    ('eg3d', 'w+'), ('stylegan2', 'w'), ('stylegan2', 'w+'), ('stylegan3', 'w'), ('stylegan3', 'w+')])
def test_it_comes_nearer_than_adam(family, space):
    generator = small_generator(family)
    camera = generator.camera(0.2) if generator.is_3d else None
    with torch.no_grad():
        images = torch.cat([generator.synthesize(generator.map_seed(seed), camera).image for seed in (5, 6)])
    psnr = {}
    for optimiser in ('adam', 'lbfgs'):
        inverter = Optimisation(space, steps=15, lr=0.05, optimiser=optimiser)
        found = inverter(generator, images, camera, PoorMansLpips(), starts=[generator.w_avg.expand(2, -1, -1)])
        assert found.ws.shape == (2, generator.num_ws, generator.w_dim) and found.steps == 15
        assert space == 'w+' or torch.equal(found.ws, found.ws[:, :1].expand_as(found.ws))
        psnr[optimiser] = found.psnr
    assert (psnr['lbfgs'] > psnr['adam']).all(), psnr


def test_the_precision_is_what_it_was():
    generator = small_generator('stylegan2', precision='bf16')
    image = generator.synthesize(generator.map_seed(1)).image
    Optimisation('w+', steps=2, optimiser='lbfgs')(generator, image, None, PoorMansLpips())
    assert generator.precision == 'bf16'


def test_what_has_no_loss_is_refused():
    generator = small_generator('stylegan2')
    with pytest.raises(InputError, match='not finite'):
        Optimisation('w+', steps=2, optimiser='lbfgs')(generator, torch.full((1, 3, 32, 32), torch.nan), None, PoorMansLpips())


def test_it_stops_early_where_nothing_is_gained():
    generator = small_generator('stylegan2')
    ws = generator.map_seed(5)
    image = generator.synthesize(ws).image
    found = Optimisation('w+', steps=400, early_stop=True, optimiser='lbfgs')(generator, image, None, PoorMansLpips(), starts=[ws])
    assert found.steps < 200


def test_a_camera_that_turns_is_refused():
    with pytest.raises(InputError, match='loss that stays as it is'):
        Optimisation('w+', refine_camera=True, optimiser='lbfgs')


def test_a_run_by_lbfgs(tmp_path):
    """The command inverts by it, and says so in the options."""
    out = tmp_path / 'out'
    done = CliRunner().invoke(main, ['--network=demo-stylegan2', '--image=demo', f'--outdir={out}', '--inversion-optimiser=lbfgs',
                                     '--inversion-steps=10', '--iters=1', '--report=brief', '--device=cpu'])
    assert done.exit_code == 0, (done.output, done.exception)
    assert json.loads((out / 'training_options.json').read_text())['inversion_optimiser'] == 'lbfgs'
    assert json.loads((out / 'report.json').read_text())['person']['psnr_db'] > 30
