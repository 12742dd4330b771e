"""Where the closed form moves a person, and how far: the least that is enough, by a recogniser where there is one."""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Callable, Sequence

import torch
from torch import Tensor

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.judges import Embed
from eg3d_unlearn.judges.verification import pairs_of, quantile, threshold_at
from eg3d_unlearn.unlearning.closed_form import Erasure, LatentEdit, Population, edit_of, erasure, fold, population

STRENGTHS = (1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5)  # s, tried in this order
DEFAULT_STRENGTH = 1.35              # where no recogniser judges
FREE = 0.0015                        # of a move, squared, that others and their photos may make so that more is taken away than has to be
FACE = 0.5                           # of the way from the mean face to a random person lies the face that the erased one gets
MARGIN = 0.05                        # cosine below the verification threshold
STRANGERS = 0.95                     # quantile of those pairs: more alike are few strangers
PEOPLE, PEOPLE_AT_LARGE = 128, 48    # whose pairs say so; the latter where a picture takes a CPU long
LARGE = 256                          # pixels
YAWS = (-0.26, 0.26)                 # seen from here, too, where a network has cameras [radians]


@dataclass(frozen=True)
class Photos:
    """One person's latents, as the closed form takes them."""
    ws: Tensor                       # [photos, num_ws, w_dim] of the photos
    mirrored: Tensor | None = None   # the same of each photo's mirror image, which shows the same person in another light and pose
    exact: bool = False              # the latent is the person (a seed), not what an inversion made of a photo

    @property
    def all(self) -> Tensor:
        return self.ws if self.mirrored is None else torch.cat([self.ws, self.mirrored])


@dataclass(frozen=True)
class Shares:
    """What the detector says of photos that were not given, where 1 is a given one."""
    usual: float
    low: float                       # nine of ten photos say more


# Forty held-out demo people, four photos each, on both networks.
ONE_PHOTO, WITH_MIRRORED, EXACT = Shares(0.5, 0.2), Shares(0.62, 0.35), Shares(1.0, 1.0)


@dataclass(frozen=True)
class Strangers:
    """How alike random people of the network are to the recogniser."""
    usual: float                     # cosine below which `STRANGERS` of the pairs lie
    threshold: float                 # the verification threshold, at a rate of `judges.verification.FALSE_ACCEPTS`


def shares_of(
    person: Photos,
    w_avg: Tensor,                   # [num_ws, w_dim]
    people: Population,
) -> Shares:
    """Each of several photos is asked of the others' detector; of one photo experience tells."""
    if person.exact:
        return EXACT
    if len(person.ws) == 1:
        return ONE_PHOTO if person.mirrored is None else WITH_MIRRORED
    said = []
    for index in range(len(person.ws)):
        rest = [torch.cat([ws[:index], ws[index + 1:]]) for ws in (person.ws, person.mirrored) if ws is not None]
        edit = edit_of([erasure(torch.cat(rest), w_avg, w_avg, people)], w_avg)
        said.append(edit.says(person.ws[index:index + 1]).mean().item())
    low, usual = min(said), sum(said) / len(said)
    return Shares(min(1.0, max(usual, ONE_PHOTO.usual)), min(1.0, max(low, ONE_PHOTO.low)))


def face_for(ws: Tensor, generator: Generator) -> Tensor:   # [photos, num_ws, w_dim] -> [num_ws, w_dim]
    """The face that a person gets, seen from the mean face: drawn by the person's latent, so that two people get two faces."""
    seed = int.from_bytes(hashlib.sha256(ws[:1].cpu().float().contiguous().numpy().tobytes()).digest()[:4], 'big')
    return FACE * (generator.sample(1, torch.Generator().manual_seed(seed))[0] - generator.w_avg)


@torch.no_grad()
def faces(
    generator: Generator,
    ws: Tensor,                      # [N, num_ws, w_dim]
    recogniser: Embed,
    cameras: Sequence[Tensor | None] = (None,),  # [1, 25] each; None: from the front
) -> Tensor:                         # [V, N, D]
    """Embeddings of latents from each camera, one latent at a time."""
    found = []
    for one in ws:
        backbone = generator.backbone(one[None])
        found.append(torch.cat([recogniser(generator.render(backbone, camera, half=generator.has_half).image) for camera in cameras]))
    return torch.stack(found, dim=1)


def seen(generator: Generator, ws: Tensor, recogniser: Embed) -> Tensor:   # [N, num_ws, w_dim] -> [V, N, D]
    """Embeddings of latents from each view."""
    return faces(generator, ws, recogniser, [generator.camera(yaw) for yaw in (0.0, *YAWS)] if generator.is_3d else [None])


