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
from eg3d_unlearn.evaluation.random_people import in_measured_views, pictures_before
from eg3d_unlearn.evaluation.rendering import Pair, by_both, in_batches, to_floats
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.evaluation.verification import Impostors, impostors
from eg3d_unlearn.person.given import world_person
from eg3d_unlearn.person.photo.dataset import data_set
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

HELD_OUT = 20                        # held-out people of a world, unless told otherwise
FIRST_HELD_OUT = 900_000             # their numbers begin here
EDGES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the curve's bins, in shares of the people: finer where they are near
WORST = 5                            # people who lost most, by number
POINTS = (f'rounded to {estimate.COARSE:g} of the largest distance and to {estimate.COARSE:g} of cosine, and sorted; exact distances from the '
          'erased latent to latents that the seed repeats would give the erased latent away')


def check_held_out(evidence: Evidence, name: Name, settings: Settings) -> None:
    """Refuse held-out people of whom there are no photos, or no cameras."""
    if not settings.held_out or evidence.world is not None:
        return
    if settings.data is None:
        raise InputError('--held-out asks for real people, and there are no pictures of any: give them with --data=DIR, cropped as the '
                         "network's training pictures were.")
    if evidence.g_s.is_3d and data_set(settings.data).labels() is None:
        raise InputError(f'--held-out inverts pictures of --data={settings.data}, which needs their cameras: a dataset.json at the top of '
                         'it, as python -m eg3d_unlearn.person.photo writes.')


@metric('retain', better='high', default_count=200, least_count=20, needs_recogniser=True, check=check_held_out)
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
        'recogniser': main, 'recogniser_of_the_loss': evidence.trained_with, 'rays': 'half' if name.half else 'full', 'pixels': '8 bit',
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
    """Real people whom no network was trained on, by their photos: inverted, then shown by both networks from the photo's camera."""
    count = (0 if evidence.world is None else HELD_OUT) if settings.held_out is None else settings.held_out
    if not count:
        return None
    found = inverted(evidence, settings, count)
    cameras = found['cameras'][:, None] if 'cameras' in found else None
    return by_both(evidence, found['ws'].to(evidence.device), cameras, settings.bar(f'{name}: held out'), as_bytes=True, half=name.half,
                   batch=settings.batch)


def inverted(evidence: Evidence, settings: Settings, count: int) -> dict[str, Tensor]:
    """Latents 'ws' of held-out photos and their 'cameras' (3D networks), kept in the cache."""
    encoder = evidence.config.encoder
    # Of a file that is not there the inversion itself complains.
    known = encoder is not None and Path(encoder).is_file()
    made_by = {'network': fingerprint(evidence.g_s), 'encoder': sha256_of(encoder) if known else None}
    if evidence.world is None:
        data = data_set(settings.data)
        names = data.chosen(count, settings.rng('held out'))
        key = {'what': 'inverted', **made_by, 'data': str(data.path.absolute()), 'names': names, 'by': evidence.config.inversion}
        return settings.cache.get(key, lambda: from_data(evidence, settings, names))
    # The erased person's number is skipped, and the key stays the same for everybody else.
    found = world_person(evidence.config)
    numbers = [number for number in range(FIRST_HELD_OUT, FIRST_HELD_OUT + count + 1) if found is None or number != found[1]][:count]
    key = {'what': 'inverted', **made_by, 'people': numbers}
    return settings.cache.get(key, lambda: from_world(evidence, numbers), on_disk=True)


def from_world(evidence: Evidence, numbers: list[int]) -> dict[str, Tensor]:
    taken = [evidence.world.photos_of(number, 1, evidence.g_s.img_resolution, first=1) for number in numbers]
    labels = torch.cat([one.cameras for one in taken]) if evidence.g_s.is_3d else None
    ws = evidence.invert(evidence.g_s, torch.cat([one.images for one in taken]), labels, 'encoder').ws
    return {'ws': ws.cpu(), **({} if labels is None else {'cameras': labels})}


