"""What happens to other people, and does it happen to those who are near?"""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eg3d_unlearn.evaluation import estimate
from eg3d_unlearn.evaluation.cache import fingerprint
from eg3d_unlearn.evaluation.detection import detection_json, faces_found, failed
from eg3d_unlearn.evaluation.likeness import likeness, lpips
from eg3d_unlearn.evaluation.metrics.registry import Name, metric
from eg3d_unlearn.evaluation.rendering import Pair, by_both
from eg3d_unlearn.evaluation.settings import HELD_OUT, Settings
from eg3d_unlearn.evaluation.verification import Impostors, impostors, in_measured_views, pictures_before
from eg3d_unlearn.person.given import world_person
from torch_utils_ext.download import sha256_of

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

FIRST_HELD_OUT = 900_000             # their numbers begin here
WORST = 5                            # people who lost most, by number
POINTS = (f'rounded to {estimate.COARSE:g} of the largest distance and to {estimate.COARSE:g} of cosine, and sorted; exact distances from the '
          'erased latent to latents that the seed repeats would give the erased latent away')


@metric('retain', title='likeness of other people, before against after', heading='likeness of others', better='high',
        columns={'fifth_percentile': '5th percentile', 'worst': 'worst of 200', 'held_out_mean': f'photos of {HELD_OUT} others',
                 'held_out_worst': 'worst of these'},
        default_count=200, least_count=20, needs_recogniser=True)
def retain(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """Identity cosine, LPIPS and depth change of other people, before against after, over their distance to the erased one."""
    people = in_measured_views(evidence.g_s, settings, name.count)
    # Those of G_s come from the cache where it has them.
    sampled = by_both(evidence, people.z, people.cameras, settings.bar(str(name)), as_bytes=True, half=name.half, batch=settings.batch,
                      before=pictures_before(evidence, people, settings, name.half))
    held_out = held_out_people(evidence, settings, name)
    fitted = {recogniser: impostors(evidence, recogniser, settings, name.half) for recogniser in evidence.recognisers}
    found = described(evidence, sampled, fitted, settings)
    main = evidence.measuring[0]
    protocol = {
        'people': name.count, 'latents': 'z ~ N(0, I), no truncation, each mapped by its own network', 'cameras': people.cameras_are,
        'distance': 'norm of the difference of the latents over all layers (units of W+), by the mapping before',
        'points': POINTS,
        'kept': 'share of people above the verification threshold whose face is still found', 'depth': 'mean absolute change, world units'}
    photos = None if held_out is None else described(evidence, held_out, fitted, settings)
    by_photo = {} if photos is None else {'held_out_mean': photos['by'][main]['cosine'].value, 'held_out_worst': photos['by'][main]['worst']}
    return {'value': found['by'][main]['cosine'], **by_photo, 'fifth_percentile': found['fifth_percentile'], 'worst': found['by'][main]['worst'],
            'sampled': found, 'held_out': photos,
            'thresholds': {key: value.to_json() for key, value in fitted.items()},
            'protocol': protocol}


def held_out_people(evidence: Evidence, settings: Settings, name: Name) -> Pair | None:
    """People of the world whom no network was trained on, by a photo each: inverted, then shown by both networks from its camera."""
    if evidence.world is None or not settings.held_out:
        return None
    found = inverted(evidence, settings)
    cameras = found['cameras'][:, None] if 'cameras' in found else None
    return by_both(evidence, found['ws'].to(evidence.device), cameras, settings.bar(f'{name}: held out'), as_bytes=True, half=name.half,
                   batch=settings.batch)


def inverted(evidence: Evidence, settings: Settings) -> dict[str, Tensor]:
    """Latents 'ws' of held-out people's photos and their 'cameras' (3D networks), kept in the cache."""
    encoder, count = evidence.config.encoder, settings.held_out
    # The erased person's number is skipped, and the key stays the same for everybody else.
    found = world_person(evidence.config)
    numbers = [number for number in range(FIRST_HELD_OUT, FIRST_HELD_OUT + count + 1) if found is None or number != found[1]][:count]
    # Of a file that is not there the inversion itself complains.
    made_by = sha256_of(encoder) if encoder is not None and Path(encoder).is_file() else None
    key = {'what': 'inverted', 'network': fingerprint(evidence.g_s), 'encoder': made_by, 'people': numbers}
    return settings.cache.get(key, lambda: from_world(evidence, numbers), on_disk=True)


def from_world(evidence: Evidence, numbers: list[int]) -> dict[str, Tensor]:
    """The same, by the encoder."""
    taken = [evidence.world.photos_of(number, 1, evidence.g_s.img_resolution, first=1) for number in numbers]
    labels = torch.cat([one.cameras for one in taken]) if evidence.g_s.is_3d else None
    ws = evidence.invert(evidence.g_s, torch.cat([one.images for one in taken]), labels, 'encoder').ws
    return {'ws': ws.cpu(), **({} if labels is None else {'cameras': labels})}


def described(evidence: Evidence, others: Pair, fitted: dict[str, Impostors], settings: Settings) -> dict:
    """Figures of some people: by every recogniser, LPIPS, depth, the worst, and the curve over the distance."""
    found = [faces_found(evidence, side, settings) for side in (others.before, others.after)]
    lost, cosines = failed(*found), {name: likeness(evidence, name, others, settings.cache) for name in evidence.recognisers}
    kept = {name: (value >= fitted[name].threshold) & (True if lost is None else ~lost) for name, value in cosines.items()}
    main, changes = evidence.measuring[0], lpips(evidence.judges.perceptual, others.before, others.after, evidence.device)
    worst = cosines[main].argsort()[:WORST].tolist()
    by = {name: {'in_loss': name == evidence.trained_with, 'cosine': estimate.mean(value, settings.seed, estimate.COSINE),
                 'kept': estimate.fraction(kept[name], settings.seed), 'worst': value.min().item()} for name, value in cosines.items()}
    return {'people': len(others), 'by': by, 'fifth_percentile': cosines[main].double().quantile(0.05).item(),
            'lpips': estimate.mean(changes, settings.seed, estimate.DISTANCE), 'lpips_worst': changes.max().item(),
            'depth_change': None if others.depth_change is None else estimate.mean(others.depth_change, settings.seed, estimate.DISTANCE),
            'worst': [{'person': number, 'cosine': cosines[main][number].item(), 'lpips': changes[number].item()} for number in worst],
            'detection': detection_json(*found), 'curve': curve(others.distance, cosines[main])}


def curve(distance: Tensor | None, cosines: Tensor) -> dict | None:   # [N], [N]
    """Likeness over the distance to the erased latent, one point a person, as `estimate.coarse` makes them; None where nobody is erased."""
    if distance is None:
        return None
    distances, values = zip(*estimate.coarse(distance, cosines), strict=True)
    return {'points': {'distance': list(distances), 'cosine': list(values)}}
