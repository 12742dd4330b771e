"""Erasing people in closed form: an affine change of the latent, folded into the style affines.

Every style of a StyleGAN or EG3D synthesis network is an affine map of a latent, s = A w + b. So any affine change of the latent can
be folded into weights and biases exactly, without a step of training. Here it is the one that takes each person k somewhere else and
disturbs everybody else least, in the mean of squares over the population:

    w  ->  w - sum_k (a_k - t_k) u_k . (w - w_avg)

with a_k = w_k - w_avg the person and t_k where the person goes, seen from the mean latent, and detectors u_k that are 1 on
every photo of person k and 0 on those of the others. Known from concept erasure (oblique least-squares erasure, LEACE, arXiv 2306.03819)
and from editing of key-value maps (arXiv 2007.15646).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor, nn

from eg3d_unlearn.generator import Generator
from torch_utils_ext.errors import InputError

SAMPLES = 16384                      # random latents that stand for the population
RIDGE = 1e-3                         # e: share of the mean variance that is added to each direction's
FALSE_ACCEPTS = 1e-3                 # share of pairs of random people above the verification threshold
PAIRS_OF = 64                        # random people, from whose pairs the threshold is taken
MARGIN = 0.1                         # cosine below the threshold that the person has to reach
# What the detector says of a photo that was not given, where 1 is the given one: nine of ten photos of ten held-out demo people
# on demo-eg3d say at least this.
OTHER_PHOTO = 0.33
WAY = tuple(step / 10 for step in range(10, -11, -1))  # from the person (1) over the mean face (0) to the other side, to look at
UNSEEN = 1.5                         # strength where there is no recogniser


@dataclass(frozen=True)
class Population:
    """Random people of a network, as their latents lie."""
    mean: Tensor                     # [w_dim] float64
    covariance: Tensor               # [w_dim, w_dim] float64

    def precision(self, ridge: float) -> Tensor:       # [w_dim, w_dim]
        """The inverse of the covariance, with ``ridge`` times the mean variance added to each direction."""
        size = len(self.covariance)
        eye = torch.eye(size, dtype=self.covariance.dtype)
        return torch.linalg.inv(self.covariance + ridge * self.covariance.trace() / size * eye)


@torch.no_grad()
def population(generator: Generator, count: int = SAMPLES, seed: int = 0) -> Population:
    """Mean and covariance of ``count`` latents of random people."""
    rng = torch.Generator().manual_seed(seed)
    ws = torch.cat([generator.sample(min(1024, count - start), rng)[:, 0].cpu().double() for start in range(0, count, 1024)])
    centred = ws - ws.mean(0)
    return Population(ws.mean(0), centred.T @ centred / len(ws))


@dataclass(frozen=True)
class LatentEdit:
    """w -> w - sum_k moves_k (detectors_k . (w - mean)), for each layer's latent."""
    moves: Tensor                    # [num_ws, K, w_dim] float64: a_k - t_k
    detectors: Tensor                # [num_ws, K, w_dim] float64: u_k
    mean: Tensor                     # [num_ws, w_dim] float64: w_avg

    def __call__(self, ws: Tensor) -> Tensor:          # [N, num_ws, w_dim], dtype of ws
        """The latents that the edited network sees in place of ``ws``."""
        here = ws.cpu().double()         # double precision is not everywhere
        said = torch.einsum('lkd,nld->nlk', self.detectors, here - self.mean)
        return (here - torch.einsum('nlk,lkd->nld', said, self.moves)).to(ws.dtype).to(ws.device)


def find_edit(
    photos: list[Tensor],            # of each person [photos, num_ws, w_dim]: latents of the photos, W or W+
    targets: list[Tensor],           # of each person [num_ws, w_dim]: where the person goes
    w_avg: Tensor,                   # [num_ws, w_dim]
    people: Population,
    ridge: float = RIDGE,            # e; small: others are disturbed least; large: other photos of the person are reached
) -> tuple[LatentEdit, Tensor]:      # and [num_ws, K]: the share 1 / m^2 of its variance that everybody else loses along each detector
    """The edit that moves each person to the target, disturbing the population least.

    Raises:
        InputError: photos that cannot be told apart: a person who is the mean face, or two people with the same latent.
    """
    mean, precision = w_avg.cpu().double(), people.precision(ridge)
    seen = torch.cat(photos).cpu().double() - mean      # [M, num_ws, w_dim]
    belongs = torch.block_diag(*(torch.ones(len(one), 1, dtype=torch.float64) for one in photos))  # [M, K]
    moves = torch.stack([one.cpu().double().mean(0) - target.cpu().double() for one, target in zip(photos, targets, strict=True)], dim=1)
    reach = seen.transpose(0, 1) @ precision            # [num_ws, M, w_dim]
    gram = reach @ seen.permute(1, 2, 0)                # [num_ws, M, M]
    scale = gram.diagonal(dim1=1, dim2=2)
    if (scale < 1e-6).any() or (torch.linalg.cond(gram / (scale[:, :, None] * scale[:, None]).sqrt()) > 1e10).any():
        raise InputError('Two of the latents to be erased are the same, or one is the mean face of the network: nothing tells them apart. '
                         'Give each photo once, and another photo of that person.')
    detectors = torch.linalg.solve(gram, belongs.expand(len(gram), -1, -1)).transpose(1, 2) @ reach
    disturbance = torch.einsum('lkd,de,lke->lk', detectors, people.covariance, detectors)
    return LatentEdit(moves, detectors, mean), disturbance


