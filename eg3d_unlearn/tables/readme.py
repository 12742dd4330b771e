"""The README's table of results, and the tables beside the results that come with the package.

    python -m eg3d_unlearn.tables.readme

Both are made of `RESULTS` only: what `evaluate.py tables --world=demo` left there.
"""
from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click

from eg3d_unlearn.console import PATH, command
from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.tables.build import markdown, ordering, write_tables
from eg3d_unlearn.tables.command import WORLDS
from eg3d_unlearn.tables.jobs import load_experiments
from torch_utils_ext.errors import InputError

RESULTS = Path(__file__).parent / 'demo'
PEOPLE, SEEDS = 3, 2                 # at most; cells are made of what is there
SCENARIO = 'in-domain'               # the README's; the others stand in tables.md
METRICS = ('id', 'id_others', 'fid_pre', 'dfid_real', 'retain')
BEGIN, END = '<!-- results: python -m eg3d_unlearn.tables.readme -->', '<!-- end of the results -->'


def results() -> str:
    """What stands between the marks: GUIDE step by step on each demo network that has results."""
    table = dataclasses.replace(load_experiments(('table1',))[0], metrics=METRICS, scenarios=(SCENARIO,))
    parts = [(network, markdown(table, RESULTS, network, PEOPLE, SEEDS)) for network in WORLDS['demo']]
    steps = agreement()
    alike = [step for _, step in steps if step['alike']]
    said = (f'{sum(step["agrees"] for _, step in steps)} of {len(steps)} steps from one row of Tables 1 to 4 to the next move a figure the way '
            f'they do in the paper; of the {len(alike)} in which every person and seed moves alike, {sum(step["agrees"] for step in alike)} do. '
            'That command names the others.\n')
    return '\n'.join([*(f'`{network}`, {text}' for network, text in parts if text), said])


def agreement() -> list[tuple[str, dict]]:
    """Every step of every table that the paper has figures for, by network."""
    found = {}
    for experiment in load_experiments():
        for network in WORLDS['demo']:
            for step in ordering(experiment, RESULTS, network, PEOPLE, SEEDS):   # Tables 1 and 2 share some
                found[network, step['scenario'], step['from'], step['to'], step['metric']] = (network, step)
    return list(found.values())


def renewed(readme: str) -> str:
    """The README with today's results.

    Raises:
        InputError: it has no place for them.
    """
    pattern = re.compile(f'{re.escape(BEGIN)}.*{re.escape(END)}', re.DOTALL)
    if not pattern.search(readme):
        raise InputError(f'README.md has no lines {BEGIN} and {END}, between which the results belong.')
    return pattern.sub(lambda _: f'{BEGIN}\n\n{results()}\n{END}', readme)


@command()
@click.option('--readme', help='The file to renew.', type=PATH, metavar='FILE', default='README.md', show_default=True)
def main(readme: str) -> None:
    """Renew the README's table of results, and tables.md, tables.json and plots beside the results."""
    path = Path(readme)
    if not path.is_file():
        raise InputError(f'{readme} is not there. Run this from the top folder, or name the file with --readme.')
    text = renewed(path.read_text(encoding='utf-8'))
    write_tables(load_experiments(), RESULTS, list(WORLDS['demo']), PEOPLE, SEEDS)
    write_whole(path, lambda file: file.write(text.encode()))
    steps = agreement()
    click.echo(f'{sum(step["agrees"] for _, step in steps)} of {len(steps)} steps go the way they go in the paper.')
    for network, step in steps:
        if not step['agrees']:
            click.echo(f'  {network}, {step["scenario"]}, {step["from"]} -> {step["to"]}: {step["metric"]} {step["here"]:+.3f}, '
                       f'in the paper {step["paper"]:+.3f} ({"all of " if step["alike"] else ""}{step["runs"]} runs)')


if __name__ == '__main__':
    main()
