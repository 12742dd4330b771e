"""GUIDE's loss (CVPR 2024, section 3.3): its terms, each unreduced until weighted, and one step's gradient of all of them.

A step draws its latents and its camera, and adds its gradient in batches that fit into memory.
"""
from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Callable, Iterator

import torch
from torch import Tensor

from eg3d_unlearn import distributed
from eg3d_unlearn.config import RANDOM, SOFT, LossOptions
from eg3d_unlearn.generators.cameras import MAX_YAW
from eg3d_unlearn.generators.generator import Backbone, Generator
from eg3d_unlearn.judges.identity import identity_distance
from eg3d_unlearn.judges.perceptual import Perceptual
from eg3d_unlearn.unlearning.target import frobenius

LOCAL, ADJACENT, GLOBAL = 'local', 'adj', 'global'
CANDIDATES = 24                      # random people among whom the nearest are looked for; only the mapping network sees them
FULL_EVERY = 4                       # --loss-resolution=mixed: one step in four sees the super-resolved picture


# ---- terms ----

@dataclass(frozen=True)
class Weights:
    """λ of every term; 0 switches a term off, and its work with it."""
    local: float = 1.0               # λ_local
    adj: float = 1.0                 # λ_adj, on the sum over the N_a neighbours
    glob: float = 1.0                # λ_global, on the sum over the N_g random people
    l2: float = 1e-2                 # λ_L2 on the features F
    lpips: float = 1.0               # λ_per
    id: float = 0.1                  # λ_id

    @classmethod
    def of(cls, options: LossOptions) -> Weights:
        """Those of a resolved configuration."""
        return cls(options.lambda_local, options.lambda_adj, options.lambda_global, options.lambda_l2, options.lambda_lpips, options.lambda_id)


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
    l2: Tensor,                      # [N] feature distance
    lpips: Tensor,                   # [N] perceptual distance
    identity: Tensor,                # [N] identity distance
    weights: Weights,
) -> Tensor:                         # [N]
    """L_local(u, t) for each pair."""
    # Eq. 4: λ_L2 MSE(F_u, F_t) + λ_per LPIPS(x_u, x_t) + λ_id (1 - cos(id(x_u), id(x_t))).
    return weights.l2 * l2 + weights.lpips * lpips + weights.id * identity


def total_loss(
    local: Tensor,                   # [1] L_local of the person
    adjacent: Tensor,                # [N_a] L_local of the neighbours
    retained: Tensor,                # [N_g] LPIPS of random people
    weights: Weights,
) -> Tensor:                         # []
    """The whole objective: sums over neighbours and random people, as published (the paper's 1/N are in λ)."""
    # Eq. 6-9: λ_local L_local + λ_adj Σ_i L_local(w_u + Δ_i, w_t + Δ_i) + λ_global Σ_i LPIPS(w_rg_i).
    return weights.local * local.sum() + weights.adj * adjacent.sum() + weights.glob * retained.sum()


# ---- one step ----

@dataclass
class Row:
    """One pair of pictures that a step compares."""
    kind: str                        # LOCAL, ADJACENT or GLOBAL
    ws_u: Tensor                     # [1, num_ws, w_dim] what G_u is shown
    ws_t: Tensor                     # [1, num_ws, w_dim] what G_s is shown
    photo: int | None = 0            # of the person, for LOCAL; None = its w_t is drawn anew in each step
    sign: float = 1.0                # -1: the distance grows


