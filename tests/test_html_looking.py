"""What a page shows and measures, on small networks: the same people and cameras on both sides, figures that add up."""
from __future__ import annotations

import dataclasses
import json

import numpy as np
import page_stand_ins as stand_ins
import pytest
import torch
from small import PoorMansLpips, poor_mans_recogniser, small_generator
from test_html import Reader, numbers_in

from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation import pictures as encoding
from eg3d_unlearn.evaluation.audit.budget import BUDGETS
from eg3d_unlearn.evaluation.audit.setting import Audit
from eg3d_unlearn.evaluation.comparison import Plan, look, neighbours, target_of
from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.evaluation.metrics import Settings, compute
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.person.person import Person
from eg3d_unlearn.report import another_likeness, another_person, video, write_report
from eg3d_unlearn.report.files import Found
from eg3d_unlearn.report.page import page
from eg3d_unlearn.unlearning.target import frobenius
from torch_utils_ext.errors import InputError

PLAN = Plan(people=6, views=3, masks=20, impostors=16)
SETTINGS = {'target': 'ufo', 'target_d': 3.0, 'alpha_max': 1.5}


def second_recogniser(images):
    return torch.nn.functional.normalize(torch.nn.functional.adaptive_avg_pool2d(images.flip(1), 6).flatten(1), dim=1)


def evidence_of(family: str, changed: float = 0.0, others: int = 2, recognisers: bool = True) -> Evidence:
    """A random network before, and after with noise of size ``changed`` on the weights that learn."""
    g_s, g_u = small_generator(family), small_generator(family)
    with torch.no_grad():
        for name, parameter in g_u.network.named_parameters():
            if name.startswith(g_u.trainable):
                torch.manual_seed(len(name))
                parameter += changed * torch.randn_like(parameter) * parameter.abs().mean()
    ws = torch.cat([g_s.map_seed(seed) for seed in range(1 + others + 1)])
    labels = torch.cat([g_s.camera(0.1 * i) for i in range(len(ws))]) if g_s.is_3d else None
    images = torch.rand(len(ws), 3, g_s.img_resolution, g_s.img_resolution) * 2 - 1
    person = Person(ws[:1], {'given_as': 'image'}, ws[1:1 + others] if others else None, ws[1 + others:],
                    None if labels is None else labels[1:], images, None if labels is None else labels[:1])
    found = {'used': poor_mans_recogniser, 'unused': second_recogniser} if recognisers else {}
    config = Config(network='x.pkl', outdir='', image=('face.png',), precision='fp32')
    return Evidence(None, None, g_s, g_u, person, Judges(PoorMansLpips(), None, None, {}), found, 'used', False, config)


@pytest.fixture(scope='module', params=['eg3d', 'stylegan2'])
def looked(request):
    evidence = evidence_of(request.param, changed=1.0)
    return evidence, *look(evidence, SETTINGS, PLAN)


def test_everything_that_there_is_is_shown(looked):
    evidence, pictures, figures = looked
    is_3d = evidence.g_s.is_3d
    assert len(pictures.views) == (3 if is_3d else 1) and all(view.target for view in pictures.views)
    assert [view.yaw for view in pictures.views] == ([-15.0, 0.0, 15.0] if is_3d else [None])
    assert (len(pictures.other_photos), len(pictures.neighbours), len(pictures.strangers)) == (2, 9, 1)
    assert len(pictures.first_drawn) == len(pictures.changed_most) == 6
    assert len(pictures.depth) == (3 if is_3d else 0) and len(pictures.saliency) == 2
    assert len(pictures.differences) == (3 if is_3d else 1)
    assert pictures.photo is None and not any(one.photo for one in pictures.other_photos)


def test_the_figures_are_whole_and_plain(looked):
    evidence, _, figures = looked
    assert json.loads(json.dumps(figures)) == figures
    assert figures['measured_by'] == 'unused' and figures['trained_with'] == 'used'
    for likeness in figures['likeness'].values():
        assert set(likeness) == {'different_people', 'same_photo', 'other_photos', 'neighbours', 'strangers', 'other_people', 'photo'}
        people = likeness['other_people']
        assert people['samples'] == people['of'] == len(people['values']) == 6
        assert people['value'] == pytest.approx(np.mean(people['values']), abs=2e-5)
        assert people['lowest'] == min(people['values']) and people['low'] <= people['value'] <= people['high']
        assert people['recognised'] == sum(value >= likeness['different_people']['threshold'] for value in people['values'])
        # Views of one person are one sample, neighbours as many as there are directions.
        assert likeness['same_photo']['samples'] == 1 and likeness['same_photo']['low'] == likeness['same_photo']['high']
        assert likeness['neighbours']['samples'] == 3 and likeness['neighbours']['of'] == 9
    assert figures['agreement'][0]['pictures'] == sum(figures['likeness']['used'][group]['of'] for group in (
        'same_photo', 'other_photos', 'neighbours', 'strangers', 'other_people'))


