"""Which settings a run gets when the user leaves them open."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from small import small_generator

from eg3d_unlearn.config import Config
from eg3d_unlearn.generators.trained_on import TrainedOn
from eg3d_unlearn.judges.judges import check_judges
from eg3d_unlearn.unlearning import target
from eg3d_unlearn.unlearning.presets import GUIDE, resolve
from eg3d_unlearn.worlds.demo.world import TRAINING, WORLD
from eg3d_unlearn.worlds.registry import world_by_network
from torch_utils_ext.errors import InputError


def config(**options) -> Config:
    return Config(network='a.pkl', outdir='out', **options)


def test_published_settings_on_faces():
    made = resolve(config(), None)
    assert (made.iters, made.lr, made.n_adj, made.n_global, made.lambda_l2, made.lambda_id) == (1000, 1e-4, 2, 2, 1e-2, 0.1)
    assert (made.lpips_net, made.id_network, made.inversion_steps, made.target) == ('vgg', 'arcface', 300, 'ufo')
    assert resolve(config(method='baseline'), None).target == 'mean'


@pytest.mark.parametrize('family', TRAINING)
def test_demo_settings(family):
    made = resolve(config(), WORLD, family)
    assert made.iters == TRAINING[family]['iters'] < GUIDE['iters'] and made.lpips_net == made.id_network == 'demo'


@pytest.mark.parametrize('family', TRAINING)
def test_the_baseline_is_the_baseline_on_demo_networks_too(family):
    made = resolve(config(method='baseline'), WORLD, family)
    assert (made.target, made.lambda_adj, made.lambda_global) == ('mean', 0.0, 0.0) and made.iters == TRAINING[family]['iters']


def test_what_is_given_stays():
    made = resolve(config(iters=7, lambda_adj=0.0, id_network='none', lpips_net='alex'), WORLD, 'eg3d')
    assert (made.iters, made.lambda_adj, made.id_network, made.lpips_net) == (7, 0.0, 'none', 'alex')


@pytest.mark.parametrize('options, told', [
    ({'lpips_weights': 'vgg.pth'}, 'add --lpips-net=vgg'), ({'id_weights': 'arcface.pth'}, 'add --id-network=arcface'),
    ({'random_metric_weights': True}, 'judges of a world are used')])
def test_options_of_judges_that_are_not_in_use_are_errors(options, told):
    with pytest.raises(InputError, match=told):
        check_judges(resolve(config(**options), WORLD, 'eg3d'))
    check_judges(resolve(config(**options), None))
    check_judges(resolve(config(**options, lpips_net='vgg', id_network='arcface'), WORLD, 'eg3d'))


def test_names_of_demo_networks():
    assert world_by_network('demo-eg3d') == (WORLD, 'eg3d') and world_by_network('demo-stylegan2') == (WORLD, 'stylegan2')
    assert world_by_network('ffhq.pkl') == (None, None)


def test_distances_are_fractions_of_the_radius():
    generator = small_generator('eg3d')
    rng = torch.Generator().manual_seed(5)
    radius = (generator.sample(500, rng) - generator.w_avg).flatten(1).norm(dim=1).mean().item()
    d, alpha_max, told = target.distances(config(), generator)
    assert d == pytest.approx(target.RELATIVE_DISTANCES[0] * radius, rel=0.02)
    assert alpha_max == pytest.approx(target.RELATIVE_DISTANCES[1] * radius, rel=0.02)
    assert 'by the network' in told and f'{d:.1f}' in told


def test_distances_of_ffhq_512_are_the_published_ones():
    ws = torch.randn(1000, 14, 8)
    generator = SimpleNamespace(family='eg3d', img_resolution=512, num_ws=14, device=torch.device('cpu'), w_avg=torch.zeros(14, 8),
                                sample=lambda count, rng: ws, trained_on=TrainedOn('FFHQ'))
    d, alpha_max, told = target.distances(config(), generator)
    assert (d, alpha_max) == (30.0, 15.0) and 'as published' in told
    d, alpha_max, told = target.distances(config(target_d=5.0), generator)
    assert (d, alpha_max) == (5.0, 15.0) and 'd as given' in told
    for other in ('AFHQ', ''):       # of the same size, or nothing tells
        generator.trained_on = TrainedOn(other)
        d, alpha_max, told = target.distances(config(), generator)
        assert d == pytest.approx(2 * alpha_max) and d != 30 and 'by the network' in told
