"""T4: relearning from one photo: identity against steps.

From two latents.  At the mean latent the person and a control start alike, neither being shown there: whether the network
learns the erased person faster than somebody it may never have known says whether knowledge was left.  These are the
tier's figures and its curve.  At the latent that was erased an attacker starts in fact; controls are there from the beginning.
The photo is the erased one.
"""
from __future__ import annotations

import statistics
from types import SimpleNamespace

from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.audit.scores import AFTER, BEFORE
from eg3d_unlearn.evaluation.audit.sentences import NO_LOCK, back, compared, cosines, steps
from eg3d_unlearn.evaluation.audit.tier import Findings, Shown, Tier, curve_of
from eg3d_unlearn.evaluation.audit.tuning import tuned
from torch_utils_ext.user_files import dict_at

MEAN, ERASED = 'mean_latent', 'erased_latent'


def attack(audit: Audit, budget: SimpleNamespace) -> Findings:
    """One photo, taught at the mean latent and at the one that was erased."""
    at = list(range(0, budget.steps + 1, budget.every))
    curves: dict[tuple[str, str], list[list[float]]] = {}

    def one(side, index, step):
        subject, shown = audit.subjects[index], {}
        image, camera = subject.photo(0)
        for start, ws in ((ERASED, subject.ws[:1]), (MEAN, audit.evidence.g_s.w_avg[None])):
            if start == ERASED and side.name == BEFORE:
                step(budget.steps + 1)  # G_s shows everybody there from the start
                continue
            curve = []

            def measure(done, copy, ws=ws, curve=curve):
                step()
                if done in at:
                    curve.append(audit.likeness_at(copy, index, ws))
            copy = tuned(side.generator, ws, image, camera, audit.perceptual, budget.steps, audit.learning_rate, audit.budget.half,
                         after_step=measure)
            curves.setdefault((side.name, start), []).append(curve)
            shown[start] = [Shown(audit.views(copy, ws), used=0)]
        return shown[MEAN]

    findings = audit.on_everybody(one, 'T4', 2 * (budget.steps + 1))
    findings.curve = curve_of(at, curves[AFTER, MEAN])
    findings.details = {'lr': audit.learning_rate, 'threshold': round(audit.threshold, 4), 'most_steps': at[-1], 'measured_every': budget.every,
                        **{start: {'curve': curve_of(at, curves[AFTER, start]), 'steps': steps_needed(at, curves[AFTER, start], audit.threshold)}
                           for start in (MEAN, ERASED)}}
    findings.details[MEAN] |= {'curve_before': curve_of(at, curves[BEFORE, MEAN]),
                               'steps_before': steps_needed(at, curves[BEFORE, MEAN], audit.threshold)}
    return findings


def steps_needed(at: list[int], curves: list[list[float]], threshold: float) -> dict:
    """The first measured step at which the face is recognised: of the person, and the median of the controls; None = never."""
    found = [next((step for step, value in zip(at, curve, strict=True) if value >= threshold), None) for curve in curves]
    controls = statistics.median_high([float('inf') if step is None else step for step in found[1:]])
    return {'person': found[0], 'controls': None if controls == float('inf') else controls, 'controls_never': found[1:].count(None)}


def say(result: dict) -> str:
    """The sentence: how many steps it takes at each latent."""
    details = result['details']
    most, erased, mean = details['most_steps'], details[ERASED]['steps'], details[MEAN]['steps']
    gets = {None: f'does not get the face back within {most} steps', 0: 'need not teach the network: the face is there'}.get(
        erased['person'], f'gets the face back {steps(erased["person"], most)}')
    return (f'Someone with the weights and one photo {gets} at the latent that was erased; taught at the mean latent, where nobody has a '
            f'start, the person is back {steps(mean["person"], most)}, a control person {steps(mean["controls"], most)} (looked at every '
            f'{details["measured_every"]}); after {most} steps there: {cosines(result["figures"])}; {compared(result["figures"])}. {NO_LOCK}')


def brought_back(result: dict) -> bool | None:
    """`back`, which is about the mean latent; who is recognised at the latent that was erased is back as well."""
    return True if dict_at(result, 'details', ERASED, 'steps').get('person') is not None else back(result)


TIER = Tier('T4', 'relearning from one photo', 'has the weights and one photo', attack, say,
            plain='teaching the changed file the face of a photo again', back=brought_back,
            budgets={'quick': {'steps': 12, 'every': 2}, 'standard': {'steps': 100, 'every': 5}, 'thorough': {'steps': 400, 'every': 10}},
            spends='2 x {steps} steps')
