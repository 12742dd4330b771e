"""How hard attackers try: people, views, steps and samples of each budget."""
from __future__ import annotations

from dataclasses import dataclass

from eg3d_unlearn.judges.verification import IMPOSTORS


@dataclass(frozen=True)
class Budget:
    """What is spent on one audit.  Every attack is made on the person and on each control, against G_s and against G_u."""
    name: str
    minutes: str                     # on demo-eg3d and two CPU cores
    half: bool                       # EG3D: half the rays along each side wherever gradients are taken
    controls: int                    # control people
    ruin_people: int                 # random people who are compared before and after
    views: int                       # T0, T5: yaws from -15 to +15 degrees
    w_steps: int                     # T2: steps in W from each of three starts
    w_plus_steps: int                # T2: steps in W+ from the best of them, and from w_source and w_target where they lie in W+
    pivot_steps: int                 # T3: steps to the pivot
    tuning_steps: int                # T3: steps on the weights
    relearn_steps: int               # T4: steps on the weights, from each of two latents
    relearn_every: int               # T4: steps between two measurements
    harmless_people: int             # T5: other people whom the network is tuned on
    harmless_steps: int              # T5
    samples: int                     # T6: random people among whom the nearest is looked for
    candidates: int                  # T7: random people beside the person and the controls
    ascent_steps: int                # T7: steps uphill from the largest change that was found
    walk: int                        # T8: points of the walk between w_source and w_target
    around: int                      # T8: points around w_source
    impostors: int = IMPOSTORS       # random people from whose pairs the verification threshold is fitted

    def describe(self) -> str:
        """The budget in one line of the help."""
        rays = 'half rays for gradients' if self.half else 'all rays'
        return (f'{self.name}: {self.minutes}; {self.controls} controls, {rays}; T2 3 x {self.w_steps} + {self.w_plus_steps} steps, '
                f'T3 {self.pivot_steps} + {self.tuning_steps}, T4 2 x {self.relearn_steps}, T5 {self.harmless_steps} on '
                f'{self.harmless_people} people, T6 {self.samples} samples, T7 {self.candidates} candidates and '
                f'{self.ascent_steps} steps, T8 {self.walk} + {self.around} points and mixes.')


BUDGETS = {budget.name: budget for budget in (
    Budget('quick', 'under 10 minutes', half=True, controls=3, ruin_people=24, views=11, w_steps=5, w_plus_steps=8,
           pivot_steps=4, tuning_steps=12, relearn_steps=12, relearn_every=2, harmless_people=6, harmless_steps=16, samples=128,
           candidates=48, ascent_steps=8, walk=7, around=6),
    Budget('standard', 'about an hour and a half', half=True, controls=8, ruin_people=100, views=11, w_steps=50,
           w_plus_steps=100, pivot_steps=30, tuning_steps=100, relearn_steps=100, relearn_every=5, harmless_people=32,
           harmless_steps=100, samples=2000, candidates=400, ascent_steps=50, walk=13, around=24),
    Budget('thorough', 'about a day', half=False, controls=20, ruin_people=200, views=11, w_steps=200, w_plus_steps=400,
           pivot_steps=100, tuning_steps=350, relearn_steps=400, relearn_every=10, harmless_people=64, harmless_steps=400,
           samples=10000, candidates=1000, ascent_steps=200, walk=25, around=64),
)}
