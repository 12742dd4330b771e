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
from eg3d_unlearn.evaluation.rendering import Pair, by_both, in_batches, to_floats
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.evaluation.verification import Impostors, impostors, in_measured_views, pictures_before
from eg3d_unlearn.person.given import world_person
from eg3d_unlearn.person.photo.dataset import data_set
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

HELD_OUT = 20                        # held-out people of a world, unless told otherwise
FIRST_HELD_OUT = 900_000             # their numbers begin here
WORST = 5                            # people who lost most, by number
POINTS = (f'rounded to {estimate.COARSE:g} of the largest distance and to {estimate.COARSE:g} of cosine, and sorted; exact distances from the '
          'erased latent to latents that the seed repeats would give the erased latent away')


def photos_of_data(evidence: Evidence, settings: Settings) -> tuple[list[str], Tensor | None]:
    """Names of the held-out pictures of ``--data``, and their cameras [N, 25] (3D networks).

    Raises:
        InputError: no pictures, too few, or pictures without cameras.
    """
    if settings.data is None:
        raise InputError('--held-out asks for real people, and there are no pictures of any: give them with --data=DIR, cropped as the '
                         "network's training pictures were.")
    data = data_set(settings.data)
    names = data.chosen(settings.held_out, settings.rng('held out'))
    if not evidence.g_s.is_3d:
        return names, None
    known = data.labels() or {}
    if missing := [name for name in names if name not in known]:
        raise InputError(f'--held-out inverts pictures of {data.called}, which needs their cameras, and {len(missing)} of {len(names)} have '
                         f'none in a dataset.json at the top of it, the first of them {shown(missing[0])}. python -m '
                         'eg3d_unlearn.person.photo writes one.')
    return names, torch.tensor([known[name] for name in names])


def check_held_out(evidence: Evidence, name: Name, settings: Settings) -> None:
    if settings.held_out and evidence.made_up_world is None:
        photos_of_data(evidence, settings)


@metric('retain', title='likeness of other people, before against after', heading='likeness of others', better='high',
        columns={'fifth_percentile': '5th percentile', 'worst': 'worst of 200', 'held_out_mean': f'photos of {HELD_OUT} others',
                 'held_out_worst': 'worst of these'},
        default_count=200, least_count=20, needs_recogniser=True, check=check_held_out)
def retain(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """Identity cosine, LPIPS and depth change of other people, before against after, over their distance to the erased one."""
    held_out = held_out_people(evidence, settings, name)  # pictures that cannot be read are refused first
    people = in_measured_views(evidence.g_s, settings, name.count)
    # Those of G_s come from the cache where it has them.
    sampled = by_both(evidence, people.z, people.cameras, settings.bar(str(name)), as_bytes=True, half=name.half, batch=settings.batch,
                      before=pictures_before(evidence, people, settings, name.half))
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
    """Real people whom no network was trained on, by a photo each: inverted, then shown by both networks from its camera."""
    count = (0 if evidence.made_up_world is None else HELD_OUT) if settings.held_out is None else settings.held_out
    if not count:
        return None
    found = inverted(evidence, settings, count)
    cameras = found['cameras'][:, None] if 'cameras' in found else None
    return by_both(evidence, found['ws'].to(evidence.device), cameras, settings.bar(f'{name}: held out'), as_bytes=True, half=name.half,
                   batch=settings.batch)


def inverted(evidence: Evidence, settings: Settings, count: int) -> dict[str, Tensor]:
    """Latents 'ws' of held-out people's photos and their 'cameras' (3D networks), kept in the cache."""
    config = evidence.config
    # Of a file that is not there the inversion itself complains.
    made_by = sha256_of(config.encoder) if config.encoder is not None and Path(config.encoder).is_file() else None
    key = {'what': 'inverted', 'network': fingerprint(evidence.g_s), 'encoder': made_by}
    if evidence.made_up_world is None:
        key |= {'data': str(settings.data), 'seed': settings.seed, 'count': count,
                'by': [config.inversion, config.encoder_mean, config.inversion_steps, config.inversion_lr, config.seed]}
        return settings.cache.get(key, lambda: from_data(evidence, settings))
    # The erased person's number is skipped, and the key stays the same for everybody else.
    found = world_person(config)
    numbers = [number for number in range(FIRST_HELD_OUT, FIRST_HELD_OUT + count + 1) if found is None or number != found[1]][:count]
    return settings.cache.get({**key, 'people': numbers}, lambda: from_world(evidence, numbers), on_disk=True)


def from_world(evidence: Evidence, numbers: list[int]) -> dict[str, Tensor]:
    """The same, by the encoder."""
    taken = [evidence.made_up_world.photos_of(number, 1, evidence.g_s.img_resolution, first=1) for number in numbers]
    labels = torch.cat([one.cameras for one in taken]) if evidence.g_s.is_3d else None
    ws = evidence.invert(evidence.g_s, torch.cat([one.images for one in taken]), labels, 'encoder').ws
    return {'ws': ws.cpu(), **({} if labels is None else {'cameras': labels})}


def from_data(evidence: Evidence, settings: Settings) -> dict[str, Tensor]:
    """The same, of pictures of ``--data``, as the erased person's photo was inverted."""
    names, labels = photos_of_data(evidence, settings)
    images = to_floats(torch.stack([data_set(settings.data).picture(name, evidence.g_s.img_resolution) for name in names]))
    ws = []
    # One by one: memory is that of one photo, and no photo's exploration noise depends on how many there are.
    for rows in in_batches(len(images), 1, settings.bar('inverting held-out photos')):
        with torch.enable_grad():    # inversions that optimise need it
            ws.append(evidence.invert(evidence.g_s, images[rows], None if labels is None else labels[rows]).ws.detach().cpu())
    return {'ws': torch.cat(ws), **({} if labels is None else {'cameras': labels})}


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
