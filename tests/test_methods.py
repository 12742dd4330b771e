"""Other methods than GUIDE: their rules by hand values, their targets, and that each runs from the command's side."""
import json

import pytest
import torch
from click.testing import CliRunner
from small import guide_loss, poor_mans_judges, save_small, small_generator
from torch import nn

from eg3d_unlearn.config import CLOSED_FORM, POLISHED, TrainingOptions
from eg3d_unlearn.unlearning.loss import GLOBAL, LOCAL, UnlearningLoss
from eg3d_unlearn.unlearning.methods import fisher_information, kept, make_rule, salient_weights, threshold
from eg3d_unlearn.unlearning.presets import GUIDE, PRESETS
from eg3d_unlearn.unlearning.target import mean_target, ufo_target

COMPARED = [name for name in PRESETS if name not in ('guide', 'baseline', CLOSED_FORM)]  # which trains nothing: test_closed_form


def make(family='stylegan2', drawn=None, batch=1, **options):
    g_u = small_generator(family)
    parameters = g_u.freeze_except([g_u.trainable])
    g_s = g_u.twin()
    g_s.network.requires_grad_(False)
    ws = g_u.map_seed(5)
    target = mean_target(ws, g_u.w_avg) if drawn else ufo_target(ws, g_u.w_avg, 3.0)
    return UnlearningLoss(g_u, g_s, ws, target, poor_mans_judges(), guide_loss(**options), batch, drawn=drawn), parameters


def rule_of(loss, parameters, **options):
    return make_rule(guide_loss(TrainingOptions, **options), loss, parameters)


def test_sparsity_adds_the_sign_of_each_weight():
    weight = nn.Parameter(torch.tensor([2.0, -3.0, 0.0]))
    rule = rule_of(None, {'w': weight}, lambda_l1=0.5)
    weight.grad = torch.tensor([1.0, 1.0, 1.0])
    rule()
    assert weight.grad.tolist() == [1.5, 0.5, 1.0]
    weight.grad = None               # a step whose losses do not reach the weight
    rule()
    assert weight.grad.tolist() == [0.5, -0.5, 0.0]


