"""The whole command on a small network of each family: what the folder holds, and what it must not hold."""
import dataclasses
import html
import json

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from small import SMALL, PoorMansLpips, save_noise, save_small, small_generator

from eg3d_unlearn.command import main
from eg3d_unlearn.config import Config
from eg3d_unlearn.generators.build import build, wrap
from eg3d_unlearn.generators.cameras import look_at
from eg3d_unlearn.person.photo.files import is_sheet
from eg3d_unlearn.preflight import report_of
from eg3d_unlearn.unlearning.erase import moves_to
from eg3d_unlearn.unlearning.presets import PRESETS, resolve
from torch_utils_ext.network_pickle import read_network_pickle

CHEAP = ['--random-metric-weights', '--lpips-net=squeeze', '--id-network=none', '--device=cpu', '--iters=2', '--inversion-steps=2']


@pytest.fixture(scope='module')
def networks(tmp_path_factory):
    """Family: path of a small network's pickle."""
    folder = tmp_path_factory.mktemp('networks')
    return {family: save_small(folder / f'{family}.pkl', family) for family in SMALL}


@pytest.fixture(params=SMALL)
def network(request, networks):
    return request.param, networks[request.param]


def run(*options):
    result = CliRunner().invoke(main, [str(option) for option in options])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def photo(folder):
    return save_noise(folder / 'face.png')


def test_a_photo_on_every_family(network, tmp_path):
    family, path = network
    output = run(f'--network={path}', f'--image={photo(tmp_path)}', '--aligned', f'--outdir={tmp_path / "out"}', *CHEAP)
    # TensorBoard's curves are there where it is installed.
    assert sorted(file.name for file in (tmp_path / 'out').iterdir() if 'tfevents' not in file.name) == [
        'before-after.png', 'log.txt', 'network-unlearned.pkl', 'report.html', 'report.json', 'stats.jsonl', 'training_options.json']
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert 'MEANS NOTHING' in report['MEANING'] and 'MEANS NOTHING' in output and 'MEANS NOTHING' in (tmp_path / 'out' / 'log.txt').read_text()
    for key in ('summary', 'loss', 'person', 'config', 'features', 'w_avg', 'trained', 'networks', 'versions', 'hardware', 'peak_memory',
                'seconds'):
        assert report[key], key
    assert report['networks']['in']['sha256'] == read_network_pickle(path).sha256()
    # EG3D's rendering options are FFHQ's; of the others nothing says what they were trained on. MobileStyleGAN is no network of NVIDIA's.
    notes = report['networks']['in']['notes']
    assert len(notes) == {'eg3d': 0, 'mobilestylegan': 2}.get(family, 1)
    for note in notes:
        for file in ('log.txt', 'report.html'):
            assert '--aligned, and --face-crop=full' in note or "no network of NVIDIA's" in note
            assert note[:70] in html.unescape((tmp_path / 'out' / file).read_text())
    assert PIL.Image.open(tmp_path / 'out' / 'before-after.png').width >= 3 * 96
    assert is_sheet((tmp_path / 'out' / 'before-after.png').read_bytes())
    assert [json.loads(line)['step'] for line in (tmp_path / 'out' / 'stats.jsonl').read_text().splitlines()] == [1, 2]

    before, after = (read_network_pickle(file).records for file in (path, tmp_path / 'out' / 'network-unlearned.pkl'))
    trained = wrap(build(before['G_ema']), family).trainable
    old, new = before['G_ema'].state_dict(), after['G_ema'].state_dict()
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert moved and all(name.startswith(trained + '.') for name in moved)
    assert all(torch.equal(new[name], tensor) for name, tensor in after['G'].state_dict().items())
    assert after['G_ema'].init_kwargs == before['G_ema'].init_kwargs and after['G_ema'].attributes == before['G_ema'].attributes


@pytest.mark.slow
def test_a_full_report(network, tmp_path):
    """Both networks looked at once more at the end of the run; the photo only where it was asked for."""
    family, path = network
    keep = family == 'stylegan2'
    out = tmp_path / 'out'
    run(f'--network={path}', f'--image={photo(tmp_path)}', '--aligned', f'--outdir={out}', '--report=full', *CHEAP, *['--keep-source'] * keep)
    report = json.loads((out / 'report.json').read_text())
    assert report['evidence']['protocol']['people'] == 40 and len(report['evidence']['lpips']) == 3
    page = (out / 'report.html').read_text()
    assert 'MEANS NOTHING' in page or 'meaningless' in page
    assert ('The photo that was erased.' in page) == keep and 'alt="The person before' in page
    assert not (out / 'training-state.pt').exists()


def test_a_target_is_shown_only_where_there_is_one():
    """Methods that draw a face in each step, or only hold on to the others, move the person to nobody."""
    methods = {method: moves_to(resolve(Config(network='x', outdir='y', method=method), None)) for method in PRESETS}
    assert sorted(method for method, moves in methods.items() if not moves) == ['ft', 'ga', 'ga-descent', 'l1-sparse', 'salun', 'soft']


def test_who_gets_a_full_report():
    """Large networks on a CPU do not: the pictures would take longer than a user expects."""
    config = Config(network='x', outdir='y')
    cpu, gpu = torch.device('cpu'), torch.device('cuda')
    assert [report_of(config, *where) for where in ((cpu, False), (cpu, True), (gpu, False))] == ['brief', 'full', 'full']
    assert report_of(dataclasses.replace(config, report='brief'), gpu, True) == 'brief'


