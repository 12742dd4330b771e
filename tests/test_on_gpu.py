"""What runs on a GPU is what runs on a CPU: pictures of each family, gradients of the loss, runs of the command, attacks of the audit."""
from __future__ import annotations

import json

import pytest
import torch
from audit_stand_ins import audit_of, blinded, folded, small_evidence
from click.testing import CliRunner
from small import SMALL, guide_loss, poor_mans_judges, small_generator

from eg3d_unlearn.command import main
from eg3d_unlearn.evaluation.audit import TIERS
from eg3d_unlearn.evaluation.audit.runner import run_tier
from eg3d_unlearn.generators.build import wrap
from eg3d_unlearn.generators.precision import arithmetic
from eg3d_unlearn.unlearning.loss import UnlearningLoss
from eg3d_unlearn.unlearning.target import ufo_target

pytestmark = pytest.mark.gpu
DEVICES = ('cpu', 'cuda')


def alike(found: torch.Tensor, wanted: torch.Tensor, share: float = 2e-3) -> bool:
    return (found.cpu() - wanted).abs().max() <= share * wanted.std()


@pytest.mark.parametrize('family', SMALL)
def test_pictures_are_those_of_the_cpu(family):
    shown = []
    for device in DEVICES:
        generator = wrap(small_generator(family).network.to(device), family)
        with torch.no_grad(), arithmetic('fp32', torch.device(device)):
            shown.append(generator.synthesize(generator.map_seed(3), generator.frontal()).image)
    assert shown[1].device.type == DEVICES[1] and alike(shown[1], shown[0])


@pytest.mark.parametrize('family', ['stylegan2', 'stylegan3'])
def test_gradients_are_those_of_the_cpu(family):
    gradients = []
    for device in DEVICES:
        g_u = wrap(small_generator(family).network.to(device), family)
        g_u.w_avg = small_generator(family).w_avg.to(device)     # which is drawn from random latents, others on a GPU
        parameters = g_u.freeze_except([g_u.trainable])
        g_s = g_u.twin()
        g_s.network.requires_grad_(False)
        ws = g_u.map_seed(5)
        with arithmetic('fp32', torch.device(device)):
            UnlearningLoss(g_u, g_s, ws, ufo_target(ws, g_u.w_avg, 3.0), poor_mans_judges(), guide_loss()).accumulate_gradients(1)
        gradients.append(torch.cat([p.grad.flatten().cpu() for p in parameters.values() if p.grad is not None]))
    assert gradients[0].any() and (gradients[1] - gradients[0]).norm() <= 1e-2 * gradients[0].norm()


@pytest.mark.parametrize('network', ['demo-stylegan2', 'demo-eg3d'])
@pytest.mark.parametrize('options', [['--method=guide', '--iters=2'], ['--method=closed-form']], ids=['guide', 'closed form'])
def test_runs_of_the_command(network, options, tmp_path):
    out = tmp_path / 'out'
    done = CliRunner().invoke(main, [f'--network={network}', '--image=demo', f'--device={DEVICES[1]}', '--report=brief', f'--outdir={out}',
                                     *options])
    assert done.exit_code == 0, (done.output, done.exception)
    report = json.loads((out / 'report.json').read_text())
    assert report['summary']['other_people'] > 0.9 and (out / 'network-unlearned.pkl').stat().st_size > 10**6


@pytest.mark.parametrize('key', TIERS)
def test_attacks_find_what_they_find_on_the_cpu(key):
    evidence, subjects = small_evidence(DEVICES[1])
    with arithmetic('fp32', evidence.device):
        figures = run_tier(audit_of((folded if key == 'T7' else blinded)(evidence), subjects), TIERS[key])['figures']
    assert key == 'T7' or figures['before']['value'] > 0.85 and figures['after']['value'] < 0.3
