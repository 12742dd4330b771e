"""The demo networks that come with the package: files, pickles, names, the people that they show."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from eg3d_unlearn.generators.build import build
from eg3d_unlearn.worlds.demo import check, export, scene, shipped
from eg3d_unlearn.worlds.demo.photo import photos_of
from eg3d_unlearn.worlds.demo.recipes import NETWORKS
from eg3d_unlearn.worlds.demo.training import psnr
from eg3d_unlearn.worlds.demo.world import WORLD
from eg3d_unlearn.worlds.registry import check_world, people_in, person_in, world_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def test_files_are_small():
    figures = [figure for figure in check.file_figures() if figure.name != 'shipped']
    assert len(figures) >= 10 and all(figure.holds for figure in figures)
    assert all(figure.value > 0 for figure in figures)


@pytest.mark.parametrize('name', NETWORKS)
def test_a_name_becomes_a_pickle_once(name, cache):
    path = shipped.network_path(name)
    made = path.stat().st_mtime_ns
    assert path.parent == cache and shipped.network_path(name) == path and path.stat().st_mtime_ns == made
    pickle = read_network_pickle(path)
    assert world_of(pickle) is WORLD and pickle.records['G_ema'].upstream_class == NETWORKS[name]['upstream_class']
    network, state = build(pickle.records['G_ema']), shipped.shipped_state(name)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())


def test_export_keeps_what_is_there(tmp_path):
    out = tmp_path / 'demo.pkl'
    arguments = ['--network=demo-eg3d', f'--outfile={out}']
    assert CliRunner().invoke(export.main, arguments).exit_code == 0 and out.stat().st_size > 10**6
    again = CliRunner().invoke(export.main, arguments)
    assert again.exit_code == 1 and 'is not overwritten' in again.output


def test_a_missing_network_says_how_to_remake_it(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, 'FOLDER', tmp_path)
    with pytest.raises(InputError, match='eg3d_unlearn.worlds.demo.train eg3d --outdir'):
        shipped.network_path('demo-eg3d')


@pytest.mark.parametrize('name', NETWORKS)
def test_latents_show_their_people(name):
    """Eight people nobody trained on: each is nearest to its own truth, and near it."""
    generator, truth = check.load(name), check.Truth(name, 8)
    shown = check.show(generator, truth.z, truth.cameras)
    error = (shown[:, None] - truth.images[None]).square().flatten(2).mean(2)
    assert (error.argmin(1) == torch.arange(8)).all()
    assert psnr(shown, truth.images) > 17


def test_eg3d_depth_is_the_truths():
    generator, truth = check.load('demo-eg3d'), check.Truth('demo-eg3d', 3)
    true = scene.render(truth.people, truth.cameras, 64, samples=1)
    shown = generator.synthesize(generator.map(truth.z), truth.cameras).depth
    # Well inside the outline, where every ray hits.
    inside = -F.max_pool2d(-true.mask, 9, stride=1, padding=4) > 0.99
    assert (shown - true.depth).abs()[inside].median() < 0.02 and inside.float().mean() > 0.2


def test_people_by_name():
    assert person_in('demo') == (WORLD, WORLD.default_person) and person_in('demo:7') == (WORLD, 7)
    assert person_in('demo:') is person_in('demo.png') is person_in('nowhere:7') is None
    assert people_in('demo:4-6,12,5') == ['demo:4', 'demo:5', 'demo:6', 'demo:12'] and people_in('demo') is people_in('folder:1') is None
    with pytest.raises(InputError, match='demo-eg3d or demo-stylegan2'):
        check_world('demo:7', None)
    first, again = photos_of(5, 2, 32), photos_of(5, 1, 32, first=1)
    assert torch.equal(first.images[1:], again.images) and torch.equal(first.cameras[1:], again.cameras)


def test_a_demo_network_that_was_changed_in_the_cache_is_made_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path))
    path = shipped.network_path('demo-stylegan2')
    whole = path.read_bytes()
    assert shipped.network_path('demo-stylegan2') == path and capsys.readouterr().err == ''
    path.write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:])
    assert shipped.network_path('demo-stylegan2').read_bytes() == whole and 'is made anew' in capsys.readouterr().err
    (tmp_path / f'{path.name}.sha256').unlink()          # a kill came between the two files
    path.write_bytes(whole[:1000])
    assert shipped.network_path('demo-stylegan2').read_bytes() == whole
