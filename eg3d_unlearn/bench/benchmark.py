"""How long a step takes, where the time goes, how much of the machine that uses, and what the closed form takes beside it.

    python -m eg3d_unlearn.bench.benchmark --setting=tiny

Networks and judges have random weights: the arithmetic is the same, and nothing has to be downloaded.
"""
from __future__ import annotations

import contextlib
import json
import statistics
import time
from dataclasses import dataclass
from typing import Iterator

import click
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from eg3d_unlearn.bench.sizes import FULL
from eg3d_unlearn.config import Config, borrow
from eg3d_unlearn.console import command
from eg3d_unlearn.generators.build import build_network, wrap
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.loading import choose_device
from eg3d_unlearn.generators.memory import batch_size, keep_freed_memory
from eg3d_unlearn.generators.precision import arithmetic, choose_precision
from eg3d_unlearn.judges.judges import load_judges
from eg3d_unlearn.machine import hardware, peak_memory, versions
from eg3d_unlearn.unlearning.loss import TERMS, Stopwatch, UnlearningLoss
from eg3d_unlearn.unlearning.margin import Photos, erase
from eg3d_unlearn.unlearning.presets import resolve
from eg3d_unlearn.unlearning.target import PUBLISHED_DISTANCES, ufo_target

PUBLISHED_STEPS = 1000               # of GUIDE's loop, as it was published
PARTS = ('backbone', 'rendering', 'super-resolution', *(term.name for term in TERMS), 'optimiser')

class PartClock(Stopwatch):
    """Adds up seconds, or GFLOP, of each part; a part inside another (super-resolution in rendering) counts by itself."""

    def __init__(self, device: torch.device, counter: FlopCounterMode | None = None):
        self.device, self.counter, self.totals = device, counter, dict.fromkeys(PARTS, 0.0)
        self.stack: list[str] = []
        self.last = 0.0

    def _now(self) -> float:
        if self.counter is not None:
            return self.counter.get_total_flops() / 1e9
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _switch(self) -> None:
        now = self._now()
        if self.stack:
            self.totals[self.stack[-1]] += now - self.last
        self.last = now

    def enter(self, part: str) -> None:
        self._switch()
        self.stack.append(part)

    def leave(self) -> None:
        self._switch()
        self.stack.pop()

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self.enter(part)
        yield
        self.leave()

    def watch(self, module: torch.nn.Module) -> None:
        """Count a module's forward and backward as super-resolution, although it runs inside the rendering."""
        module.register_forward_pre_hook(lambda *_: self.enter('super-resolution'))
        module.register_forward_hook(lambda *_: self.leave())
        module.register_full_backward_pre_hook(lambda *_: self.enter('super-resolution'))
        module.register_full_backward_hook(lambda *_: self.leave())


@dataclass
class Bench:
    """A step that can be run again and again."""
    loss: UnlearningLoss
    optimiser: torch.optim.Optimizer
    generator: Generator

    def step(self, number: int) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        self.loss.accumulate_gradients(number)
        with self.loss.clock('optimiser'):
            self.optimiser.step()


def make_bench(setting: str, config: Config, device: torch.device) -> Bench:
    """The step of ``setting`` with random weights."""
    recipe = FULL[setting]
    torch.manual_seed(0)
    network = build_network(recipe['upstream_class'], recipe['init_kwargs']).to(device).eval().requires_grad_(False)
    if recipe['raw'] is not None:
        network.neural_rendering_resolution = recipe['raw']
    generator = wrap(network, recipe['family'], precision=config.precision)
    judges = load_judges(config, generator, device)
    parameters = generator.freeze_except([generator.trainable])
    g_s = generator.twin()
    g_s.network.requires_grad_(False)
    ws_source = generator.map_seed(0)
    loss = UnlearningLoss(generator, g_s, ws_source, ufo_target(ws_source, generator.w_avg), judges, config,
                          batch_size(generator, config.batch))
    return Bench(loss, torch.optim.Adam(list(parameters.values()), lr=config.lr), generator)


def closed_form_s(bench: Bench) -> float:
    """Seconds in which the closed form erases the person of ``bench``, population and folding included, from the pickle and the latent alone."""
    begun = time.perf_counter()
    erase(bench.loss.g_s.twin(), [Photos(bench.loss.ws_source, exact=True)], recogniser=None)
    return time.perf_counter() - begun


def run_parts(bench: Bench, clock: PartClock, steps: range) -> dict[str, float]:
    """Totals of each part over ``steps``."""
    bench.loss.clock = clock
    if bench.generator.is_3d:
        for side in (bench.loss.g_u, bench.loss.g_s):
            module = side.network.superresolution
            module._forward_pre_hooks.clear(), module._forward_hooks.clear()
            module._backward_pre_hooks.clear(), module._backward_hooks.clear()
            clock.watch(module)
    for number in steps:
        bench.step(number)
    return clock.totals


def convolution_rate(device: torch.device) -> float:
    """GFLOP/s of plain 3x3 convolutions here: the best of a few usual shapes, each the best of five."""
    best = 0.0
    for channels, size in ((64, 128), (128, 128), (256, 64), (512, 32)):
        x = torch.randn(1, channels, size, size, device=device)
        weight = torch.randn(channels, channels, 3, 3, device=device)
        for _ in range(5):
            seconds = time_of(lambda x=x, weight=weight: F.conv2d(x, weight, padding=1), device)
            best = max(best, 2 * 9 * channels**2 * size**2 / seconds / 1e9)
    return best