@dataclass
class Target:
    """What a batch of G_s's pictures is to the judges."""
    features: list[Tensor]           # F_t, each [N, C, H, W]
    lpips: list[Tensor]              # LPIPS features, [] = not judged
    embedding: Tensor | None         # [N, D] unit norm, None = not judged


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
        perceptual: Perceptual,
        recogniser: Callable[[Tensor], Tensor] | None,  # images [N, 3, H, W] -> unit embeddings [N, D]; None = no identity term
        weights: Weights = Weights(),
        n_adj: int = 2,              # N_a
        n_global: int = 2,           # N_g
        n_near: int = 0,             # of N_g, how many are the person's nearest of CANDIDATES random people; 0 = as published
        alpha_max: float = 15.0,     # α_max, units of W+
        loss_resolution: str = 'full',  # 'full', 'half', 'raw' or 'mixed'
        batch: int = 1,              # latents that go through at once
        seed: int = 0,
        stopwatch: Stopwatch = Stopwatch(),
        drawn: str | None = None,    # w_t is drawn anew in each step: one of `config.DRAWN`; None = ``ws_target``
    ):
        self.g_u, self.g_s = g_u, g_s
        self.ws_source, self.ws_target = ws_source, ws_target
        self.perceptual, self.recogniser = perceptual, recogniser if weights.id else None
        self.weights, self.alpha_max = weights, alpha_max
        self.n_adj = n_adj if weights.adj else 0
        self.n_global = n_global if weights.glob else 0
        self.n_near = min(n_near, self.n_global)
        self.loss_resolution, self.batch, self.seed, self.clock, self.drawn = loss_resolution, batch, seed, stopwatch, drawn
        with torch.no_grad():        # G_s at w_t never changes: its pass is made once
            self.target_passes = [] if drawn else [g_s.backbone(ws) for ws in ws_target.split(1)]
        # 2D networks have no camera: the judges' view of w_t never changes either.
        self.kept_targets: dict[int, Target] = {}

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
        rows = [Row(LOCAL, ws_source, ws_target, None if self.drawn else photo, sign)] if self.weights.local else []
        if self.n_adj:
            offsets = adjacent_offsets(self.g_u.sample(self.n_adj, rng), ws_source, draws[1:] * self.alpha_max)
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
        distance = torch.rand([1], generator=rng, device=rng.device).to(ws_source) * self.alpha_max
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
        raw = self.loss_resolution == 'raw' or (self.loss_resolution == 'mixed' and step % FULL_EVERY != 0)
        seen_as = {'raw': raw, 'half': self.loss_resolution == 'half'}
        names = ['loss', *(() if rows[0].kind == GLOBAL else (LOCAL, ADJACENT)), *((GLOBAL,) if rows[-1].kind == GLOBAL else ()),
                 *(() if rows[0].kind == GLOBAL else ('l2', 'lpips', 'id'))]
        terms: dict[str, list[Tensor]] = {name: [] for name in names}
        with self._added_up():
            # Each process takes its share of the rows; a row's random numbers depend on its place in the step alone.
            mine = list(enumerate(rows))[distributed.rank()::distributed.ranks()]
            while mine:
                batch = self._together([row for _, row in mine[:self.batch]])
                self._compare(batch, camera, seen_as, (step, mine[0][0] + 1), terms)
                mine = mine[len(batch):]
        zero = torch.zeros([], device=self.ws_source.device)
        sums = [torch.stack(values or [zero]).sum() for values in terms.values()]
        distributed.add_up(sums)
        return {name: float(value) for name, value in zip(names, sums, strict=True)}

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

    def _together(self, rows: list[Row]) -> list[Row]:
        """The leading rows that share a batch: with or without an identity term, and w_t alone where its picture is kept."""
        if rows[0].kind == LOCAL and rows[0].photo is not None and not self.g_u.is_3d:
            return rows[:1]
        return [row for row in rows if (row.kind == GLOBAL) == (rows[0].kind == GLOBAL)]

    def _compare(self, rows: list[Row], camera: Tensor | None, seen_as: dict[str, bool], stream: tuple[int, int],
                 terms: dict) -> None:
        """Compare one batch of pairs, add its gradient, note its terms.

        The graph is cut between backbone, rendering and judges, and the gradient handed over at the cuts: every part's
        memory is free before the next part goes backward, and each part's time is known.
        """
        with self.clock('backbone'):
            pass_u = self.g_u.backbone(torch.cat([row.ws_u for row in rows]))
        seen = Backbone(pass_u.ws, [cut(feature) for feature in pass_u.features],
                        None if pass_u.image is None else cut(pass_u.image))
        with self.clock('rendering'):
            shown = self.g_u.render(seen, camera, self.rng(*stream), **seen_as)
        image = cut(shown.image)
        target = self._target(rows, camera, seen_as, stream)
        judged = self._judge(rows, image, seen, target)
        values = {name: cut(value) for name, value in judged.items()}
        loss = self._loss(rows, values, terms)
        loss.backward()
        for name, value in judged.items():
            if values[name].grad is not None and value.requires_grad:
                with self.clock({'lpips': 'LPIPS', 'id': 'recogniser', 'l2': 'feature distance'}[name]):
                    value.backward(values[name].grad)
        with self.clock('rendering'):
            shown.image.backward(image.grad)
        with self.clock('backbone'):
            ends = [*pass_u.features] + ([] if pass_u.image is None else [pass_u.image])
            leaves = [*seen.features] + ([] if seen.image is None else [seen.image])
            pairs = [(end, leaf.grad) for end, leaf in zip(ends, leaves, strict=True) if leaf.grad is not None]
            torch.autograd.backward([end for end, _ in pairs], [grad for _, grad in pairs])

    @torch.no_grad()
    def _target(self, rows: list[Row], camera: Tensor | None, seen_as: dict[str, bool], stream: tuple[int, int]) -> Target:
        """G_s's side of the rows: what the judges see of it, made once where it never changes."""
        if rows[0].kind == LOCAL and rows[0].photo in self.kept_targets:
            return self.kept_targets[rows[0].photo]
        with self.clock('backbone'):
            backbone = self._target_pass(rows)
        with self.clock('rendering'):
            shown = self.g_s.render(backbone, camera, self.rng(*stream), **seen_as)
        with self.clock('LPIPS'):
            lpips = self.perceptual.features(shown.image) if self.weights.lpips or rows[0].kind == GLOBAL else []
        with self.clock('recogniser'):
            embedding = self.recogniser(shown.image) if self.recogniser and rows[0].kind != GLOBAL else None
        target = Target(shown.features, lpips, embedding)
        if rows[0].kind == LOCAL and rows[0].photo is not None and not self.g_u.is_3d:
            self.kept_targets[rows[0].photo] = target
        return target

    def _judge(self, rows: list[Row], image: Tensor, seen: Backbone, target: Target) -> dict[str, Tensor]:
        """The distances [N] that the rows' loss is made of."""
        judged = {}
        if target.lpips:
            with self.clock('LPIPS'):
                judged['lpips'] = self.perceptual.compare(self.perceptual.features(image), target.lpips)
        if rows[0].kind != GLOBAL and self.weights.l2:
            with self.clock('feature distance'):
                judged['l2'] = feature_distance(seen.features, target.features)
        if target.embedding is not None:
            with self.clock('recogniser'):
                judged['id'] = identity_distance(self.recogniser(image), target.embedding)
        return judged

    def _loss(self, rows: list[Row], values: dict[str, Tensor], terms: dict) -> Tensor:
        """The weighted sum over the rows; its parts are noted in ``terms``."""
        zero = torch.zeros([len(rows)], device=self.ws_source.device)
        lpips, l2, identity = (values.get(name, zero) for name in ('lpips', 'l2', 'id'))
        nothing = zero[:0]
        if rows[0].kind == GLOBAL:
            loss = total_loss(nothing, nothing, lpips, self.weights)
            terms[GLOBAL].append(lpips.detach().sum())
        else:
            each = local_loss(l2, lpips, identity, self.weights)
            person = torch.tensor([row.kind == LOCAL for row in rows], device=zero.device)
            signed = each * torch.tensor([row.sign for row in rows], device=zero.device)
            loss = total_loss(signed[person], signed[~person], nothing, self.weights)
            for name, value in ((LOCAL, each[person]), (ADJACENT, each[~person]), ('l2', l2[person]), ('lpips', lpips[person]),
                                ('id', identity[person])):
                terms[name].append(value.detach().sum())
        terms['loss'].append(loss.detach())
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