def test_report_metrics_and_audit_have_one_threshold():
    """The same people, the same rate: 0.1 % of the pairs lie above it."""
    evidence = evidence_of('stylegan2', changed=0.5)
    evidence.judges.names['measuring'] = 'unused'
    _, figures = look(evidence, SETTINGS, dataclasses.replace(PLAN, impostors=50))
    metric = compute('id', evidence, impostors=50, progress=False)['by']['unused']
    audit = Audit(evidence, dataclasses.replace(BUDGETS['quick'], impostors=50))
    people = figures['likeness']['unused']['different_people']
    assert people['threshold'] == pytest.approx(audit.threshold, abs=1e-5) and audit.threshold == pytest.approx(metric['threshold'], abs=1e-5)
    assert (people['pairs'], people['people']) == (metric['impostor_pairs'], metric['impostor_people']) == (audit.impostors.pairs, 50)
    assert figures['protocol']['false_accept_rate'] == metric['false_accept_rate'] == 1e-3
    assert {budget.impostors for budget in BUDGETS.values()} == {Plan().impostors} == {Settings().impostors}


def test_those_who_changed_most_come_first(looked):
    _, pictures, figures = looked
    likenesses = [one.likeness for one in pictures.changed_most]
    assert likenesses == sorted(likenesses) and likenesses[0] == figures['likeness']['unused']['other_people']['lowest']
    assert [one.likeness for one in pictures.first_drawn] == figures['likeness']['unused']['other_people']['values'][:6]


@pytest.mark.parametrize('family', ['eg3d', 'stylegan2'])
def test_a_network_that_did_not_change_is_the_same_in_every_picture(family):
    """Constant noise, fixed depths, the same cameras: nothing but the weights may make a difference."""
    pictures, figures = look(evidence_of(family), SETTINGS, PLAN)
    for likeness in figures['likeness'].values():
        assert all(likeness[group]['lowest'] > 0.9999 for group in ('same_photo', 'other_photos', 'neighbours', 'other_people'))
    assert figures['difference']['mean'] == 0 and all(one['value'] < 1e-8 for one in figures['lpips'].values())
    assert all(one.before == one.after for one in [*pictures.views, *pictures.neighbours, *pictures.first_drawn])


def test_neighbours_lie_at_shares_of_alpha_max():
    evidence = evidence_of('stylegan2')
    near = neighbours(evidence, SETTINGS, seed=0)
    assert torch.allclose(frobenius(near - evidence.person.ws).flatten(), torch.tensor([0.5, 1.0, 1.5] * 3), atol=1e-4)
    assert len(neighbours(evidence, {}, seed=0)) == 0


def test_the_target_is_the_runs():
    evidence = evidence_of('stylegan2')
    target = target_of(evidence, SETTINGS)
    assert frobenius(target - evidence.g_s.w_avg).item() == pytest.approx(3.0, abs=1e-4)
    assert torch.equal(target_of(evidence, {'target': 'mean'})[0], evidence.g_s.w_avg)
    assert target_of(evidence, {}) is None
    # Methods that only hold on to the others move the person nowhere.
    assert target_of(evidence, {**SETTINGS, 'lambda_local': 0.0, 'lambda_adj': 0.0, 'n_adj': 2}) is None
    assert target_of(evidence, {**SETTINGS, 'lambda_local': 0.0, 'lambda_adj': 1.0, 'n_adj': 2}) is not None


def test_little_evidence_is_no_hindrance():
    """One photo of a network without recogniser; settings of the run unknown."""
    evidence = evidence_of('stylegan2', changed=0.5, others=0, recognisers=False)
    evidence.person = dataclasses.replace(evidence.person, ws_strangers=None, images=None)
    pictures, figures = look(evidence, {}, PLAN)
    assert figures['measured_by'] is None and 'likeness' not in figures and set(figures['lpips']) == {'same_photo', 'other_people'}
    assert not (pictures.neighbours or pictures.other_photos or pictures.strangers or pictures.saliency or pictures.changed_most)
    assert pictures.views[0].target is None


def test_photos_are_shown_only_when_asked():
    evidence = evidence_of('stylegan2')
    asked, _ = look(evidence, SETTINGS, dataclasses.replace(PLAN, show_photo=True))
    assert asked.photo is not None and all(one.photo for one in asked.other_photos)


@pytest.fixture
def run_folder(tmp_path):
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report(config={**SETTINGS, 'keep_source': False}, person={'given_as': 'image'})))
    return tmp_path


