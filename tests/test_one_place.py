"""A new attack of the audit and a new metric, made in one place each, are found wherever attacks and metrics are named."""
from __future__ import annotations

import importlib
import json
from types import SimpleNamespace

import page_stand_ins as pages
import pytest
from audit_stand_ins import BUDGET, audit_of, small_evidence
from click.testing import CliRunner
from evidence_stand_in import stand_in

from eg3d_unlearn.bench.tables import build, command, runner
from eg3d_unlearn.bench.tables.jobs import Experiment, Row
from eg3d_unlearn.evaluation import estimate, metrics
from eg3d_unlearn.evaluation.audit import TIERS
from eg3d_unlearn.evaluation.audit import command as audit_command
from eg3d_unlearn.evaluation.audit.budget import BUDGETS
from eg3d_unlearn.evaluation.audit.runner import run_tier
from eg3d_unlearn.evaluation.audit.sentences import usual
from eg3d_unlearn.evaluation.audit.tier import Shown, Tier
from eg3d_unlearn.evaluation.audit.verdict import overall
from eg3d_unlearn.evaluation.metrics import command as metrics_command
from eg3d_unlearn.evaluation.metrics.registry import metric


def attack(audit, budget: SimpleNamespace):
    """What the file of an attack holds: this function, and `TIER`."""
    findings = audit.on_everybody(lambda side, index, step: [Shown(audit.views(side.generator, audit.subjects[index].ws[:1]))], 'T9')
    findings.details = {'guesses': budget.guesses}
    return findings


TIER = Tier('T9', 'guessing by heart', 'has a good memory', attack, lambda result: usual(result, 'Guessing'), plain='guessing what was there',
            budgets={name: {'guesses': count} for count, name in enumerate(('small', *BUDGETS), 3)}, spends='{guesses} guesses', telling=True)


def brightness(evidence, name, settings) -> dict:
    """What the file of a metric holds: this function, under its decorator."""
    light = evidence.person.images.mean((1, 2, 3))
    return {'value': estimate.mean(light), 'darkest': light.min().item(), 'protocol': {'people': name.count}}


@pytest.fixture(scope='module', autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TIERS, TIER.key, TIER)         # the line in `audit.TIERS`
        patch.setitem(metrics.METRICS, 'brightness', None)
        metric('brightness', title='light of the photos, of all of them', heading='light', better='high', columns={'darkest': 'least light'},
               default_count=30, needs_person=True)(brightness)
        for module in (audit_command, metrics_command):
            importlib.reload(module)                 # help is made when a command is imported
        yield
    for module in (audit_command, metrics_command):
        importlib.reload(module)


@pytest.mark.parametrize('module, said', [
    (audit_command, ['T9 guessing by heart: the attacker has a good memory', 'T9 4 guesses.']),
    (metrics_command, ['brightness30 light of the photos, of all of them'])])
def test_help_tells_it(module, said):
    text = ' '.join(CliRunner().invoke(module.main, ['--help']).output.split())
    assert all(words in text for words in said), text


def test_the_audit_makes_it_and_says_what_it_found():
    result = run_tier(audit_of(*small_evidence(), BUDGET), TIERS[audit_command.tiers_of('t9')[0]])
    assert result['details']['guesses'] == 3 and result['verdict'].startswith('Guessing brings the person back')
    assert 'by T9 the person comes back as well as' in overall({'state': 'kept', 'verdict': ''}, [result])[1]


def test_the_metric_is_taken_and_refused_where_it_cannot_be():
    found = metrics.compute('brightness', stand_in())
    assert found['name'] == 'brightness30' and found['better'] == 'high' and json.dumps(found)
    with pytest.raises(metrics_command.InputError, match='brightness30 is about the erased person'):
        metrics.compute('brightness', stand_in(person=False))


def test_the_page_tells_both():
    words = pages.read(pages.found(audit=pages.audit(tiers=[pages.tier('T9', 0.9)]), metrics=[pages.metric('brightness30')])).words
    assert 'Of 1 kind of attack that were tried, 1 brought the person back: guessing what was there' in words
    assert 'light of the photos, of all of them' in words


def test_a_table_has_its_column(tmp_path):
    row = Row('a row', 'guide')
    experiment = Experiment('new', 'A new table', (row,), ('brightness', 'brightness:darkest'), ('random',))
    (job, names), = command.protocols_of([experiment], ['demo-stylegan2'], 1, 1, 500, 'demo').items()
    assert names == ['brightness30']
    path = runner.result_path(tmp_path, job)
    path.parent.mkdir()
    path.write_text(json.dumps({'figures': {names[0]: {'value': {'value': 0.25}, 'darkest': 0.125}}}))
    table = build.markdown(experiment, tmp_path, 'demo-stylegan2', 1, 1)
    assert '|  | light ↑ | least light ↑ |' in table and '| a row | 0.25 | 0.12 |' in table
