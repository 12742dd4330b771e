"""What every attack of the audit has at hand: networks, people, judges, and the way in which attacks are made on everybody."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Iterator, Sequence

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.audit.budget import Budget
from eg3d_unlearn.evaluation.audit.scores import AFTER, BEFORE, cells
from eg3d_unlearn.evaluation.audit.subjects import Subject, check_controls, find_controls, the_person
from eg3d_unlearn.evaluation.audit.tier import Findings, Shown
from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.evaluation.likeness import embeddings
from eg3d_unlearn.evaluation.rendering import from_yaws, in_batches, rendered
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.evaluation.summary import YAWS
from eg3d_unlearn.evaluation.verification import Impostors, impostors
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.memory import batch_size
from eg3d_unlearn.judges.judges import Embed
from eg3d_unlearn.judges.perceptual import Perceptual
from eg3d_unlearn.unlearning.target import distances, ufo_target
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm

PTI_RATE = 3e-4                      # learning rate of the weights in pivotal tuning as published


@dataclass
class Side:
    """One of the two networks under attack."""
    name: str                        # BEFORE or AFTER
    generator: Generator
    light: Generator                 # the same weights, with cheaper pictures where the budget says so


class Audit:
    """Everything that tiers share; what is costly is made when it is first asked for."""

    def __init__(
        self,
        evidence: Evidence,
        budget: Budget,
        controls: str | None = None,  # folder of control people; None = of the demo world, or generated
        seed: int = 0,
    ):
        check_controls(controls)
        check_recognisers(list(evidence.recognisers))
        self.evidence, self.budget, self.seed, self._controls = evidence, budget, seed, controls
        self.sides = [Side(name, generator, self._light(generator))
                      for name, generator in ((BEFORE, evidence.g_s), (AFTER, evidence.g_u))]

    # ---- people ----

    @cached_property
    @torch.enable_grad()             # people are inverted when they are first asked for, wherever that is
    def _people(self) -> tuple[list[Subject], str]:
        controls, kind = find_controls(self.evidence, self.budget.controls, self._controls, self.seed)
        return [the_person(self.evidence), *controls], kind

    @property
    def subjects(self) -> list[Subject]:
        """The erased person, then the controls."""
        return self._people[0]

    @property
    def kind_of_controls(self) -> str:
        return self._people[1]

    @property
    def leaves_out(self) -> bool:
        """Whether the photo that an attack was given does not count: where everybody has another one; else it counts for everybody."""
        return all(len(subject.images) > 1 for subject in self.subjects)

    # ---- judges ----

    @property
    def perceptual(self) -> Perceptual:
        return self.evidence.judges.perceptual

    def seen_by_attacker(self, images: Tensor) -> Tensor:  # [N, 3, H, W] -> [N, D]
        """Embeddings by the recogniser that attackers choose by: not the one that decides, where there are two."""
        return faces(images, self.evidence.recognisers.get(self.evidence.trained_with, self.evidence.measuring[1]))

    @cached_property
    def embeddings(self) -> list[dict[str, Tensor]]:   # per subject, recogniser -> [N, D]
        """The photos as the recognisers see them."""
        return [{name: faces(subject.images, embed) for name, embed in self.evidence.recognisers.items()} for subject in self.subjects]

    def judge(self, index: int, shown: list[Shown]) -> dict[str, Tensor]:  # recogniser -> [A, N]
        """Cosines of an attack's pictures to the photos of person ``index`` (0: the erased one)."""
        return {name: torch.cat([cells(faces(part.images, embed), self.embeddings[index][name], part.used if self.leaves_out else None)
                                 for part in shown]) for name, embed in self.evidence.recognisers.items()}

    def likeness(self, index: int, shown: list[Shown]) -> float:
        """The mean of `judge` by the recogniser that decides."""
        return self.judge(index, shown)[self.evidence.measuring[0]].nanmean().item()

    def likeness_at(self, generator: Generator, index: int, ws: Tensor, used: int = 0) -> float:   # ws [1, num_ws, w_dim]
        """`likeness` of what a network shows of one latent from the front; photo number ``used`` was attacked with."""
        return self.likeness(index, [Shown(self.views(generator, ws, (0.0,)), used=used)])

    def attacked_photo(self, subject: Subject) -> Tensor:  # [D]
        """The photo that an attacker has, as `seen_by_attacker`."""
        return self.seen_by_attacker(subject.photo(subject.attacked)[0])[0]

    @cached_property
    def impostors(self) -> Impostors:
        """Random people by the recogniser that decides, as metrics and report see them."""
        return impostors(self.evidence, self.evidence.measuring[0], Settings(seed=self.seed, impostors=self.budget.impostors))

    @property
    def threshold(self) -> float:
        """The cosine from which on two pictures count as one person."""
        return self.impostors.threshold

    # ---- networks ----

    @cached_property
    def distances(self) -> tuple[float, float]:
        """d of the target and α_max of the neighbours [units of W+]."""
        return distances(self.evidence.config, self.evidence.g_s)[:2]

    def target(self, ws: Tensor) -> Tensor:            # [N, num_ws, w_dim] -> the same
        """Where the method moves somebody: beyond the mean, away from them."""
        return ufo_target(ws, self.evidence.g_s.w_avg, self.distances[0])

    @property
    def learning_rate(self) -> float:
        """Learning rate of attacks on the weights: PTI's, or the one that the network is unlearned with where that is larger."""
        return max(PTI_RATE, self.evidence.config.lr)

    def _light(self, generator: Generator) -> Generator:
        if not (self.budget.half and generator.has_half):
            return generator
        light = generator.twin()
        light.is_light = True
        return light

    def whole(self, generator: Generator) -> Generator:
        """A tuned copy of a ``light`` network, with whole pictures again."""
        generator.is_light = False
        return generator

    def views(self, generator: Generator, ws: Tensor, yaws: Sequence[float] = YAWS) -> Tensor:  # [1, num_ws, w_dim] -> [A, 3, H, W]
        """Pictures of one latent: one for each yaw for EG3D, one for 2D networks."""
        return rendered(generator, ws, from_yaws(generator, yaws)).images[0]

    def frontal(self, generator: Generator, ws: Tensor, title: str | None = None) -> Tensor:  # [N, num_ws, w_dim] -> [N, 3, H, W]
        """Pictures from the front; with a title, with a progress bar."""
        return rendered(generator, ws, from_yaws(generator, [0.0]), batch=self.evidence.config.batch, title=title).images[:, 0]

    def in_batches(self, ws: Tensor, title: str) -> Iterator[Tensor]:  # [N, num_ws, w_dim] -> each [n, num_ws, w_dim]
        """Latents a few at a time, with a progress bar."""
        return (ws[rows] for rows in in_batches(len(ws), batch_size(self.evidence.g_s, self.evidence.config.batch), title))

    # ---- the way of every attack ----

    def on_everybody(
        self,
        attack: Callable[[Side, int, Callable[[], object]], list[Shown]],  # (network, person, a call for each step of the bar)
        desc: str,                   # of the bar
        steps: int = 1,              # of one attack
    ) -> Findings:
        """Make ``attack`` on each person and both networks."""
        scores, best, name = {}, None, self.evidence.measuring[0]
        with tqdm(total=steps * len(self.subjects) * len(self.sides), desc=desc, unit='step', dynamic_ncols=True) as bar:
            for side in self.sides:
                scores[side.name] = []
                for index in range(len(self.subjects)):
                    shown = attack(side, index, bar.update)
                    scores[side.name].append(self.judge(index, shown))
                    if side.name == AFTER and index == 0:
                        alike, at = scores[AFTER][0][name].nanmean(1).max(0)
                        best = torch.cat([part.images for part in shown])[at], alike.item()
        return Findings(scores, best=best)


def check_recognisers(names: list[str]) -> None:
    """Refuse an audit without a recogniser."""
    if not names:
        raise InputError('The audit measures identity with a recogniser, and --id-network=none leaves none. Give --id-network or --recogniser.')


def faces(images: Tensor, embed: Embed) -> Tensor:  # [N, 3, H, W] -> [N, D]
    """`likeness.embeddings`, where a picture that is no picture (NaN) is like nobody."""
    return embeddings(embed, images.nan_to_num(0.0).clamp(-1, 1))
