"""GUIDE's loss (CVPR 2024, section 3.3): its terms, each unreduced until weighted, and one step's gradient of all of them.

A step draws its latents and its camera, and adds its gradient in batches that fit into memory.
"""
from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any, Callable, Iterator

import torch
from torch import Tensor

from eg3d_unlearn import distributed
from eg3d_unlearn.config import RANDOM, SOFT, LossOptions
from eg3d_unlearn.generators.cameras import MAX_YAW
from eg3d_unlearn.generators.generator import Backbone, Generator, Output
from eg3d_unlearn.judges.identity import identity_distance
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.unlearning.target import frobenius

LOCAL, ADJACENT, GLOBAL = 'local', 'adj', 'global'
CANDIDATES = 24                      # random people among whom the nearest are looked for; only the mapping network sees them
FULL_EVERY = 4                       # --loss-resolution=mixed: one step in four sees the super-resolved picture


# ---- terms ----

def feature_distance(
    features_u: list[Tensor],        # each [N, C, H, W] float32
    features_t: list[Tensor],        # the same shapes
) -> Tensor:                         # [N], >= 0
    """MSE(F_u, F_t) of Eq. 4, averaged over the feature maps (EG3D has one: the tri-planes)."""
    distances = [in_memory_order(u - t).flatten(1).square().mean(dim=1) for u, t in zip(features_u, features_t, strict=True)]
    return torch.stack(distances).mean(dim=0)


def in_memory_order(x: Tensor) -> Tensor:  # [N, C, H, W] -> the same, or [N, H, W, C]
    """``x`` so that to flatten it is no copy: where the order does not matter, channels may come last."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else x


@dataclass(frozen=True)
class Term:
    """A term of the local loss: how far what G_u shows is from what G_s shows. Its weight is the option lambda_NAME; 0 switches it off."""
    name: str                        # of its curve in stats.jsonl, and of its part of the clock
    title: str                       # of its curve, in the report
    judge: str | None                # 'perceptual' or 'recogniser' of `Judges`, without which there is no such term; None: it needs none
    see: Callable[[Any, Output], Any]  # judge, one side of a pair -> what is compared of it; of G_s's side made once where it never changes
    distance: Callable[[Any, Any, Any], Tensor]  # judge, what was seen of G_u's side and of G_s's -> [N], >= 0

    @property
    def option(self) -> str:
        return f'lambda_{self.name}'

    def judge_in(self, judges: Judges) -> Any:
        return None if self.judge is None else getattr(judges, self.judge)

    def works_with(self, judges: Judges) -> bool:
        return self.judge is None or self.judge_in(judges) is not None


LPIPS = Term('lpips', 'LPIPS to the target', 'perceptual',
             see=lambda lpips, side: lpips.features(side.image),
             distance=lambda lpips, u, t: lpips.compare(u, t))
TERMS = [                            # of Eq. 4, in its order; a new term is one entry here, and the option of its weight
    Term('l2', 'features to the target, squared distance', None,
         see=lambda _, side: side.features,
         distance=lambda _, u, t: feature_distance(u, t)),
    LPIPS,
    Term('id', 'identity: 1 − cosine to the target', 'recogniser',
         see=lambda embed, side: embed(side.image),
         distance=lambda _, u, t: identity_distance(u, t)),
]


def curves() -> dict[str, str]:
    """What a step's figures are called, and what they are."""
    return {'loss': 'total loss', LOCAL: 'local: the person', ADJACENT: 'adjacency: latents around the person',
            GLOBAL: 'global: everybody else', **{term.name: term.title for term in TERMS}}


def adjacent_offsets(
    ws_random: Tensor,               # [N_a, num_ws, w_dim] latents of random people, w_ra
    ws_source: Tensor,               # [1, num_ws, w_dim] the person, w_u
    alpha: Tensor,                   # [N_a] drawn from U(0, α_max), units of W+
) -> Tensor:                         # [N_a, num_ws, w_dim]
    """Steps from the person towards random people, of length ``alpha`` (Eq. 5)."""
    direction = ws_random - ws_source
    # Eq. 5: Δ_i = α_i (w_ra_i - w_u) / ||w_ra_i - w_u||_2, the norm taken for each sample.
    return alpha[:, None, None] * direction / frobenius(direction)


def local_loss(
    distances: dict[str, Tensor],    # of each term [N], by its name
    options: LossOptions,
) -> Tensor:                         # [N]
    """L_local(u, t) for each pair."""
    # Eq. 4: λ_L2 MSE(F_u, F_t) + λ_per LPIPS(x_u, x_t) + λ_id (1 - cos(id(x_u), id(x_t))).
    return sum(getattr(options, f'lambda_{name}') * distance for name, distance in distances.items())


