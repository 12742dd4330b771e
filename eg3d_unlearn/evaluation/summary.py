"""What a run did: pictures and figures before and after."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.likeness import cosines, embeddings, lpips
from eg3d_unlearn.evaluation.rendering import from_yaws, rendered
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.judges import Embed
from eg3d_unlearn.judges.perceptual import Perceptual
from eg3d_unlearn.judges.verification import pairs_of
from torch_utils_ext.user_files import dict_at, is_number

YAWS = (-math.pi / 12, 0.0, math.pi / 12)  # the three views of the picture and of the report [radians]
# Random people that nobody asked to forget (NVIDIA's seeds). Likeness before against after scatters by 0.03 to 0.1 from one to
# the next (report.html shows each): the mean of thirty is good to 0.02.
OTHER_SEEDS = tuple(range(1001, 1031))
OTHERS_DRAWN = 8                     # of all other people, how many the picture shows
LARGE = 512                          # pixels: from here on a picture takes seconds on a CPU
WRONG_PERSON = 'PROBABLY THE WRONG PERSON WAS ERASED'
MEANINGLESS = 'THE JUDGES (LPIPS, RECOGNISER) HAVE RANDOM WEIGHTS: THIS RESULT MEANS NOTHING.'


def doubts(person: dict) -> list[str]:
    """Why the face that was erased may be another one than the photo's, as the notes of ``Person`` say it; technical."""
    return [str(said['warning']) for said in (person, dict_at(person, 'encoder')) if said.get('warning')]


def other_seeds(generator: Generator, judged: bool) -> tuple[int, ...]:
    """The random people of a run that trains nothing: many where something measures them, else those of the picture; fewer if slow."""
    slow = generator.device.type == 'cpu' and generator.img_resolution >= LARGE
    if judged:
        return OTHER_SEEDS[:OTHERS_DRAWN] if slow else OTHER_SEEDS
    return OTHER_SEEDS[:OTHERS_DRAWN // 2 if slow else OTHERS_DRAWN]


@dataclass
class Views:
    """What one network shows, each picture [1, 3, H, W] in -1 to 1."""
    source: list[Tensor]             # the latent to forget, three views for EG3D
    target: list[Tensor]             # w_t, the same views; of G_s only
    other_photos: list[Tensor]       # latents of other photos of the person; none where there are no other photos
    strangers: list[Tensor]          # latents of photos of other people; likewise
    random_people: list[Tensor]      # random latents
    people: int = 1                  # erased together; of several, `source` holds one view each

    @property
    def others(self) -> list[Tensor]:
        """Everybody who was not to be forgotten."""
        return self.strangers + self.random_people


def show_all(generator: Generator, people: list[dict], seeds: Sequence[int], targets: Sequence[Tensor] = ()) -> Views:
    """The people of a saved state, their targets, other photos of them, and people nobody asked to forget: those of ``seeds``.

    Of one person three views and all photos; of several each from the front, and one other photo.
    """
    front, several = from_yaws(generator, [0.0]), len(people) > 1
    sides = front if several else from_yaws(generator, YAWS)

    def shown(latents: Sequence[Tensor], cameras: Tensor | None) -> list[Tensor]:
        # One after another: no picture depends on how many there are, and memory is that of one.
        return list(rendered(generator, torch.cat(list(latents)), cameras, batch=1).images.flatten(0, 1).split(1)) if latents else []

    def photographed(person: dict, part: str, first: int, count: int) -> list[Tensor]:
        labels = None if person['cameras'] is None else person['cameras'][first:first + count, None]
        return shown([person[part][:count]], labels) if count else []

    others = [0 if one['ws_others'] is None else len(one['ws_others']) for one in people]
    strangers = 0 if people[0]['ws_strangers'] is None else len(people[0]['ws_strangers'])   # with the first person only
    photos = [image for one, count in zip(people, others, strict=True)
              for image in photographed(one, 'ws_others', 0, min(count, 1) if several else count)]
    return Views(source=shown([one['ws_source'][:1] for one in people], sides), target=shown([ws[:1] for ws in targets], sides),
                 other_photos=photos, strangers=photographed(people[0], 'ws_strangers', others[0], strangers),
                 random_people=shown([generator.map_seed(seed) for seed in seeds], front), people=len(people))


def summary(before: Views, after: Views, embed: Embed | None, name: str) -> dict:
    """The answer in six numbers: identity cosines of the same latent before against after, and what strangers have.

    1 is the same person to the recogniser; ``different_people_mean`` is what two different people have on this network.
    """
    result = {'erased_same_photo': None, 'erased_other_photos': None, 'other_people': None, 'other_people_worst': None,
              'different_people_mean': None, 'measured_by': name, 'other_photos': len(before.other_photos), 'others': len(before.others)}
    if embed is None:
        return result
    was, became = ({part: embeddings(embed, torch.cat(getattr(views, part))) for part in ('source', 'other_photos', 'others')
                    if getattr(views, part)} for views in (before, after))
    alike = {part: cosines(faces, became[part]) for part, faces in was.items()}
    result['erased_same_photo'] = alike['source'].mean().item()
    if before.people > 1:
        result['people'] = before.people
        result['erased_worst'] = alike['source'].max().item()
    if before.other_photos:
        result['erased_other_photos'] = alike['other_photos'].mean().item()
    result['other_people'], result['other_people_worst'] = alike['others'].mean().item(), alike['others'].min().item()
    middle = len(before.source) // 2
    people = torch.cat([was['source'][middle, None] if before.people == 1 else was['source'], was['others']])
    result['different_people_mean'] = pairs_of(people @ people.T).mean().item()
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in result.items()}


