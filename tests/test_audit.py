"""The audit as a whole: nothing erased, everything destroyed; what its files hold, stops, folders, errors. Tiers: `test_audit_tiers`."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from audit_stand_ins import BUDGET, audit_of, folded, small_evidence
from click.testing import CliRunner
from small import PoorMansLpips, poor_mans_recogniser, small_generator

from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation import audit as package
from eg3d_unlearn.evaluation.audit import TIERS, t4_relearning, t6_search, t7_who, t8_walks
from eg3d_unlearn.evaluation.audit.budget import BUDGETS
from eg3d_unlearn.evaluation.audit.command import main, tiers_of
from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.audit.runner import AUDIT, AuditFolder, recovered, run_audit, run_tier
from eg3d_unlearn.evaluation.audit.tuning import learning_copy, tuned
from eg3d_unlearn.evaluation.audit.utility import state_of
from eg3d_unlearn.evaluation.evidence import Evidence, gather
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.person.person import Person
from eg3d_unlearn.person.photo import to_image
from eg3d_unlearn.report import recovered_face
from eg3d_unlearn.report.files import RunFiles
from eg3d_unlearn.unlearning.presets import resolve
from torch_utils_ext.errors import InputError

TINY = dataclasses.replace(BUDGET, random_people=12, instead={
    'T2': {'w_steps': 1, 'w_plus_steps': 1}, 'T3': {'pivot_steps': 1, 'tuning_steps': 1}, 'T4': {'steps': 1, 'every': 1},
    'T5': {'people': 2, 'steps': 1}, 'T6': {'samples': 40}, 'T7': {'candidates': 16, 'ascent_steps': 2}, 'T8': {'walk': 3, 'around': 2}})


@pytest.fixture(scope='module')
def known():
    """A person whom nobody erased (G_u = G_s), and with three controls."""
    return small_evidence()


@pytest.fixture(scope='module')
def unchanged(known):
    return known[0]


@pytest.fixture(scope='module')
def people(known):
    return known[1], 'people of a test'


def destroyed(evidence):
    """The same with noise on the weights of the synthesis network."""
    g_u, parameters = learning_copy(evidence.g_s)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape, generator=rng) * parameter.std(correction=0).clamp_min(1e-3) * 2)
    g_u.network.requires_grad_(False)
    return dataclasses.replace(evidence, g_u=g_u)


@pytest.fixture
def quick_people(monkeypatch, people):
    """Controls that need not be rendered again."""
    monkeypatch.setattr('eg3d_unlearn.evaluation.audit.context.find_controls', lambda *_: (people[0][1:], people[1]))


@pytest.fixture(scope='module')
def of_unchanged(unchanged, people, tmp_path_factory):
    """audit.json of an audit where nothing was erased."""
    folder = tmp_path_factory.mktemp('same')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('eg3d_unlearn.evaluation.audit.context.find_controls', lambda *_: (people[0][1:], people[1]))
        said = []
        run_audit(unchanged, TINY, folder, log=said.append)
    return json.loads((folder / AUDIT).read_text()), folder, said


def test_nothing_erased_is_said(of_unchanged):
    """(a) G_u = G_s: excess 0 in every tier, and the verdict says that nothing was erased."""
    content, folder, said = of_unchanged
    assert [tier['tier'] for tier in content['tiers']] == list(TIERS) and content['not_run'] == []
    for tier in content['tiers']:
        excess = tier['figures']['excess']
        assert excess['low'] <= 0 <= excess['high'] and excess['value'] == pytest.approx(0, abs=1e-3), tier['tier']
        said_of = 'does not stand out from controls' if tier['tier'] == 'T7' else 'no difference from controls that this sample can show'
        assert said_of in tier['verdict'], tier['verdict']
    assert content['ruin']['state'] == 'kept' and content['ruin']['recognised']['value'] == 1
    assert content['verdict'][0].startswith('Other people were kept: 15 of 15')
    assert 'Nothing was erased' in content['verdict'][1] and len(content['verdict']) == 3 + len(TIERS)
    assert content['tiers'][0]['figures']['after']['value'] > 0.8
    assert sum('Nothing was erased' in line for line in said) == 0 and any(line.startswith('T8: ') for line in said)


def test_one_face_that_came_back_is_kept(of_unchanged):
    """Of the first attack that succeeds, the picture that is most like the person, as a JPEG in its entry."""
    content, folder, _ = of_unchanged
    (tier,) = [tier for tier in content['tiers'] if 'recovered' in tier]
    assert tier['tier'] == 'T0' and tier['recovered']['likeness'] >= content['threshold']['cosine']
    found = RunFiles({}, audit=content)
    picture = recovered_face(found)
    assert (picture.width, picture.height) == (32, 32) and not found.notes
    assert recovered(torch.zeros(3, 8, 8), 0.3, 0.31) == {} and 'recovered' in recovered(torch.zeros(3, 8, 8), 0.3, 0.3)


def test_audit_json_has_what_reports_read(of_unchanged):
    content, folder, _ = of_unchanged
    assert {'budget', 'seed', 'networks', 'person', 'controls', 'verdict', 'ruin', 'tiers', 'config', 'versions', 'hardware',
            'seconds'} <= content.keys()
    assert content['controls'] == 3 and content['controls_are'] == 'people of a test' and content['person']['photos'] == 3
    assert 'excess      (after - before) of the person' in content['definition'] and content['measured_by'] == 'other'
    for tier in content['tiers']:
        assert {'tier', 'title', 'attacker', 'figures', 'curve', 'verdict', 'seconds', 'details'} <= tier.keys()
        assert set(tier['figures']) == {'before', 'after', 'controls_before', 'controls', 'excess'}
        assert set(tier['details']['recognisers']) == {'loss', 'other'}
        if tier['curve'] is not None:
            assert len(tier['curve']['steps']) == len(tier['curve']['person']) == len(tier['curve']['controls'])
    assert {tier['tier'] for tier in content['tiers'] if tier['curve']} == {'T4', 'T5', 'T6', 'T8'}
    assert sorted(path.name for path in folder.iterdir()) == [AUDIT]  # what tiers were kept in is gone


def test_the_person_stays_out_of_the_files(of_unchanged):
    content, folder, _ = of_unchanged
    assert content['config']['image'] == '(given, not recorded)'
    assert content['config']['latent_seed'] is None and content['person'] == {'photos': 3, 'given_as': 'image'}


@pytest.mark.parametrize('given, secret', [({'latent_seed': 4294967291}, '4294967291'), ({'image': ('jane_doe.png',)}, 'jane_doe')])
def test_nothing_that_says_who_it_was_is_in_any_file(unchanged, quick_people, tmp_path, monkeypatch, given, secret):
    """Neither what was named nor a latent, in what a stopped audit leaves and in what a finished one does."""
    evidence = dataclasses.replace(unchanged, config=dataclasses.replace(unchanged.config, **{'image': (), 'latent_seed': None, **given}))
    begun = []
    monkeypatch.setattr(AuditFolder, 'finish', lambda self, content, finish=AuditFolder.finish: (
        begun.extend(path.read_text() for path in self.path.iterdir() if path.is_file()), finish(self, content)))
    run_audit(evidence, TINY, tmp_path, ['T0'], log=lambda _: None)
    texts = [*begun, *(path.read_text() for path in tmp_path.iterdir())]
    assert len(texts) >= 3 and any('"salt"' in text for text in texts)
    latent = [f'{value:.3f}' for value in evidence.person.ws[0, 0, :8].tolist()]
    for text in texts:
        assert secret not in text and not all(number in text for number in latent)


def test_what_became_of_others_comes_first(unchanged, quick_people, tmp_path):
    """(b) Weights destroyed: the verdict says so before all else, and not that the person was erased."""
    content = run_audit(destroyed(unchanged), TINY, tmp_path, ['T0', 'T1'], log=lambda _: None)
    assert content['ruin']['destroyed'] and content['ruin']['recognised']['high'] < 0.5
    assert content['verdict'][0].startswith('THE NETWORK WAS RUINED')
    assert content['tiers'][0]['figures']['controls']['value'] < 0.5 < content['tiers'][0]['figures']['controls_before']['value']
    assert not any('Nothing was erased that' in sentence for sentence in content['verdict'])


def test_steps_needed_are_the_first_measured_ones():
    at, curves = [0, 4, 8], [[0.1, 0.2, 0.6], [0.7, 0.1, 0.1], [0.1, 0.5, 0.5], [0.1, 0.2, 0.3]]
    assert t4_relearning.steps_needed(at, curves, 0.5) == {'person': 8, 'controls': 4, 'controls_never': 1}
    assert t4_relearning.steps_needed(at, [curves[3]] * 4, 0.5) == {'person': None, 'controls': None, 'controls_never': 3}


def test_random_search_is_as_good_as_its_samples(unchanged, people):
    """The person is the eighth sample: among more they are found, among the first seven they are not."""
    audit = audit_of(unchanged, people[0], TINY)
    findings = t6_search.attack(audit, TINY.of(t6_search.TIER))
    assert findings.curve['steps'] == [1, 3, 10, 30, 40] and findings.curve['person'][1] < 0.9 < findings.curve['person'][2]


def test_between_the_networks_lie_both(unchanged):
    erased = folded(unchanged)
    ws = unchanged.g_s.sample(1, torch.Generator().manual_seed(0))
    sides = Audit(erased, TINY).sides
    shown = [t8_walks.interpolated(*sides, share).synthesize(ws).image for share in (0.0, 1.0)]
    for image, generator in zip(shown, (erased.g_s, erased.g_u), strict=True):
        assert torch.allclose(image, generator.synthesize(ws).image, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in erased.g_s.network.parameters())


def test_layers_are_mixed():
    source, mean = torch.ones(1, 8, 3), torch.zeros(1, 8, 3)
    mixes = t8_walks.mixed(source, mean)
    assert [int(mix.sum(0)[0]) for mix in mixes] == [2, 6, 4, 4, 6, 2]
    assert mixes[0, :2].all() and not mixes[0, 2:].any() and mixes[1, 2:].all()


def test_ranks_share_ties():
    scores = torch.tensor([0.9, 0.1, 0.5, 0.5, 0.2])
    assert t7_who.ranked(scores, 3) == {'person': 1, 'controls': 3.75}
    assert t7_who.ranked(torch.zeros(5), 3) == {'person': 3, 'controls': 3}
    assert t7_who.found(1, 50) == ': found out' and t7_who.found(3, 80) == ': suspect' and t7_who.found(9, 80) == ''


def test_tuning_leaves_the_network_alone(unchanged):
    g_s = unchanged.g_s
    before = {name: tensor.clone() for name, tensor in g_s.network.state_dict().items()}
    images = torch.zeros(1, 3, 32, 32)
    copy = tuned(g_s, g_s.w_avg[None], images, None, unchanged.judges.perceptual, steps=3, lr=2e-3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in g_s.network.state_dict().items())
    nearer = [(network.synthesize(g_s.w_avg[None]).image - images).square().mean() for network in (copy, g_s)]
    assert nearer[0] < nearer[1] and not any(parameter.requires_grad for parameter in copy.network.parameters())


def test_half_rays_are_for_gradients_only():
    """The light network of EG3D shares the weights and has half the rays; the network itself keeps its own."""
    generator = small_generator('eg3d')
    light = Audit._light(type('A', (), {'budget': TINY})(), generator)
    sizes = [one.synthesize(one.map_seed(0)).depth.shape[-1] for one in (light, generator)]
    assert sizes == [8, 16] and light.network.neural_rendering_resolution == 16
    assert all(a is b for a, b in zip(light.network.parameters(), generator.network.parameters(), strict=True))


@pytest.fixture(scope='module')
def on_eg3d() -> Audit:
    """A person of a small EG3D with random weights, given as a latent."""
    generator = small_generator('eg3d')
    config = resolve(Config(network='small.pkl', outdir='', latent_seed=1, inversion='w', inversion_steps=1, precision='fp32'), None)
    judges = Judges(PoorMansLpips(), poor_mans_recogniser, poor_mans_recogniser, {})
    evidence = Evidence(None, None, generator, generator, Person(generator.map_seed(1), {}), judges, {'poor': poor_mans_recogniser}, 'poor',
                        None, config)
    return Audit(evidence, dataclasses.replace(TINY, controls=1, impostors=4, instead={
        **TINY.instead, 'T6': {'samples': 4}, 'T7': {'candidates': 4, 'ascent_steps': 2}}))


@pytest.mark.parametrize('key', TIERS)
def test_every_tier_on_eg3d(on_eg3d, key):
    """Cameras and rays find their way, people are the network's own, and where nothing was erased there is no excess."""
    assert [subject.images.shape[0] for subject in on_eg3d.subjects] == [2, 2] and on_eg3d.kind_of_controls == 'generated people'
    assert torch.equal(on_eg3d.subjects[0].ws[:1], on_eg3d.evidence.person.ws)
    result = run_tier(on_eg3d, TIERS[key])
    assert result['figures']['excess']['value'] == pytest.approx(0, abs=1e-4) and result['verdict'].endswith('.')


