"""What a page shows and what is measured on it: both networks, the same latents, the same cameras, constant noise."""
from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from itertools import combinations
from typing import Iterator

import torch
from torch import Tensor

from eg3d_unlearn.evaluation import estimate
from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.evaluation.likeness import embedded, likeness, lpips
from eg3d_unlearn.evaluation.pictures import BeforeAfter, Pictures, photograph
from eg3d_unlearn.evaluation.rendering import Pair, by_both, from_yaws, rendered
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.evaluation.verification import Impostors, impostors
from eg3d_unlearn.generators.cameras import MAX_YAW
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.precision import arithmetic
from eg3d_unlearn.judges.verification import FALSE_ACCEPTS, IMPOSTORS
from eg3d_unlearn.person.given import world_person
from eg3d_unlearn.person.person import Person
from eg3d_unlearn.unlearning.loss import adjacent_offsets
from eg3d_unlearn.unlearning.target import mean_target, ufo_target

VIEWS = 11                           # yaws from -15 to 15 degrees of 3D networks, as GUIDE measures
PEOPLE = 40                          # random people who are measured
SHOWN_PEOPLE = 6                     # of them in each row of the page
SHARES = 1 / 3, 2 / 3, 1.0           # of alpha_max, at which neighbours lie in each direction
PEOPLE_STREAM, NEIGHBOUR_STREAM = 101, 102    # told apart from the draws of the training
SAMPLES = 5                          # independent ones from which on an interval means something
DIRECTIONS = 3                       # random people towards whom neighbours lie
ERASED = ('same_photo', 'other_photos', 'neighbours')    # groups that are to change
KEPT = ('strangers', 'other_people')                      # groups that are to stay


@dataclass
class Plan:
    """How much is compared."""
    people: int = PEOPLE
    views: int = VIEWS               # an odd number, so that one is frontal
    impostors: int = IMPOSTORS       # random people from whose pairs the verification threshold is fitted
    show_photo: bool = False         # put the person's photos into the page; those of demo people always are
    seed: int = 0