@pytest.mark.parametrize('family, forget_from, erased', [
    ('stylegan2', 'first', 1), ('stylegan2', 'mean', 1), *((family, 'all', 3) for family in SMALL)])
def test_several_photos_of_one_person(networks, tmp_path, family, forget_from, erased):
    folder, path = tmp_path / 'photos', networks[family]
    folder.mkdir()
    for number in range(3):
        save_noise(folder / f'{number}.png', seed=number)
    (folder / 'notes.txt').write_text('no photo')
    run(f'--network={path}', f'--image={folder}', '--aligned', f'--outdir={tmp_path / "out"}', f'--forget-from={forget_from}',
        '--keep-source', '--inversion=w', *CHEAP)
    log = (tmp_path / 'out' / 'log.txt').read_text()
    assert 'Photo 3:' in log and not any(name in log for name in ('0.png:', '1.png:', '2.png:', str(folder)))
    person = json.loads((tmp_path / 'out' / 'report.json').read_text())['person']
    assert person['photos'] == 3 and person['forget_from'] == forget_from and len(person['other_photos']) == 2
    kept = torch.load(tmp_path / 'out' / 'source-latent.pt', weights_only=True)['w']
    assert len(kept) == erased
    assert [(tmp_path / 'out' / f'source-photo{number}.png').is_file() for number in ('', '-2', '-3')] == [True] * 3


@pytest.mark.parametrize('shape, suffix', [
    ((24,), '.npy'), ((1, 24), '.npy'), ((8, 24), '.npy'), ((1, 8, 24), '.npy'), ((2, 8, 24), '.npy'), ((8, 24), '.npz'), ((1, 24), '.pt')])
def test_latents_of_every_form(networks, tmp_path, shape, suffix):
    path = networks['stylegan2']
    latent = np.random.RandomState(0).randn(*shape)
    file = tmp_path / f'latent{suffix}'
    if suffix == '.npz':
        np.savez(file, w=latent)
    elif suffix == '.npy':
        np.save(file, latent)
    else:
        torch.save(torch.from_numpy(latent), file)
    several = ['--forget-from=all'] if shape[0] == 2 else []
    run(f'--network={path}', f'--latent={file}', f'--outdir={tmp_path / "out"}', '--keep-source', *several, *CHEAP)
    kept = torch.load(tmp_path / 'out' / 'source-latent.pt', weights_only=True)['w']
    torch.testing.assert_close(kept, torch.from_numpy(latent).float().reshape(-1, 1 if latent.size == 24 else 8, 24).expand(-1, 8, -1))


@pytest.mark.slow
def test_the_recogniser_and_the_camera_on_eg3d(networks, tmp_path):
    path = networks['eg3d']
    image = photo(tmp_path)
    (tmp_path / 'dataset.json').write_text(json.dumps({'labels': [['face.png', look_at(0.2, -0.1, [0, 0, 0.2])[0].tolist()]]}))
    run(f'--network={path}', f'--image={image}', '--aligned', f'--outdir={tmp_path / "out"}', *CHEAP, '--id-network=facenet',
        '--lambda-global=0')
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert 'dataset.json' in report['person']['camera']
    assert -1 <= report['figures']['unlearned_against_source']['identity_cosine'] <= 1
    assert 'global' not in report['loss']['last_step']


def test_torchscript_recogniser_of_the_users_own(networks, tmp_path):
    class Thumbnail(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
    torch.jit.script(Thumbnail()).save(str(tmp_path / 'mine.pt'))
    run(f'--network={networks["stylegan2"]}', '--latent-seed=3', f'--outdir={tmp_path / "out"}', *CHEAP, f'--id-network={tmp_path / "mine.pt"}',
        '--trust-file')
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert report['figures']['unlearned_against_source']['identity_cosine'] > 0


def test_inversion_finds_a_picture_that_the_network_can_make(tmp_path):
    """From the mean latent to a latent whose picture looks like the photo: far better than the mean's picture."""
    from eg3d_unlearn.person.inversion import make_inverter
    from eg3d_unlearn.person.inversion.optimise import reconstruction
    generator = small_generator('stylegan2')
    with torch.no_grad():
        image = generator.synthesize(generator.map_seed(3)).image.clamp(-1, 1)
        _, at_mean = reconstruction(generator, generator.w_avg[None], image, None, PoorMansLpips())
    for space in ('w', 'w+'):
        found = make_inverter(space, steps=150)(generator, image, None, PoorMansLpips())
        assert found.psnr.item() > at_mean.item() + 3, (space, found.psnr, at_mean)
        if space == 'w':
            assert torch.equal(found.ws[:, :1].expand_as(found.ws), found.ws)


@pytest.mark.parametrize('labels', [None, [['face.png', 3]]])
def test_a_dataset_json_of_classes_is_no_camera_to_a_2d_network(networks, tmp_path, labels):
    image = photo(tmp_path)
    (tmp_path / 'dataset.json').write_text(json.dumps({'labels': labels}))
    run(f'--network={networks["stylegan2"]}', f'--image={image}', '--aligned', f'--outdir={tmp_path / "out"}', *CHEAP)
