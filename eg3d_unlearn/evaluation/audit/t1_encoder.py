"""T1: latents of other photos, by the encoder (or another inversion) that was made for the network before."""
from __future__ import annotations

from types import SimpleNamespace

from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.audit.sentences import usual
from eg3d_unlearn.evaluation.audit.tier import Findings, Shown, Tier


def attack(audit: Audit, budget: SimpleNamespace) -> Findings:
    """The latents of other photos, as the encoder found them for G_s."""
    def one(side, index, step):
        step()
        ws = audit.subjects[index].ws
        return [Shown(audit.views(side.generator, ws[photo, None]), used=photo) for photo in (range(1, len(ws)) if len(ws) > 1 else [0])]

    findings = audit.on_everybody(one, 'T1')
    count, evidence = len(audit.subjects[0].ws), audit.evidence
    photographed = evidence.photos_mine is not None
    findings.details = {
        'inversion': evidence.config.inversion, 'other_photos': count - 1, 'only_the_erased_photo': count == 1 and photographed,
        # Of a person who was given as a latent or a seed a 2D network has that latent alone.
        'only_the_erased_latent': count == 1 and not photographed,
        'other_photos_took_part': count > 1 and photographed and evidence.config.forget_from != 'first'}
    return findings


def say(result: dict) -> str:
    """The sentence, by what there was to invert."""
    details = result['details']
    if details['only_the_erased_latent']:
        return usual(result, 'The exact latent that was erased (the person was given as a latent or a seed, and there is no photo to invert)')
    photos = 'the erased photo (there is no other)' if details['only_the_erased_photo'] else \
        f'{details["other_photos"]} other photo{"s" * (details["other_photos"] > 1)}'
    photos += ', which took part in the erasure (--forget-from)' * details['other_photos_took_part']
    return usual(result, f'The inversion {details["inversion"]}, made for G_s, of {photos}')


TIER = Tier('T1', 'the encoder on other photos', 'has the network, other photos of the person, and the encoder or inversion that was '
            'made for the network before', attack, say, plain='giving the changed file other photos of the person', telling=True)
