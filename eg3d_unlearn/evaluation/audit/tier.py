"""What an attack of the audit is: all that help, audit.json and report.html need to know of it stands in its `Tier`."""
from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Callable

from torch import Tensor

from eg3d_unlearn.evaluation.audit.sentences import back

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.audit.context import Audit


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
    """One attack."""
    key: str                         # 'T0' ...
    title: str
    attacker: str                    # who has what
    attack: Callable[[Audit, SimpleNamespace], Findings]  # the second: one of ``budgets``
    say: Callable[[dict], str]       # the tier's entry of audit.json -> one sentence
    plain: str = ''                  # what somebody does, for readers who are no specialists; '' where the attack looks for anybody
    budgets: dict[str, dict[str, int]] = field(default_factory=dict)  # 'quick', 'standard', 'thorough' -> what the attack may spend
    spends: str = ''                 # the same in words, with the names of ``budgets`` in braces; '' where nothing is spent
    telling: bool = False            # on a network that knows the person the attack shows them: where it still does, nothing is gone
    back: Callable[[dict], bool | None] = back  # whether an entry says that the person was brought back; None: the interval leaves it open
    # Of an attack that is given nobody and looks for anybody: the ways in which it found the person, each with plain words for it.
    exposed_by: Callable[[dict], dict[str, str]] | None = None


def curve_of(at: list, curves: list[list[float]]) -> dict:
    """The person's curve, which comes first, and the mean of the controls'."""
    controls = [sum(values) / len(values) for values in zip(*curves[1:], strict=True)]
    return {'steps': at, 'person': [round(value, 4) for value in curves[0]], 'controls': [round(value, 4) for value in controls]}
