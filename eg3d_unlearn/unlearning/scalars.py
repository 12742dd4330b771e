"""A run's figures as TensorBoard curves, beside ``stats.jsonl``, where TensorBoard is installed."""
from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Iterator


class Scalars:
    """Writes each step's figures into the run's folder, for `tensorboard --logdir`; without the package ``tensorboard`` it does nothing."""

    def __init__(
        self,
        folder: Path | None,         # of the run; None: nothing is written
        start: int = 0,              # steps done before: what an interrupted run wrote beyond them is dropped from the curves
    ):
        self.writer = None
        with contextlib.suppress(ImportError), self._until_the_disk_is_full():
            if folder is not None:
                from torch.utils.tensorboard import SummaryWriter
                self.writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)

    def __enter__(self) -> Scalars:
        return self

    def __exit__(self, *_) -> None:
        with self._until_the_disk_is_full():
            if self.writer is not None:
                self.writer.close()

    def add(self, figures: dict) -> None:
        """One line of ``stats.jsonl``: 'step' and numbers, each of which becomes a curve."""
        with self._until_the_disk_is_full():
            for name, value in figures.items():
                if name != 'step' and self.writer is not None:
                    self.writer.add_scalar(f'unlearning/{name}', value, figures['step'])

    @contextlib.contextmanager
    def _until_the_disk_is_full(self) -> Iterator[None]:
        """Curves are an extra: a full disk ends them, not the run."""
        try:
            yield
        except OSError as error:
            self.writer = None
            print(f"TensorBoard's curves cannot be written ({error.strerror or error}); the run goes on without.", file=sys.stderr)
