"""Train the judges of the demo world, each on photos of people of its own.

The seeds in `SEEDS` are those of `people.training_people`.  No two judges share one, so that the recogniser that an
unlearning run uses and the recogniser that measures its result have seen none of each other's people.  All figures are
of people of the held-out range.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.worlds.demo import scene
from eg3d_unlearn.worlds.demo.judges import (
    COMMANDS,
    SIZE,
    DemoLpips,
    FeatureNetwork,
    LossRecogniser,
    MeasuringRecogniser,
    PerceptualNetwork,
    load_judge,
    save_network,
    soft_unit,
)
from eg3d_unlearn.worlds.demo.people import IDENTITY, NUISANCE
from eg3d_unlearn.worlds.demo.photos import PhotoSet, look, photo_set, to_floats
from eg3d_unlearn.worlds.demo.training import TrainingRun, cosine

WHICH = tuple(COMMANDS.values())
SEEDS = {'loss-recogniser': 101, 'measuring-recogniser': 102, 'perceptual': 103, 'features': 104}
HELD_OUT_SEED = 105                   # of the held-out people that all figures are of
DIFFERENT = 0.5                       # the perceptual distance of two people, as LPIPS has it on faces


@dataclass
class Schedule:
    steps: int
    batch: int                        # photos of a step
    people: int                       # of the training set
    photos: int                       # of each of them
    resolution: int = SIZE            # of the photos [pixels]
    lr: float = 2e-3
    precision: str = 'bf16'           # of the network while training: 'bf16' or 'fp32'
    held_out_people: int = 200        # of the figures
    held_out_photos: int = 4


SCHEDULES = {
    'loss-recogniser': Schedule(steps=1400, batch=128, people=600, photos=8),
    'measuring-recogniser': Schedule(steps=1400, batch=128, people=600, photos=8),
    'perceptual': Schedule(steps=1400, batch=64, people=1200, photos=2, resolution=2 * SIZE),
    'features': Schedule(steps=900, batch=32, people=1000, photos=2),
}


# ---- What a network has to put up with

def moved(
    images: Tensor,                   # [N, 3, H, W]
    shift: float,                     # greatest shift [pixels]
    bend: float = 0.0,                # typical size of smooth displacements on top of it [pixels]
) -> Tensor:
    """Every picture shifted and bent in a way of its own; its rim goes on beyond it."""
    count, _, height, width = images.shape
    displacement = (torch.rand(count, 2, 1, 1) * 2 - 1) * shift
    displacement = displacement + F.interpolate(torch.randn(count, 2, 4, 4) * bend, size=(height, width), mode='bicubic')
    grid = F.affine_grid(torch.eye(2, 3).expand(count, 2, 3), list(images.shape), align_corners=False)
    grid = grid + displacement.permute(0, 2, 3, 1) * torch.tensor([2 / width, 2 / height])
    return F.grid_sample(images, grid, padding_mode='border', align_corners=False)


def shrunk(images: Tensor, factor: float) -> Tensor:
    """Pictures [N, 3, H, W] as they look after losing ``factor`` of their pixels along each side."""
    size = [round(side / factor) for side in images.shape[2:]]
    small = F.interpolate(images, size=size, mode='bilinear', antialias=True, align_corners=False)
    return F.interpolate(small, size=images.shape[2:], mode='bilinear', align_corners=False)


def gaussian(images: Tensor, sigma: float) -> Tensor:
    """Pictures [N, 3, H, W] blurred; ``sigma`` in pixels."""
    reach = math.ceil(2.5 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).repeat(3, 1, 1, 1)
    images = F.pad(images, (reach,) * 4, mode='replicate')
    return F.conv2d(F.conv2d(images, weights, groups=3), weights.transpose(2, 3), groups=3)


def blurred(images: Tensor) -> Tensor:
    """A third of the pictures [N, 3, H, W] after each of three kinds of blur, of random strength for sides of 64 pixels."""
    scale = images.shape[-1] / SIZE
    first, second, third = images.tensor_split(3)
    sigma = scale * (0.4 + 1.0 * torch.rand(()).item())
    return torch.cat([shrunk(first, 2), shrunk(second, 2 + torch.rand(()).item()), gaussian(third, sigma)])


def smooth_noise(images: Tensor, size: float) -> Tensor:
    """Clouds [N, 3, H, W] of colour, ``size`` high."""
    return F.interpolate(torch.randn(len(images), 3, 8, 8), size=images.shape[2:], mode='bicubic') * size


def generator_like(images: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] as a small generator makes them: soft, a little bent, with faint clouds."""
    bend = 0.6 * images.shape[-1] / SIZE
    return (moved(blurred(images), 0.0, bend) + smooth_noise(images, 0.06)).clamp(-1, 1)


