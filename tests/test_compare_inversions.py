"""The table of inversions: its command, its rows, what they measure."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from eg3d_unlearn.bench.compare_inversions import main
from eg3d_unlearn.person.inversion.encoder import load_encoder
from eg3d_unlearn.worlds.demo import shipped
from eg3d_unlearn.worlds.demo.recipes import NETWORKS


@pytest.mark.slow
def test_the_command(tmp_path):
    result = CliRunner().invoke(main, ['--network=demo-stylegan2', '--people=2', '--rows=w+:3,encoder,encoder+w+:3,pti:2',
                                       f'--outfile={tmp_path / "table.json"}'])
    assert result.exit_code == 0, (result.output, result.exception)
    rows = json.loads((tmp_path / 'table.json').read_text())['rows']
    assert [row['inversion'] for row in rows] == ['w+', 'encoder', 'encoder+w+', 'pti']
    mean, encoder, *_ = rows
    assert encoder['psnr_db'] > mean['psnr_db'] + 3 and encoder['identity'] > 0.8 > mean['identity']
    assert all(row['worst_identity'] <= row['identity'] <= 1 for row in rows)


@pytest.mark.parametrize('row', ['w+:ten', 'w+:5:lbfgs', 'psp:5', 'w+:-3'])
def test_rows_that_say_nothing_known(row):
    result = CliRunner().invoke(main, ['--network=demo-stylegan2', f'--rows=encoder,{row}'])
    assert result.exit_code == 1 and row in result.output and 'for instance encoder+w+:50' in result.output


@pytest.mark.parametrize('network', NETWORKS)
def test_demo_networks_come_with_encoders(network):
    from eg3d_unlearn.worlds.demo.check import load
    generator = load(network)
    encoder = load_encoder(shipped.encoder_path(network), generator)
    ws = generator.map_seed(3)
    camera = generator.frontal()
    with torch.no_grad():
        found = encoder(generator.synthesize(ws, camera).image, camera)
    error = ((found - ws) / encoder.spread).square().mean().item()
    assert error < 0.6, error        # 1 is what the mean latent gets