@pytest.mark.slow
def test_people_of_the_demo_world(tmp_path):
    """Controls and bystanders (T5) are held-out people there, found as the person was; its judges, on a network of its own."""
    evidence = gather('demo-stylegan2', 'demo-stylegan2', image=('demo:3',), inversion_steps=2, device='cpu', log=lambda _: None)
    content = run_audit(evidence, dataclasses.replace(TINY, controls=2, impostors=16), tmp_path, ['T5'], log=lambda _: None)
    assert content['controls'] == 2 and content['controls_are'] == 'held-out people' and content['person']['photos'] == 4
    assert content['measured_by'] == 'demo-measuring' and content['trained_with'] == 'demo-loss'
    assert content['tiers'][0]['details']['others_are'] == 'held-out people'
    assert content['tiers'][0]['figures']['after']['value'] > 0.8 and 'no difference from controls' in content['tiers'][0]['verdict']


def test_people_of_a_folder_are_controls(unchanged, tmp_path):
    rng = torch.Generator().manual_seed(0)
    for name in ('a', 'b', 'c', 'd'):
        (tmp_path / name).mkdir()
        for number in range(2):
            to_image(torch.rand(3, 32, 32, generator=rng) * 2 - 1).save(tmp_path / name / f'{number}.png')
    evidence = dataclasses.replace(unchanged, config=dataclasses.replace(unchanged.config, aligned=True))
    audit = Audit(evidence, TINY, controls=str(tmp_path))
    assert audit.kind_of_controls == 'people of --controls' and len(audit.subjects) == 4
    assert audit.subjects[1].images.shape == (2, 3, 32, 32) and audit.subjects[1].ws.shape == unchanged.ws_mine[:2].shape


