"""Inversion: from pictures back to latents, by optimisation, by an encoder, by pivotal tuning."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from small import PoorMansLpips, poor_mans_recogniser, small_generator

from eg3d_unlearn.bench import train_encoder as train_module
from eg3d_unlearn.bench.encoder_samples import Photographs
from eg3d_unlearn.bench.train_encoder import Schedule, network_for, photographed, save_encoder, train
from eg3d_unlearn.config import ENCODERS, INVERSIONS, parts_of
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.person.inversion import PUBLISHED, make_inverter
from eg3d_unlearn.person.inversion import encoder as encoder_module
from eg3d_unlearn.person.inversion.encoder import OwnEncoder, load_encoder
from eg3d_unlearn.person.inversion.optimise import Optimisation, learning_rate
from eg3d_unlearn.person.inversion.pti import PivotalTuning
from eg3d_unlearn.person.photo import to_image
from torch_utils_ext.errors import InputError

JUDGES = Judges(PoorMansLpips(), poor_mans_recogniser, poor_mans_recogniser, {})


@pytest.fixture
def stylegan2():
    return small_generator('stylegan2')


def picture(generator, seed=5):
    with torch.no_grad():
        ws = generator.map_seed(seed)
        return ws, generator.synthesize(ws).image


def test_a_good_start_is_kept(stylegan2):
    """From the true latent a few steps do not lead away; from the mean they get nearer."""
    ws, image = picture(stylegan2)
    options = dict(steps=12, lr=0.02)
    near = Optimisation('w+', **options)(stylegan2, image, None, PoorMansLpips(), start=ws)
    far = Optimisation('w+', **options)(stylegan2, image, None, PoorMansLpips())
    assert (near.ws - ws).norm() < 0.2 * (far.ws - ws).norm()


def test_learning_rate_rises_and_ends_at_nothing():
    assert learning_rate(99, 100) < 0.01 and learning_rate(50, 100) == 1 and 0 < learning_rate(0, 100) < 0.2


def test_pivotal_tuning_bends_a_copy(stylegan2):
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = {name: p.clone() for name, p in stylegan2.network.named_parameters()}
    pivot = Optimisation('w', steps=10)
    found = PivotalTuning(pivot, steps=40, lr=3e-3)(stylegan2, image, None, PoorMansLpips())
    assert found.psnr > pivot(stylegan2, image, None, PoorMansLpips()).psnr + 0.3
    assert all(torch.equal(p, before[name]) and not p.requires_grad for name, p in stylegan2.network.named_parameters())
    assert any(not torch.equal(p, before[name]) for name, p in found.generator.network.named_parameters())


@pytest.mark.parametrize('family', ['stylegan2', 'eg3d'])
def test_an_encoder_learns_and_resumes(family, tmp_path, monkeypatch):
    generator = small_generator(family)
    schedule = Schedule(steps=8, batch=4, width=8, chunk=4, first_chunks=1, image_batch=2, held_out=2)
    whole = train(generator, JUDGES, str(tmp_path / 'whole'), schedule, 'abc')
    assert {'latent_error', 'lpips', 'psnr_db', 'identity'} <= whole['figures'].keys()

    def killed(*arguments):
        raise MemoryError('as if killed')
    with monkeypatch.context() as patch:
        patch.setattr('eg3d_unlearn.worlds.demo.training.TrainingRun.__init__.__defaults__', (0.0,), raising=False)
        patch.setattr('eg3d_unlearn.bench.train_encoder.save_encoder', killed)
        with pytest.raises(MemoryError):
            train(generator, JUDGES, str(tmp_path / 'broken'), schedule, 'abc')
    train(generator, JUDGES, str(tmp_path / 'broken'), schedule, 'abc')
    states = [torch.load(tmp_path / name / 'encoder.pt', weights_only=True) for name in ('whole', 'broken')]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    image = generator.synthesize(generator.map_seed(1), generator.frontal()).image
    found = OwnEncoder(tmp_path / 'whole' / 'encoder.pt')(generator, image, generator.frontal(), PoorMansLpips())
    assert found.ws.shape == (1, generator.num_ws, generator.w_dim) and torch.isfinite(found.psnr).all()


def data_set(folder, generator, count, cameras=True):
    """Photos of the generator's own people, as NVIDIA's tools take them."""
    folder.mkdir()
    labels = []
    for seed in range(count):
        camera = generator.camera(0.1 * seed, 0.0) if generator.is_3d else None
        with torch.no_grad():
            image = generator.synthesize(generator.map_seed(seed), camera).image[0]
        to_image(image).save(folder / f'{seed}.png')
        labels.append([f'{seed}.png', camera[0].tolist() if generator.is_3d else 0])
    if cameras:
        (folder / 'dataset.json').write_text(json.dumps({'labels': labels}))
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize('family', ['stylegan2', 'eg3d'])
def test_an_encoder_goes_on_with_photos_and_parts_the_layers(family, tmp_path):
    generator = small_generator(family)
    data = data_set(tmp_path / 'photos', generator, 6)
    schedule = Schedule(steps=2, batch=4, width=8, chunk=4, first_chunks=1, held_out=2)
    train(generator, JUDGES, str(tmp_path / 'first'), schedule, 'abc')
    on = replace(schedule, space='w+', image_share=1, image_every=1, image_batch=2, lambda_l2=1.0, half=generator.is_3d, steps=15)
    report = train(generator, JUDGES, str(tmp_path / 'second'), on, 'abc', data=data, resume=str(tmp_path / 'first' / 'encoder.pt'))
    assert {'latent_error', 'photo_lpips', 'photo_psnr_db', 'photo_identity'} <= report['figures'].keys()
    first, second = (load_encoder(tmp_path / name / 'encoder.pt', generator) for name in ('first', 'second'))
    photos, cameras = Photographs(data, generator, 2).read(['4.png', '5.png'])
    assert first(photos, cameras).shape == (2, 1, generator.w_dim)
    found = second(photos, cameras)
    assert found.shape == (2, generator.num_ws, generator.w_dim) and found.std(dim=1).max() > 0

    def distance(ws):
        with torch.no_grad():
            shown = generator.synthesize(ws.expand(-1, generator.num_ws, -1), cameras).image
        return (shown - photos).square().mean()
    assert distance(found) < distance(first(photos, cameras))
    with pytest.raises(InputError, match='for each layer. Go on with --space=w+'):
        train(generator, JUDGES, str(tmp_path / 'third'), schedule, 'abc', resume=str(tmp_path / 'second' / 'encoder.pt'))


def test_what_the_command_does_by_itself_depends_on_whether_there_are_photos(stylegan2, monkeypatch):
    asked = []
    monkeypatch.setattr(train_module, 'prepare', lambda *_: (stylegan2, JUDGES, 'abc'))
    monkeypatch.setattr(train_module, 'train', lambda generator, judges, outdir, schedule, *_, **_options: (
        asked.append(schedule) or {'figures': {}}))
    for more in ([], ['--data=photos.zip'], ['--data=photos.zip', '--steps=7', '--space=w'], ['--half']):
        result = CliRunner().invoke(train_module.main, ['--network=net.pkl', '--outdir=out', *more])
        assert result.exit_code == (1 if more == ['--half'] else 0), result.output
    assert asked == [Schedule(), Schedule(**train_module.ON_PHOTOS), Schedule(**{**train_module.ON_PHOTOS, 'steps': 7, 'space': 'w'})]
    assert asked[1].image_every == 1 and 'which 2D networks have not' in ' '.join(result.output.split())


def test_photos_that_an_encoder_cannot_learn_from_are_refused(tmp_path, stylegan2):
    generator = small_generator('eg3d')
    data = data_set(tmp_path / 'photos', generator, 3, cameras=False)
    with pytest.raises(InputError, match='no camera for 3 of its 3 pictures, the first of them 0.png.*python -m eg3d_unlearn.person.photo'):
        train(generator, JUDGES, str(tmp_path / 'out'), Schedule(held_out=1), 'abc', data=data)
    with pytest.raises(InputError, match='3 pictures, of which 3 are held out'):
        train(stylegan2, JUDGES, str(tmp_path / 'out'), Schedule(held_out=3), 'abc', data=data)
    assert not (tmp_path / 'out').exists()


def test_encoder_files_are_checked(tmp_path, stylegan2):
    with pytest.raises(InputError, match='eg3d_unlearn.bench.train_encoder'):
        encoder_module.load_encoder(tmp_path / 'none.pt', stylegan2)
    torch.save({'a': torch.zeros(2)}, tmp_path / 'other.pt')
    with pytest.raises(InputError, match='is no encoder'):
        encoder_module.load_encoder(tmp_path / 'other.pt', stylegan2)
    save_encoder(network_for(small_generator('eg3d'), width=8), tmp_path / 'eg3d.pt', 'abc')
    with pytest.raises(InputError, match='for a 3D network'):
        encoder_module.load_encoder(tmp_path / 'eg3d.pt', stylegan2)


def test_photographed_pictures_are_other_pictures_of_the_same():
    torch.manual_seed(0)
    images = torch.rand(16, 3, 32, 32) * 2 - 1
    changed = photographed(images)
    error = (changed - images).square().flatten(1).mean(1)
    assert changed.shape == images.shape and (error > 0).all() and error.max() < 0.4


@pytest.mark.parametrize('name, parts', [
    ('w', (None, 'w')), ('w+', (None, 'w+')), ('encoder', ('encoder', None)), ('encoder+w', ('encoder', 'w')), ('encoder+w+', ('encoder', 'w+')),
    ('goae+w+', ('goae', 'w+')), ('e4e', ('e4e', None))])
def test_names_of_inversions(name, parts):
    assert name in INVERSIONS and parts_of(name) == parts
    assert ENCODERS == ('encoder', *PUBLISHED)


@pytest.mark.parametrize('name', ['', '+', 'mean', 'w+w', 'encoder+', 'encoder+encoder+w', 'mean+encoder+w+', 'guess+w', 'W+', 'psp'])
def test_names_that_are_none(name):
    with pytest.raises(InputError, match='is not known; expected one of w, w'):
        make_inverter(name)


def test_an_encoder_is_where_optimisation_starts(tmp_path, stylegan2):
    """With no steps to speak of, what comes out is what the encoder says."""
    network = network_for(stylegan2, width=8)
    torch.nn.init.zeros_(network.head[-1].weight)
    torch.nn.init.constant_(network.head[-1].bias, 0.3)
    save_encoder(network, tmp_path / 'encoder.pt', 'abc')
    _, image = picture(stylegan2)
    options = dict(steps=1, lr=1e-7)
    said = make_inverter('encoder', tmp_path / 'encoder.pt')(stylegan2, image, None, PoorMansLpips())
    begun = make_inverter('encoder+w+', tmp_path / 'encoder.pt', **options)(stylegan2, image, None, PoorMansLpips())
    assert torch.allclose(begun.ws, said.ws, atol=1e-4) and begun.notes == said.notes
    assert said.notes['weights'] == 'encoder.pt' and len(said.notes['sha256']) == 64
