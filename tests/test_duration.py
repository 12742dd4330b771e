"""How long a run takes, said before it: from the time of one picture, and with the flags that shorten it."""
from __future__ import annotations

import dataclasses

import pytest
from small import PoorMansLpips, poor_mans_recogniser, small_generator

from eg3d_unlearn import duration
from eg3d_unlearn.config import Config
from eg3d_unlearn.duration import Costs, from_costs, shorter, spoken
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.unlearning.presets import resolve

# Of FFHQ-512 on a CPU of 116 GFLOP/s: 305 GFLOP a picture, 160 for LPIPS, 13 for the recogniser.
FFHQ_512 = Costs(305 / 116, 305 / 116, {'l2': 0.0, 'lpips': 160 / 116, 'id': 13 / 116})


def config_of(**options) -> Config:
    given = {'network': 'ffhq.pkl', 'outdir': 'out', 'image': ('face.png',), 'precision': 'fp32', 'report': 'brief', **options}
    return resolve(Config(**given), None)


def test_guide_on_a_cpu_takes_most_of_a_day():
    """5 pairs a step: 4 passes of the network and 3 of LPIPS each, and for 3 of them 3 of the recogniser."""
    expected = from_costs(config_of(), FFHQ_512)
    assert expected.step == pytest.approx((5 * (4 * 305 + 3 * 160) + 3 * 3 * 13) / 116) and expected.iters == 1000
    assert 18 < expected.step * 1000 / 3600 < 22
    # 300 steps of the inversion, each there and back.
    assert expected.inversion == pytest.approx((2 * 305 + 300 * 2 * (305 + 160)) / 116)
    assert 'about 21 h, by the time of one picture here' in str(expected) and 'for 1000 steps of 74 s' in str(expected)


@pytest.mark.parametrize('options, part, change', [
    ({'iters': 200}, 'whole', -0.5), ({'n_adj': 0, 'n_global': 1}, 'step', -0.5), ({'method': 'baseline'}, 'step', -0.7),
    ({'inversion_steps': 30}, 'inversion', -0.8), ({'image': (), 'latent_seed': 3}, 'inversion', -1.0), ({'report': 'full'}, 'pictures', 2.0)])
def test_what_is_asked_for_counts(options, part, change):
    usual, other = (getattr(from_costs(config_of(**more), FFHQ_512), part) for more in ({}, options))
    assert (other / usual - 1 <= change) if change < 0 else (other / usual - 1 >= change)


def test_the_flags_that_shorten_a_long_run_are_named():
    flat, solid = small_generator('stylegan2'), small_generator('eg3d')
    assert shorter(config_of(), solid, 60) is None
    said = shorter(config_of(report='full'), solid, 1e5)
    for flag in ('--iters (now 1000)', '--loss-resolution=half', '--precision=bf16', '--inversion-steps (now 300)', '--report=brief', 'a GPU'):
        assert flag in said
    large = dataclasses.replace(config_of(precision='bf16', loss_resolution='half'))
    assert '--loss-resolution' not in shorter(large, solid, 1e5) and '--precision' not in shorter(large, solid, 1e5)
    assert '--loss-resolution' not in shorter(config_of(), flat, 1e5) and '--lpips-resolution' not in shorter(config_of(), flat, 1e5)
    flat.img_resolution = 1024
    assert '--lpips-resolution=256' in shorter(config_of(), flat, 1e5)


@pytest.mark.parametrize('family', ['stylegan2', 'eg3d'])
def test_one_picture_is_timed_as_the_losses_see_it(family, monkeypatch):
    """By a clock that each call of the network moves on."""
    generator, now, seen = small_generator(family), [0.0], []
    monkeypatch.setattr(duration.time, 'perf_counter', lambda: now[0])

    def render(*args, whole=generator.render, **options):
        now[0] += 0.25 if options.get('half') else 1.0
        seen.append(options)
        return whole(*args, **options)
    monkeypatch.setattr(generator, 'render', render)
    judges = Judges(PoorMansLpips(), poor_mans_recogniser, None, {})
    config = config_of(loss_resolution='half' if generator.is_3d else 'full')
    costs = duration.costs_of(config, generator, judges)
    assert costs == Costs(1.0, 0.25 if generator.is_3d else 1.0, {'l2': 0.0, 'lpips': 0.0, 'id': 0.0})
    assert len(seen) == (3 if generator.is_3d else 1)        # what is quick is timed twice


def test_spans_of_time_are_rounded():
    assert [spoken(seconds) for seconds in (0.21, 42.3, 89, 95, 1500, 5400, 64800, 259200)] == [
        '0.2 s', '42 s', '89 s', '1.6 min', '25 min', '1.5 h', '18 h', '3.0 days']
