"""The closed form needs the pickle and the person's latent only: what a run does, measures and says without LPIPS and a recogniser."""
from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small import SMALL, PoorMansLpips, poor_mans_recogniser, save_noise, save_small, small_generator

from eg3d_unlearn import duration
from eg3d_unlearn.bench.train_encoder import network_for, save_encoder
from eg3d_unlearn.command import main
from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluate_command import main as evaluate
from eg3d_unlearn.evaluation import summary as report
from eg3d_unlearn.judges import judges as judging
from eg3d_unlearn.judges import weights
from eg3d_unlearn.judges.judges import Judges, check_needed, needed, without_missing
from eg3d_unlearn.judges.perceptual import NETS
from eg3d_unlearn.preflight import check
from eg3d_unlearn.unlearning.closed_form import affine_names
from eg3d_unlearn.unlearning.presets import resolve
from eg3d_unlearn.worlds.demo.world import WORLD
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle

FILES = 'model_ir_se50.pth', 'vgg16-397923af.pth'
NO_JUDGE = Judges(None, None, None, dict.fromkeys(('perceptual', 'recogniser', 'measuring'), 'none'))


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """Empty caches, and no way to the network: a file that would be fetched is an error that names it."""
    for name in ('EG3D_UNLEARN_CACHE', 'TORCH_HOME'):
        monkeypatch.setenv(name, str(tmp_path / 'cache'))

    def fetch(url, *_, **__):
        raise InputError(f'{url} was fetched.')
    monkeypatch.setattr(weights, 'fetch', fetch)
    return tmp_path / 'cache'


def network_of(family: str, folder):
    """The pickle of a small network whose affines are not zero, and so learned something."""
    network = small_generator(family).network
    with torch.no_grad():            # StyleGAN3's input begins at zero
        for name, parameter in network.named_parameters():
            if name.endswith('affine.weight'):
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    return save_small(folder / 'before.pkl', family, network)


def run(folder, *options: str, method: str = 'closed-form'):
    return CliRunner().invoke(main, [f'--network={folder / "before.pkl"}', f'--outdir={folder / "out"}', f'--method={method}', '--device=cpu',
                                     *options])


@pytest.mark.parametrize('family', SMALL)
def test_a_pickle_and_a_latent_are_enough(family, tmp_path, nothing_here):
    before = network_of(family, tmp_path)
    done = run(tmp_path, '--latent-seed=3', '--report=brief')
    assert done.exit_code == 0, done.output
    assert not nothing_here.exists()
    told = next(line for line in done.output.splitlines() if 'goes without' in line)
    assert all(file in told for file in FILES) and str(nothing_here) in told and 'the strength is the default one' in told
    assert 'Nothing measured how far the person moved' in done.output and 'LPIPS 0' not in done.output
    found = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert (found['config']['lpips_net'], found['config']['id_network']) == ('none', 'none')
    assert found['figures'] == {'others': report.OTHERS_DRAWN} and found['summary']['others'] == report.OTHERS_DRAWN
    assert not any(isinstance(found['summary'][name], float) for name in ('erased_same_photo', 'other_people', 'other_people_worst'))
    page = (tmp_path / 'out' / 'report.html').read_text()
    assert 'nothing compared the faces' in page and 'neither a recogniser nor a perceptual distance took part' in page
    assert_only_affines_differ(before, tmp_path / 'out' / 'network-unlearned.pkl', family)


def assert_only_affines_differ(before, after, family: str) -> None:
    """Byte for byte: all that differs lies in the numbers of affines, and every affine differs."""
    old, new = (np.frombuffer(path.read_bytes(), np.uint8) for path in (before, after))
    assert len(old) == len(new)
    pickle, names = read_network_pickle(before), affine_names(small_generator(family))
    assert any(name.startswith('superresolution.') for name in names) == (family == 'eg3d')
    may = np.zeros(len(old), bool)
    for record in pickle.records.values():
        for name in names:
            for part in ('weight', 'bias'):
                place = record.tensors[f'{name}.{part}']
                region = slice(place.offset, place.offset + place.length)
                may[region] = True
                assert part == 'bias' or (old[region] != new[region]).any(), name
    assert not ((old != new) & ~may).any() and 0 < may.sum() < len(old)