def test_pruning_keeps_the_largest_and_holds_the_rest_at_zero():
    weight, bias = nn.Parameter(torch.tensor([[1.0, -4.0], [3.0, 0.5]])), nn.Parameter(torch.tensor([0.1, 0.2]))
    rule = rule_of(None, {'w': weight, 'b': bias}, prune=0.5)
    assert weight.tolist() == [[0, -4], [3, 0]] and bias.tolist() == pytest.approx([0.1, 0.2])
    optimiser = torch.optim.Adam([weight, bias], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        (weight.sum() + bias.sum()).backward()
        rule()
        optimiser.step()
    assert weight[0, 0] == 0 and weight[1, 1] == 0 and weight[0, 1] < -4.2 and bias[0] < 0.1
    assert kept(weight, 0.0).all()


def test_saliency_lets_the_share_with_the_largest_gradients_learn():
    assert threshold([torch.tensor([1.0, 4.0]), torch.tensor([3.0, 2.0])], 0.5) == 3
    loss, parameters = make()
    rule = rule_of(loss, parameters, saliency=0.25)
    assert all(parameter.grad is None for parameter in parameters.values())
    loss.accumulate_gradients(0)
    free = {name: parameter.grad.clone() for name, parameter in parameters.items() if parameter.grad is not None}
    rule()
    masked = torch.cat([parameters[name].grad.flatten() for name in free])
    total = torch.cat([gradient.flatten() for gradient in free.values()])
    assert 0.2 < (masked != 0).sum() / (total != 0).sum() < 0.35
    # What learns is what moved the forgetting most.
    assert total[masked != 0].abs().mean() > 2 * total[masked == 0].abs().mean()


def test_a_mask_that_ran_out_of_memory_is_gathered_anew():
    """What the failed pass had added to the gradients is not in it."""
    loss, parameters = make(batch=2)
    expected = salient_weights(parameters, 0.25, loss).values()
    _compare, told, calls = loss._compare, [], []

    def fails_in_the_second_pass(*arguments):
        calls.append(loss.batch)
        if len(calls) == 3:
            raise MemoryError
        _compare(*arguments)
    loss._compare = fails_in_the_second_pass
    found = salient_weights(parameters, 0.25, loss, told.append).values()
    assert loss.batch == 1 and told == ['Out of memory: going on with 1 latents at once.'] and calls[:4] == [2, 2, 2, 1]
    different = sum((a != b).sum() for a, b in zip(expected, found, strict=True))
    assert different <= 0.001 * sum(mask.numel() for mask in found)


def test_fisher_information_of_a_linear_network_by_hand():
    """A picture a·w has (r·a)² for the square of its gradient, whose mean over r ~ N(0, I) is |a|²."""
    class Line:
        g_u = None

        def rng(self, step, stream):
            return torch.Generator().manual_seed(step)

    class Generator:
        def sample(self, count, rng):
            return torch.zeros(count, 1, 1)

        def backbone(self, ws):
            seen = torch.cat([weight[0] * torch.full([400], 3.0), weight[1] * torch.full([400], 1.0)])[None]
            return type('Pass', (), {'image': seen, 'features': []})()
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    line = Line()
    line.g_u = Generator()
    fisher = fisher_information({'w': weight}, line)['w']
    assert fisher.mean().item() == pytest.approx(1)
    assert (fisher[0] / fisher[1]).item() == pytest.approx(9, rel=0.8)


def test_elastic_weights_pull_back():
    loss, parameters = make()
    rule, fisher = rule_of(loss, parameters, lambda_ewc=0.5), fisher_information(parameters, loss)
    name = max(parameters, key=lambda name: fisher[name].mean())
    with torch.no_grad():
        parameters[name] += 0.1
    parameters[name].grad = None
    rule()
    torch.testing.assert_close(parameters[name].grad, 2 * 0.5 * fisher[name] * 0.1, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('drawn, signs', [('random', [1, 1, 1, 1]), ('self', [-1, -1, -1, -1]), ('soft', [1, -1, 1, -1])])
def test_drawn_targets(drawn, signs):
    loss, _ = make(drawn=drawn, alpha_max=2.0)
    rows = [loss.draw(step)[0] for step in range(4)]
    person = [next(row for row in step if row.kind == LOCAL) for step in rows]
    assert [row.sign for row in person] == signs
    assert all(row.sign == 1 for step in rows for row in step if row.kind == GLOBAL)
    assert not torch.equal(person[0].ws_t, person[2].ws_t)
    for row in person:
        away = (row.ws_t - row.ws_u).norm()
        assert (0 < away <= 2.0) if row.sign < 0 else away > 0
    again = loss.draw(2)[0][0]
    assert torch.equal(again.ws_t, person[2].ws_t)      # a resumed run draws the same


@pytest.mark.parametrize('family', ['eg3d', 'stylegan2'])
@pytest.mark.parametrize('batch', [1, 8])
def test_ascent_is_descent_turned_round(family, batch):
    """Away from a neighbour: minus the gradient of the distance, whatever goes through at once."""
    loss, parameters = make(family, drawn='self', batch=batch, n_global=0, lambda_l2=0.0, alpha_max=2.0)
    terms = loss.accumulate_gradients(1)
    assert terms['loss'] == pytest.approx(-(terms['local'] + terms['adj']), rel=1e-5) and terms['local'] > 0
    before = sum(terms[name] for name in ('local', 'adj'))
    with torch.no_grad():
        size = torch.cat([p.grad.flatten() for p in parameters.values() if p.grad is not None]).norm()
        for parameter in parameters.values():
            if parameter.grad is not None:
                parameter -= 0.02 * parameter.grad / size
    after = loss.accumulate_gradients(1)
    assert after['local'] + after['adj'] > before


def test_fine_tuning_with_the_source_as_teacher_has_no_gradient():
    loss, parameters = make(lambda_local=0.0, lambda_adj=0.0)
    assert loss.accumulate_gradients(3)['loss'] == 0
    assert all(p.grad is None or not p.grad.any() for p in parameters.values())


def test_presets_differ_from_guide_and_from_each_other():
    differing = {name: tuple(sorted((key, str(value)) for key, value in preset.items() if value != GUIDE[key]))
                 for name, preset in PRESETS.items()}
    assert len(set(differing.values())) == len(PRESETS) and differing['guide'] == ()


@pytest.mark.parametrize('method', COMPARED)
def test_every_method_runs_from_the_command(method, tmp_path):
    from eg3d_unlearn.command import main
    out = tmp_path / 'out'
    options = ['--network=demo-stylegan2'] if method == POLISHED else [     # which stops by what a recogniser says
        f'--network={save_small(tmp_path / "net.pkl", "stylegan2")}', '--lpips-net=squeeze', '--id-network=none', '--random-metric-weights']
    result = CliRunner().invoke(main, [*options, '--latent-seed=3', f'--method={method}', '--iters=3', '--report=brief', f'--outdir={out}'])
    assert result.exit_code == 0, result.output
    stats = [json.loads(line) for line in (out / 'stats.jsonl').read_text().splitlines()]
    assert len(stats) == 3 and json.loads((out / 'report.json').read_text())['config']['method'] == method
    if method in ('ga', 'ga-descent'):
        assert stats[0]['loss'] < 0