@torch.no_grad()
def time_of(call, device: torch.device) -> float:
    """Seconds of one call, the mean over at least 0.05 s of calls."""
    count, begun = 0, time.perf_counter()
    while count < 3 or time.perf_counter() - begun < 0.05:
        call()
        count += 1
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begun) / count


def table(totals_s: dict[str, float], gflop: dict[str, float], step_s: float, rate: float, steps: int) -> str:
    """Seconds, share, GFLOP and fraction of the convolution rate of each part."""
    lines = [f'{"part":<18}{"s/step":>9}{"share":>8}{"GFLOP":>9}{"GFLOP/s":>9}{"of rate":>9}']
    seconds = {part: totals_s[part] / steps for part in PARTS}
    rows = [(part, seconds[part], gflop[part]) for part in PARTS if seconds[part] > 0]
    rows += [('other', max(step_s - sum(seconds.values()), 0.0), 0.0), ('step', step_s, sum(gflop.values()))]
    for part, s, work in rows:
        speed = f'{work / s:>9.0f}{work / s / rate:>9.2f}' if work > 0.05 and s > 0 else ' ' * 18
        lines.append(f'{part:<18}{s:>9.3f}{s / step_s:>8.0%}{work:>9.1f}{speed}')
    return '\n'.join(lines)


@command()
@click.option('--setting', help='Network: tiny EG3D (128 px), EG3D FFHQ-512, StyleGAN2 at 256 or 1024 px.', type=click.Choice(list(FULL)), default='tiny', show_default=True)
@click.option('--steps', help='Steps that are timed.', type=click.IntRange(min=1), default=5, show_default=True)
@click.option('--warmup', help='Steps before the timing.', type=click.IntRange(min=0), default=1, show_default=True)
@borrow('device')
@borrow('precision', help='Arithmetic; on a CPU fp32 or bf16.', default='fp32')
@borrow('loss_resolution', help='What the losses see, as in unlearn.py; EG3D only.', default='full')
@borrow('lpips_net', help='Trunk of LPIPS.', type=click.Choice(['vgg', 'alex', 'squeeze']), default='vgg')
@borrow('lpips_resolution')
@borrow('id_network', help='Recogniser.', type=click.Choice(['facenet', 'arcface', 'curricularface', 'none']), metavar=None, default='arcface')
@borrow('batch')
@click.option('--json', 'as_json', help='Print one JSON line instead of the table.', is_flag=True)
def main(setting: str, steps: int, warmup: int, device: str, batch: int | None, as_json: bool, **options) -> None:
    """Time GUIDE's training step (N_a = N_g = 2) with random weights.

    Prints seconds per step (median), peak memory, and for each part its seconds, its share, its arithmetic and the
    fraction of this machine's convolution rate that it reaches (forward and backward of both networks); then the seconds
    of the closed form, beside those of the 1000 steps that were published.
    """
    config = resolve(Config(network=setting, outdir='', latent_seed=0, alpha_max=PUBLISHED_DISTANCES[1], batch=batch or 0,
                            random_metric_weights=True, device=device, **options), None)
    place = choose_device(device)
    keep_freed_memory()
    choose_precision(config.precision, None, place)
    rate = convolution_rate(place)
    with arithmetic(config.precision, place):
        bench = make_bench(setting, config, place)
        for number in range(warmup):
            bench.step(number)
        if place.type == 'cuda':
            torch.cuda.synchronize(place)
        times = []
        for number in range(steps):
            # The plain step first, without clocks: synchronising a GPU between its parts costs time.
            begun = time.perf_counter()
            bench.step(number)
            if place.type == 'cuda':
                torch.cuda.synchronize(place)
            times.append(time.perf_counter() - begun)
        closed_s = closed_form_s(bench)
        seconds = run_parts(bench, PartClock(place), range(steps))
        with FlopCounterMode(display=False) as counter:
            gflop = run_parts(bench, PartClock(place, counter), range(1))
    step_s = statistics.median(times)
    figures = {'setting': setting, 'seconds_per_step': round(step_s, 4), 'closed_form_seconds': round(closed_s, 3), 'seconds_each': [round(t, 4) for t in times],
               'parts_seconds': {part: round(total / steps, 4) for part, total in seconds.items()},
               'parts_gflop': {part: round(total, 1) for part, total in gflop.items()}, 'convolution_gflops': round(rate),
               'peak_memory': peak_memory(place), **options, 'hardware': hardware(place), 'versions': versions()}
    if as_json:
        click.echo(json.dumps(figures))
        return
    where = figures['hardware'].get('gpu', f'{figures["hardware"]["processor"]}, {torch.get_num_threads()} threads')
    click.echo(f'{setting} on {where}; torch {torch.__version__}; {options["precision"]}, losses at {options["loss_resolution"]} resolution')
    click.echo(f'convolution rate of this machine: {rate:.0f} GFLOP/s\n')
    click.echo(table(seconds, gflop, step_s, rate, steps))
    memory = ', '.join(f'{name[:-4]} {value:.2f} GiB' for name, value in figures['peak_memory'].items())
    click.echo(f'\n{step_s:.3f} s a step (median of {steps}; {min(times):.3f} to {max(times):.3f}); peak memory {memory}')
    click.echo(f'closed form: {closed_s:.2f} s to erase the person, where {PUBLISHED_STEPS} steps take {PUBLISHED_STEPS * step_s:.0f} s: '
               f'1/{PUBLISHED_STEPS * step_s / closed_s:.0f}')


if __name__ == '__main__':
    main()
