"""T8: walks between w_source and w_target and around w_source, mixed layers, and the weights between G_s and G_u."""
from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.audit.context import Audit, Side
from eg3d_unlearn.evaluation.audit.sentences import number, usual
from eg3d_unlearn.evaluation.audit.subjects import Subject
from eg3d_unlearn.evaluation.audit.tier import Findings, Shown, Tier, curve_of
from eg3d_unlearn.evaluation.audit.tuning import learning_copy
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.unlearning.loss import adjacent_offsets

BEYOND = 0.5                         # how far the walk goes on beyond both ends, in lengths of the way
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of G_u in interpolated weights
WAYS = ('walk', 'around', 'mixing')


def attack(audit: Audit, budget: SimpleNamespace) -> Findings:
    """Latents between, around and mixed of the person and the target; of all places the one most like the photo."""
    best: dict[str, list[dict[str, float]]] = {side.name: [] for side in audit.sides}

    def one(side, index, step):
        step()
        subject = audit.subjects[index]
        photo = audit.attacked_photo(subject)
        ends, likeness = {}, {}
        for way, ws in places(audit, subject, budget).items():
            seen = audit.seen_by_attacker(audit.frontal(side.generator, ws)) @ photo
            ends[way], likeness[way] = ws[seen.argmax(), None], seen.max().item()
        shown = {way: [Shown(audit.views(side.generator, ws), used=subject.attacked)] for way, ws in ends.items()}
        best[side.name].append({way: round(audit.likeness(index, part), 4) for way, part in shown.items()})
        return shown[max(likeness, key=likeness.get)]

    findings = audit.on_everybody(one, 'T8')
    findings.curve = between_networks(audit)
    findings.details = {'points': {way: len(ws) for way, ws in places(audit, audit.subjects[0], budget).items()},
                        'best': {name: {'person': rows[0], 'controls': means(rows[1:])} for name, rows in best.items()},
                        'curve_is': 'identity at the original latent against the share of G_u in the weights'}
    return findings


def places(audit: Audit, subject: Subject, budget: SimpleNamespace) -> dict[str, Tensor]:  # each [K, num_ws, w_dim]
    """The latents that are tried."""
    source, mean = subject.ws[:1], audit.evidence.g_s.w_avg[None]
    target = audit.target(source)
    share = torch.linspace(-BEYOND, 1 + BEYOND, budget.walk).to(source)[:, None, None]
    rng = torch.Generator().manual_seed(11 * audit.seed + 5)
    lengths = torch.linspace(0.5, 2.0, budget.around).to(source) * audit.distances[1]
    offsets = adjacent_offsets(audit.evidence.g_s.sample(budget.around, rng), source, lengths)
    return dict(zip(WAYS, (source + share * (target - source), source + offsets, mixed(source, mean)), strict=True))


def mixed(source: Tensor, mean: Tensor) -> Tensor:     # [1, num_ws, w_dim] -> [K, num_ws, w_dim]
    """Coarse layers of the person with fine ones of the mean, and the other way round, cut at a quarter, a half, three quarters."""
    layers = source.shape[1]
    found = []
    for cut in sorted({max(1, layers * part // 4) for part in (1, 2, 3)}):
        fine = (torch.arange(layers, device=source.device) >= cut)[None, :, None]
        found += [torch.where(fine, mean, source), torch.where(fine, source, mean)]
    return torch.cat(found)


def between_networks(audit: Audit) -> dict:
    """Likeness at the original latent, from the front, against the share of G_u in the weights; 0 is G_s itself."""
    along = []
    for share in SHARES:             # one network in memory at a time
        network = interpolated(*audit.sides, share)
        along.append([audit.likeness_at(network, index, subject.ws[:1]) for index, subject in enumerate(audit.subjects)])
    return curve_of(list(SHARES), list(zip(*along, strict=True)))


@torch.no_grad()
def interpolated(before: Side, after: Side, share: float) -> Generator:
    """G_s with ``share`` of the way to G_u in every weight."""
    network, _ = learning_copy(before.generator, 'all')
    ends = dict(after.generator.network.named_parameters())
    for name, parameter in network.network.named_parameters():
        parameter.lerp_(ends[name], share)
    network.network.requires_grad_(False)
    return network


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {way: round(sum(row[way] for row in rows) / len(rows), 4) for way in rows[0]}


def say(result: dict) -> str:
    """The sentence: the best of each way."""
    points, curve, best = result['details']['points'], result['curve'], result['details']['best']['after']['person']
    half = curve['person'][len(curve['person']) // 2]
    return (usual(result, f'The best of {sum(points.values())} places between and around w_source and w_target and of mixed layers') +
            f' Best of the walk {number(best["walk"])}, around {number(best["around"])}, mixing {number(best["mixing"])}; weights half way '
            f'between G_s and G_u show {number(half)}, for which one needs G_s.')


TIER = Tier('T8', 'walks, mixed layers, interpolated weights', 'has the network, the latent that was erased and one photo to know the person by',
            attack, say, plain='trying faces close to the person’s', telling=True,
            budgets={'quick': {'walk': 7, 'around': 6}, 'standard': {'walk': 13, 'around': 24}, 'thorough': {'walk': 25, 'around': 64}},
            spends='{walk} + {around} points and mixes')
