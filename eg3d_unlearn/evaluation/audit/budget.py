"""How hard attackers try: what all tiers share; what each may spend besides stands in its own file."""
from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Iterable

from eg3d_unlearn.evaluation.audit.tier import Tier
from eg3d_unlearn.judges.verification import IMPOSTORS


@dataclass(frozen=True)
class Budget:
    """What is spent on one audit.  Every attack is made on the person and on each control, against G_s and against G_u."""
    name: str                        # 'quick', 'standard' or 'thorough'
    minutes: str                     # on demo-eg3d and two CPU cores
    half: bool                       # EG3D: half the rays along each side wherever gradients are taken
    controls: int                    # control people
    random_people: int               # who are compared before and after
    impostors: int = IMPOSTORS       # random people from whose pairs the verification threshold is fitted
    instead: dict[str, dict[str, int]] = field(default_factory=dict)  # key of a tier -> what replaces its own figures

    def of(self, tier: Tier) -> SimpleNamespace:
        """What one tier may spend."""
        return SimpleNamespace(**{**tier.budgets.get(self.name, {}), **self.instead.get(tier.key, {})})

    def describe(self, tiers: Iterable[Tier]) -> str:
        """The budget in one line of the help."""
        rays = 'half rays for gradients' if self.half else 'all rays'
        spent = ', '.join(f'{tier.key} {tier.spends.format(**vars(self.of(tier)))}' for tier in tiers if tier.spends)
        return f'{self.name}: {self.minutes}; {self.controls} controls, {rays}; {spent}.'


BUDGETS = {budget.name: budget for budget in (
    Budget('quick', 'under 10 minutes', half=True, controls=3, random_people=24),
    Budget('standard', 'about an hour and a half', half=True, controls=8, random_people=100),
    Budget('thorough', 'about a day', half=False, controls=20, random_people=200),
)}
