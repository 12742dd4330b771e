"""How well the recognisers of this world tell real people apart, on a user's own photos."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.judges.verification import FALSE_ACCEPTS, pairs_of, threshold_at
from eg3d_unlearn.person.photo.folders import folders_in, pictures_at
from eg3d_unlearn.person.photo.prepare import prepare_file
from eg3d_unlearn.worlds.faces import judges
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

RESOLUTION = 256                     # pixels of the crops that are judged, as of the generator's small pictures


@dataclass
class Verification:
    """Cosines of pairs of photos, judged by one threshold."""
    same: np.ndarray                 # [N] of one person
    different: np.ndarray            # [M] of two people
    threshold: float                 # from which on two photos count as one person

    def false_rejects(self) -> float:
        return float((self.same < self.threshold).mean())

    def false_accepts(self) -> float:
        return float((self.different >= self.threshold).mean())

    def equal_error_rate(self) -> float:
        """Where both errors are as near to each other as the pairs allow: the mean of the two."""
        cuts = np.append(np.concatenate([self.same, self.different]), np.inf)[:, None]
        rejects, accepts = (self.same < cuts).mean(1), (self.different >= cuts).mean(1)
        best = np.abs(rejects - accepts).argmin()
        return float((rejects[best] + accepts[best]) / 2)

    def __str__(self) -> str:
        return (f'threshold {self.threshold:.3f}; {len(self.same)} pairs of one person, cosine {self.same.mean():.2f} ({self.same.min():.2f} at '
                f'least), {self.false_rejects():.1%} rejected; {len(self.different)} pairs of two people, {self.different.mean():.2f} '
                f'({self.different.max():.2f} at most), {self.false_accepts():.2%} accepted; equal error rate {self.equal_error_rate():.1%}')


def verify(
    folder: Path,                    # with one folder of photos for each person
    random_people: Callable[[], Tensor],   # pictures [N, 3, H, W] in -1 to 1 of random people of the generator, who set the threshold
) -> dict[str, Verification]:        # by recogniser
    """Compare all photos with one another. A photo without a usable face is left out, with a line that says why."""
    people, crops = [], []
    for person in folders_in(folder):
        for path in pictures_at(person):
            try:
                crops.append(prepare_file(path, 'ffhq').tensor(RESOLUTION))
                people.append(person.name)
            except InputError as error:
                click.echo(f'Left out: {error}')
    pairs = list(combinations(range(len(people)), 2))
    same = np.array([people[a] == people[b] for a, b in pairs], bool)
    if not same.any() or same.all():
        raise InputError(f'{shown(folder, 300)} holds {len(crops)} photos of {len(set(people))} people that can be used. Expected a folder for '
                         'each person, at least two of them, and two photos of one.')
    photos, strangers, found = torch.cat(crops), random_people(), {}
    for name, recogniser in judges.recognisers().items():
        with torch.no_grad():
            ours, theirs = (torch.cat([recogniser.embed(part, 'ffhq') for part in pictures.split(8)]) for pictures in (photos, strangers))
        cosines = np.array([(ours[a] @ ours[b]).item() for a, b in pairs])
        found[name] = Verification(cosines[same], cosines[~same], threshold_at(pairs_of(theirs @ theirs.T), FALSE_ACCEPTS))
    return found
