"""What the training of all demo networks shares: a run folder, a state to resume from, progress, averages of weights."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from pathlib import Path
from typing import Callable, Iterator

import click
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.generators.memory import keep_freed_memory
from eg3d_unlearn.machine import hardware, versions
from eg3d_unlearn.person.photo import write_sheet
from eg3d_unlearn.run_folder import STATS, RunFolder, write_whole
from eg3d_unlearn.unlearning.training_loop import interruption
from eg3d_unlearn.worlds.demo.people import normal
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm

# Of the latents that figures are about.  Steps draw from seeds that count up from 0.
EXAMINED_SEED = 3_000_000_123


class TrainingRun:
    """Steps of one network's training, which go on where they stopped when the same command is given again.

    The state holds the modules and optimisers by name, the step, and the seconds spent, every ``save_every`` seconds.
    """

    def __init__(
        self,
        outdir: str | Path,
        options: dict,                # what makes this run another than the next, for `training_options.json`
        steps: int,
        parts: dict,                  # name -> what has a state dict: modules, optimisers
        save_every: float = 120,      # seconds
        *,
        defaults: dict | None = None,  # of options that a run may have been begun without, by an earlier version
    ):
        self.folder = RunFolder(outdir)
        self.folder.check(options, defaults)
        self._lock = contextlib.ExitStack()  # until the report is written, or the command or the process ends
        self._lock.enter_context(self.folder.locked())
        if (command := click.get_current_context(silent=True)) is not None:
            command.call_on_close(self._lock.close)
        self.folder.check(options, defaults)
        self.folder.begin(options)
        self.steps, self.parts, self.save_every = steps, parts, save_every
        self.step, self.seconds = 0, 0.0
        keep_freed_memory()
        state = self.folder.load_state()
        if state is not None:
            try:
                for name, part in parts.items():
                    part.load_state_dict(state[name])
                self.step, self.seconds = state['step'], state['seconds']
            except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise self.folder.damaged(type(error).__name__) from None
            self.folder.drop_stats_after(self.step)
            self.folder.log(f'Resuming at step {self.step} of {steps}.')

    def save(self) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        self.folder.save_state({**state, 'step': self.step, 'seconds': self.seconds})

    def stats(self, **numbers) -> None:
        """Append one line of figures to ``stats.jsonl`` and the log."""
        numbers = {'step': self.step, 'minutes': round(self.seconds / 60, 2), **numbers}
        self.folder.append(STATS, json.dumps(numbers))
        self.folder.log('  '.join(f'{name} {value:.4g}' if isinstance(value, float) else f'{name} {value}'
                                  for name, value in numbers.items()))

    def __iter__(self) -> Iterator[int]:
        """The steps still to do; each draws from its own seed, so that a resumed run sees what an unbroken one would.

        Ctrl-C lets the step at hand finish and be saved, and ends the run with an `InputError` that says how to go on.
        """
        saved = time.monotonic()
        with tqdm(total=self.steps, initial=self.step, unit='step', dynamic_ncols=True, mininterval=1) as bar, interruption() as asked:
            while self.step < self.steps:
                started = time.monotonic()
                torch.manual_seed(self.step)
                yield self.step
                self.step += 1
                self.seconds += time.monotonic() - started
                bar.update()
                if time.monotonic() - saved > self.save_every or self.step == self.steps or asked():
                    self.save()
                    saved = time.monotonic()
                if asked() and self.step < self.steps:
                    raise InputError(f'Stopped by the user after step {self.step} of {self.steps}. Nothing is lost: run the same '
                                     'command again to go on.')

    def finish(self, **figures) -> dict:
        """Write ``report.json``: figures, time, versions, hardware."""
        report = {'figures': figures, 'steps': self.step, 'seconds': round(self.seconds), 'hardware': hardware(torch.get_default_device()),
                  'versions': versions()}
        self.folder.write_json('report.json', report)
        self._lock.close()
        return report


def cosine(step: int, steps: int, warmup: int = 50, floor: float = 0.02) -> float:
    """Factor of the learning rate: linear rise, then half a cosine down to ``floor``."""
    share = min(max((step - warmup) / max(steps - warmup, 1), 0), 1)
    return min(1, (step + 1) / warmup) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))


def averaged(network: nn.Module) -> nn.Module:
    """A copy whose weights follow the network's, see `follow`."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, step: int, memory: int = 400) -> None:
    """Exponential average of the weights over the last ``memory`` steps or, early on, over a tenth of the steps so far."""
    share = 1 / min(memory, 1 + step / 10)
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)
    for mine, other in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(other)