def compare(
    evidence: Evidence,
    settings: dict,                  # 'config' of report.json: which target, how far, which neighbours
    plan: Plan,
    ws_target: Tensor | None = None,  # [1, num_ws, w_dim] where the person was moved; None: as the settings say
) -> tuple[Pictures, dict]:
    """All pictures of a page, and what `figures_of` says of them."""
    g_s, person = evidence.g_s, evidence.person
    yaws = [MAX_YAW * (2 * i / (plan.views - 1) - 1) for i in range(plan.views)] if g_s.is_3d else [None]
    views = from_yaws(g_s, yaws)
    front = None if views is None else views[len(views) // 2, None]
    ws_target = target_of(evidence, settings) if ws_target is None else ws_target[:1]
    near = neighbours(evidence, settings, plan.seed)
    people = g_s.sample(plan.people, stream(g_s, plan.seed, PEOPLE_STREAM))
    protocol = {'views_deg': [round(math.degrees(yaw), 1) for yaw in yaws if yaw is not None], 'people': plan.people, 'neighbours': len(near),
                'seed': plan.seed, 'noise': 'constant; cameras and depths the same on both sides', 'arithmetic': evidence.config.precision}
    if looks_at_small(evidence):
        protocol['other_people_px'] = g_s.resolution(half=True)
    with arithmetic(evidence.config.precision, evidence.device):
        latents = {'same_photo': (person.ws[:1], views), 'other_photos': (person.ws_others, cameras_of(person, 'mine')),
                   'neighbours': (near, front), 'strangers': (person.ws_strangers, cameras_of(person, 'strangers')),
                   'other_people': (people, front)}
        photographed = None if person.images is None else by_both(evidence, person.ws[:1], person.camera)
        target = None if ws_target is None else rendered(g_s, ws_target, views).images[0].clamp(-1, 1).cpu()
        groups = pairs_of_pictures(evidence, {'same_photo': latents.pop('same_photo')})
        with many_pictures(evidence):
            groups |= pairs_of_pictures(evidence, latents)
            figures = figures_of(evidence, groups, photographed, protocol, Settings(seed=plan.seed, impostors=plan.impostors))
    pictures = Pictures(
        views=[BeforeAfter(photograph(pair.before[i]), photograph(pair.after[i]), None if target is None else photograph(target[i]),
                           yaw=None if yaw is None else round(math.degrees(yaw), 1), likeness=value_of(figures, 'same_photo', i))
               for pair in [groups['same_photo']] for i, yaw in enumerate(yaws)],
        neighbours=shown(groups.get('neighbours'), figures, 'neighbours', [f'distance {share:.0%}' for share in SHARES] * DIRECTIONS),
        strangers=shown(groups.get('strangers'), figures, 'strangers'),
        other_photos=shown(groups.get('other_photos'), figures, 'other_photos'))
    everybody = shown(groups['other_people'], figures, 'other_people')
    pictures.first_drawn = everybody[:SHOWN_PEOPLE]
    if figures['measured_by'] is not None:
        pictures.changed_most = sorted(everybody, key=lambda one: one.likeness)[:SHOWN_PEOPLE]
    # People of the demo world are drawn: nobody's photo is shown.
    if plan.show_photo or world_person(evidence.config) is not None:
        show_photos(evidence, pictures)
    return pictures, figures


def pairs_of_pictures(evidence: Evidence, latents: dict[str, tuple[Tensor | None, Tensor | None]]) -> dict[str, Pair]:
    """Pictures of latents by both networks, of those groups that there are."""
    # One after another: no picture depends on how many there are, and memory is that of one.
    return {name: by_both(evidence, ws, cameras, f'pictures of {name.replace("_", " ")}', batch=1)
            for name, (ws, cameras) in latents.items() if ws is not None and len(ws)}


def looks_at_small(evidence: Evidence) -> bool:
    """Whether many people are looked at by small pictures: on a CPU, where a family's show as much of a face."""
    return evidence.g_s.searches_by_half and evidence.device.type == 'cpu'


@contextlib.contextmanager
def many_pictures(evidence: Evidence) -> Iterator[None]:
    """While entered, both networks make small pictures where `looks_at_small`."""
    sides = [evidence.g_s, evidence.g_u] if looks_at_small(evidence) else []
    for side in sides:
        side.is_light = True
    try:
        yield
    finally:
        for side in sides:
            side.is_light = False


def stream(generator: Generator, seed: int, number: int) -> torch.Generator:
    """Random draws of the page's own."""
    device = generator.device if generator.device.type == 'cuda' else 'cpu'
    return torch.Generator(device).manual_seed(1000 * seed + number)


def target_of(evidence: Evidence, settings: dict) -> Tensor | None:   # [1, num_ws, w_dim]
    """w_t of the erased latent as the run chose it; None where its settings are not known, or nobody was moved to it."""
    if not (settings.get('lambda_local', 1) or (settings.get('lambda_adj') and settings.get('n_adj'))):
        return None
    source, w_avg = evidence.person.ws[:1], evidence.g_s.w_avg
    if settings.get('target') == 'mean':
        return mean_target(source, w_avg)
    if settings.get('target') == 'ufo' and settings.get('target_d') is not None:
        return ufo_target(source, w_avg, settings['target_d'])
    return None


def neighbours(evidence: Evidence, settings: dict, seed: int) -> Tensor:   # [DIRECTIONS * len(SHARES), num_ws, w_dim] or [0, ...]
    """Latents around the person's at shares of alpha_max, towards random people (Eq. 5 and 6 of GUIDE)."""
    source, alpha_max = evidence.person.ws[:1], settings.get('alpha_max')
    if not alpha_max:
        return source[:0]
    towards = evidence.g_s.sample(DIRECTIONS, stream(evidence.g_s, seed, NEIGHBOUR_STREAM)).repeat_interleave(len(SHARES), dim=0)
    alphas = torch.tensor(SHARES * DIRECTIONS).to(source) * alpha_max
    return source + adjacent_offsets(towards, source, alphas)


def cameras_of(person: Person, whose: str) -> Tensor | None:   # [M, 1, 25] or [S, 1, 25]
    """Cameras of the person's other photos ('mine') or of other people's."""
    if person.cameras is None:
        return None
    count = 0 if person.ws_others is None else len(person.ws_others)
    return (person.cameras[:count] if whose == 'mine' else person.cameras[count:])[:, None]


def value_of(figures: dict, group: str, index: int) -> float | None:
    """The likeness of one picture by the recogniser that decides."""
    if figures['measured_by'] is None:
        return None
    return figures['likeness'][figures['measured_by']][group]['values'][index]


def shown(pair: Pair | None, figures: dict, group: str, titles: list[str] | None = None) -> list[BeforeAfter]:
    """Each latent of a group as small pictures."""
    if pair is None:
        return []
    return [BeforeAfter(photograph(pair.before[i], 256), photograph(pair.after[i], 256), likeness=value_of(figures, group, i),
                        title=titles[i] if titles else '') for i in range(len(pair.before))]


def show_photos(evidence: Evidence, pictures: Pictures) -> None:
    """Put the photos beside what the networks made of them."""
    if evidence.person.images is None:
        return
    pictures.photo = photograph(evidence.person.images[0])
    for one, image in zip(pictures.other_photos, evidence.person.images[1:], strict=False):
        one.photo = photograph(image, 256)


# ---- figures ----

@torch.no_grad()
def figures_of(
    evidence: Evidence,
    groups: dict[str, Pair],         # 'same_photo' (one latent, all views) and those of `ERASED` and `KEPT` that there are
    photographed: Pair | None,       # the erased latent from the photo's own camera
    protocol: dict,                  # how the pictures were made
    settings: Settings,              # how the verification threshold is fitted
) -> dict:
    """What ``report.json`` gains: likeness by each recogniser, LPIPS, how far the change reaches."""
    result: dict = {'measured_by': None, 'trained_with': evidence.trained_with, 'protocol': {
        **protocol, 'interval_from': SAMPLES, 'false_accept_rate': FALSE_ACCEPTS,
        **{name: len(groups[name]) if name in groups else 0 for name in ('other_photos', 'strangers')}}}
    if evidence.judges.perceptual is not None:
        changes = {name: lpips(evidence.judges.perceptual, pair.before, pair.after, evidence.device) for name, pair in groups.items()}
        result['lpips'] = {name: mean_of(values, name, settings.seed).to_json() for name, values in changes.items()}
    if not evidence.recognisers:
        return result
    result['measured_by'] = evidence.measuring[0]
    # The one that decides comes first.
    names = sorted(evidence.recognisers, key=lambda name: name != result['measured_by'])
    result['likeness'] = {name: likenesses({group: likeness(evidence, name, pair, settings.cache) for group, pair in groups.items()},
                                           impostors(evidence, name, settings), settings.seed) for name in names}
    deciding = result['likeness'][result['measured_by']]
    # Exact distances to people whom a seed gives would tell where the erased latent lies.
    result['reach'] = {name: [list(point) for point in estimate.coarse(pair.distance, torch.tensor(deciding[name]['values']))]
                       for name, pair in groups.items()}
    if photographed is not None:
        seen = torch.cat([evidence.person.images[:1].cpu(), photographed.before, photographed.after])
        for name in names:
            photo, before, after = embedded(evidence, name, seen, settings.cache)
            result['likeness'][name]['photo'] = {'before': round((photo @ before).item(), 5), 'after': round((photo @ after).item(), 5)}
    if len(evidence.recognisers) > 1:
        result['agreement'] = agreement(result['likeness'])
    return result


def likenesses(
    cosines: dict[str, Tensor],      # [N] of each group, before against after
    others: Impostors,               # what two different people have
    seed: int,
) -> dict:
    """Cosines before against after, of each group, and what two different people have."""
    threshold, (low, high) = round(others.threshold, 5), others.usual
    result: dict = {'different_people': {'mean': round(others.different_people, 5), 'low': round(low, 5), 'high': round(high, 5),
                                         'pairs': others.pairs, 'people': others.people, 'threshold': threshold}}
    for group, values in cosines.items():
        recognised = values >= threshold
        result[group] = {**mean_of(values, group, seed).to_json(), 'lowest': round(values.min().item(), 5),
                         'highest': round(values.max().item(), 5), 'recognised': int(recognised.sum()), 'of': len(values),
                         'values': [round(value, 5) for value in values.tolist()]}
        if group == 'other_people':
            result[group]['share_recognised'] = estimate.fraction(recognised, seed).to_json()
    return result


def mean_of(values: Tensor, group: str, seed: int) -> estimate.Estimate:   # values [N]
    """The mean of a group; views of one latent are one sample.  Few samples know nothing of their spread: no interval."""
    samples = {'same_photo': 1, 'neighbours': DIRECTIONS}.get(group, len(values))
    found = estimate.mean(values.unflatten(0, (samples, -1)), seed)
    return found if samples >= SAMPLES else dataclasses.replace(found, low=found.value, high=found.value)


def agreement(likenesses: dict[str, dict]) -> list[dict]:
    """How far each two recognisers agree: share of pictures with the same verdict, each at its own threshold; correlation."""
    groups = [group for group in ERASED + KEPT if all(group in found for found in likenesses.values())]
    columns = {name: torch.tensor([value for group in groups for value in found[group]['values']]) for name, found in likenesses.items()}
    verdicts = {name: values >= likenesses[name]['different_people']['threshold'] for name, values in columns.items()}
    return [{'recognisers': [a, b], 'pictures': len(columns[a]), 'same_verdict': int((verdicts[a] == verdicts[b]).sum()),
             'correlation': round(torch.corrcoef(torch.stack([columns[a], columns[b]]))[0, 1].item(), 4)}
            for a, b in combinations(likenesses, 2)]
