"""T3: pivotal tuning: a latent near the photo, then the weights."""
from __future__ import annotations

from types import SimpleNamespace

from eg3d_unlearn.config import parts_of
from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.audit.sentences import NO_LOCK, usual
from eg3d_unlearn.evaluation.audit.tier import Findings, Shown, Tier
from eg3d_unlearn.person.inversion import make_inverter
from eg3d_unlearn.person.inversion.pti import PivotalTuning
from eg3d_unlearn.unlearning.presets import FROM_ENCODER, FROM_MEAN
from torch_utils_ext.errors import InputError


def attack(audit: Audit, budget: SimpleNamespace) -> Findings:
    """One photo: a latent near it, then the weights."""
    config, failed = audit.evidence.config, [0]
    encoder, _ = parts_of(config.inversion)
    name = f'{encoder}+w' if encoder else 'w'
    lr = (FROM_ENCODER if encoder else FROM_MEAN)['inversion_lr']

    def one(side, index, step):
        subject = audit.subjects[index]
        pivot = make_inverter(name, config.encoder, config.encoder_mean, steps=budget.pivot_steps, lr=lr, seed=audit.seed)
        image, camera = subject.photo(subject.attacked)
        try:
            tuning = PivotalTuning(pivot, budget.tuning_steps, audit.learning_rate)
            found = tuning(side.light, image, camera, audit.perceptual, lambda *_: step())
        except InputError:           # the optimisation diverged: the attacker is left with the latent that G_s gives
            failed[0] += 1
            return [Shown(audit.views(side.generator, subject.ws[subject.attacked, None]), used=subject.attacked)]
        return [Shown(audit.views(audit.whole(found.generator), found.ws), used=subject.attacked)]

    findings = audit.on_everybody(one, 'T3', budget.pivot_steps + budget.tuning_steps)
    findings.details = {'pivot': name, 'steps': {'pivot': budget.pivot_steps, 'tuning': budget.tuning_steps}, 'lr': audit.learning_rate,
                        'failed': failed[0]}
    return findings


def say(result: dict) -> str:
    steps = result['details']['steps']
    return usual(result, f'Pivotal tuning to one photo ({steps["pivot"]} steps on the latent, {steps["tuning"]} on the weights)') + ' ' + NO_LOCK


TIER = Tier('T3', 'pivotal tuning', 'has the weights and one photo', attack, say, plain='training the changed file on one photo',
            budgets={'quick': {'pivot_steps': 4, 'tuning_steps': 12}, 'standard': {'pivot_steps': 30, 'tuning_steps': 100},
                     'thorough': {'pivot_steps': 100, 'tuning_steps': 350}},
            spends='{pivot_steps} + {tuning_steps} steps')
