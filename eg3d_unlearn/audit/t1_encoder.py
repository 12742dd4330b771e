"""T1: latents of other photos, by the encoder (or another inversion) that was made for the network before."""
from __future__ import annotations

from eg3d_unlearn.audit.setting import Audit
from eg3d_unlearn.audit.tier import Findings, Shown, Tier
from eg3d_unlearn.audit.words import usual


def attack(audit: Audit) -> Findings:
    def one(side, index, step):
        step()
        ws = audit.subjects[index].ws
        return [Shown(audit.views(side.generator, ws[photo, None]), used=photo) for photo in (range(1, len(ws)) if len(ws) > 1 else [0])]

    findings = audit.on_everybody(one, 'T1')
    count = len(audit.subjects[0].ws)
    findings.details = {'inversion': audit.evidence.config.inversion, 'other_photos': count - 1, 'only_the_erased_photo': count == 1}
    return findings


def say(result: dict) -> str:
    details = result['details']
    photos = 'the erased photo (there is no other)' if details['only_the_erased_photo'] else \
        f'{details["other_photos"]} other photo{"s" * (details["other_photos"] > 1)}'
    return usual(result, f'The inversion {details["inversion"]}, made for G_s, of {photos}')


TIER = Tier('T1', 'the encoder on other photos', 'has the network, other photos of the person, and the encoder or inversion that was '
            'made for the network before', attack, say)