@torch.no_grad()
def strangers(generator: Generator, recogniser: Embed) -> Strangers:
    """Random people of the network, all pairs."""
    slow = generator.device.type == 'cpu' and generator.img_resolution > LARGE
    ws = generator.sample(PEOPLE_AT_LARGE if slow else PEOPLE, torch.Generator().manual_seed(1))
    theirs = faces(generator, ws, recogniser)[0]
    pairs = pairs_of(theirs @ theirs.T)
    return Strangers(quantile(pairs, STRANGERS), threshold_at(pairs))


@dataclass(frozen=True)
class Choice:
    """How a person is moved, and why."""
    move: Tensor                     # [num_ws, w_dim]: m = s a - t', with t' the face of `face_for`
    strength: float                  # s: 1 = all that the photos have in common is taken away, more: beyond the mean face
    because: str


def choose(generator: Generator, person: Photos, people: Population, recogniser: Embed | None, others: Strangers | None) -> Choice:
    """The least strength at which nobody would take the person for the person, and more where that costs others next to nothing.

    Photos of which the detector says what it usually says, and more, must be no more alike than strangers are; nine of ten photos
    must lie below the verification threshold, less the margin. Both from every view. What is free is used, until all is taken away
    of which the detector knows in a usual photo.
    """
    identity, face, share = person.all.mean(0) - generator.w_avg, face_for(person.ws, generator), shares_of(person, generator.w_avg, people)
    if recogniser is None or others is None:
        return Choice(DEFAULT_STRENGTH * identity - face, DEFAULT_STRENGTH, 'by default, for no recogniser judges')
    says = torch.tensor([1.0, (1 + share.usual) / 2, share.usual, share.low], device=identity.device)[:, None, None]
    was = seen(generator, generator.w_avg + identity[None], recogniser)
    alone = edit_of([erasure(person.all, identity, generator.w_avg, people)], generator.w_avg)
    free = min(1 / share.usual, (FREE / (alone.disturbance(people) + alone.disturbance(people, photographed=True)).mean().item()) ** 0.5)
    for strength in (max(strength, round(free, 2)) for strength in STRENGTHS):
        move = strength * identity - face
        alike = (seen(generator, generator.w_avg + identity - says * move, recogniser) * was).sum(2).amax(0).tolist()
        if max(alike[:3]) < others.usual and alike[3] < others.threshold - MARGIN:
            break
    why = (f'likeness {max(alike[:3]):.2f} at most where the detector says {share.usual:.2f} or more, as of most photos ({STRANGERS:.0%} of '
           f'random people are less than {others.usual:.2f} alike), {alike[3]:.2f} where it says {share.low:.2f}, as of the farthest tenth '
           f'(verification threshold {others.threshold:.2f}, margin {MARGIN})')
    return Choice(move, strength, why)


@dataclass(frozen=True)
class Erased:
    """What was done to a network."""
    people: tuple[Erasure, ...]
    edit: LatentEdit
    layers: list[str]                # that were changed


@torch.no_grad()
def erase(
    generator: Generator,            # G_u, changed in place
    everybody: Sequence[Photos],     # the people to be erased, together
    recogniser: Embed | None,
    log: Callable[[str], None] = lambda message: None,
    others: Strangers | None = None,  # of `strangers`, where they were looked at before
    ws_kept: Tensor | None = None,   # [N, num_ws or 1, w_dim] latents of photos of other people, who are to stay
) -> Erased:
    """Erase people in closed form: choose for each where and how far they go, then fold all of it into the style affines at once."""
    people = population(generator).with_photos(ws_kept, generator.w_avg)
    # What cannot be told apart is refused before anything slow.
    edit_of([erasure(one.all, generator.w_avg, generator.w_avg, people) for one in everybody], generator.w_avg)
    others = others or (None if recogniser is None else strangers(generator, recogniser))
    parts = []
    for number, one in enumerate(everybody, 1):
        choice = choose(generator, one, people, recogniser, others)
        parts.append(erasure(one.all, choice.move, generator.w_avg, people))
        who = 'The person' if len(everybody) == 1 else f'Person {number}'
        log(f'{who} goes half-way to the face of a random person, with strength {choice.strength:g}: {choice.because}.')
    edit = edit_of(parts, generator.w_avg)
    layers = fold(generator, edit)
    lost = edit.disturbance(people).mean(0).sum().sqrt().item()
    photos = 'No photos of other people were given (--keep), so that what such photos are inverted to may change more'
    if ws_kept is not None:
        theirs = edit.says(ws_kept.expand(-1, len(generator.w_avg), -1)).square().sum(2).mean().sqrt()
        photos = f'{len(ws_kept)} photos of other people make {theirs:.1%}'
    log(f'Erased in closed form: {len(layers)} style affines changed. Random people make {lost:.1%} of such a move, in the root mean square. '
        f'{photos}.')
    return Erased(tuple(parts), edit, layers)