def nearer_to_others(figures: dict) -> bool | None:
    """Whether the face after is more like two different people than like one and the same; None where nothing compared them."""
    person, different = figures.get('erased_worst', figures.get('erased_same_photo')), figures.get('different_people_mean')
    return person - different < 1 - person if is_number(person) and is_number(different) else None


def summary_lines(figures: dict, measured: dict, seconds: float) -> list[str]:
    """The summary in words that need no paper."""
    if figures['erased_same_photo'] is None and 'unlearned_against_source' not in measured:
        return [f'Nothing measured how far the person moved and what others lost: there was neither a recogniser nor LPIPS. {seconds:.0f} s.']
    if figures['erased_same_photo'] is None:
        return [f'The person: LPIPS {measured["unlearned_against_source"]["lpips"]:.3f} from before; others: LPIPS '
                f'{measured["others_before_against_after"]["lpips"]:.3f}. {seconds:.0f} s.']
    several = figures.get('people')
    whom = 'the erased person' if several is None else f'{several} erased people'
    rows = [(f'{whom}, {"this photo" if several is None else "their photos"}', figures['erased_same_photo']),
            ('  the one who is left most', figures.get('erased_worst')),
            (f'{whom}, {figures["other_photos"]} other photos', figures['erased_other_photos']),
            (f'{figures["others"]} other people', figures['other_people'])]
    lines = [f'Likeness before against after, by the recogniser {figures["measured_by"]} (1 = the same person, '
             f'{figures["different_people_mean"]:.2f} = two different people):']
    lines += [f'  {title:36s} {value:5.2f}' for title, value in rows if value is not None]
    lines[-1] += f' on average, {figures["other_people_worst"]:.2f} the one who changed most'
    return [*lines, f'{seconds:.0f} s in all.']


def measure(before: Views, after: Views, perceptual: Perceptual | None, recogniser: Embed | None) -> dict:
    """How far the person moved, and how little the others did: LPIPS and identity cosine, means over views and people.

    What has no judge or no pictures is left out.
    """
    def compare(*pair: list[Tensor]) -> dict[str, float]:
        a, b = map(torch.cat, pair)
        figures = {'lpips': None if perceptual is None else lpips(perceptual, a, b),
                   'identity_cosine': None if recogniser is None else cosines(embeddings(recogniser, a), embeddings(recogniser, b))}
        return {name: round(values.mean().item(), 4) for name, values in figures.items() if values is not None}

    pairs = {
        'unlearned_against_source': (after.source, before.source),
        'unlearned_against_target': (after.source, before.target),
        'source_against_target_before': (before.source, before.target),
        'others_before_against_after': (before.others, after.others),
    }
    judged = perceptual is not None or recogniser is not None
    return {**{name: compare(*pair) for name, pair in pairs.items() if judged and all(pair)}, 'others': len(before.others)}