def test_the_whole_page_says_that_nothing_was_measured(tmp_path, nothing_here):
    before = network_of('stylegan2', tmp_path)
    done = run(tmp_path, '--latent-seed=3', '--report=full')
    assert done.exit_code == 0, done.output
    # And the page can be written anew, by what the run says of its judges.
    again = CliRunner().invoke(evaluate, ['report', f'--run={tmp_path / "out"}', f'--before={before}', '--latent-seed=3', '--people=8',
                                          '--device=cpu'])
    assert again.exit_code == 0, again.output
    evidence = json.loads((tmp_path / 'out' / 'report.json').read_text())['evidence']
    assert evidence['measured_by'] is None and 'lpips' not in evidence and 'likeness' not in evidence and evidence['protocol']['people'] == 8
    page = (tmp_path / 'out' / 'report.html').read_text()
    assert 'Pictures, and nothing that was measured on them' in page and 'the method moves them, too' in page
    assert 'sees none' not in page   # no comparison saw anything


def test_a_photo_with_an_encoder_alone_needs_no_judge(tmp_path, nothing_here):
    network_of('stylegan2', tmp_path)
    save_encoder(network_for(small_generator('stylegan2'), width=8), tmp_path / 'encoder.pt', 'abc')
    save_noise(tmp_path / 'photo.png')
    given = (f'--image={tmp_path / "photo.png"}', '--aligned', f'--encoder={tmp_path / "encoder.pt"}', '--report=brief')
    done = run(tmp_path, *given, '--inversion=encoder')
    assert done.exit_code == 0, done.output
    assert 'Inverted: PSNR' in done.output
    notes = json.loads((tmp_path / 'out' / 'report.json').read_text())['person']
    assert 'psnr_db' in notes and 'lpips' not in notes and 'identity' not in notes
    optimised = run(tmp_path, f'--outdir={tmp_path / "other"}', *given, '--inversion=encoder+w+')
    assert optimised.exit_code == 1 and f'{FILES[1]} was fetched' in optimised.output


@pytest.mark.parametrize('options, told', [
    (['--id-network=arcface'], 'arcface_ir_se50.pth was fetched'), (['--lpips-net=vgg'], f'{FILES[1]} was fetched'),
    (['--lpips-net=squeeze'], 'squeezenet1_1-b8a52dc0.pth was fetched'), (['--id-network=curricularface'], 'CurricularFace_Backbone.pth'),
    (['--id-weights=none.pth'], '--id-weights=none.pth is not a file'),
    (['--lpips-weights=none.pth'], '--lpips-weights=none.pth is not a file')])
def test_judges_that_were_asked_for_must_be_there(options, told, tmp_path, nothing_here):
    network_of('stylegan2', tmp_path)
    done = run(tmp_path, '--latent-seed=3', *options)
    assert done.exit_code == 1 and told in done.output and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('method', ['guide', 'closed-form+guide'])
def test_who_trains_needs_judges(method, tmp_path, nothing_here):
    network_of('stylegan2', tmp_path)
    done = run(tmp_path, '--latent-seed=3', method=method)
    assert done.exit_code == 1 and 'was fetched' in done.output
    done = run(tmp_path, '--latent-seed=3', '--lpips-net=none', method=method)
    assert done.exit_code == 1 and '--lpips-net=none goes with --method=closed-form only' in done.output


@pytest.mark.parametrize('command', ['metrics', 'audit'])
def test_metrics_and_audit_need_lpips(command, tmp_path):
    done = CliRunner().invoke(evaluate, [command, '--before=demo-eg3d', '--after=demo-eg3d', '--latent-seed=1', f'--outdir={tmp_path / "out"}',
                                         '--lpips-net=none'])
    assert done.exit_code == 1 and '--lpips-net=none goes with evaluate.py report only' in done.output


def test_weights_that_are_in_the_cache_are_used(monkeypatch):
    given = Config(network='n.pkl', outdir='o', method='closed-form', latent_seed=1)

    def find(entry):
        if entry is NETS['vgg'].weights:
            raise weights.NotHere('no')
    monkeypatch.setattr(judging, 'find', find)
    config, told = without_missing(given, resolve(given, None))
    assert (config.lpips_net, config.id_network) == ('none', 'arcface')
    assert FILES[0] not in told[0] and FILES[1] in told[0] and 'strength' not in told[0]