def spoiled(images: Tensor) -> tuple[Tensor, Tensor]:
    """What networks are trained on: half of the pictures [N, 3, H, W] blurred, all of them moved, relit and noisy.

    The pictures come in random order, so it does not matter which half.  With them, how blurred and noisy each of them
    is [N, 2], from -1 to 1.
    """
    count, scale = len(images), images.shape[-1] / SIZE
    half = count // 2
    images = torch.cat([blurred(images[:half]), images[half:]])
    images = moved(images, 2.5 * scale, 0.6 * scale * torch.rand(()).item())
    gain, level = 1 + 0.1 * torch.randn(count, 1, 1, 1), 0.06 * torch.randn(count, 1, 1, 1) + 0.02 * torch.randn(count, 3, 1, 1)
    clouds, noise = torch.rand(2, count, 1, 1, 1)
    noise = noise.square()
    images = images * gain + level + clouds * smooth_noise(images, 0.08) + 0.1 * noise * torch.randn_like(images)
    blur = torch.where(torch.arange(count) < half, 1.0, -1.0)
    return images.clamp(-1, 1), torch.stack([blur, 2 * noise.flatten() - 1], dim=1)


# ---- What each of them is trained for

class Task(nn.Module):
    """A network, what only its training needs, and the loss of a step."""

    network: nn.Module

    def loss(self, photos: PhotoSet, schedule: Schedule) -> Tensor:
        raise NotImplementedError

    def finish(self, photos: PhotoSet) -> None:
        """Set what is measured after the last step."""