def test_the_page_and_the_figures_say_the_same(looked):
    _, pictures, figures = looked
    report = {**stand_ins.report(), 'evidence': figures}
    text = page(Found(report), pictures, 'today')
    reader = Reader(text)
    assert not reader.wrong and {'likeness', 'photos', 'neighbours', 'people', 'maps', 'recognisers'} <= set(reader.ids)
    known = set(numbers_in(report)) | {float(i) for i in range(20)}
    assert not [value for value in reader.data if value not in known]
    assert len(text) < 2_000_000


def test_the_page_and_what_report_json_gains_are_written_together(run_folder):
    gained = write_report(run_folder, evidence_of('stylegan2', changed=1.0), plan=PLAN, log=lambda line: None)
    text = (run_folder / 'report.html').read_text()
    assert gained['evidence']['likeness']['unused']['other_people']['value'] in Reader(text).data
    # What the person is known by stays out.
    assert 'face.png' not in text and 'face.png' not in json.dumps(gained)
    assert not list(run_folder.glob('.*'))


def test_somebody_else_than_the_erased_one_is_doubted(run_folder):
    evidence = evidence_of('stylegan2')
    evidence.person.notes = {'given_as': 'seed'}
    said = []
    write_report(run_folder, evidence, plan=PLAN, log=said.append)
    assert 'perhaps it is not the same person' in said[0] and said[0][9:] in Reader((run_folder / 'report.html').read_text()).words
    assert another_person({'given_as': 'image', 'psnr_db': 24.0}, {'given_as': 'image', 'psnr_db': 20.0})
    # Two seeds are told apart by what became of them.
    report = {'summary': {'erased_same_photo': 0.02, 'measured_by': 'a'}, 'evidence': {'measured_by': 'a', 'likeness': {
        'a': {'same_photo': {'values': [0.0, 0.9, 0.03, 0.9, 0.03]}}}}}
    assert another_likeness(report) is None
    report['summary']['erased_same_photo'] = 0.9
    assert 'is 0.02 here and was 0.90 at the end of the run' in another_likeness(report)
    assert another_likeness({'summary': {}, 'evidence': report['evidence']}) is None
    assert another_person({'given_as': 'image', 'psnr_db': 24.0}, {'given_as': 'image', 'psnr_db': 24.3}) is None


# ---- pictures and films ----

def test_maps_in_colour():
    values = torch.tensor([[0.0, 0.5], [1.0, 2.0]])
    low, high = (np.asarray(decoded(encoding.heat(values, 0, 1)))[at] for at in ((0, 0), (1, 1)))
    assert tuple(low) == encoding.RAMP[0] and tuple(high) == encoding.RAMP[-1]
    assert encoding.heat(values, 0, 1, size=16).width == 16
    before, after = torch.full([3, 4, 4], -1.0), torch.full([3, 4, 4], 1.0)
    assert torch.equal(encoding.difference(before, after), torch.ones(4, 4)) and encoding.difference(before, before).max() == 0


def test_the_ramp_reads_without_colours():
    """Lightness rises along it, so that grey printers and colour-blind eyes see the same order."""
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in encoding.RAMP]
    assert all(b - a > 25 for a, b in zip(lightness, lightness[1:], strict=False))


def test_an_overlay_is_grey_where_nothing_is_said():
    image, values = torch.zeros(3, 32, 32), torch.zeros(32, 32)
    values[:16] = 1.0
    pixels = np.asarray(decoded(encoding.overlay(image, values, 1.0))).astype(int)
    assert pixels[4, 16, 0] - pixels[4, 16, 2] > 80 and np.ptp(pixels[28, 16]) < 6


def decoded(picture):
    import base64
    import io

    import PIL.Image
    return PIL.Image.open(io.BytesIO(base64.b64decode(picture.uri.split(',', 1)[1])))


def test_large_pictures_are_made_smaller():
    picture = encoding.photograph(torch.rand(3, 700, 700) * 2 - 1)
    assert (picture.width, picture.height) == (512, 512) and picture.uri.startswith('data:image/jpeg;base64,')


@pytest.mark.parametrize('family', ['eg3d', 'stylegan2'])
def test_a_film(family, tmp_path):
    imageio = pytest.importorskip('imageio.v2')
    pytest.importorskip('imageio_ffmpeg')
    video.write_video(tmp_path / 'before-after.mp4', evidence_of(family, changed=1.0), SETTINGS, frames=5)
    with imageio.get_reader(tmp_path / 'before-after.mp4') as film:
        frames = [frame for frame in film]
    assert len(frames) == 5 and frames[0].shape == (288, 512, 3)
    assert not [path for path in tmp_path.iterdir() if path.suffix == '.part']


def test_a_film_without_its_package(monkeypatch):
    monkeypatch.setattr(video.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match='--video needs imageio and imageio_ffmpeg, which are not installed. Install with'):
        video.check_video()
