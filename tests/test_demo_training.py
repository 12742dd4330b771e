"""Training of the demo networks: a few steps, interrupted and taken up again."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from eg3d_unlearn.generators.build import build, build_network
from eg3d_unlearn.worlds.demo import train, train_eg3d, train_stylegan2
from eg3d_unlearn.worlds.demo.people import meaningful_directions
from eg3d_unlearn.worlds.demo.recipes import STYLEGAN2
from eg3d_unlearn.worlds.demo.training import Muon, TrainingRun, centre_styles, cosine, fit_mapping, follow
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle


def quick(which: str, outdir) -> None:
    done = CliRunner().invoke(train.main, [which, f'--outdir={outdir}', '--quick'])
    assert done.exit_code == 0, done.output


@pytest.mark.slow
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
        assert broken.exit_code == 1 and 'memory is too small' in broken.output
    quick(which, tmp_path / 'broken')
    assert 'Resuming at step 3' in (tmp_path / 'broken' / 'log.txt').read_text()
    networks = [read_network_pickle(tmp_path / name / f'demo-{which}.pkl').records['G_ema'].state_dict() for name in ('unbroken', 'broken')]
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])
    report = json.loads((tmp_path / 'broken' / 'report.json').read_text())
    assert report['figures']['psnr_64'] > 0 and report['hardware']['cores'] and report['steps'] > 4
    assert (tmp_path / 'broken' / 'samples.png').stat().st_size > 1000
    build(read_network_pickle(tmp_path / 'broken' / f'demo-{which}.pkl').records['G_ema'])


@pytest.mark.slow
def test_the_mapping_learns_what_heads_are_made_of():
    torch.manual_seed(0)
    mapping = train_eg3d.build().backbone.mapping
    residual = fit_mapping(mapping, train_eg3d.features, meaningful_directions()[:-2], steps=400, batch=128)
    # From random weights it is 0.26 by then.
    assert residual < 0.2 and not any(p.requires_grad for p in mapping.parameters())
    z = torch.randn(64, 64)
    ws = mapping(z, torch.zeros(64, 25))[:, 0]
    assert (ws.mean(0) - mapping.w_avg).square().mean().sqrt() < 0.2 * ws.std(0).mean()


def test_styles_at_the_mean_latent_are_those_of_a_fresh_network():
    network = build_network(STYLEGAN2['upstream_class'], STYLEGAN2['init_kwargs'])
    affine = network.synthesis.b16.conv0.affine
    before, w_avg = affine(torch.zeros(1, 512)), torch.randn(512)
    centre_styles(network, w_avg)
    assert torch.allclose(affine(w_avg[None]), before, atol=1e-4)


def test_an_old_torch_is_told_what_it_lacks(monkeypatch):
    monkeypatch.delattr(torch.optim, 'Muon')
    with pytest.raises(InputError, match='came with torch 2.9'):
        Muon([torch.nn.Parameter(torch.zeros(2, 2))], [torch.nn.Parameter(torch.zeros(2))], 0.1, 0.1)


def test_learning_rates_rise_and_fall():
    rates = [cosine(step, 1000) for step in range(1000)]
    assert rates[0] < 0.05 and max(rates) == pytest.approx(1, abs=0.02) and rates[-1] < 0.03


def test_what_a_crop_counts():
    corner = torch.tensor([[0, 36, 10], [0, 10, 36]]).view(2, 3, 1, 1)  # rows, columns of three crops of 28
    counts = train_eg3d.counted(corner, side=28, margin=4)[:, 0]
    assert (counts[0, 0] == torch.tensor([4.0] * 48 + [0.0] * 8)).all()     # the picture's first row
    assert (counts[0, 20, :3] == torch.tensor([4.0, 1, 1])).all() and counts[0, 20, -1] == 0
    assert counts[1, -1, 20] == 4 and counts[1, 0, 20] == 0 and (counts[1, 20, :9] == torch.tensor([0.0] * 8 + [1])).all()
    assert counts[2, 20, -1] == 4 and counts[2, 20, 0] == 0


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
