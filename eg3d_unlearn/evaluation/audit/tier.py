"""What a tier is: an attacker, an attack with one signature for all, and the sentence that its figures come to."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable

from torch import Tensor

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.audit.setting import Audit


@dataclass
class Shown:
    """Pictures that an attack on one person ends with."""
    images: Tensor                   # [A, 3, H, W] about -1 to 1
    used: int | None = None          # number of the photo that was attacked with; None: no photo


@dataclass
class Findings:
    """What an attack found, on everybody and on both networks."""
    # 'before' | 'after' -> per person (the erased one first) -> recogniser -> cosines [A, N], NaN = does not count.
    scores: dict[str, list[dict[str, Tensor]]]
    curve: dict | None = None        # {'steps', 'person', 'controls'} against G_u
    best: tuple[Tensor, float] | None = None  # [3, H, W] of what the attack on G_u shows, what is most like the person, and its likeness
    details: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Tier:
    """A rung of the ladder."""
    key: str                         # 'T0' ...
    title: str
    attacker: str                    # who has what
    attack: Callable[['Audit'], Findings]
    say: Callable[[dict], str]       # the tier's entry of audit.json -> one sentence
