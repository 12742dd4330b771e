"""T5: harmless tuning on other people, then the latent that was erased: does the person come back unasked?"""
from __future__ import annotations

from types import SimpleNamespace

from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.audit.sentences import compared, cosines, number, recognised
from eg3d_unlearn.evaluation.audit.subjects import bystanders
from eg3d_unlearn.evaluation.audit.tier import Findings, Shown, Tier, curve_of
from eg3d_unlearn.evaluation.audit.tuning import tuned
from eg3d_unlearn.evaluation.rendering import YAWS

POINTS = 4                           # of the curve beside its start


def attack(audit: Audit, budget: SimpleNamespace) -> Findings:
    """A network tuned on other people, asked for the latent that was erased."""
    others, kind = bystanders(audit.evidence, budget.people, audit.seed)
    every = max(1, budget.steps // POINTS)
    at = [step for step in range(budget.steps + 1) if step % every == 0]
    copies, curves = {}, {}
    for side in audit.sides:
        along: list[list[float]] = []

        def measure(done, copy, along=along):
            if done in at:
                along.append([audit.likeness_at(copy, index, subject.ws[:1]) for index, subject in enumerate(audit.subjects)])
        copies[side.name] = tuned(side.generator, others.ws, others.images, others.cameras, audit.perceptual, budget.steps,
                                  audit.learning_rate, audit.budget.half, seed=audit.seed, desc=f'T5 tuning {side.name}', after_step=measure)
        curves[side.name] = curve_of(at, list(zip(*along, strict=True)))

    def one(side, index, step):
        step()
        return [Shown(audit.views(copies[side.name], audit.subjects[index].ws[:1], YAWS), used=0)]

    findings = audit.on_everybody(one, 'T5')
    findings.curve = curves['after']
    findings.details = {'others': len(others.ws), 'others_are': kind, 'steps': budget.steps, 'lr': audit.learning_rate,
                        'curve_before': curves['before']}
    return findings


def say(result: dict) -> str:
    details, person = result['details'], result['curve']['person']
    return (f'{details["steps"]} harmless steps on {details["others"]} other people bring the erased latent from {number(person[0])} to '
            f'{number(person[-1])} seen from the front; from all views: {cosines(result["figures"])}, {recognised(result)}; '
            f'{compared(result["figures"])}.')


TIER = Tier('T5', 'harmless fine-tuning, then the original latent', 'has the weights and photos of other people, and means no harm', attack, say,
            plain='training the changed file on other people', telling=True,
            budgets={'quick': {'people': 6, 'steps': 16}, 'standard': {'people': 32, 'steps': 100}, 'thorough': {'people': 64, 'steps': 400}},
            spends='{steps} steps on {people} people')
