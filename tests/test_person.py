"""Is the person who is erased the one of the photo?  How reconstructions are judged, and that a poor one cannot be missed."""
from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation import summary as report
from eg3d_unlearn.generators.precision import arithmetic
from eg3d_unlearn.person.person import invert
from eg3d_unlearn.person.quality import BLURRED, fine_detail, too_poor
from eg3d_unlearn.preflight import check
from eg3d_unlearn.run import summarise
from eg3d_unlearn.worlds.demo.photo import photos_of
from eg3d_unlearn.worlds.demo.recipes import NETWORKS
from eg3d_unlearn.worlds.demo.world import WORLD

DEMO = SimpleNamespace(names={'perceptual': 'demo', 'measuring': 'demo-measuring'})
FACES = SimpleNamespace(names={'perceptual': 'vgg', 'measuring': 'arcface'})


@pytest.fixture(scope='module', params=NETWORKS)
def run(request, tmp_path_factory):
    """A demo network with its encoder, ready to invert; the steps that follow the encoder on demo-stylegan2 are spared."""
    return check(Config(network=request.param, outdir=str(tmp_path_factory.mktemp('none') / 'out'), image=('demo',), inversion='encoder',
                        precision='fp32', device='cpu'))


def blurred(images: torch.Tensor) -> torch.Tensor:
    """As seen through a Gaussian of a twentieth of the side."""
    away = torch.arange(-19, 20) / (images.shape[-1] / 20)
    weights = torch.exp(-away.square() / 2)
    weights = (weights / weights.sum()).expand(3, 1, 1, -1)
    for kernel, sides in ((weights, (19, 19, 0, 0)), (weights.transpose(2, 3), (0, 0, 19, 19))):
        images = functional.conv2d(functional.pad(images, sides, mode='replicate'), kernel, groups=3)
    return images


def doubts(run, images: torch.Tensor, cameras: torch.Tensor) -> list[str | None]:
    with arithmetic('fp32', run.generator.device):
        _, figures = invert(run.config, run.generator, run.judges, images, cameras if run.generator.is_3d else None, lambda line: None,
                                    'photos')
    return [too_poor(each, run.judges, run.generator.family) for each in figures]


def test_photos_of_demo_people_are_no_cause_for_doubt(run):
    """Two photos each of people who are neither the default person nor in any table."""
    photos = [photos_of(number, 2, run.generator.img_resolution) for number in (10, 36)]
    assert doubts(run, torch.cat([each.images for each in photos]), torch.cat([each.cameras for each in photos])) == [None] * 4


@pytest.mark.slow
def test_what_is_no_demo_person_is_doubted(run):
    side = run.generator.img_resolution
    data = pytest.importorskip('skimage.data')
    person = photos_of(24, 1, side)
    boxes = [data.astronaut()[20:240, 115:335], data.astronaut(), data.chelsea()[:300, 80:380], data.coffee()[:, 100:500]]
    others = [functional.interpolate(torch.tensor(box).permute(2, 0, 1)[None] / 127.5 - 1, size=(side, side), mode='area') for box in boxes]
    strange = [photos_of(number, 1, side, kind='out-of-domain').images for number in (0, 3, 5)]     # a hat, face paint, an eye patch
    images = torch.cat([*others, *strange, blurred(person.images), torch.zeros_like(person.images)])
    found = doubts(run, images, person.cameras.expand(len(images), -1))
    assert all(found), [number for number, doubt in enumerate(found) if not doubt]
    assert all('can show its people only (--image=demo:N)' in doubt for doubt in found)
    assert 'blurred or empty' in found[-2] and 'blurred or empty' in found[-1]


GOOD = {'lpips': 0.01, 'psnr_db': 33.0, 'identity': 0.99, 'detail': 1.1}


@pytest.mark.parametrize('judges, family, changed, said', [
    (DEMO, 'eg3d', {}, None), (DEMO, 'stylegan2', {}, None), (FACES, 'eg3d', {}, None),
    (DEMO, 'eg3d', {'identity': -0.08}, 'identity cosine -0.08 by demo-measuring, below 0.5'),
    (DEMO, 'eg3d', {'lpips': 0.3}, 'LPIPS 0.30, above 0.22'),
    (DEMO, 'eg3d', {'psnr_db': 12.0}, 'PSNR 12.0 dB, below 16'), (DEMO, 'stylegan2', {'lpips': 0.1}, 'LPIPS 0.10, above 0.06'),
    (DEMO, 'stylegan2', {'psnr_db': 20.0}, 'PSNR 20.0 dB, below 24'), (DEMO, 'stylegan2', {'detail': 0.4}, 'blurred or empty, with 40 % of'),
    (FACES, 'stylegan2', {'identity': 0.3}, 'identity cosine 0.30 by arcface, below 0.4'),
    (FACES, 'eg3d', {'lpips': 0.6}, 'LPIPS 0.60, above 0.5'),
    (FACES, 'eg3d', {'psnr_db': 8.0}, 'PSNR 8.0 dB'), (FACES, 'eg3d', {'detail': 0.1, 'identity': 0.74}, 'blurred')])
def test_each_figure_alone_is_enough(judges, family, changed, said):
    doubt = too_poor({**GOOD, **changed}, judges, family)
    assert doubt is None if said is None else said in doubt and doubt.count(';') == 0
    if said and judges is FACES:
        assert '--inversion-steps' in doubt and 'demo' not in doubt
    assert BLURRED < 1 and WORLD.bars['stylegan2'].lpips < WORLD.bars['eg3d'].lpips


def test_without_a_recogniser_the_others_judge():
    assert too_poor({name: value for name, value in GOOD.items() if name != 'identity'}, FACES, 'eg3d') is None


def test_fine_detail_is_what_a_small_picture_does_not_show():
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert fine_detail(torch.ones(1, 3, 64, 64)) == 0 and fine_detail(blurred(noise)) < 0.2 * fine_detail(noise)


@pytest.mark.parametrize('warning', [None, 'identity cosine 0.10 by arcface, below 0.4.'])
def test_the_last_lines_on_the_screen(tmp_path, warning):
    """The worst of the others beside their mean; the wrong person; and what is always true."""
    class Folder:
        lines: list[str] = []

        def log(self, line):
            self.lines.append(line)

        def __truediv__(self, name):
            return tmp_path / name
    folder = Folder()
    folder.lines = []
    figures = {'erased_same_photo': -0.03, 'erased_other_photos': 0.13, 'other_people': 0.96, 'other_people_worst': 0.37, 'others': 32,
               'other_photos': 3, 'different_people_mean': 0.0, 'measured_by': 'demo-measuring'}
    summarise(folder, {'summary': figures, 'figures': {}, 'seconds': 240.0, 'person': {'warning': warning} if warning else {}})
    said = '\n'.join(folder.lines)
    assert '32 other people                       0.96 on average, 0.37 the one who changed most' in said
    assert (f'WARNING: {report.WRONG_PERSON}: {warning}' in folder.lines) == (warning is not None)
    assert 'keep the file private' in said and folder.lines[-1].startswith('Wrote ')


def test_a_demo_network_says_whom_it_knows(run, tmp_path):
    import PIL.Image
    PIL.Image.new('RGB', (128, 128), 'peru').save(tmp_path / 'photo.png')
    real = check(Config(network=run.config.network, outdir=str(tmp_path / 'out'), image=(str(tmp_path / 'photo.png'),), aligned=True,
                        device='cpu'))
    assert f'NOTE: {WORLD.limits}' in real.about and not any('NOTE' in line for line in run.about)
    assert json.dumps(real.config.to_json()) and not (tmp_path / 'out').exists()
