"""A run's figures as TensorBoard curves, beside ``stats.jsonl``, where TensorBoard is installed."""
from __future__ import annotations

from pathlib import Path


class Scalars:
    """Writes each step's figures into the run's folder; without the package ``tensorboard`` it does nothing.

        with Scalars(folder, start) as scalars:
            scalars.add({'step': 1, 'loss': 0.5})
    """

    def __init__(
        self,
        folder: Path,                # of the run; `tensorboard --logdir` finds it there
        start: int = 0,              # steps done before: what an interrupted run wrote beyond them is dropped from the curves
    ):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.writer = None
        else:
            self.writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)

    def __enter__(self) -> Scalars:
        return self

    def __exit__(self, *_) -> None:
        if self.writer is not None:
            self.writer.close()

    def add(self, figures: dict) -> None:
        """One line of ``stats.jsonl``: 'step' and numbers, each of which becomes a curve."""
        if self.writer is None:
            return
        for name, value in figures.items():
            if name != 'step':
                self.writer.add_scalar(f'unlearning/{name}', value, figures['step'])
