"""Erasing people in closed form: an affine change of the latent, folded into the style affines.

Every style of a StyleGAN or EG3D synthesis network is an affine map of a latent, s = A w + b. So any affine change of the latent can
be folded into weights and biases exactly, without a step of training. Here it is the one that takes each person k somewhere else and
disturbs everybody else least, in the mean of squares over the population:

    w  ->  w - sum_k m_k u_k . (w - w_avg)

with m_k = a_k - t_k the way from the person, a_k = w_k - w_avg, to another face t_k, and detectors u_k that are 1 on every photo of
person k and 0 on those of the others. Known from concept erasure (oblique least-squares erasure, LEACE, arXiv 2306.03819) and from
editing of key-value maps (arXiv 2007.15646).
"""
from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor, nn

from eg3d_unlearn.generators.generator import Generator
from torch_utils_ext.errors import InputError

SAMPLES = 16384                      # random latents that stand for the population
# e: share of the mean variance that is added to each direction's. Small: random people are disturbed least for what is forgotten of
# photos that were not given; large: other people's photos. A compromise, by forty held-out demo people.
RIDGE = 3e-4
PHOTOS = 0.1                         # how much what photos of other people are inverted to counts, where random people count 1


@dataclass(frozen=True)
class Population:
    """Random people of a network, as their latents lie."""
    mean: Tensor                     # [w_dim] float64
    covariance: Tensor               # [w_dim, w_dim] float64
    # [w_dim, w_dim] float64: second moment, about the mean latent, of latents that photos of other people were inverted to. They lie
    # elsewhere than random people do, and an edit that spares only those changes them.
    photographed: Tensor | float = 0.0

    def with_photos(self, ws: Tensor | None, w_avg: Tensor) -> Population:   # [N, num_ws or 1, w_dim], [num_ws, w_dim]
        """The same, with photos of other people."""
        if ws is None:
            return self
        apart = (ws.cpu().double() - w_avg[:ws.shape[1]].cpu().double()).flatten(0, 1)
        return Population(self.mean, self.covariance, apart.T @ apart / len(apart))

    def precision(self, ridge: float) -> Tensor:       # [w_dim, w_dim]
        """C_e^-1: the inverse of the covariance, with ``ridge`` times the mean variance added to each direction."""
        size = len(self.covariance)
        eye = torch.eye(size, dtype=self.covariance.dtype)
        return torch.linalg.inv(self.covariance + PHOTOS * self.photographed + ridge * self.covariance.trace() / size * eye)


@torch.no_grad()
def population(generator: Generator, count: int = SAMPLES, seed: int = 0) -> Population:
    """Mean and covariance of ``count`` latents of random people."""
    rng = torch.Generator().manual_seed(seed)
    ws = torch.cat([generator.sample(min(1024, count - start), rng)[:, 0].cpu().double() for start in range(0, count, 1024)])
    centred = ws - ws.mean(0)
    return Population(ws.mean(0), centred.T @ centred / len(ws))


@dataclass(frozen=True)
class Erasure:
    """One person's part of an edit: all that is needed to join it with other people's, without the population."""
    photos: Tensor                   # [photos, num_ws, w_dim] float64: latents of the photos, less the mean latent
    reach: Tensor                    # [photos, num_ws, w_dim] float64: C_e^-1 photos; detectors are made of these
    move: Tensor                     # [num_ws, w_dim] float64: m = a - t, what is taken away where the detector says 1


def erasure(
    photos: Tensor,                  # [photos, num_ws, w_dim] latents of one person's photos, W or W+
    move: Tensor,                    # [num_ws, w_dim]
    w_avg: Tensor,                   # [num_ws, w_dim]
    people: Population,
    ridge: float = RIDGE,
) -> Erasure:
    """What one person brings to an edit; the same, whoever else is erased."""
    seen = photos.cpu().double() - w_avg.cpu().double()
    distinct = seen[:, :1] if torch.equal(seen, seen[:, :1].expand_as(seen)) else seen     # W: every layer gets the same bits
    return Erasure(seen, (distinct @ people.precision(ridge)).expand_as(seen), move.cpu().double())