def draw(photos: PhotoSet, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures [count, 3, H, H] in -1 to 1, their people [count] and places [count] among the photos of these."""
    people, places = torch.randint(photos.images.shape[0], (count,)), torch.randint(photos.images.shape[1], (count,))
    return to_floats(photos.images[people, places]), people, places


class Recognition(Task):
    """ArcFace (Deng et al., CVPR 2019): the angle to the own centre counts as if it were ``margin`` wider."""

    def __init__(self, network: nn.Module, people: int, margin: float = 0.3, scale: float = 16.0):
        super().__init__()
        self.network, self.margin, self.scale = network, margin, scale
        self.centres = nn.Parameter(torch.randn(people, network.options['embedding']) * 0.1)
        # Steps so far: the margin grows over the first 200, while the centres find their places.
        self.register_buffer('seen', torch.zeros(()))

    def loss(self, photos: PhotoSet, schedule: Schedule) -> Tensor:
        images, who, _ = draw(photos, schedule.batch)
        with torch.autocast('cpu', torch.bfloat16, enabled=schedule.precision == 'bf16'):
            embeddings = self.network(spoiled(images)[0].contiguous(memory_format=torch.channels_last))
        cosines = F.normalize(embeddings.float()) @ F.normalize(self.centres).T
        own = cosines.gather(1, who[:, None]).clamp(-0.999, 0.999)
        self.seen += 1
        margin = self.margin * (self.seen / 200).clamp(max=1)
        # Equation 3 of the paper.
        widened = torch.cos((own.acos() + margin).clamp(max=math.pi))
        return F.cross_entropy(self.scale * cosines.scatter(1, who[:, None], widened), who)


class Regression(Task):
    """Who is seen, with which face, in which light and from where, how blurred and noisy: numbers from pictures.

    With the last two, the trunk cannot pass over small things, as it would if blur and noise only stood in its way.
    """

    def __init__(self, network: PerceptualNetwork):
        super().__init__()
        self.network = network
        self.answer = nn.Sequential(nn.Dropout(0.1), nn.Linear(16 * network.options['channels'][-1], len(IDENTITY) + len(NUISANCE) + 4))

    def answers(self, images: Tensor) -> Tensor:
        """[N, attributes + 4] of pictures [N, 3, H, W]."""
        last = self.network(images.contiguous(memory_format=torch.channels_last))[-1]
        return self.answer(F.adaptive_avg_pool2d(last, 4).flatten(1))

    def loss(self, photos: PhotoSet, schedule: Schedule) -> Tensor:
        images, people, places = draw(photos, schedule.batch)
        # Users' pictures have 64 or 128 pixels; the larger ones cost four times as much and come every fourth step.
        if torch.rand(()) < 0.75:
            images = F.interpolate(images, size=(SIZE, SIZE), mode='area')
        else:
            images, people, places = (value[: schedule.batch // 2] for value in (images, people, places))
        with torch.autocast('cpu', torch.bfloat16, enabled=schedule.precision == 'bf16'):
            images, quality = spoiled(images)
            answers = self.answers(images)
        return (answers.float() - torch.cat([wanted_answers(photos)[people, places], quality], dim=1)).square().mean()

    @torch.no_grad()
    def finish(self, photos: PhotoSet) -> None:
        """Weigh the stages so that each of them finds two people equally far apart, and all together `DIFFERENT`."""
        self.network.eval()
        images = to_floats(photos.images[:192, 0])
        sums = 0.0
        for part in images.split(48):
            features = [soft_unit(feature) for feature in self.network(part)]
            sums = sums + torch.stack([(x - x.roll(1, 0)).square().sum(1).mean((1, 2)).sum() for x in features])
        self.network.heads.copy_(DIFFERENT / len(sums) * len(images) / sums)


def wanted_answers(photos: PhotoSet) -> Tensor:
    """Attributes, expression, light, yaw and pitch [P, K, attributes + 2] of photos, each -1 to 1."""
    x, y, z = photos.cameras[..., [3, 7, 11]].unbind(-1)
    # As in `cameras.look_at`, pitch is linear in the height of the camera.
    pitch = -0.5 * math.pi * y / torch.stack([x, y, z]).norm(dim=0)
    angles = torch.stack([torch.atan2(x, z) / scene.MAX_YAW, pitch / scene.MAX_PITCH], dim=-1)
    return torch.cat([photos.attributes[:, None].expand(-1, photos.nuisance.shape[1], -1), photos.nuisance, angles], dim=-1)


class Contrast(Task):
    """SimCLR (Chen et al., ICML 2020), where quality belongs to the picture: a photo and its blurred copy are two things.

    So the features tell people, poses and lights apart, and sharp from soft and clean from noisy as well, which Fréchet
    distances need.
    """

    def __init__(self, network: FeatureNetwork, temperature: float = 0.1):
        super().__init__()
        self.network, self.temperature = network, temperature

    def loss(self, photos: PhotoSet, schedule: Schedule) -> Tensor:
        images = draw(photos, schedule.batch)[0]
        noisy = images + 0.2 * torch.rand(len(images), 1, 1, 1) * torch.randn_like(images)
        things = torch.cat([images, blurred(images), generator_like(images), noisy])
        views = torch.cat([self.view(things), self.view(things)])
        with torch.autocast('cpu', torch.bfloat16, enabled=schedule.precision == 'bf16'):
            features = self.network(views)
        likeness = F.normalize(features.float())
        likeness = likeness @ likeness.T / self.temperature
        likeness.fill_diagonal_(-math.inf)
        return F.cross_entropy(likeness, torch.arange(len(views)).roll(len(things)))

    @staticmethod
    def view(images: Tensor) -> Tensor:
        """Pictures moved by up to a pixel, a little lighter or darker."""
        return moved(images, 1.0) * (1 + 0.05 * torch.randn(len(images), 1, 1, 1)) + 0.03 * torch.randn(len(images), 1, 1, 1)


TASKS: dict[str, Callable[[Schedule], Task]] = {
    'loss-recogniser': lambda schedule: Recognition(LossRecogniser(), schedule.people),
    'measuring-recogniser': lambda schedule: Recognition(MeasuringRecogniser(), schedule.people),
    'perceptual': lambda schedule: Regression(PerceptualNetwork()),
    'features': lambda schedule: Contrast(FeatureNetwork()),
}


def train(
    which: str,                       # of `WHICH`
    outdir: str | Path,               # run folder; the network comes to lie in it as NAME.pt
    schedule: Schedule | None = None,  # None = the one that the shipped network was trained with
    cache: str | Path | None = None,  # folder of rendered photos; None = outdir/photos
    report_every: int = 200,          # steps
    save_every: float = 60,           # seconds between saved states
) -> dict:
    """Train or go on training; returns the report."""
    schedule = SCHEDULES[which] if schedule is None else schedule
    cache = Path(outdir) / 'photos' if cache is None else Path(cache)
    torch.manual_seed(SEEDS[which])
    task = TASKS[which](schedule).to(memory_format=torch.channels_last)
    kernels = [p for p in task.parameters() if p.ndim > 1]
    others = [p for p in task.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{'params': kernels, 'weight_decay': 0.02}, {'params': others, 'weight_decay': 0.0}], schedule.lr)
    options = {'network': which, 'look': look(), **asdict(schedule)}
    run = TrainingRun(outdir, options, schedule.steps, {'task': task, 'optimiser': optimiser}, save_every)
    photos = photo_set('training', schedule.people, schedule.photos, SEEDS[which], schedule.resolution, cache)
    total, count = 0.0, 0
    task.train()
    for step in run:
        for group in optimiser.param_groups:
            group['lr'] = schedule.lr * cosine(step, schedule.steps)
        loss = task.loss(photos, schedule)
        loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), 5.0)
        optimiser.step()
        optimiser.zero_grad()
        total, count = total + loss.item(), count + 1
        if (step + 1) % report_every == 0 or step + 1 == schedule.steps:
            run.stats(loss=total / count)
            total, count = 0.0, 0
    task.eval()
    task.finish(photos)
    name = next(name for name, command in COMMANDS.items() if command == which)
    path = run.folder / f'{name}.pt'
    made_from = {'people': f'training_people({schedule.people}, seed={SEEDS[which]})', 'look': look()}
    save_network(path, name, task.network, made_from)
    # Figures are of the file, in half precision, as users have it.
    held_out = photo_set('held-out', schedule.held_out_people, schedule.held_out_photos, HELD_OUT_SEED, SIZE, cache)
    figures = figures_of(path, name, held_out)
    if which == 'perceptual':
        task.network = load_judge(name, path).network
        figures.update(regression_figures(task, held_out))
    save_network(path, name, task.network, {**made_from, 'figures': figures})
    return run.finish(**figures)


# ---- Figures

def figures_of(path: str | Path, name: str, photos: PhotoSet) -> dict[str, float]:
    """What the judge ``name`` in the file ``path`` makes of held-out people."""
    judge = load_judge(name, path)
    if name == 'demo-features':
        return feature_figures(judge, photos)
    if name == 'demo-perceptual':
        return perceptual_figures(judge, photos)
    return recogniser_figures(lambda images: judge.embed(images, 'full'), photos)


@torch.no_grad()
def over_photos(function: Callable[[Tensor], Tensor], photos: PhotoSet, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """``function`` of every photo [P, K, D], after ``change`` with draws of a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = photos.images.flatten(0, 1)
        parts = [to_floats(part) for part in images.split(96)]
        return torch.cat([function(part if change is None else change(part)) for part in parts]).unflatten(0, photos.images.shape[:2])


def recogniser_figures(embed: Callable[[Tensor], Tensor], photos: PhotoSet) -> dict[str, float]:
    """Verification between photos as they are, between blurred ones, and of generator-like ones against photos."""
    clean, soft = over_photos(embed, photos), over_photos(embed, photos, blurred)
    made = over_photos(embed, photos, generator_like)
    same, different = pair_cosines(clean, clean)
    return {
        'auc': area_under_curve(same, different),
        'auc_blurred': area_under_curve(*pair_cosines(soft, soft)),
        'auc_generator_like': area_under_curve(*pair_cosines(made, clean)),
        'same_mean': same.mean().item(), 'same_1_percent': same.quantile(0.01).item(),
        'same_mean_generator_like': pair_cosines(made, clean)[0].mean().item(),
        'different_mean': different.mean().item(), 'different_99.9_percent': different.sort().values[int(0.999 * len(different))].item(),
        'rank_1_of_100': rank_1(clean[:100]), 'rank_1_of_100_generator_like': rank_1(torch.stack([made[:100, 0], clean[:100, 1]], dim=1)),
    }


def pair_cosines(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of all pairs of different photos from unit vectors [P, K, D]: of the same person, of different people."""
    people, photos = a.shape[:2]
    cosines = torch.einsum('pid,qjd->pqij', a, b)
    own = torch.eye(people, dtype=torch.bool)
    return cosines[own][:, ~torch.eye(photos, dtype=torch.bool)].flatten(), cosines[~own].flatten()


def area_under_curve(same: Tensor, different: Tensor) -> float:
    """Chance that a pair of one person is more alike than a pair of two; ties count half."""
    ordered = different.sort().values
    below, up_to = torch.searchsorted(ordered, same), torch.searchsorted(ordered, same, right=True)
    return ((below + up_to).double().mean() / (2 * len(different))).item()


def rank_1(embeddings: Tensor) -> float:
    """Share of people whose first photo [P, >= 2, D] is most like their own second one."""
    likeness = embeddings[:, 0] @ embeddings[:, 1].T
    return (likeness.argmax(1) == torch.arange(len(likeness))).double().mean().item()


@torch.no_grad()
def perceptual_figures(judge: DemoLpips, photos: PhotoSet) -> dict[str, float]:
    """Mean distances of photos of 64 pixels."""
    first, second = (to_floats(photos.images[:96, k]) for k in (0, 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        others = {
            'different_people': first.roll(1, 0), 'same_person': second, 'generator_like': generator_like(first), 'blurred': shrunk(first, 2),
            'shifted_1_pixel': first.roll(1, 3), 'noise_of_5_percent': first + 0.1 * torch.randn_like(first), 'darker_by_5_percent': first - 0.1,
        }
    return {name: judge(first, other).mean().item() for name, other in others.items()}


@torch.no_grad()
def regression_figures(task: Regression, photos: PhotoSet) -> dict[str, float]:
    """Share of the variance that the trunk's answers explain, for who it is and for how they are photographed."""
    task.eval()
    wanted = wanted_answers(photos)
    answers = over_photos(task.answers, photos)[..., : wanted.shape[-1]]
    explained = 1 - (answers - wanted).square().mean((0, 1)) / wanted.flatten(0, 1).var(0)
    return {'explained_identity': explained[: len(IDENTITY)].mean().item(), 'explained_rest': explained[len(IDENTITY) :].mean().item()}


def feature_figures(judge: FeatureNetwork, photos: PhotoSet) -> dict[str, float]:
    """Fréchet distances to half of the people's photos: of the other half's as they are, and changed.

    With few people the first of them is far from 0, because their halves differ.
    """
    def changed(change) -> Tensor:
        return over_photos(judge.features, photos, change)

    half = len(photos.images) // 2
    clean = changed(None)
    reference, others = clean[:half].flatten(0, 1), slice(half, None)
    noisy = changed(lambda images: images + 0.1 * torch.randn_like(images))
    return {
        'photos': frechet(reference, clean[others].flatten(0, 1)),
        'generator_like': frechet(reference, changed(generator_like)[others].flatten(0, 1)),
        'blurred': frechet(reference, changed(blurred)[others].flatten(0, 1)),
        'noise_of_5_percent': frechet(reference, noisy[others].flatten(0, 1)),
        'light_from_one_side': frechet(reference, clean[others][photos.nuisance[others, :, 2] > 0]),
    }


def frechet(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of Gaussians fitted to features [N, D] and [M, D]."""
    a, b = a.double(), b.double()
    values, vectors = torch.linalg.eigh(torch.cov(a.T))
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ torch.cov(b.T) @ root).clamp_min(0).sqrt().sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + a.var(0).sum() + b.var(0).sum() - 2 * cross).item()