def total_loss(
    local: Tensor,                   # [1] L_local of the person
    adjacent: Tensor,                # [N_a] L_local of the neighbours
    retained: Tensor,                # [N_g] LPIPS of random people
    options: LossOptions,
) -> Tensor:                         # []
    """The whole objective: sums over neighbours and random people, as published (the paper's 1/N are in λ)."""
    # Eq. 6-9: λ_local L_local + λ_adj Σ_i L_local(w_u + Δ_i, w_t + Δ_i) + λ_global Σ_i LPIPS(w_rg_i).
    return options.lambda_local * local.sum() + options.lambda_adj * adjacent.sum() + options.lambda_global * retained.sum()


# ---- one step ----

@dataclass
class Row:
    """One pair of pictures that a step compares."""
    kind: str                        # LOCAL, ADJACENT or GLOBAL
    ws_u: Tensor                     # [1, num_ws, w_dim] what G_u is shown
    ws_t: Tensor                     # [1, num_ws, w_dim] what G_s is shown
    photo: int | None = 0            # of the person, for LOCAL; None = its w_t is drawn anew in each step
    sign: float = 1.0                # -1: the distance grows


def cut(tensor: Tensor) -> Tensor:   # [...] -> the same
    """The same values at the start of a graph of their own; its gradient is handed on by hand."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


class Stopwatch:
    """Where the parts of a step are marked; this one measures nothing and costs nothing."""
    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        yield


class UnlearningLoss:
    """GUIDE's loss for one person; `accumulate_gradients` adds the gradient of one step.

    Where K photos are erased, the local term is the mean over them, one photo a step (Eq. 4 holds for one).
    """

    def __init__(
        self,
        g_u: Generator,              # learns
        g_s: Generator,              # frozen source
        ws_source: Tensor,           # [K, num_ws, w_dim] w_u; of several photos, a step takes one, in turns
        ws_target: Tensor,           # [K, num_ws, w_dim] w_t of each
        judges: Judges,              # without a recogniser there is no identity term
        options: LossOptions,        # all of them resolved: λ of each term, N_a, N_g, α_max ...; 0 switches a term off, and its work with it
        batch: int = 1,              # latents that go through at once
        seed: int = 0,
        drawn: str | None = None,    # w_t is drawn anew in each step: one of `config.DRAWN`; None = ``ws_target``
        stopwatch: Stopwatch = Stopwatch(),
    ):
        self.g_u, self.g_s, self.ws_source, self.ws_target = g_u, g_s, ws_source, ws_target
        self.judges, self.options, self.batch, self.seed, self.drawn, self.clock = judges, options, batch, seed, drawn, stopwatch
        self.terms = [term for term in TERMS if getattr(options, term.option) and term.works_with(judges)]
        self.n_adj = options.n_adj if options.lambda_adj else 0
        self.n_global = options.n_global if options.lambda_global else 0
        self.n_near = min(options.n_near, self.n_global)     # the person's nearest of CANDIDATES; 0 = as published
        with torch.no_grad():        # G_s at w_t never changes: its pass is made once
            self.target_passes = [] if drawn else [g_s.backbone(ws) for ws in ws_target.split(1)]
        # 2D networks have no camera: what the terms see of w_t never changes either.
        self.kept_targets: dict[int, dict[str, Any]] = {}

    def rng(self, step: int, stream: int) -> torch.Generator:
        """A generator for one purpose in one step: a resumed run draws what an uninterrupted one would have drawn."""
        device = self.g_u.device if self.g_u.device.type == 'cuda' else 'cpu'
        # Multiply, xor, mask: neighbouring (seed, step, stream) must not give related streams.
        mixed = ((self.seed * 1_000_003 + step) * 1_000_003 + stream) * 0x9E3779B97F4A7C15
        return torch.Generator(device).manual_seed((mixed ^ (mixed >> 29)) & 0x7FFF_FFFF_FFFF_FFFF)

    @torch.no_grad()
    def draw(self, step: int) -> tuple[list[Row], Tensor | None]:
        """The pairs of this step and its camera [1, 25] (None for 2D networks)."""
        rng = self.rng(step, 0)
        draws = torch.rand([1 + self.n_adj], generator=rng, device=rng.device).to(self.ws_source)
        camera = self.g_u.camera((2 * draws[0].item() - 1) * MAX_YAW) if self.g_u.is_3d else None
        photo = step % len(self.ws_source)
        ws_source = self.ws_source[photo, None]
        ws_target, sign = self._drawn_target(ws_source, step) if self.drawn else (self.ws_target[photo, None], 1.0)
        rows = [Row(LOCAL, ws_source, ws_target, None if self.drawn else photo, sign)] if self.options.lambda_local else []
        if self.n_adj:
            offsets = adjacent_offsets(self.g_u.sample(self.n_adj, rng), ws_source, draws[1:] * self.options.alpha_max)
            rows += [Row(ADJACENT, ws_source + offset, ws_target + offset, sign=sign) for offset in offsets[:, None]]
        if self.n_global:
            rows += [Row(GLOBAL, ws, ws) for ws in self._people(ws_source, rng)[:, None]]
        return rows, camera

    def _drawn_target(self, ws_source: Tensor, step: int) -> tuple[Tensor, float]:  # [1, num_ws, w_dim], sign
        """This step's w_t and whether the person is drawn to it (1) or driven from it (-1)."""
        rng = self.rng(step, -1)
        someone = self.g_s.sample(1, rng)
        if self.drawn == RANDOM or (self.drawn == SOFT and step % 2 == 0):
            return someone, 1.0
        # From a neighbour, not from the person: where two pictures are equal, their distance has no slope to climb.
        distance = torch.rand([1], generator=rng, device=rng.device).to(ws_source) * self.options.alpha_max
        return ws_source + adjacent_offsets(someone, ws_source, distance), -1.0

    def _people(self, ws_source: Tensor, rng: torch.Generator) -> Tensor:  # [N_g, num_ws, w_dim]
        """Random people to be kept; some of them, if asked, such as resemble the person: they are the first to change along."""
        people = self.g_u.sample(self.n_global - self.n_near, rng)
        if not self.n_near:
            return people
        candidates = self.g_u.sample(CANDIDATES, rng)
        mean = self.g_u.w_avg
        likeness = torch.cosine_similarity((candidates - mean).flatten(1), (ws_source - mean).flatten(1))
        return torch.cat([people, candidates[likeness.topk(self.n_near).indices]])

    def accumulate_gradients(self, step: int) -> dict[str, float]:
        """Add the gradient of step ``step`` to G_u's parameters and return its terms."""
        rows, camera = self.draw(step)
        resolution = self.options.loss_resolution
        seen_as = {'raw': resolution == 'raw' or (resolution == 'mixed' and step % FULL_EVERY != 0), 'half': resolution == 'half'}
        names = ['loss', *(row.kind for row in rows), *(() if rows[0].kind == GLOBAL else (term.name for term in self.terms))]
        figures = {name: torch.zeros([], device=self.ws_source.device) for name in names}
        with self._added_up():
            # Each process takes its share of the rows; a row's random numbers depend on its place in the step alone.
            mine = list(enumerate(rows))[distributed.rank()::distributed.ranks()]
            while mine:
                batch = self._together([row for _, row in mine[:self.batch]])
                self._compare(batch, camera, seen_as, (step, mine[0][0] + 1), figures)
                mine = mine[len(batch):]
        distributed.add_up(list(figures.values()))
        return {name: value.item() for name, value in figures.items()}

    @contextlib.contextmanager
    def _added_up(self) -> Iterator[None]:
        """What is added to the gradients inside is the sum over all processes."""
        if distributed.ranks() == 1:
            yield
            return
        learning = [parameter for parameter in self.g_u.network.parameters() if parameter.requires_grad]
        before = [parameter.grad for parameter in learning]
        for parameter in learning:
            parameter.grad = torch.zeros_like(parameter)
        yield
        distributed.add_up([parameter.grad for parameter in learning])
        for parameter, old in zip(learning, before, strict=True):
            parameter.grad = parameter.grad if old is None else old + parameter.grad

    def _is_kept(self, row: Row) -> bool:
        """Whether what is seen of G_s's side never changes: one w_t, and a network without cameras."""
        return row.kind == LOCAL and row.photo is not None and not self.g_u.is_3d

    def _together(self, rows: list[Row]) -> list[Row]:
        """The leading rows that share a batch: with or without an identity term, and w_t alone where its picture is kept."""
        if self._is_kept(rows[0]):
            return rows[:1]
        return [row for row in rows if (row.kind == GLOBAL) == (rows[0].kind == GLOBAL)]

    def _compare(self, rows: list[Row], camera: Tensor | None, seen_as: dict[str, bool], stream: tuple[int, int],
                 figures: dict[str, Tensor]) -> None:
        """Compare one batch of pairs, add its gradient, and what it has to say to the step's figures.

        The graph is cut between backbone, rendering and judges, and the gradient handed over at the cuts: every part's
        memory is free before the next part goes backward, and each part's time is known.
        """
        with self.clock('backbone'):
            pass_u = self.g_u.backbone(torch.cat([row.ws_u for row in rows]))
        seen = Backbone(pass_u.ws, [cut(feature) for feature in pass_u.features],
                        None if pass_u.image is None else cut(pass_u.image))
        with self.clock('rendering'):
            shown = self.g_u.render(seen, camera, self.rng(*stream), **seen_as)
        side = replace(shown, image=cut(shown.image))
        target = self._target(rows, camera, seen_as, stream)
        distances = {}
        for term in self._terms_of(rows):
            judge = term.judge_in(self.judges)
            with self.clock(term.name):
                distances[term.name] = term.distance(judge, term.see(judge, side), target[term.name])
        values = {name: cut(distance) for name, distance in distances.items()}
        self._loss(rows, values, figures).backward()
        for name, distance in distances.items():
            if distance.requires_grad:
                with self.clock(name):
                    distance.backward(values[name].grad)
        if side.image.grad is not None:  # else no term looks at pictures
            with self.clock('rendering'):
                shown.image.backward(side.image.grad)
        with self.clock('backbone'):
            ends = [*pass_u.features] + ([] if pass_u.image is None else [pass_u.image])
            leaves = [*seen.features] + ([] if seen.image is None else [seen.image])
            pairs = [(end, leaf.grad) for end, leaf in zip(ends, leaves, strict=True) if leaf.grad is not None]
            torch.autograd.backward([end for end, _ in pairs], [grad for _, grad in pairs])

    def _terms_of(self, rows: list[Row]) -> list[Term]:
        """What a batch is compared by: random people by LPIPS alone, the person and neighbours by all terms of Eq. 4."""
        return [LPIPS] if rows[0].kind == GLOBAL else self.terms

    @torch.no_grad()
    def _target(self, rows: list[Row], camera: Tensor | None, seen_as: dict[str, bool], stream: tuple[int, int]) -> dict[str, Any]:
        """G_s's side of the rows: what each term sees of it, made once where it never changes."""
        if self._is_kept(rows[0]) and rows[0].photo in self.kept_targets:
            return self.kept_targets[rows[0].photo]
        with self.clock('backbone'):
            backbone = self._target_pass(rows)
        with self.clock('rendering'):
            shown = self.g_s.render(backbone, camera, self.rng(*stream), **seen_as)
        target = {}
        for term in self._terms_of(rows):
            with self.clock(term.name):
                target[term.name] = term.see(term.judge_in(self.judges), shown)
        if self._is_kept(rows[0]):
            self.kept_targets[rows[0].photo] = target
        return target

    def _loss(self, rows: list[Row], distances: dict[str, Tensor], figures: dict[str, Tensor]) -> Tensor:   # []
        """The weighted sum over the rows; its parts are added to ``figures``."""
        nothing = torch.zeros([0], device=self.ws_source.device)
        if rows[0].kind == GLOBAL:
            loss, parts = total_loss(nothing, nothing, distances[LPIPS.name], self.options), {GLOBAL: distances[LPIPS.name]}
        else:
            each = local_loss(distances, self.options)
            person = torch.tensor([row.kind == LOCAL for row in rows], device=each.device)
            signed = each * torch.tensor([row.sign for row in rows], device=each.device)
            loss = total_loss(signed[person], signed[~person], nothing, self.options)
            parts = {LOCAL: each[person], ADJACENT: each[~person], **{name: distance[person] for name, distance in distances.items()}}
        for name, value in {'loss': loss, **parts}.items():
            if name in figures:
                figures[name] += value.detach().sum()
        return loss

    def _target_pass(self, rows: list[Row]) -> Backbone:
        """G_s's side: what was made before for w_t, one pass for the rest."""
        if rows[0].kind != LOCAL or rows[0].photo is None:
            return self.g_s.backbone(torch.cat([row.ws_t for row in rows]))
        kept = self.target_passes[rows[0].photo]
        if len(rows) == 1:
            return kept
        rest = self.g_s.backbone(torch.cat([row.ws_t for row in rows[1:]]))
        features = [torch.cat(pair) for pair in zip(kept.features, rest.features, strict=True)]
        image = None if rest.image is None else torch.cat([kept.image, rest.image])
        return Backbone(torch.cat([kept.ws, rest.ws]), features, image)
