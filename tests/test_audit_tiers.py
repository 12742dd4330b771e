"""Every tier of the audit on networks that forgot the person, each in its own way, and on one that did not.

An attack that does not look at G_u, or shows what it was given, finds the person where nobody can (`Blind`); one that does not try
finds nobody where somebody can.
"""
from __future__ import annotations

import dataclasses

import pytest
import torch
from audit_stand_ins import audit_of, blinded, folded, moved, small_evidence

from eg3d_unlearn.evaluation.audit import TIERS, t7_who
from eg3d_unlearn.evaluation.audit.runner import run_tier
from eg3d_unlearn.evaluation.audit.utility import measure_utility
from torch_utils_ext.errors import InputError

NETWORKS = {'unchanged': lambda evidence: evidence, 'blind': blinded, 'folded': folded, 'moved': moved}


@pytest.fixture(scope='module')
def attacked():
    """(network, tier) -> the tier's entry of audit.json; each is made once."""
    evidence, subjects = small_evidence()
    audits = {name: audit_of(after(evidence), subjects) for name, after in NETWORKS.items()}
    found = {}

    def result(network, key):
        if (network, key) not in found:
            found[network, key] = run_tier(audits[network], TIERS[key])
        return found[network, key]
    result.audits = audits
    return result


def values(result):
    return {name: figure['value'] for name, figure in result['figures'].items()}


@pytest.mark.parametrize('key', TIERS)
def test_where_nothing_was_erased_nothing_is_gone(attacked, key):
    result = attacked('unchanged', key)
    figures = values(result)
    assert figures['after'] == pytest.approx(figures['before'], abs=1e-4)
    assert figures['controls'] == pytest.approx(figures['controls_before'], abs=1e-4)
    assert result['figures']['excess']['low'] <= 0 <= result['figures']['excess']['high'] and figures['excess'] == pytest.approx(0, abs=1e-4)
    if key == 'T7':                  # looks for nobody in particular
        assert {rank['person'] for rank in result['details']['ranks'].values()}.isdisjoint({1})
        return
    assert figures['after'] > 0.85 and figures['controls'] > 0.85 and TIERS[key].back(result) is True


@pytest.mark.parametrize('key', [key for key in TIERS if key != 'T7'])
def test_who_cannot_be_shown_is_not_found(attacked, key):
    """Whatever the attack does to latents and weights: only an attack on another network could show the person."""
    result = attacked('blind', key)
    figures = values(result)
    assert figures['before'] > 0.85 and figures['after'] < 0.3
    assert figures['controls_before'] > 0.85 and figures['controls'] > 0.85
    assert result['figures']['excess']['high'] < -0.3 and TIERS[key].back(result) is False and 'recovered' not in result


@pytest.mark.parametrize('key', ['T0', 'T1', 'T5'])
def test_the_latent_and_the_encoder_lose_who_was_moved(attacked, key):
    """The closed form takes the person's latents elsewhere: with these alone, nobody gets them back."""
    result = attacked('folded', key)
    figures = values(result)
    assert figures['before'] > 0.85 and figures['after'] < 0 and figures['controls'] > 0.85 and result['figures']['excess']['high'] < -0.3
    assert TIERS[key].back(result) is False


@pytest.mark.parametrize('key', ['T2', 'T3', 'T4', 'T8'])
def test_attacks_that_seek_find_who_was_moved(attacked, key):
    """What the network still can show, those who look for it find; none of it is where it was."""
    assert values(attacked('folded', 'T0'))['after'] < 0
    result = attacked('folded', key)
    assert values(result)['after'] > 0.8 and TIERS[key].back(result) is not False


def test_re_inversion_says_how_near_it_came(attacked):
    near, far = (attacked(network, 'T2')['details']['lpips_in_w']['after'] for network in ('unchanged', 'blind'))
    assert attacked('blind', 'T2')['details']['lpips_in_w']['before'] == near
    assert near['w_source'] < far['w_source'] / 5


@pytest.mark.parametrize('key, tool', [('T2', 't2_reinversion.Optimisation'), ('T3', 't3_pivotal.PivotalTuning')])
def test_an_attack_that_diverges_is_left_with_its_start(attacked, monkeypatch, key, tool):
    def diverged(*_, **__):
        raise InputError('The inversion diverged at step 0.')
    monkeypatch.setattr(f'eg3d_unlearn.evaluation.audit.{tool}', lambda *_, **__: diverged)
    result = run_tier(attacked.audits['blind'], TIERS[key])
    figures = values(result)
    assert result['details']['failed'] == 8 * {'T2': 4, 'T3': 1}[key]
    assert figures['before'] > 0.85 and figures['after'] < 0.3 and figures['controls'] > 0.85
    if key == 'T2':                  # and it is told how far the start is
        distances = result['details']['lpips_in_w']
        assert distances['before']['w_source'] < distances['after']['w_source'] / 5


def test_relearning_is_measured_on_what_learns(attacked):
    """From the mean latent all three end as their figures say; where nobody can be taught, the curve stays where it begins."""
    for network in ('unchanged', 'blind', 'folded'):
        result = attacked(network, 'T4')
        figures, mean = values(result), result['details']['mean_latent']
        assert result['curve'] == mean['curve'] and mean['curve']['steps'] == [0, 4, 8, 12, 16]
        ends = [curve[who][-1] for curve in (mean['curve_before'], mean['curve']) for who in ('person', 'controls')]
        assert ends == pytest.approx([figures[name] for name in ('before', 'controls_before', 'after', 'controls')], abs=1e-3), network
        assert mean['curve_before']['person'][-1] > 0.8 > mean['curve_before']['person'][0] + 0.5
    curves = {network: attacked(network, 'T4')['details']['erased_latent'] for network in ('unchanged', 'blind', 'folded')}
    assert curves['unchanged']['steps']['person'] == curves['unchanged']['steps']['controls'] == curves['blind']['steps']['controls'] == 0
    assert max(curves['blind']['curve']['person']) < 0.3 and curves['blind']['steps']['person'] is None
    assert curves['folded']['curve']['person'][0] < 0 < curves['folded']['curve']['person'][-1] - 0.3


