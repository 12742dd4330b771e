"""T7: who was erased?  From the two networks, or from G_u alone.

Shown without any photo: who stands where the two networks differ most, found by random latents and steps uphill.
Ranked, among random people, controls and the erased person:
    change   LPIPS between G_s(w) and G_u(w): needs both networks
    misfit   how badly G_u(w) lies between its neighbours G_u(w + δ) and G_u(w - δ): G_u alone
    mirror   likeness of G_u(w) and G_u(w_t(w)): where w was moved to its target (Eq. 3), both show one face: G_u alone
"""
from __future__ import annotations

import statistics
from types import SimpleNamespace

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.audit.sentences import interval, number
from eg3d_unlearn.evaluation.audit.tier import Findings, Shown, Tier
from eg3d_unlearn.evaluation.estimate import stands_first
from eg3d_unlearn.evaluation.likeness import cosines, lpips
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.unlearning.loss import adjacent_offsets
from eg3d_unlearn.unlearning.target import frobenius, latent_radius
from torch_utils_ext.progress import tqdm
from torch_utils_ext.user_files import dict_at, is_number

STEP = 0.05                          # of the way uphill, in latent radii
NEEDS = {'change': 'both networks', 'misfit': 'G_u alone', 'mirror': 'G_u alone'}
PLAIN = {'both networks': 'from the old and the new file', 'G_u alone': 'from the new file alone'}


def attack(audit: Audit, budget: SimpleNamespace) -> Findings:
    """Random latents and steps uphill to where both networks differ most; candidates ranked by how suspect they are."""
    rng = torch.Generator().manual_seed(5 * audit.seed + 3)
    drawn = audit.evidence.g_s.sample(budget.candidates, rng)
    people = torch.cat([subject.ws[:1] for subject in audit.subjects])
    candidates = torch.cat([people, drawn])
    ranks, suspects = {}, {}
    for side in audit.sides:
        scores = suspicion(audit, side.light, candidates, side.name)
        ranks[side.name] = {name: ranked(values, len(people)) for name, values in scores.items()}
        suspects[side.name] = uphill(audit, side.light, drawn[scores['change'][len(people):].argmax(), None], budget.ascent_steps)

    def one(side, index, step):
        step()
        # G_s shows whom G_u does not show any more.
        return [Shown(audit.views(audit.evidence.g_s, suspects[side.name]))]

    findings = audit.on_everybody(one, 'T7')
    findings.details = {'candidates': len(candidates), 'ranks': ranks['after'], 'ranks_on_g_s': ranks['before']}
    return findings


@torch.no_grad()
def suspicion(audit: Audit, generator: Generator, ws: Tensor, name: str) -> dict[str, Tensor]:  # [N, num_ws, w_dim] -> each [N]
    """How suspect each candidate is, by each way of looking."""
    g_s = audit.sides[0].light
    rng = torch.Generator().manual_seed(7 * audit.seed + 4)
    found: dict[str, list[Tensor]] = {name: [] for name in NEEDS}
    for some in audit.in_batches(ws, f'T7 {name}'):
        here = audit.frontal(generator, some)
        there = here if generator is g_s else audit.frontal(g_s, some)
        found['change'].append(lpips(audit.perceptual, here, there))
        mirrored = audit.frontal(generator, audit.target(some))
        found['mirror'].append(cosines(audit.seen_by_attacker(here), audit.seen_by_attacker(mirrored)))
        # Beyond the neighbourhood that was moved along with the person (Eq. 5).
        length = torch.full([len(some)], 2 * audit.distances[1]).to(some)
        offsets = adjacent_offsets(generator.sample(len(some), rng), some, length)
        between = (audit.frontal(generator, some + offsets) + audit.frontal(generator, some - offsets)) / 2
        found['misfit'].append((here - between).square().flatten(1).mean(1))
    return {name: torch.cat(values).nan_to_num(0.0) for name, values in found.items()}


