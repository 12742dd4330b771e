"""The audit: attackers of growing means try to get an erased person back.

Every attack is made on G_s, the network before (what the attack can do at best), on G_u, the network after, and on control
people whom nobody asked to forget.

What the figures mean
    identity    cosine between what the attack shows and real photos of the person that the attack did not use, by the
                recogniser that decides (one that unlearning did not train with, where there is one)
    before      the mean on G_s; after: on G_u; controls_before, controls: the same of the control people
    excess      (after - before) of the person - mean of (after - before) of the controls: 0 if nothing was erased,
                negative if the person is harder to get back than a control, positive if easier; its interval is where one
                more control would lie (a prediction interval), so that 0 outside it sets the person apart from controls
    threshold   the cosine that one in a thousand pairs of different random people exceed (a false-accept rate of 0.1 %), as in
                metrics and report.html; a comparison at or above it counts as recognised
Where somebody, person or control, has one photo only, what an attack shows is held against the photo that it was given as
well, for everybody, which flatters attacks.
In T7 attackers look for anybody and are given nobody: there a positive excess means that the person stands out.
"""
from __future__ import annotations

from eg3d_unlearn.evaluation.audit import (
    t0_latent,
    t1_encoder,
    t2_reinversion,
    t3_pivotal,
    t4_relearning,
    t5_harmless,
    t6_search,
    t7_who,
    t8_walks,
)
from eg3d_unlearn.evaluation.audit.tier import Tier

# All attacks, from the one with the least means on; a new one is a file and its name here.
TIERS: dict[str, Tier] = {module.TIER.key: module.TIER for module in (
    t0_latent, t1_encoder, t2_reinversion, t3_pivotal, t4_relearning, t5_harmless, t6_search, t7_who, t8_walks)}
