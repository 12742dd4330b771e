"""Training of the demo networks: a few steps, interrupted and taken up again."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from eg3d_unlearn.demo import train, train_eg3d, train_stylegan2
from eg3d_unlearn.demo.training import TrainingRun, cosine, follow
from eg3d_unlearn.generator import build
from torch_utils_ext.network_pickle import read_network_pickle


def quick(which: str, outdir) -> None:
    done = CliRunner().invoke(train.main, [which, f'--outdir={outdir}', '--quick'])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize('which', train.GENERATORS)
def test_an_interrupted_training_ends_in_the_same_network(which, tmp_path, monkeypatch):
    quick(which, tmp_path / 'unbroken')
    module = {'eg3d': train_eg3d, 'stylegan2': train_stylegan2}[which]

    def stop_there(average, network, step, memory=400):
        follow(average, network, step, memory)
        if step == 3:
            raise MemoryError('as if killed')

    with monkeypatch.context() as patch:
        patch.setattr(module, 'follow', stop_there)
        patch.setattr(TrainingRun.__init__, '__defaults__', (0.0,))  # save after every step
        broken = CliRunner().invoke(train.main, [which, f'--outdir={tmp_path / "broken"}', '--quick'])
        assert isinstance(broken.exception, MemoryError)
    quick(which, tmp_path / 'broken')
    assert 'Resuming at step 3' in (tmp_path / 'broken' / 'log.txt').read_text()
    networks = [read_network_pickle(tmp_path / name / f'demo-{which}.pkl').records['G_ema'].state_dict() for name in ('unbroken', 'broken')]
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])
    report = json.loads((tmp_path / 'broken' / 'report.json').read_text())
    assert report['figures']['psnr_64'] > 0 and report['hardware']['cores'] and report['steps'] > 4
    assert (tmp_path / 'broken' / 'samples.png').stat().st_size > 1000
    build(read_network_pickle(tmp_path / 'broken' / f'demo-{which}.pkl').records['G_ema'])


def test_learning_rates_rise_and_fall():
    rates = [cosine(step, 1000) for step in range(1000)]
    assert rates[0] < 0.05 and max(rates) == pytest.approx(1, abs=0.02) and rates[-1] < 0.03


def test_true_pixels_are_those_of_the_pictures():
    """The training's own truth against `scene.render`: the same outlines and colours."""
    z = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    cameras = train_eg3d.scene.cameras_at_random(2, 3)
    who = train_eg3d.People(train_eg3d.attributes_of(z))
    row, column = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing='ij')
    pixels = row.flatten().expand(2, -1), column.flatten().expand(2, -1)
    colors, _, _ = train_eg3d.true_pixels(train_eg3d.heads.parameters(who), cameras, *pixels, 32)
    pictures = train_eg3d.scene.render(who, cameras, 32).image
    error = (colors.transpose(1, 2).unflatten(2, (32, 32)) - pictures).square()
    assert error.mean() < 0.004 and error.mean() > 0