def test_demo_networks_and_untrained_judges_stay():
    given = Config(network='n.pkl', outdir='o', method='closed-form', latent_seed=1)
    for one, of_world in ((given, (WORLD, 'eg3d')), (replace(given, random_metric_weights=True), ())):
        assert without_missing(one, resolve(one, *of_world)) == (resolve(one, *of_world), [])


@pytest.mark.parametrize('options, recogniser, lpips', [
    ({'latent_seed': 1}, False, False), ({'image': ('a.png',), 'inversion': 'encoder'}, False, False),
    ({'image': ('a.png',)}, False, True),
    ({'people': 'demo:4-5'}, False, True), ({'latent_seed': 1, 'method': 'closed-form+guide'}, True, True)])
def test_what_needs_which_judge(options, recogniser, lpips):
    given = Config(network='n.pkl', outdir='o', **{'method': 'closed-form', **options})
    assert needed(resolve(given, None)) == {'id_network': recogniser, 'lpips_net': lpips}
    without = resolve(replace(given, lpips_net='none'), None)
    if lpips:
        with pytest.raises(InputError, match='--lpips-net=none'):
            check_needed(without)
    else:
        check_needed(without)


# ---- the report ----

def pictures(count: int, people: int = 3) -> report.Views:
    noise = iter(torch.rand(count + people, 1, 3, 96, 96, generator=torch.Generator().manual_seed(count)) * 2 - 1)
    return report.Views([next(noise)], [], [], [], [next(noise) for _ in range(people)])


def test_figures_that_nothing_measured_are_left_out():
    before, after = pictures(1), pictures(2)
    assert report.measure(before, after, None, None) == {'others': 3}
    for perceptual, recogniser, names in ((PoorMansLpips(), None, {'lpips'}), (None, poor_mans_recogniser, {'identity_cosine'})):
        found = report.measure(before, after, perceptual, recogniser)
        # There is no target, of which nothing is said then.
        assert {name for name in found if name != 'others'} == {'unlearned_against_source', 'others_before_against_after'}
        assert all(set(figures) == names for name, figures in found.items() if name != 'others')
    assert 'Nothing measured' in report.summary_lines(report.summary(before, after, None, 'none'), {'others': 3}, 9.0)[0]


@pytest.mark.parametrize('resolution, judged, count', [(128, True, 30), (128, False, 8), (512, True, 8), (512, False, 4)])
def test_how_many_other_people_are_shown(resolution, judged, count):
    generator = small_generator('stylegan2')
    generator.img_resolution = resolution
    assert report.other_seeds(generator, judged) == report.OTHER_SEEDS[:count]


@pytest.mark.parametrize('family', ['stylegan2', 'eg3d'])
def test_one_picture_says_how_long_it_takes_and_what_each_affine_reads(family, monkeypatch):
    generator, calls = small_generator(family), []
    synthesize = generator.synthesize
    monkeypatch.setattr(generator, 'synthesize', lambda *args: calls.append(args) or synthesize(*args))
    monkeypatch.setattr(duration, 'ENOUGH_S', 0.0)       # a picture is timed once
    monkeypatch.setattr(duration, 'seconds_of', lambda call, device: (2.0, call()))
    given = Config(network='n.pkl', outdir='o', method='closed-form', latent_seed=1, precision='fp32', report='brief')
    expected = duration.estimate(resolve(given, None), generator, NO_JUDGE)
    # Of each network the person's views and eight others, two seconds each.
    views = 3 if family == 'eg3d' else 1
    assert expected.whole == 2 * (views + 8) * 2.0
    assert str(expected) == f'about {4 * (views + 8)} s, by the time of one picture here: {4 * (views + 8)} s for the pictures of the report'
    from eg3d_unlearn.unlearning.closed_form import style_affines
    assert len(style_affines(generator)) == len(affine_names(generator)) and len(calls) == 1


def test_polish_without_a_recogniser_is_refused_before_the_network_is_read():
    with pytest.raises(InputError, match='stops by what a recogniser says, and --id-network=none'):
        check(Config(network='never-read.pkl', outdir='o', latent_seed=1, method='closed-form+guide', id_network='none'))
