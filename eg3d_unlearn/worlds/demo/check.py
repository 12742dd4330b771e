"""Examine the shipped networks of the demo world against its bars.

    python -m eg3d_unlearn.worlds.demo.check

Every figure is about people whom no network was trained on.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor

from eg3d_unlearn.console import PATH, command, refuse_existing
from eg3d_unlearn.generators.build import build_network, wrap
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.person.photo import write_sheet
from eg3d_unlearn.run_folder import refuse_foreign_files, write_json, write_whole
from eg3d_unlearn.worlds.demo import scene, shipped, train_stylegan2
from eg3d_unlearn.worlds.demo.judges import COMMANDS, load_judge
from eg3d_unlearn.worlds.demo.people import NUISANCE, Z_DIM, People, attributes_of
from eg3d_unlearn.worlds.demo.photo import MAX_PITCH, MAX_YAW
from eg3d_unlearn.worlds.demo.photos import compile_if_possible, photo_set
from eg3d_unlearn.worlds.demo.recipes import NETWORKS
from eg3d_unlearn.worlds.demo.sheet import grid
from eg3d_unlearn.worlds.demo.train_judges import recogniser_figures
from eg3d_unlearn.worlds.demo.training import psnr
from torch_utils_ext.progress import tqdm

SEED = 900_000_000                    # of the latents and photos here; steps of a training count their seeds from 0
LIMIT = 8 * 2**20                     # bytes of a shipped file
WORTH_COMPILING = 50                  # people; for fewer, compiling takes longer than it saves


@dataclass
class Figure:
    """One line of the table."""
    subject: str
    name: str
    value: float
    bar: float | None = None          # None: no bar
    at_most: bool = False             # the bar is an upper limit

    @property
    def holds(self) -> bool | None:
        return None if self.bar is None else self.value <= self.bar if self.at_most else self.value >= self.bar

    def line(self) -> str:
        verdict = {None: '', True: 'holds', False: 'MISSED'}[self.holds]
        bar = '' if self.bar is None else f'{"<=" if self.at_most else ">="} {self.bar:g}'
        return f'{self.subject:22s} {self.name:46s} {self.value:10.4f}  {bar:10s} {verdict}'


def load(name: str) -> Generator:
    """A demo network, ready to use."""
    recipe = NETWORKS[name]
    network = build_network(recipe['upstream_class'], recipe['init_kwargs'])
    network.load_state_dict(shipped.shipped_state(name))
    return wrap(network.eval().requires_grad_(False), recipe['family'])


class Truth:
    """Latents that no network was trained on, their true pictures, and other photos of the same people."""

    def __init__(self, name: str, count: int, seed: int = SEED):
        generator = torch.Generator().manual_seed(seed)
        self.z = torch.randn(count, Z_DIM, generator=generator)
        self.people = People(attributes_of(self.z))
        if name == 'demo-eg3d':
            self.cameras = scene.cameras_at_random(count, seed)
            self.images = scene.render(self.people, self.cameras, 128).image
        else:
            self.cameras = None
            self.images = train_stylegan2.truth(self.z)
        faces = torch.rand(count, len(NUISANCE), generator=generator) * 2 - 1
        self.photos = scene.render(self.people.posing(faces), scene.cameras_at_random(count, seed + 1, MAX_YAW, MAX_PITCH), 64).image


@torch.no_grad()
def show(generator: Generator, z: Tensor, cameras: Tensor | None, raw: bool = False) -> Tensor:
    """Pictures of latents ``z`` [N, Z_DIM], a few at a time."""
    shown = []
    for i in range(0, len(z), 4):
        camera = None if cameras is None else cameras[i:i + 4]
        shown.append(generator.synthesize(generator.map(z[i:i + 4]), camera, raw=raw).image)
    return torch.cat(shown)


def generator_figures(name: str, people: int, walks: int) -> list[Figure]:
    """How well a demo network shows the people of its latents."""
    generator, truth = load(name), Truth(name, people)
    embed, lpips = load_judge('demo-measuring').embed, load_judge('demo-perceptual')
    shown = show(generator, truth.z, truth.cameras)
    mine, photos = embed(shown, 'full'), embed(truth.photos, 'full')
    likeness = mine @ photos.T
    right = (likeness.argmax(1) == torch.arange(people)).float().mean().item()
    # Between photos: what two different people have in common, at most.
    pairs = photos @ photos.T
    stranger = pairs[~torch.eye(people, dtype=torch.bool)].quantile(0.999).item()
    figures = [Figure(name, f'right one of {people} people, other photo', right, 0.99)]
    at_64 = shown if shown.shape[-1] == 64 else F.avg_pool2d(shown, 2)
    if generator.is_3d:
        raw = show(generator, truth.z, truth.cameras, raw=True)
        enlarged = F.interpolate(raw, scale_factor=2, mode='bilinear')
        wide, bilinear = psnr(shown, truth.images), psnr(enlarged, truth.images)
        figures += [Figure(name, 'PSNR of the neural rendering, 64 px [dB]', psnr(raw, F.avg_pool2d(truth.images, 2)), 25),
                    Figure(name, 'PSNR of the picture, 128 px [dB]', wide),
                    Figure(name, '... above bilinear from 64 px [dB]', wide - bilinear, 0)]
        views = [embed(show(generator, truth.z, scene.camera_at(yaw, 0.0).expand(people, -1)), 'full') for yaw in (-0.4, 0.4)]
        cosines = (views[0] * views[1]).sum(1)
        figures += [Figure(name, 'identity cosine, left against right view', cosines.mean().item(), stranger),
                    Figure(name, '... share of people above the bar', (cosines > stranger).float().mean().item())]
    else:
        figures.append(Figure(name, 'PSNR of the picture, 64 px [dB]', psnr(at_64, truth.images)))
    away = lpips(shown, truth.images).mean().item()
    figures.append(Figure(name, 'LPIPS (demo) to the truth', away))
    if generator.is_3d:
        figures.append(Figure(name, '... below that of bilinear', lpips(enlarged, truth.images).mean().item() - away, 0))
    figures += walk_figures(name, generator, walks, embed)
    return figures


def walk_latents(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Latents [steps, Z_DIM] from ``start`` to ``end`` on the sphere on which random ones lie."""
    share = torch.linspace(0, 1, steps)[:, None]
    mixed = torch.lerp(start.expand(steps, -1), end.expand(steps, -1), share)
    return mixed * (mixed.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def walk_figures(name: str, generator: Generator, walks: int, embed, steps: int = 9) -> list[Figure]:
    """Identity along straight ways between people: no jumps, and no way back."""
    z = torch.randn(2 * walks, Z_DIM, generator=torch.Generator().manual_seed(SEED + 2))
    nearest, monotone = [], []
    for start, end in z.view(walks, 2, Z_DIM):
        cameras = scene.camera_at(0.2, 0.0).expand(steps, -1) if generator.is_3d else None
        along = embed(show(generator, walk_latents(start, end, steps), cameras), 'full')
        nearest.append((along[1:] * along[:-1]).sum(1).min())
        to_start = along @ along[0]
        monotone.append((to_start.diff() < 0.05).float().mean())
    return [Figure(name, f'smallest cosine of neighbours, {steps} steps a walk', torch.stack(nearest).mean().item()),
            Figure(name, '... steps that lead away from the start', torch.stack(monotone).mean().item())]


def sheets(name: str, folder: Path) -> None:
    """Pictures to look at: truth beside what the network shows, samples of NVIDIA's seeds, walks between people."""
    generator, truth = load(name), Truth(name, 8)
    rows, titles = [truth.images, show(generator, truth.z, truth.cameras)], ['truth', 'network']
    if generator.is_3d:
        for side, yaw in (('left', -0.5), ('right', 0.5)):
            cameras = scene.camera_at(yaw, 0.05).expand(8, -1)
            rows += [scene.render(truth.people, cameras, 128).image, show(generator, truth.z, cameras)]
            titles += [f'truth, from the {side}', 'network']
    save(grid(torch.stack(rows), row_titles=titles), folder / f'{name}-truth.png')
    frontal = scene.camera_at(0.2, 0.0).expand(32, -1) if generator.is_3d else None
    latents = torch.cat([torch.from_numpy(np.random.RandomState(seed).randn(1, Z_DIM)).float() for seed in range(32)])
    save(grid(show(generator, latents, frontal).unflatten(0, (4, 8))), folder / f'{name}-samples.png')
    ways = latents[:8].view(4, 2, Z_DIM)
    walks = [show(generator, walk_latents(start, end, 9), None if frontal is None else frontal[:9]) for start, end in ways]
    save(grid(torch.stack(walks)), folder / f'{name}-walks.png')


def save(picture: PIL.Image.Image, path: Path) -> None:
    write_whole(path, lambda file: write_sheet(file, picture))


def judge_figures(people: int) -> list[Figure]:
    """Verification by both recognisers on unseen people over all poses, expressions and lights."""
    figures = []
    with tempfile.TemporaryDirectory() as cache:
        photos = photo_set('held-out', people, 4, SEED, cache=cache)
    for name in ('demo-loss', 'demo-measuring'):
        torch.manual_seed(0)
        found = recogniser_figures(partial(load_judge(name).embed, alignment='full'), photos)
        for key, bar in (('auc', 0.995), ('auc_blurred', 0.98), ('auc_generator_like', 0.98)):
            figures.append(Figure(name, f'verification {key}, {people} people', found[key], bar))
        figures.append(Figure(name, 'cosine of the same person', found['same_mean']))
        figures.append(Figure(name, 'cosine of different people', found['different_mean']))
        figures.append(Figure(name, '... 99.9th percentile', found['different_99.9_percent']))
    return figures


def file_figures() -> list[Figure]:
    """Sizes of what is shipped, and how long it took to train."""
    figures, total = [], 0
    for name in (*NETWORKS, *(f'{name}-encoder' for name in NETWORKS), *COMMANDS):
        path = shipped.FOLDER / f'{name}.pt'
        figures.append(Figure(name, 'shipped', float(path.is_file()), 1))
        if not path.is_file():
            continue
        size = path.stat().st_size
        total += size
        figures.append(Figure(name, 'file [MiB]', size / 2**20, LIMIT / 2**20, at_most=True))
        report = path.with_suffix('.json')
        if report.is_file():
            made = json.loads(report.read_text(encoding='utf-8'))
            threads = made['hardware']['torch_threads']
            figures.append(Figure(name, f'training on {threads} threads [min]', made['seconds'] / 60, 180, at_most=True))
    return [*figures, Figure('all', 'files [MB]', total / 1e6, 30, at_most=True)]


@command()
@click.option('--people', help='People to be told apart.', type=click.IntRange(min=10), default=100, show_default=True, metavar='INT')
@click.option('--walks', help='Latent walks for each generator.', type=click.IntRange(min=1), default=6, show_default=True, metavar='INT')
@click.option('--outfile', help='Also write the figures as json.', type=PATH, metavar='FILE')
@click.option('--sheets', 'sheet_folder', help='Also write sheets of pictures into this folder.', type=PATH, metavar='DIR')
def main(people: int, walks: int, outfile: str | None, sheet_folder: str | None) -> None:
    """Print a table of what the demo networks can do, with the bars that they are held to (about three minutes on a CPU)."""
    refuse_existing(outfile)
    jobs = [('files', file_figures), ('recognisers', lambda: judge_figures(people))]
    shipped_networks = [name for name in NETWORKS if (shipped.FOLDER / f'{name}.pt').is_file()]
    jobs += [(name, lambda name=name: generator_figures(name, people, walks)) for name in shipped_networks]
    if sheet_folder:
        refuse_foreign_files(Path(sheet_folder), '--sheets', [])
        Path(sheet_folder).mkdir(parents=True, exist_ok=True)
        jobs += [(f'sheets of {name}', lambda name=name: sheets(name, Path(sheet_folder)) or []) for name in shipped_networks]
    figures: list[Figure] = []
    if people >= WORTH_COMPILING:
        compile_if_possible()
    with tqdm(jobs, unit='part', dynamic_ncols=True) as bar:
        for title, job in bar:
            bar.set_description(title)
            figures += job()
    for figure in figures:
        click.echo(figure.line())
    missed = [figure for figure in figures if figure.holds is False]
    click.echo(f'{len(missed)} of {sum(figure.bar is not None for figure in figures)} bars missed.')
    if outfile:
        rows = [{**vars(figure), 'holds': figure.holds} for figure in figures]
        write_json(Path(outfile), rows)


if __name__ == '__main__':
    main()