@pytest.mark.parametrize('network', ['blind', 'folded'])
def test_harmless_tuning_is_measured_on_what_was_tuned(attacked, network):
    result = attacked(network, 'T5')
    figures, curve, before = values(result), result['curve'], result['details']['curve_before']
    ends = [part[who][-1] for part in (before, curve) for who in ('person', 'controls')]
    assert ends == pytest.approx([figures[name] for name in ('before', 'controls_before', 'after', 'controls')], abs=1e-3)
    assert len(set(curve['person'])) == len(set(before['person'])) == len(curve['steps']) == 5     # each step changes the network
    starts = values(attacked(network, 'T0'))
    assert [before['person'][0], curve['person'][0]] == pytest.approx([starts['before'], starts['after']], abs=1e-3)


@pytest.mark.parametrize('network', ['unchanged', 'blind', 'folded'])
def test_random_search_draws_from_the_network_itself(attacked, network):
    result = attacked(network, 'T6')
    figures, curve = values(result), result['curve']
    assert [curve['person'][-1], curve['controls'][-1]] == pytest.approx([figures['after'], figures['controls']], abs=1e-3)
    # The nearest of the folded network's own samples is a look-alike; the nearest of G_s's is shown as somebody else.
    low, high = {'unchanged': (0.9, 1), 'blind': (-1, 0.3), 'folded': (0.4, 0.8)}[network]
    assert figures['before'] > 0.9 and low < figures['after'] < high


def test_who_was_erased_is_found_out_by_every_way_of_looking(attacked):
    """A network that shows the target's face at the person's latent, and near it: that is where both networks differ most, where
    G_u does not lie between its neighbours, and where two latents show one face."""
    result = attacked('moved', 'T7')
    details, figures = result['details'], values(result)
    assert {name: rank['person'] for name, rank in details['ranks'].items()} == {'change': 1, 'misfit': 1, 'mirror': 1}
    assert all(rank['controls'] > 5 for rank in details['ranks'].values())
    assert details['ranks_on_g_s'] == attacked('unchanged', 'T7')['details']['ranks']
    assert details['ranks_on_g_s']['change'] == {'person': (details['candidates'] + 1) / 2, 'controls': (details['candidates'] + 1) / 2}
    # Uphill from a random latent to the person, whom G_s shows there.
    assert figures['after'] > max(figures['before'], figures['controls'], figures['controls_before']) + 0.3
    assert result['verdict'].count('found out') == 3


def test_who_has_g_u_alone_looks_at_nothing_else(attacked):
    """Beside another network before, with the same latents, only the way that needs both networks says something else."""
    audit = attacked.audits['moved']
    other = audit_of(dataclasses.replace(audit.evidence, g_s=attacked.audits['folded'].evidence.g_u), audit.subjects)
    ws = torch.cat([subject.ws[:1] for subject in audit.subjects])
    found, again = (t7_who.suspicion(one, one.sides[1].light, ws, 'after') for one in (audit, other))
    same = {name: torch.allclose(found[name], again[name], atol=1e-5) for name in found}
    assert same == {name: needs == 'G_u alone' for name, needs in t7_who.NEEDS.items()}


def test_the_closed_form_shows_where_it_changed_most(attacked):
    ranks = attacked('folded', 'T7')['details']['ranks']
    assert ranks['change']['person'] <= 3 < ranks['change']['controls']


def test_weights_between_the_networks_show_both_ends(attacked):
    result, ends = attacked('folded', 'T8'), values(attacked('folded', 'T0'))
    curve = result['curve']
    assert curve['steps'] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [curve['person'][0], curve['person'][-1]] == pytest.approx([ends['before'], ends['after']], abs=1e-3)
    assert [curve['controls'][0], curve['controls'][-1]] == pytest.approx([ends['controls_before'], ends['controls']], abs=1e-3)
    best = {network: attacked(network, 'T8')['details']['best'] for network in ('unchanged', 'blind')}
    assert best['blind']['before'] == best['unchanged']['before'] == best['unchanged']['after']
    assert max(best['blind']['after']['person'].values()) < 0.3 < 0.85 < best['unchanged']['after']['person']['walk']


def test_people_who_were_not_erased_are_kept(attacked):
    """All are kept where one person cannot be shown."""
    found = {network: measure_utility(attacked.audits[network]) for network in ('unchanged', 'blind')}
    assert {result['state'] for result in found.values()} == {'kept'}
    assert found['unchanged']['lpips']['value'] == 0 < found['blind']['lpips']['value']
    assert found['unchanged']['identity']['value'] == pytest.approx(1) and 0.9 < found['blind']['identity']['value'] < 0.999


def test_the_sides_are_the_two_networks(attacked):
    for audit in attacked.audits.values():
        assert [side.generator for side in audit.sides] == [audit.evidence.g_s, audit.evidence.g_u]
    ws = attacked.audits['blind'].subjects[0].ws[:1]
    with torch.no_grad():
        shown = {name: audit.sides[1].light.synthesize(ws).image for name, audit in attacked.audits.items()}
    assert all(not torch.allclose(shown['unchanged'], shown[name], atol=0.05) for name in ('blind', 'folded', 'moved'))