def uphill(audit: Audit, generator: Generator, ws: Tensor, steps: int) -> Tensor:  # [1, num_ws, w_dim] -> the same
    """From a random latent to where the two networks differ most nearby; no farther from the mean than random people are."""
    g_s, perceptual, mean = audit.sides[0].light, audit.perceptual, audit.evidence.g_s.w_avg
    radius, camera = latent_radius(audit.evidence.g_s), g_s.camera(0.0) if g_s.is_3d else None
    best, most = ws, -1.0
    for _ in tqdm(range(steps), desc='T7 uphill', unit='step', dynamic_ncols=True):
        w = ws[:, :1].detach().requires_grad_(True)
        wide = w.expand(-1, generator.num_ws, -1)
        features = [perceptual.features(network.synthesize(wide, camera).image) for network in (g_s, generator)]
        change = perceptual.compare(*features)
        if change.item() > most:
            best, most = ws.detach(), change.item()
        gradient, = torch.autograd.grad(change.sum(), w)
        if not torch.isfinite(gradient).all() or not gradient.any():
            break
        wide = wide.detach()
        wide = wide + STEP * radius * (gradient.expand_as(wide) / frobenius(gradient.expand_as(wide)))
        out = frobenius(wide - mean)
        ws = mean + (wide - mean) * (radius / out).clamp(max=1)
    return best


def ranked(scores: Tensor, people: int) -> dict:      # [N], the erased person first, then the controls
    """Ranks from 1, most suspect first, ties shared: of the person and the median of the controls."""
    ranks = [1 + (scores > scores[i]).sum().item() + ((scores == scores[i]).sum().item() - 1) / 2 for i in range(people)]
    return {'person': ranks[0], 'controls': statistics.median(ranks[1:])}


def say(result: dict) -> str:
    """The sentence: ranks, and whether the person stands out."""
    details = result['details']
    count, figures = details['candidates'], result['figures']
    told = [f'by {name} ({NEEDS[name]}) {rank["person"]:g}{found(rank["person"], count)} (controls {rank["controls"]:g}; on G_s '
            f'{details["ranks_on_g_s"][name]["person"]:g})' for name, rank in details['ranks'].items()]
    return (f'Who was erased? Rank of the person among {count} candidates: {", ".join(told)}. Looked for without a photo or a '
            f'list, where both networks differ most: identity cosine {number(figures["after"]["value"])} to the person\'s photos, '
            f'{number(figures["controls"]["value"])} to controls\'; {standing_out(figures["excess"])}.')


def standing_out(excess: dict) -> str:
    """What the excess means where an attacker looks for anybody."""
    if excess['low'] > 0:
        return f'the person stands out (excess {interval(excess)})'
    return f'the person does not stand out from controls in this sample (excess {interval(excess)})'


def found(rank: float, count: int) -> str:
    """What a rank means: by chance it lies among the first 5 % once in twenty times."""
    return ': found out' if stands_first(rank, count) else ': suspect' if rank <= 0.05 * count else ''


def exposed_by(result: dict) -> dict[str, str]:
    """The ways by which the person is the most suspect of all candidates, where these are too many for chance, and what each needs."""
    details = dict_at(result, 'details')
    ranks = {way: dict_at(details, 'ranks', way).get('person') for way in NEEDS}
    return {way: PLAIN[NEEDS[way]] for way, rank in ranks.items() if is_number(rank) and stands_first(rank, details['candidates'])}


TIER = Tier('T7', 'who was erased?', 'has both networks, or the unlearned one alone; no photo', attack, say, exposed_by=exposed_by,
            budgets={'quick': {'candidates': 48, 'ascent_steps': 8}, 'standard': {'candidates': 400, 'ascent_steps': 50},
                     'thorough': {'candidates': 1000, 'ascent_steps': 200}},
            spends='{candidates} candidates and {ascent_steps} steps')
