"""Hold the inversions against each other, on photos of demo people whom no network was trained on.

    python -m eg3d_unlearn.bench.compare_inversions --network=demo-stylegan2 --people=8
"""
from __future__ import annotations

import time
from pathlib import Path

import click
import torch
from torch import Tensor

from eg3d_unlearn.config import INVERSIONS, Config, borrow, parts_of
from eg3d_unlearn.console import PATH, command, refuse_existing
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.loading import choose_device, load_generator
from eg3d_unlearn.generators.precision import arithmetic, choose_precision
from eg3d_unlearn.judges.judges import Judges, load_judges
from eg3d_unlearn.machine import hardware, versions
from eg3d_unlearn.person.inversion import make_inverter
from eg3d_unlearn.person.inversion.inverter import Inversion
from eg3d_unlearn.person.inversion.pti import PivotalTuning
from eg3d_unlearn.run_folder import write_json
from eg3d_unlearn.unlearning.presets import FROM_ENCODER, FROM_MEAN, resolve
from eg3d_unlearn.worlds.demo.photo import photos_of
from eg3d_unlearn.worlds.demo.recipes import NETWORKS
from eg3d_unlearn.worlds.demo.shipped import encoder_path
from eg3d_unlearn.worlds.registry import world_by_network
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm
from torch_utils_ext.user_files import shown

TUNING = 'pti'                       # a pivot by encoder+w, then the weights
FIRST_PERSON = 200                   # of the held-out people; the main run's is not among them
ROWS = ('w:500', 'w+:500', 'encoder', 'encoder+w:50', 'encoder+w+:50', 'pti:50')


def photos(people: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
    """One photo of each person, rendered from the truth, and its camera."""
    taken = [photos_of(FIRST_PERSON + number, 1, generator.img_resolution, first=1) for number in range(people)]
    cameras = torch.cat([one.cameras for one in taken]) if generator.is_3d else None
    return torch.cat([one.images for one in taken]), cameras


def invert(name: str, steps: int, network: str, generator: Generator, judges: Judges, images: Tensor,
           cameras: Tensor | None) -> tuple[list[Inversion], float]:
    """The photos inverted, and seconds a photo; pivotal tuning takes them one by one, since it bends the network to each."""
    tunes = name == TUNING
    name = 'encoder+w' if tunes else name
    lr = (FROM_ENCODER if parts_of(name)[0] else FROM_MEAN)['inversion_lr']
    inverter = make_inverter(name, encoder_path(network), lr=lr, **({'steps': steps} if steps else {}))
    if tunes:
        inverter = PivotalTuning(inverter)
    batches = [slice(number, number + 1) for number in range(len(images))] if tunes else [slice(None)]
    begun, found = time.perf_counter(), []
    for part in tqdm(batches, desc=name, leave=False):
        found.append(inverter(generator, images[part], None if cameras is None else cameras[part], judges.perceptual))
    return found, (time.perf_counter() - begun) / len(images)


@torch.no_grad()
def figures_of(found: list[Inversion], generator: Generator, judges: Judges, images: Tensor, cameras: Tensor | None) -> dict:
    """Means over the photos: LPIPS, PSNR [dB], identity cosine to the photo by the measuring recogniser."""
    shown, index = [], 0
    for one in found:
        camera = None if cameras is None else cameras[index:index + len(one.ws)]
        shown.append((one.generator or generator).synthesize(one.ws, camera).image)
        index += len(one.ws)
    cosine = (judges.measuring(torch.cat(shown)) * judges.measuring(images)).sum(dim=1)
    return {'lpips': round(torch.cat([one.lpips for one in found]).mean().item(), 4),
            'psnr_db': round(torch.cat([one.psnr for one in found]).mean().item(), 2),
            'identity': round(cosine.mean().item(), 4), 'worst_identity': round(cosine.min().item(), 4)}


def read_row(text: str) -> tuple[str, int]:
    """Inversion and steps (0: it has none, or the usual ones) of ``encoder+w+:50``.

    Raises:
        InputError: it says something else.
    """
    name, _, steps = text.partition(':')
    if name not in (*INVERSIONS, TUNING) or not (steps or '0').isdigit():
        raise InputError(f'--rows: {shown(text)} is not NAME or NAME:STEPS, for instance encoder+w+:50. Names: {", ".join((*INVERSIONS, TUNING))}.')
    return name, int(steps or 0)


def table(rows: list[dict]) -> str:
    """The rows as text."""
    lines = [f'{"inversion":<20}{"steps":>6}{"s/photo":>9}{"LPIPS":>8}{"PSNR":>7}{"identity":>10}{"worst":>8}']
    lines += [f'{row["inversion"]:<20}{row["steps"]:>6}{row["seconds_per_photo"]:>9.1f}{row["lpips"]:>8.3f}{row["psnr_db"]:>7.1f}'
              f'{row["identity"]:>10.3f}{row["worst_identity"]:>8.3f}' for row in rows]
    return '\n'.join(lines)


@command()
@click.option('--network', help='Which demo network.', type=click.Choice(list(NETWORKS)), required=True)
@click.option('--people', help='People, one photo each.', type=click.IntRange(min=1), default=8, show_default=True)
@click.option('--rows', help='Inversions with their steps, separated by commas.', metavar='NAME:STEPS,...', default=','.join(ROWS), show_default=True)
@click.option('--outfile', help='Also write the figures as json.', type=PATH, metavar='FILE')
@borrow('device')
def main(network: str, people: int, rows: str, outfile: str | None, device: str) -> None:
    """Invert photos of held-out demo people in several ways and print how near each comes, and how long it takes.

    The photos are rendered from the truth, not by the network. Pivotal tuning (pti) takes 100 further steps on the weights.
    """
    refuse_existing(outfile)
    wanted = [read_row(row) for row in rows.split(',')]
    place = choose_device(device)
    config = resolve(Config(network=network, outdir=''), *world_by_network(network))
    _, generator = load_generator(config, place)
    judges = load_judges(config, generator, place)
    precision = choose_precision(None, world_by_network(network)[0], place)
    images, cameras = (None if part is None else part.to(place) for part in photos(people, generator))
    results = []
    for name, steps in wanted:
        with arithmetic(precision, place):
            found, seconds = invert(name, steps, network, generator, judges, images, cameras)
        results.append({'inversion': name, 'steps': steps, 'seconds_per_photo': round(seconds, 2),
                        **figures_of(found, generator, judges, images, cameras)})
        click.echo(table(results[-1:]).splitlines()[1] if len(results) > 1 else table(results))
    if outfile:
        content = {'network': network, 'people': people, 'first_person': FIRST_PERSON, 'precision': precision, 'rows': results,
                   'hardware': hardware(place), 'versions': versions()}
        write_json(Path(outfile), content)


if __name__ == '__main__':
    main()
