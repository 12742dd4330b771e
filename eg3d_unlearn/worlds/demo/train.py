"""Remake the networks of the demo world.

    python -m eg3d_unlearn.worlds.demo.train eg3d --outdir=runs/eg3d
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Callable

import click

from eg3d_unlearn.config import borrow
from eg3d_unlearn.console import command
from eg3d_unlearn.generators.loading import choose_device
from eg3d_unlearn.run_folder import STATE, load_whole, write_whole
from eg3d_unlearn.worlds.demo import shipped

GENERATORS = ('eg3d', 'stylegan2')
JUDGES = ('loss-recogniser', 'measuring-recogniser', 'perceptual', 'features')


def trainer(which: str, quick: bool, device: str) -> Callable[[str], dict]:
    """The training function of one network, outdir -> report."""
    if which == 'eg3d':
        from eg3d_unlearn.worlds.demo.train_eg3d import Schedule, train
        few = dict(point_steps=3, ray_steps=3, sharpen_steps=2, picture_steps=2, point_latents=2, ray_latents=2, picture_latents=1,
                   points=60, rays=40, mapping_steps=20, examined=2)
        schedule = Schedule(**few) if quick else Schedule()
        return lambda outdir: train(outdir, schedule, report_every=20 if quick else 250, compiled=not quick, device=device)
    if which == 'stylegan2':
        from eg3d_unlearn.worlds.demo.train_stylegan2 import Schedule, train
        schedule = Schedule(steps=6, chunk=8, first_chunks=1, batch=4, mapping_steps=20, examined=2) if quick else Schedule()
        return lambda outdir: train(outdir, schedule, report_every=20 if quick else 250, compiled=not quick, device=device)
    from eg3d_unlearn.worlds.demo.train_judges import SCHEDULES, train
    schedule = replace(SCHEDULES[which], steps=6, people=8, photos=2, held_out_people=4, held_out_photos=2) if quick else None
    return lambda outdir: train(which, outdir, schedule)


@command(stopped='Run the same command again to go on from the last saved state.')
@click.argument('which', type=click.Choice([*GENERATORS, *JUDGES]))
@borrow('outdir')
@borrow('device', help='auto, cpu, cuda or cuda:N; judges are trained on the CPU.')
@click.option('--quick', help='A few steps only, to see that everything works; the network is good for nothing.', is_flag=True)
@click.option('--ship', help='At the end, put the network into the package, in place of the one that it came with.', is_flag=True)
def main(which: str, outdir: str, quick: bool, ship: bool, device: str) -> None:
    """Train one network of the demo world: a generator (eg3d, stylegan2) or a judge.

    Pictures need a C++ compiler to be made fast. Times on 2 cores with AMX: see report.json of each run.
    The folder gets training_options.json, log.txt, stats.jsonl, samples.png, the state to resume from, report.json,
    and at the end demo-WHICH.pt, the network in half precision.
    """
    report = trainer(which, quick, str(choose_device(device)))(outdir)
    if which in GENERATORS:
        average = load_whole(Path(outdir) / STATE)['average']
        out = Path(outdir) / f'demo-{which}.pt'
        shipped.pack(average, out)
        shipped.write_pickle(f'demo-{which}', out.with_suffix('.pkl'), average)
        if ship:
            shipped.pack(average, shipped.FOLDER / out.name)
            write_whole(shipped.FOLDER / f'demo-{which}.json', lambda file: file.write((Path(outdir) / 'report.json').read_bytes()))
    click.echo('  '.join(f'{name} {value:.4g}' for name, value in report['figures'].items() if isinstance(value, float)))


if __name__ == '__main__':
    main()