def from_data(evidence: Evidence, settings: Settings, names: list[str]) -> dict[str, Tensor]:
    """Latents and cameras of pictures of ``--data``."""
    data, generator = data_set(settings.data), evidence.g_s
    images = to_floats(torch.stack([data.picture(name, generator.img_resolution) for name in names]))
    labels = None
    if generator.is_3d:
        known = data.labels()
        if missing := [name for name in names if name not in known]:
            raise InputError(f'dataset.json of --data={settings.data} has no camera for {len(missing)} of {len(names)} pictures, the first of '
                             f'them {missing[0]}.')
        labels = torch.tensor([known[name] for name in names])
    ws = []
    # One by one: memory is that of one photo, and no photo's exploration noise depends on how many there are.
    for rows in in_batches(len(images), 1, settings.bar('inverting held-out photos')):
        with torch.enable_grad():    # inversions that optimise need it
            ws.append(evidence.invert(generator, images[rows], None if labels is None else labels[rows]).ws.detach().cpu())
    return {'ws': torch.cat(ws), **({} if labels is None else {'cameras': labels})}


def described(evidence: Evidence, others: Pair, fitted: dict[str, Impostors], settings: Settings) -> dict:
    """Figures of some people: by every recogniser, LPIPS, depth, the worst, and the curve over the distance."""
    found = [faces_found(evidence, side, settings) for side in (others.before, others.after)]
    lost, cosines = failed(*found), {name: likeness(evidence, name, others, settings.cache) for name in evidence.recognisers}
    kept = {name: (value >= fitted[name].threshold) & (True if lost is None else ~lost) for name, value in cosines.items()}
    main, apart = evidence.measuring[0], lpips(evidence.judges.perceptual, others.before, others.after, evidence.device)
    worst = cosines[main].argsort()[:WORST].tolist()
    by = {name: {'in_loss': name == evidence.trained_with, 'cosine': estimate.mean(value, settings.seed, estimate.COSINE),
                 'kept': estimate.fraction(kept[name], settings.seed), 'worst': value.min().item()} for name, value in cosines.items()}
    values = {'cosine': cosines[main], 'lpips': apart, 'depth_change': others.depth_change, 'kept': kept[main]}
    return {'people': len(others), 'by': by, 'fifth_percentile': cosines[main].double().quantile(0.05).item(),
            'lpips': estimate.mean(apart, settings.seed, estimate.DISTANCE), 'lpips_worst': apart.max().item(),
            'depth_change': None if others.depth_change is None else estimate.mean(others.depth_change, settings.seed, estimate.DISTANCE),
            'worst': [{'person': number, 'cosine': cosines[main][number].item(), 'lpips': apart[number].item()} for number in worst],
            'detection': detection_json(*found), 'curve': curve(others.distance, values, settings.seed)}


def curve(distance: Tensor | None, values: dict[str, Tensor | None], seed: int) -> dict | None:
    """Means of ``values`` [N] in bins of ``distance`` [N] that hold the shares `EDGES` of the people, nearest first.

    Distances leave as `estimate.coarse` makes them.
    """
    if distance is None:
        return None
    order, bins, step = distance.argsort(), [], estimate.coarse_step(distance)
    edges = [round(share * len(distance)) for share in EDGES]
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        members = order[first:last]
        if not len(members):
            continue
        figured = {name: None if value is None else estimate.fraction(value[members], seed) if value.dtype == torch.bool
                   else estimate.mean(value[members], seed, estimate.COSINE if name == 'cosine' else estimate.DISTANCE)
                   for name, value in values.items()}
        nearest, farthest = estimate.snapped(distance[members[[0, -1]]], step)
        bins.append({'from': nearest, 'to': farthest, 'people': len(members), **figured})
    distances, cosines = zip(*estimate.coarse(distance, values['cosine']), strict=True)
    return {'bins': bins, 'points': {'distance': list(distances), 'cosine': list(cosines)}}