@dataclass(frozen=True)
class LatentEdit:
    """w -> w - sum_k moves_k (detectors_k . (w - mean)), for each layer's latent."""
    moves: Tensor                    # [num_ws, K, w_dim] float64: m_k
    detectors: Tensor                # [num_ws, K, w_dim] float64: u_k
    mean: Tensor                     # [num_ws, w_dim] float64: w_avg

    def says(self, ws: Tensor) -> Tensor:              # [N, num_ws, w_dim] -> [N, num_ws, K] float64
        """u_k . (w - w_avg): 1 = a given photo of person k, 0 = the mean face."""
        return torch.einsum('lkd,nld->nlk', self.detectors, ws.cpu().double() - self.mean)

    def __call__(self, ws: Tensor) -> Tensor:          # [N, num_ws, w_dim], dtype of ws
        """The latents that the edited network sees in place of ``ws``."""
        moved = ws.cpu().double() - torch.einsum('nlk,lkd->nld', self.says(ws), self.moves)  # double precision is not everywhere
        return moved.to(ws.dtype).to(ws.device)

    def disturbance(self, people: Population, photographed: bool = False) -> Tensor:  # [num_ws, K]
        """E |u_k . (w - w_avg)|^2, the share of the person's move that everybody else makes, squared: of random people, or of their photos."""
        moment = torch.as_tensor(people.photographed).expand_as(people.covariance) if photographed else people.covariance
        return torch.einsum('lkd,de,lke->lk', self.detectors, moment.double(), self.detectors)


def edit_of(people: Sequence[Erasure], w_avg: Tensor) -> LatentEdit:
    """The edit that erases ``people`` together, in whichever order they are given.

    U = (A C_e^-1 A^T)^-1 A C_e^-1, summed over the photos of each person, so that u_k . a_j = 1 on the photos of person k, else 0.

    Raises:
        InputError: photos that cannot be told apart: a person who is the mean face, two people with the same latent, too many.
    """
    photos, reach = (torch.cat([getattr(one, name) for one in people]).transpose(0, 1) for name in ('photos', 'reach'))  # [num_ws, M, w_dim]
    belongs = torch.block_diag(*(torch.ones(len(one.photos), 1, dtype=torch.float64) for one in people))  # [M, K]
    if photos.shape[1] > photos.shape[2]:
        raise InputError(f'{photos.shape[1]} photos are to be erased from a network whose latents have {photos.shape[2]} dimensions; no '
                         'more photos than dimensions can be told apart. Erase fewer people, or fewer photos of each.')
    gram = reach @ photos.transpose(1, 2)               # [num_ws, M, M]
    scale = gram.diagonal(dim1=1, dim2=2)
    if (scale < 1e-6).any() or (torch.linalg.cond(gram / (scale[:, :, None] * scale[:, None]).sqrt()) > 1e10).any():
        raise InputError('Two of the latents to be erased are the same, or one is the mean face of the network: nothing tells them apart. '
                         'Give each photo once, and another photo of that person.')
    detectors = torch.linalg.solve(gram.transpose(1, 2), belongs.expand(len(gram), -1, -1)).transpose(1, 2)
    return LatentEdit(torch.stack([one.move for one in people], dim=1), detectors @ reach, w_avg.cpu().double())


def affine_names(generator: Generator) -> list[str]:
    """All layers that make styles of latents."""
    return [name for name, _ in generator.network.named_modules() if name.split('.')[-1] == 'affine']


_watched: weakref.WeakKeyDictionary[nn.Module, dict[str, int]] = weakref.WeakKeyDictionary()


@torch.no_grad()
def watch(generator: Generator) -> Tensor:             # [1, 3, H, W] the picture, which is nobody's
    """Find out which latent each affine of the network reads, for `style_affines`.

    That is not written down anywhere, so the network is watched: it makes one picture of latents that are all different.
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
        image = generator.synthesize(marks[None], generator.frontal()).image
    finally:
        for hook in hooks:
            hook.remove()
    if unseen := affines.keys() - found.keys():
        raise InputError(f'The layer {sorted(unseen)[0]} of the network reads no latent in a picture: a network of another kind than expected.')
    _watched[generator.network] = found
    return image


def style_affines(generator: Generator) -> list[tuple[str, nn.Module, int]]:
    """Name, layer and number of the latent of every affine that the network reads latents with."""
    if generator.network not in _watched:
        watch(generator)
    return [(name, generator.network.get_submodule(name), number) for name, number in _watched[generator.network].items()]


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
