"""Is the person gone?  What G_u shows for the person's latents, against G_s's renders of the same latents and against the photos."""
from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from eg3d_unlearn.evaluation import estimate
from eg3d_unlearn.evaluation.cache import checksum, fingerprint
from eg3d_unlearn.evaluation.detection import detection_json, faces_found
from eg3d_unlearn.evaluation.likeness import cosines, embedded
from eg3d_unlearn.evaluation.metrics.registry import Name, metric
from eg3d_unlearn.evaluation.rendering import YAWS, YAWS_DEG, from_yaws, rendered, to_bytes
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.evaluation.verification import impostors
from eg3d_unlearn.generators import cameras
from eg3d_unlearn.generators.generator import Generator

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence


@metric('id', title='likeness of the erased person, before against after, over views', heading='ID', better='low',
        columns={'verified': 'taken for the person'}, needs_person=True, needs_recogniser=True)
def id_(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """Identity cosine at the erased photo's latent, before against after, from 11 yaws (the paper's ID)."""
    return likeness(evidence, name, settings, slice(0, 1))


@metric('id_others', title='likeness of other photos of the person, before against after, over views', heading='ID_others', better='low',
        needs_person=True, needs_other_photos=True, needs_recogniser=True)
def id_others(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """The same at the latents of other photos of the person (the paper's ID_others)."""
    found = likeness(evidence, name, settings, slice(1, None))
    # By --forget-from=mean or all they are no held-out photos.
    found['protocol']['other_photos_took_part'] = evidence.config.forget_from != 'first'
    return found


def likeness(evidence: Evidence, name: Name, settings: Settings, which: slice) -> dict:
    """Cosines over views by every recogniser, verification rates, and what stands out; ``which`` of the person's photos."""
    ws = evidence.ws_mine[which]
    before = views_of(evidence.g_s, ws, settings, name.half, f'{name}: before')
    after = views_of(evidence.g_u, ws, settings, name.half, f'{name}: after')
    photos = None if evidence.photos_mine is None else to_bytes(evidence.photos_mine[0][which]).cpu()
    by = {recogniser: judged(evidence, recogniser, before, after, photos, settings, name) for recogniser in evidence.recognisers}
    main = evidence.measuring[0]
    protocol = {'yaws_deg': list(YAWS_DEG) if evidence.g_s.is_3d else None, 'pitch_rad': cameras.PITCH if evidence.g_s.is_3d else None,
                'pictures': f'{before.shape[1]} of each of {len(ws)} photos',
                'samples': 'photos; views of one photo are no independent samples',
                'threshold': 'fitted on pairs of random people as the network before shows them, from the same views'}
    detection = detection_json(*(faces_found(evidence, side, settings) for side in (before, after)))
    return {'value': by[main]['against_render'], 'verified': by[main]['verified_against_render'].value, 'by': by,
            'detection': detection, 'protocol': protocol}


def views_of(generator: Generator, ws: Tensor, settings: Settings, half: bool, title: str) -> Tensor:   # [P, V, 3, H, W] uint8
    """The person from all `YAWS`, or the one picture of a 2D network; in memory only: several metrics look at them."""
    key = {'what': 'views', 'network': fingerprint(generator), 'ws': checksum(ws), 'half': half}
    return settings.cache.get(key, lambda: rendered(generator, ws, from_yaws(generator, YAWS), as_bytes=True, half=half, batch=settings.batch,
                                                    title=settings.bar(title)).images)


def judged(evidence: Evidence, recogniser: str, before: Tensor, after: Tensor, photos: Tensor | None, settings: Settings, name: Name) -> dict:
    """What one recogniser says; ``before`` and ``after`` [P, V, 3, H, W], ``photos`` [P, 3, H, W] uint8."""
    def embed(pictures: Tensor) -> Tensor:
        return embedded(evidence, recogniser, pictures, settings.cache)
    fitted = impostors(evidence, recogniser, settings, name.half)
    s, u = embed(before), embed(after)
    to_render = cosines(u, s)
    found = {'in_loss': recogniser == evidence.trained_with, 'against_render': estimate.mean(to_render, settings.seed, estimate.COSINE),
             'verified_against_render': rate(to_render, fitted.threshold, settings), **stands_out(to_render, evidence.g_s.is_3d)}
    if photos is not None:
        real = embed(photos)[:, None]
        to_photo, photo_before = cosines(u, real), cosines(s, real)
        found.update(against_photo=estimate.mean(to_photo, settings.seed, estimate.COSINE),
                     verified_against_photo=rate(to_photo, fitted.threshold, settings),
                     before_against_photo=estimate.mean(photo_before, settings.seed, estimate.COSINE),
                     before_verified_against_photo=rate(photo_before, fitted.threshold, settings), highest_to_photo=to_photo.max().item())
    return {**found, **fitted.to_json()}


def rate(found: Tensor, threshold: float, settings: Settings) -> estimate.Estimate:   # [P, V]
    """The share of views that would pass for the person, in the mean over photos."""
    return estimate.mean((found >= threshold).float(), settings.seed, estimate.SHARE)


def stands_out(found: Tensor, is_3d: bool) -> dict:   # [P, V]
    """The view and the photo in which most of the person is left."""
    by_photo, by_view = found.mean(1), found.mean(0)
    result = {'highest': found.max().item(), 'worst_photo': {'number': int(by_photo.argmax()) + 1, 'cosine': by_photo.max().item()}}
    if is_3d:
        result['by_yaw'] = by_view.tolist()
        result['worst_view'] = {'yaw_deg': YAWS_DEG[int(by_view.argmax())], 'cosine': by_view.max().item()}
    return result