class Muon:
    """Momentum whose update of each kernel is orthogonalised (`torch.optim.Muon`), and Adam for all other parameters.

    In our trials it reached the same loss in two thirds of Adam's steps.
    """

    def __init__(self, kernels: list[nn.Parameter], others: list[nn.Parameter], lr: float, lr_others: float):
        if not hasattr(torch.optim, 'Muon'):
            raise InputError(f'Training the demo networks needs torch.optim.Muon, which came with torch 2.9; installed is {torch.__version__}. '
                             "Update it: pip install -U 'torch>=2.9'.")
        self.kernels, self.lr, self.lr_others = kernels, lr, lr_others
        # torch's Muon takes matrices: these share the kernels' memory.
        self.matrices = [nn.Parameter(kernel.detach().flatten(1)) for kernel in kernels]
        self.muon = torch.optim.Muon(self.matrices, lr=lr, momentum=0.95, weight_decay=0.0, adjust_lr_fn='match_rms_adamw')
        self.adam = torch.optim.Adam(others, lr=lr_others, betas=(0.9, 0.99))

    @classmethod
    def of_convolutions(cls, network: nn.Module, lr: float, lr_others: float) -> Muon:
        """For a network in which what learns requires gradients; kernels are those of convolutions that make no colours."""
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        kernels, others = ([p for name, p in named if (p.ndim == 4 and 'torgb' not in name) is kernel] for kernel in (True, False))
        return cls(kernels, others, lr, lr_others)

    def step(self, factor: float) -> None:
        """One update at ``factor`` times the learning rates; gradients are cleared."""
        for matrix, kernel in zip(self.matrices, self.kernels, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
            kernel.grad = None
        for group in self.muon.param_groups:
            group['lr'] = self.lr * factor
        for group in self.adam.param_groups:
            group['lr'] = self.lr_others * factor
        self.muon.step()
        self.adam.step()
        self.muon.zero_grad(set_to_none=True)
        self.adam.zero_grad(set_to_none=True)

    def state_dict(self) -> dict:
        return {'muon': self.muon.state_dict(), 'adam': self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.muon.load_state_dict(state['muon'])
        self.adam.load_state_dict(state['adam'])


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio [dB] of pictures in -1 to 1."""
    return -10 * math.log10(((a.clamp(-1, 1) - b) / 2).square().mean().item())


W_MEAN, W_STD = 1.0, 0.5              # of each number of w


@torch.no_grad()
def begin_with_hinges(layer: nn.Module, directions: Tensor) -> None:
    """Let every unit of the layer bend along one of the unit ``directions`` [K, Z_DIM], at places evenly likely for a normal z."""
    count, fan_in = layer.weight.shape
    direction, place = torch.arange(count) % len(directions), torch.arange(count) // len(directions)
    bends = torch.erfinv(2 * (place + 0.5) / math.ceil(count / len(directions)) - 1) * math.sqrt(2)
    sign = 1 - 2.0 * (place % 2)
    layer.weight.zero_()
    layer.weight[:, : directions.shape[1]] = directions[direction] * sign[:, None] * math.sqrt(fan_in)
    layer.bias.copy_(-bends * sign)


def fit_mapping(
    mapping: nn.Module,
    features: Callable[[Tensor], Tensor],  # of z: [N, Z_DIM] -> [N, K]
    directions: Tensor,               # [M, Z_DIM] what the features depend on
    steps: int = 2000,
    batch: int = 256,
) -> float:
    """Teach z -> w an orthonormal embedding of the standardised ``features`` of z; returns the residual variance.

    The features bend sharply along few directions of z, on which the first layer starts.  With a mapping that had kept a fifth
    of the variance as error, pictures stayed 3 dB worse: nobody could tell from w how much hair there is, or whether there are
    glasses.  The mean of w is not 0, as the last layer's activation hardly lets negative numbers pass.
    """
    generator = torch.Generator().manual_seed(9)
    sample = features(normal(generator, 4096, mapping.z_dim))
    used = sample.std(0) > 1e-6
    mean, std = sample[:, used].mean(0), sample[:, used].std(0)
    embedding = torch.linalg.qr(normal(generator, mapping.w_dim, int(used.sum())))[0].T
    embedding *= W_STD * math.sqrt(mapping.w_dim / used.sum())
    begin_with_hinges(mapping.fc0, directions)
    mapping.requires_grad_(True)
    named = [(name, p) for name, p in mapping.named_parameters() if 'embed' not in name]
    matrices, others = ([p for _, p in named if (p.ndim == 2) is matrix] for matrix in (True, False))
    optimiser = Muon(matrices, others, lr=0.02, lr_others=0.01)
    for step in range(steps):
        z = torch.randn(batch, mapping.z_dim)
        w = mapping(z, z.new_zeros(batch, mapping.c_dim))[:, 0]
        loss = (w - W_MEAN - ((features(z)[:, used] - mean) / std) @ embedding).square().mean()
        loss.backward()
        optimiser.step(cosine(step, steps))
    mapping.requires_grad_(False)
    z = normal(generator, 8192, mapping.z_dim)
    mapping.w_avg.copy_(mapping(z, z.new_zeros(len(z), mapping.c_dim))[:, 0].mean(0))
    return loss.item() / W_STD**2


@torch.no_grad()
def centre_styles(network: nn.Module, w_avg: Tensor) -> None:
    """Let each layer's style at the mean of w be what it usually is at w = 0."""
    for name, layer in network.named_modules():
        if name.endswith('affine'):
            layer.bias -= layer.weight @ w_avg / math.sqrt(len(w_avg))


def save_sheet(path, rows: list[Tensor]) -> None:
    """Pictures [N, 3, H, W] in rows, one row for each of the list."""
    side = max(row.shape[-1] for row in rows)
    rows = [F.interpolate(row, size=(side, side), mode='nearest') for row in rows]
    sheet = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    picture = PIL.Image.fromarray(((sheet.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy())
    write_whole(path, lambda file: write_sheet(file, picture))
