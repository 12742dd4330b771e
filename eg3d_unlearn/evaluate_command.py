"""The command `python evaluate.py`: a group whose commands live in rooms of their own."""
from __future__ import annotations

import importlib

import click

from eg3d_unlearn.console import Group, command

COMMANDS = {                         # name -> where its command lives; imported when it is asked for
    'metrics': 'eg3d_unlearn.evaluation.metrics.command',
    'audit': 'eg3d_unlearn.evaluation.audit.command',
    'tables': 'eg3d_unlearn.bench.tables.command',
    'report': 'eg3d_unlearn.report.command',
}


class Lazy(Group):
    """A group whose commands are imported one by one, so that ``--help`` of one does not wait for all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return importlib.import_module(COMMANDS[name]).main if name in COMMANDS else None


@command(cls=Lazy)
def main() -> None:
    """Measure, attack and report what an erasure did."""
