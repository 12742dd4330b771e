"""How long a run will take, estimated from one picture on this machine, and what would make it shorter."""
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable

import torch

from eg3d_unlearn.config import CLOSED_FORM, Config, parts_of
from eg3d_unlearn.evaluation import summary as report
from eg3d_unlearn.generators.generator import Generator, Output
from eg3d_unlearn.generators.precision import arithmetic
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.judges.verification import IMPOSTORS
from eg3d_unlearn.person.given import each_person, photos_of, world_person
from eg3d_unlearn.unlearning import closed_form
from eg3d_unlearn.unlearning.loss import TERMS

ENOUGH_S = 0.3                       # what takes less is timed again: a first call also makes room and chooses kernels
# A pass backward costs as much as one forward in all that only hands the gradient on, and twice as much where weights learn.
SHOWN = len(report.OTHER_SEEDS) + 2 * len(report.YAWS)
PAIR_NETWORK = 4                     # passes of the network for one pair of pictures: G_u, G_s, and G_u backward
PAIR_JUDGE = 3                       # passes of a judge: both pictures, and one of them backward
INVERSION = 2, 2                     # of network and LPIPS, for one step of an inversion: forward and backward
FULL_PAGE = 60                       # pictures that a full report.html shows of each network, roughly
LONG_S = 15 * 60                     # from here on it is said what would be shorter


@dataclass(frozen=True)
class Costs:
    """Seconds of one pass forward with one picture."""
    picture: float                   # of the network, as the report shows it
    seen: float                      # of the network, as the losses see it
    terms: dict[str, float]          # of what each term of the loss sees of it, by name; those that have a judge here
    small: float | None = None       # of the network, where latents are looked for and many people looked at by cheaper pictures

    @property
    def many(self) -> float:
        """Of the network, in an inversion and for the many people of a page."""
        return self.picture if self.small is None else self.small

    @property
    def lpips(self) -> float:
        return self.terms.get('lpips', 0.0)

    @property
    def recogniser(self) -> float:
        return self.terms.get('id', 0.0)


@dataclass(frozen=True)
class Estimate:
    """Seconds of each part of a run."""
    inversion: float
    step: float
    iters: int
    pictures: float                  # before-after.png, report.html

    @property
    def whole(self) -> float:
        return self.inversion + self.step * self.iters + self.pictures

    def __str__(self) -> str:
        parts = [f'{spoken(self.inversion)} to find the person'] if self.inversion else []
        if self.iters:
            parts.append(f'{spoken(self.step * self.iters)} for {self.iters} step{"s" * (self.iters != 1)} of {spoken(self.step)}')
        parts.append(f'{spoken(self.pictures)} for the pictures of the report')
        return f'about {spoken(self.whole)}, by the time of one picture here: {", ".join(parts)}'


def estimate(config: Config, generator: Generator, judges: Judges) -> Estimate:
    """What the run of a resolved ``config`` will take; times one picture, and leaves all random numbers alone."""
    shown = SHOWN
    if config.method == CLOSED_FORM:
        people = len(each_person(config))
        shown = len(report.other_seeds(generator, judges.measure)) + (len(report.YAWS) if generator.is_3d and people == 1 else people)
    return from_costs(config, costs_of(config, generator, judges), shown)


@torch.no_grad()
def costs_of(config: Config, generator: Generator, judges: Judges) -> Costs:
    """Time one picture, and what the judges need for it."""
    camera, device = generator.camera(0.0) if generator.is_3d else None, generator.device
    seen_as = {'raw': config.loss_resolution in ('raw', 'mixed'), 'half': config.loss_resolution == 'half'}

    def picture(**options) -> torch.Tensor:
        return generator.render(generator.backbone(generator.w_avg[None]), camera, **options).image
    with arithmetic(config.precision, device):
        # The closed form needs a picture of its own: one serves both.
        whole, image = seconds_of((lambda: closed_form.watch(generator)) if config.method == CLOSED_FORM else picture, device)
        seen, image = seconds_of(lambda: picture(**seen_as), device) if any(seen_as.values()) else (whole, image)
        side = Output(image, [])
        terms = {term.name: seconds_of(lambda term=term: term.see(term.judge_in(judges), side), device)[0]
                 for term in TERMS if term.works_with(judges)}
        small = seconds_of(lambda: picture(half=True), device)[0] if generator.searches_by_half and device.type == 'cpu' else None
    return Costs(whole, seen, terms, small)


def seconds_of(call: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """Seconds of a call and what it returns; short ones are called twice."""
    for again in (True, False):
        begun = time.perf_counter()
        result = call()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - begun
        if not again or seconds > ENOUGH_S:
            break
    return seconds, result


def from_costs(config: Config, costs: Costs, shown: int = SHOWN) -> Estimate:
    """The same from the time of one picture; ``shown``: pictures of the person, the target and random people by each network."""
    pairs_of_person = bool(config.lambda_local) + (config.n_adj if config.lambda_adj else 0)
    others = config.n_global if config.lambda_global else 0
    terms = sum(seconds for name, seconds in costs.terms.items() if getattr(config, f'lambda_{name}'))
    step = (pairs_of_person + others) * PAIR_NETWORK * costs.seen + PAIR_JUDGE * (pairs_of_person * terms + others * costs.lpips)
    images = sum(images_of(one) for one in each_person(config) if one.image)
    steps = config.inversion_steps if images and parts_of(config.inversion)[1] is not None else 0
    inversion = images * (2 * costs.picture + (steps or 0) * (INVERSION[0] * costs.many + INVERSION[1] * costs.lpips))
    full_page = FULL_PAGE + (IMPOSTORS if costs.recogniser else 0)
    full = 0.0 if config.report == 'brief' else 2 * full_page * costs.many
    return Estimate(inversion, step, config.iters, 2 * (shown + images) * (costs.picture + costs.lpips) + full)


def shorter(config: Config, generator: Generator, seconds: float) -> str | None:
    """The flags that would shorten a long run; None where it is short."""
    if seconds < LONG_S:
        return None
    flags = [f'--iters (now {config.iters})'] if config.iters else []
    if generator.has_half and config.loss_resolution == 'full' and config.iters:
        flags.append('--loss-resolution=half (about half the work)')
    if config.lpips_resolution is None and generator.img_resolution > 256 and config.loss_resolution != 'raw':
        flags.append('--lpips-resolution=256')
    if config.precision == 'fp32':
        flags.append('--precision=bf16')
    if config.image and config.inversion_steps:
        flags.append(f'--inversion-steps (now {config.inversion_steps})')
    if config.report == 'full':
        flags.append('--report=brief')
    return f'What makes it shorter: {", ".join(flags)}{"; or a GPU (--device=cuda)" if generator.device.type == "cpu" else ""}.'


def images_of(config: Config) -> int:
    """How many photos of a person, and of others beside, are inverted."""
    found = world_person(config)
    return len(photos_of(config)) if found is None else 1 + found[0].other_photos + found[0].strangers


def spoken(seconds: float) -> str:
    """A span of time in one rounded number."""
    for unit, size in (('days', 86400.0), ('h', 3600.0), ('min', 60.0)):
        if seconds >= 1.5 * size:
            count = seconds / size
            return f'{count:.0f} {unit}' if count >= 10 else f'{count:.1f} {unit}'
    return f'{seconds:.0f} s' if seconds >= 10 else f'{seconds:.1f} s'