def test_a_stopped_audit_goes_on(unchanged, quick_people, tmp_path, monkeypatch):
    """A kill in T1 loses nothing of T0; with another seed the folder is refused."""
    def killed(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setitem(TIERS, 'T1', dataclasses.replace(TIERS['T1'], attack=killed))
        with pytest.raises(KeyboardInterrupt):
            run_audit(unchanged, TINY, tmp_path, ['T0', 'T1'], log=lambda _: None)
    kept = json.loads((tmp_path / 'audit-T0.json').read_text())
    assert (tmp_path / 'audit-ruin.json').exists() and not (tmp_path / AUDIT).exists()
    with pytest.raises(InputError, match='begun with another seed'):
        run_audit(unchanged, TINY, tmp_path, ['T0', 'T1'], seed=1, log=lambda _: None)
    with monkeypatch.context() as patch:
        patch.setitem(TIERS, 'T0', dataclasses.replace(TIERS['T0'], attack=killed))
        said = []
        content = run_audit(unchanged, TINY, tmp_path, ['T0', 'T1'], log=said.append)
    assert content['tiers'][0] == kept and 'T0 was done before.' in said and 'ruin was done before.' in said
    assert not (tmp_path / 'audit-T0.json').exists() and content['not_run'] == list(TIERS)[2:]
    with pytest.raises(InputError, match='finished audit'):
        run_audit(unchanged, TINY, tmp_path, log=lambda _: None)


@pytest.mark.parametrize('share, state', [(12, 'kept'), (10, 'open'), (6, 'damaged'), (2, 'ruined'), (0, 'ruined')])
def test_states_follow_intervals(share, state):
    from eg3d_unlearn.evaluation.estimate import fraction
    assert state_of(fraction(torch.arange(12) < share)) == state


def run_command(*options):
    return CliRunner().invoke(main, ['--before=demo-stylegan2', '--after=demo-stylegan2', *options])


@pytest.mark.parametrize('options, said', [
    (['--image=demo', '--outdir={}/file'], 'is a file. Name a folder'),
    (['--image=demo', '--outdir={}/done'], 'holds a finished audit'),
    (['--image=demo', '--outdir={}/new', '--tiers=T0,T9'], "'T9', which is no tier. Expected some of T0,T1"),
    (['--image=demo', '--outdir={}/new', '--controls={}/nowhere'], 'is no folder. Expected one with a subfolder of photos'),
    (['--image=demo', '--outdir={}/new', '--controls={}/done'], 'has 0 subfolders with photos'),
    (['--outdir={}/new'], 'exactly one of --image, --latent and --latent-seed'),
    (['--image=demo', '--outdir={}/new', '--budget=endless'], 'endless'),
    (['--image=demo', '--outdir={}/new', '--id-network=none'], 'measures identity with a recogniser'),
    (['--image=demo'], "Missing option '--outdir'"),
])
def test_bad_input(options, said, tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'done').mkdir()
    (tmp_path / 'done' / AUDIT).write_text('{}')
    done = run_command(*(option.replace('{}', str(tmp_path)) for option in options))
    text = ' '.join(done.output.split())
    assert done.exit_code in (1, 2) and said in text, text
    assert not (tmp_path / 'new').exists()


def test_help_states_budgets_and_tiers():
    text = ' '.join(CliRunner().invoke(main, ['--help']).output.split())
    for budget in BUDGETS.values():
        assert f'{budget.name}: {budget.minutes}; {budget.controls} controls' in text
    assert all(tier.title in text for tier in TIERS.values()) and 'half rays' in text
    assert tiers_of('t3, T0') == ['T0', 'T3'] and tiers_of(None) is None
    assert BUDGETS['quick'].controls >= 3 and 'excess' in package.__doc__


def test_a_part_that_cannot_be_read(tmp_path):
    (tmp_path / 'audit-T0.json').write_text('{"cut')
    with pytest.raises(InputError, match='is not valid json .* Delete it'):
        AuditFolder(tmp_path).read('audit-T0.json')
