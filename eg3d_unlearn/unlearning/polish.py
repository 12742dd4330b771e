"""A short training after the closed form, which ends by itself and never leaves a network worse than it found it."""
from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.judges import Embed
from eg3d_unlearn.unlearning.closed_form import LatentEdit
from eg3d_unlearn.unlearning.margin import faces
from eg3d_unlearn.unlearning.training_loop import restore

EVERY = 10                           # steps between two looks
PATIENCE = 2                         # looks without anything better, after which it ends
RANDOM, NEAR, DRAWN = 16, 16, 512    # people looked at: at random, and of `DRAWN` those whom the edit moves most
GOOD = 0.995                         # likeness of all of them on average: nothing is left to be mended
NOTHING_GAINED = 0.005               # likeness; less is chance


class Watch:
    """Looks at a network while it learns, keeps the best weights, and says when to stop.

    Better is who keeps others more: random people and those whom the edit moves most, in the mean of all and of the worst quarter; while the
    person stays as unlike as the closed form left them.
    """

    def __init__(self, g_u: Generator, g_s: Generator, ws_source: Tensor, edit: LatentEdit, recogniser: Embed, log: Callable[[str], None]):
        self.g_u, self.recogniser, self.log, self.ws_source = g_u, recogniser, log, ws_source
        drawn = g_s.sample(DRAWN, torch.Generator().manual_seed(2))
        moved = (edit(drawn) - drawn).flatten(1).norm(dim=1)
        self.ws = torch.cat([drawn[:RANDOM], drawn[RANDOM:][moved[RANDOM:].topk(NEAR).indices]])
        self.others, self.person = faces(g_s, self.ws, recogniser)[0], faces(g_s, ws_source, recogniser)[0]
        self.before, person = self.look()
        self.allowed = max(person, 0.0)
        self.best: dict = {'others': self.before, 'step': 0, 'parameters': None, 'looks': 0}

    def look(self) -> tuple[float, float]:
        """Likeness of the others before against now, mean of all and of the worst quarter; and of the person, the highest."""
        kept = (faces(self.g_u, self.ws, self.recogniser)[0] * self.others).sum(1)
        worst = kept.topk(len(kept) // 4, largest=False).values
        return (kept.mean() + worst.mean()).item() / 2, (faces(self.g_u, self.ws_source, self.recogniser)[0] * self.person).sum(1).max().item()

    @property
    def needed(self) -> bool:
        return self.before < GOOD

    def enough(self, step: int, parameters: dict[str, nn.Parameter]) -> bool:
        """Whether to stop after ``step``; the weights are kept where they are better than any before."""
        if step % EVERY:
            return False
        others, person = self.look()
        if others > self.best['others'] + NOTHING_GAINED and person <= self.allowed:
            self.best.update(others=others, step=step, looks=0, parameters={name: p.detach().clone() for name, p in parameters.items()})
        else:
            self.best['looks'] += 1
        return self.best['looks'] >= PATIENCE

    def finish(self, parameters: dict[str, nn.Parameter], untouched: dict[str, Tensor]) -> None:
        """Give the network its best weights, which may be those of the closed form."""
        restore(parameters, self.best['parameters'] or untouched)
        step = self.best['step']
        what = f'the weights of step {step} are kept' if step else 'nothing became better, and the closed form stays as it was'
        self.log(f'Polished: {what}; likeness of other people (random ones, and those whom the edit moves most) {self.before:.3f} before, '
                 f'{self.best["others"]:.3f} now.')
