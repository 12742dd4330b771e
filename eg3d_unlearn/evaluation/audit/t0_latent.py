"""T0: the latent that was erased, from all views."""
from __future__ import annotations

from types import SimpleNamespace

from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.audit.sentences import usual
from eg3d_unlearn.evaluation.audit.tier import Findings, Shown, Tier
from eg3d_unlearn.evaluation.rendering import YAWS


def attack(audit: Audit, budget: SimpleNamespace) -> Findings:
    """The latent that was erased, shown from all views."""
    def one(side, index, step):
        step()
        return [Shown(audit.views(side.generator, audit.subjects[index].ws[:1], YAWS), used=0)]

    findings = audit.on_everybody(one, 'T0')
    findings.details = {'views': len(YAWS) if audit.evidence.g_s.is_3d else 1}
    return findings


TIER = Tier('T0', 'the original latent, all views', 'has the network and the latent that was erased', attack,
            lambda result: usual(result, 'The latent that was erased'), plain='asking for the person as before', telling=True)
