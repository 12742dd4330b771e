"""GUIDE's optimisation of one network, step by step, resumable at every saved state."""
from __future__ import annotations

import contextlib
import json
import math
import statistics
import threading
import time
from typing import Callable, Iterator, TypeVar

import torch
from torch import nn

from eg3d_unlearn import distributed
from eg3d_unlearn.console import KILLS, signals_to
from eg3d_unlearn.run_folder import STATE, STATS, RunFolder
from eg3d_unlearn.unlearning.loss import UnlearningLoss
from eg3d_unlearn.unlearning.scalars import Scalars
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm

DIVERGED = 10.0                      # times the median loss of the first steps
SMALL_LOSS = 0.1                     # where they were smaller: some methods begin at a loss of 0
FIRST_STEPS = 10
STOP = threading.Event()             # the same for a training outside the main thread, where signals do not arrive

T = TypeVar('T')


class Stopped(InputError):
    """The user stopped a training, whose state is saved."""


def training_loop(
    folder: RunFolder,
    loss: UnlearningLoss,
    parameters: dict[str, nn.Parameter],  # what learns, by name
    iters: int = 1000,               # steps in all
    lr: float = 1e-4,                # Adam's learning rate
    snap: int = 100,                 # steps between saved states
    state: dict | None = None,       # of an interrupted run: 'step', 'parameters', 'optimiser', 'first_losses'
    keep: dict | None = None,        # what else a saved state must hold
    enough: Callable[[int], bool] = lambda step: False,  # asked after each step: whether to stop early
    lr_decay: float = 0.0,           # share of the steps, at the end, over which lr falls to 0
    rule: Callable[[], None] = lambda: None,  # what a method does to the gradients before the optimiser sees them
) -> list[dict]:
    """Train until ``iters`` and return the first and the last step's figures.

    Raises `InputError` when the loss is no number or grows out of hand; the last good state stays in the folder.
    """
    optimiser = torch.optim.Adam(list(parameters.values()), lr=lr)
    start, first_losses, first, figures = taken_up(folder, state or {}, parameters, optimiser, iters)
    folder.drop_stats_after(start)

    def save(step: int) -> None:
        folder.save_state({'step': step, 'parameters': {name: p.detach() for name, p in parameters.items()},
                           'optimiser': optimiser.state_dict(), 'first_losses': first_losses, 'first': first, 'last': figures,
                           **(keep or {})})

    saved = start
    beside = distributed.rank() > 0      # the first process alone writes
    with tqdm(total=iters, initial=start, desc='forgetting', unit='step', dynamic_ncols=True, disable=beside) as bar, \
            interruption() as asked, Scalars(None if beside else folder.path, start) as scalars:
        for step in range(start, iters):
            begun = time.perf_counter()
            optimiser.zero_grad(set_to_none=True)
            if lr_decay:
                optimiser.param_groups[0]['lr'] = lr * min(1, (iters - step) / (iters * lr_decay))
            figures = {'step': step + 1, **step_that_fits(loss, step, optimiser, folder)}
            check_loss(figures['loss'], step, first_losses, saved, folder)
            rule()
            with loss.clock('optimiser'):
                optimiser.step()
            figures['seconds'] = round(time.perf_counter() - begun, 4)
            first = first or figures
            folder.append(STATS, json.dumps(figures))
            scalars.add(figures)
            bar.update()
            bar.set_postfix({name: f'{figures[name]:.3f}' for name in ('loss', 'local', 'adj', 'global') if name in figures})
            ends = step + 1 == iters or enough(step + 1)
            stopping = distributed.anybody(asked())
            if (step + 1) % snap == 0 or ends or stopping:
                save(step + 1)
                saved = step + 1
            if ends:
                break
            if stopping:
                raise Stopped(f'Stopped by the user after step {step + 1} of {iters}. Nothing is lost: run the same command '
                              'again to go on.')
    return [first, figures] if figures else []


def taken_up(folder: RunFolder, state: dict, parameters: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer,
             iters: int) -> tuple[int, list[float], dict | None, dict | None]:
    """Step, first losses, the first and the last step's figures of a saved state, whose weights and optimiser are put back."""
    if not state.get('parameters'):
        return 0, [], None, None
    try:
        restore(parameters, state['parameters'])
        optimiser.load_state_dict(state['optimiser'])
        if not 0 <= state['step'] <= iters:
            raise ValueError(f'step {state["step"]} of {iters}')
        return state['step'], state['first_losses'], state['first'], state.get('last', state['first'])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise folder.damaged(f'{type(error).__name__}: {str(error)[:100]}') from None


@torch.no_grad()
def restore(parameters: dict[str, nn.Parameter], saved: dict[str, torch.Tensor]) -> None:
    """Give parameters their saved values.  Raises `ValueError` or `KeyError` where they are not these parameters' values."""
    for name, parameter in parameters.items():
        if saved[name].shape != parameter.shape or not saved[name].isfinite().all():
            raise ValueError(f'{name} is no usable value')
        parameter.copy_(saved[name])


@contextlib.contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """While entered, Ctrl-C (or a polite kill) lets the step at hand finish and be saved; a second one stops at once.

    What is given says whether that was asked for.
    """
    signals: list[int] = []

    def ask(number: int, frame) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)
        with contextlib.suppress(OSError):   # the terminal may be what has gone
            tqdm.write('Stopping after this step; once more to stop at once.')
    with signals_to(ask, ('SIGINT', *KILLS)):
        yield lambda: bool(signals) or STOP.is_set()


def step_that_fits(loss: UnlearningLoss, step: int, optimiser: torch.optim.Optimizer, folder: RunFolder) -> dict[str, float]:
    """The step's gradient; when the device's memory is too small, again with half as many latents at once."""
    return that_fits(lambda: loss.accumulate_gradients(step), loss, lambda: optimiser.zero_grad(set_to_none=True), folder.log)


def that_fits(compute: Callable[[], T], loss: UnlearningLoss, clear: Callable[[], None], log: Callable[[str], None]) -> T:
    """``compute()``; when the device's memory is too small, ``clear()``, and again with half as many latents at once."""
    while True:
        try:
            return compute()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            clear()
            if loss.batch == 1:
                raise InputError('The device ran out of memory with one latent at a time. Try --precision=bf16, --loss-resolution=raw '
                                 'or --device=cpu.') from None
            loss.batch //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log(f'Out of memory: going on with {loss.batch} latents at once.')


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or the machine itself, had no room; on a CPU torch says so in a plain RuntimeError."""
    # torch.OutOfMemoryError came with torch 2.5; before, only CUDA had its own.
    kinds = (MemoryError, torch.cuda.OutOfMemoryError, getattr(torch, 'OutOfMemoryError', MemoryError))
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def check_loss(loss: float, step: int, first_losses: list[float], saved: int, folder: RunFolder) -> None:
    """Stop on NaN, infinity, or a loss far above where it began."""
    kept = f'The state of step {saved} is kept in {folder / STATE}' if saved else 'Nothing was learned yet'
    advice = f'{kept}. Lower --lr, or use --precision=fp32, with another --outdir.'
    if not math.isfinite(loss):
        raise InputError(f'The loss became {loss} at step {step + 1}. {advice}')
    if len(first_losses) < FIRST_STEPS:
        first_losses.append(loss)
    elif loss > DIVERGED * max(SMALL_LOSS, statistics.median(first_losses)):
        raise InputError(f'The loss grew from {statistics.median(first_losses):.3g} to {loss:.3g} by step {step + 1}. {advice}')
