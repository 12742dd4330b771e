"""What a page shows and measures, on small networks: the same people and cameras on both sides, figures that add up."""
from __future__ import annotations

import dataclasses
import json

import numpy as np
import page_stand_ins as stand_ins
import pytest
import torch
from page_stand_ins import Reader, numbers_in
from small import PoorMansLpips, poor_mans_recogniser, small_generator

from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation.audit.budget import BUDGETS
from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.comparison import Plan, compare, neighbours, target_of
from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.evaluation.metrics import Settings, compute
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.person.person import Person
from eg3d_unlearn.report.files import RunFiles
from eg3d_unlearn.report.page import page
from eg3d_unlearn.unlearning.target import frobenius

PLAN = Plan(people=6, views=3, impostors=16)
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
    return Evidence(None, None, g_s, g_u, person, Judges(PoorMansLpips(), None, None, {}), found, 'used', None, config)


@pytest.fixture(scope='module', params=['eg3d', 'stylegan2'])
def looked(request):
    evidence = evidence_of(request.param, changed=1.0)
    return evidence, *compare(evidence, SETTINGS, PLAN)


def test_everything_that_there_is_is_shown(looked):
    evidence, pictures, figures = looked
    is_3d = evidence.g_s.is_3d
    assert len(pictures.views) == (3 if is_3d else 1) and all(view.target for view in pictures.views)
    assert [view.yaw for view in pictures.views] == ([-15.0, 0.0, 15.0] if is_3d else [None])
    assert (len(pictures.other_photos), len(pictures.neighbours), len(pictures.strangers)) == (2, 9, 1)
    assert len(pictures.first_drawn) == len(pictures.changed_most) == 6
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
    _, figures = compare(evidence, SETTINGS, dataclasses.replace(PLAN, impostors=50))
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
    pictures, figures = compare(evidence_of(family), SETTINGS, PLAN)
    for likeness in figures['likeness'].values():
        assert all(likeness[group]['lowest'] > 0.9999 for group in ('same_photo', 'other_photos', 'neighbours', 'other_people'))
    assert all(one['value'] < 1e-8 for one in figures['lpips'].values())
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
    pictures, figures = compare(evidence, {}, PLAN)
    assert figures['measured_by'] is None and 'likeness' not in figures and set(figures['lpips']) == {'same_photo', 'other_people'}
    assert not (pictures.neighbours or pictures.other_photos or pictures.strangers or pictures.changed_most)
    assert pictures.views[0].target is None


def test_photos_are_shown_only_when_asked():
    evidence = evidence_of('stylegan2')
    asked, _ = compare(evidence, SETTINGS, dataclasses.replace(PLAN, show_photo=True))
    assert asked.photo is not None and all(one.photo for one in asked.other_photos)


def test_the_page_and_the_figures_say_the_same(looked):
    _, pictures, figures = looked
    report = {**stand_ins.report(), 'evidence': figures}
    text = page(RunFiles(report), pictures, 'today')
    reader = Reader(text)
    assert not reader.wrong and {'likeness', 'photos', 'neighbours', 'people', 'recognisers'} <= set(reader.ids)
    known = set(numbers_in(report)) | {float(i) for i in range(20)}
    assert not [value for value in reader.data if value not in known]
    assert len(text) < 2_000_000