def affine_names(generator: Generator) -> list[str]:
    """All layers that make styles of latents."""
    return [name for name, _ in generator.network.named_modules() if name.split('.')[-1] == 'affine']


@torch.no_grad()
def style_affines(generator: Generator) -> list[tuple[str, nn.Module, int]]:
    """Name, layer and number of the latent of every affine that the network reads latents with.

    Which latent a layer reads is not written down anywhere, so the network is watched: one pass with latents that are all different.
    """
    found: dict[str, int] = {}
    marks = torch.arange(generator.num_ws, dtype=torch.float32, device=generator.device)[:, None].expand(-1, generator.w_dim) + 1

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple) -> None:
            found[name] = round(inputs[0][0, 0].item()) - 1
        return hook
    affines = {name: generator.network.get_submodule(name) for name in affine_names(generator)}
    hooks = [module.register_forward_pre_hook(note(name)) for name, module in affines.items()]
    try:
        generator.synthesize(marks[None], generator.frontal())
    finally:
        for hook in hooks:
            hook.remove()
    if unseen := affines.keys() - found.keys():
        raise InputError(f'The layer {sorted(unseen)[0]} of the network reads no latent in a picture: a network of another kind than expected.')
    return [(name, affines[name], number) for name, number in found.items()]


@torch.no_grad()
def fold(generator: Generator, edit: LatentEdit) -> list[str]:
    """Change the network so that it shows for every latent what it showed for the edited one; the names of the layers that changed.

    y = g_w W w + g_b b, so that W' = W - W P and b' = b + (g_w / g_b) W P w_avg, with P of the rank of the people.
    """
    names = []
    for name, layer, number in style_affines(generator):
        weight = layer.weight.cpu().double()
        moved = weight @ edit.moves[number].T           # [out, K]
        shift = moved @ (edit.detectors[number] @ edit.mean[number])
        layer.weight.copy_((weight - moved @ edit.detectors[number]).float())
        layer.bias.copy_((layer.bias.cpu().double() + shift * (layer.weight_gain / layer.bias_gain)).float())
        names.append(name)
    return names


@dataclass(frozen=True)
class Strength:
    """How far the person is moved: 1 = to the mean face, more = beyond it; and why."""
    value: float
    because: str


@torch.no_grad()
def choose_strength(
    generator: Generator,
    ws_source: Tensor,               # [K, num_ws, w_dim] latents of photos of one person
    people: Population,
    recogniser: Callable[[Tensor], Tensor] | None,  # [N, 3, H, W] -> [N, D] unit norm
) -> Strength:
    """The least strength at which the recogniser takes no photo of the person for the person, photos that were not given included."""
    share = share_of_others(ws_source, generator.w_avg, people)
    if recogniser is None:
        return Strength(UNSEEN, 'there is no recogniser to choose it by')

    def embed(ws: Tensor) -> Tensor:
        return torch.cat([recogniser(generator.synthesize(one[None].to(generator.device), generator.frontal()).image) for one in ws])
    anybody = embed(generator.sample(PAIRS_OF, torch.Generator().manual_seed(1)))
    pairs = (anybody @ anybody.T)[torch.triu_indices(PAIRS_OF, PAIRS_OF, 1).unbind()]
    limit = pairs.cpu().double().quantile(1 - FALSE_ACCEPTS).item() - MARGIN
    identity = ws_source[:1] - generator.w_avg
    seen = embed(torch.cat([generator.w_avg + part * identity for part in WAY]))
    likeness = (seen @ seen[0]).tolist()
    part = next((part for number, part in enumerate(WAY) if max(likeness[number:]) < limit), WAY[-1])
    return Strength(round(max(1.0, (1 - part) / share), 2),
                    f'at {part:g} of the way from the mean face the likeness is below {limit:.2f}, the threshold less {MARGIN}, and '
                    f'the detector says {share:.2f} of another photo')


def share_of_others(ws: Tensor, w_avg: Tensor, people: Population) -> float:
    """What the detector says of a photo that was not given: each of several photos by the others' detector, one alone by experience."""
    if len(ws) == 1:
        return OTHER_PHOTO
    said = []
    for index in range(len(ws)):
        others = torch.cat([ws[:index], ws[index + 1:]])
        edit, _ = find_edit([others], [w_avg], w_avg, people)
        said.append(torch.einsum('ld,ld->l', edit.detectors[:, 0], ws[index].cpu().double() - edit.mean).mean().item())
    return min(1.0, max(OTHER_PHOTO, sum(said) / len(said)))


def erase(
    generator: Generator,            # G_u, changed in place
    ws_source: Tensor,               # [K, num_ws, w_dim] latents of photos of one person
    recogniser: Callable[[Tensor], Tensor] | None,
    log: Callable[[str], None] = lambda message: None,
) -> Tensor:                         # [K, num_ws, w_dim] where the photos' latents are moved
    """Erase one person in closed form."""
    people = population(generator)
    strength = choose_strength(generator, ws_source, people, recogniser)
    target = generator.w_avg - (strength.value - 1) * (ws_source.mean(0) - generator.w_avg)
    edit, lost = find_edit([ws_source], [target], generator.w_avg, people)
    names = fold(generator, edit)
    log(f'Erased in closed form: {len(names)} style affines changed. Strength {strength.value:g}: {strength.because}. '
        f'Random people move by {lost.mean().sqrt():.1%} of the way of the person, in the root mean square.')
    return edit(ws_source)
