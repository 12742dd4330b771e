"""A run's figures as TensorBoard curves, beside ``stats.jsonl``, where TensorBoard is installed."""
from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Callable


class Scalars:
    """Writes each step's figures into the run's folder; without the package ``tensorboard`` it does nothing.

        with Scalars(folder, start) as scalars:
            scalars.add({'step': 1, 'loss': 0.5})
    """

    def __init__(
        self,
        folder: Path | None,         # of the run; `tensorboard --logdir` finds it there; None: nothing is written
        start: int = 0,              # steps done before: what an interrupted run wrote beyond them is dropped from the curves
    ):
        self.writer = None
        if folder is None:
            return
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter
            self._try(lambda: setattr(self, 'writer', SummaryWriter(str(folder), purge_step=start + 1 if start else None)))

    def __enter__(self) -> Scalars:
        return self

    def __exit__(self, *_) -> None:
        if self.writer is not None:
            self._try(self.writer.close)

    def add(self, figures: dict) -> None:
        """One line of ``stats.jsonl``: 'step' and numbers, each of which becomes a curve."""
        if self.writer is None:
            return
        for name, value in figures.items():
            if name != 'step' and self.writer is not None:
                self._try(lambda name=name, value=value: self.writer.add_scalar(f'unlearning/{name}', value, figures['step']))

    def _try(self, call: Callable[[], None]) -> None:
        """Curves are an extra: a full disk ends them, not the run."""
        try:
            call()
        except OSError as error:
            self.writer = None
            print(f"TensorBoard's curves cannot be written ({error.strerror or error}); the run goes on without.", file=sys.stderr)
