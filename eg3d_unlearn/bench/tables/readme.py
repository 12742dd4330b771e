"""The tables of docs/results.md, and the tables beside the results that come with the package.

    python -m eg3d_unlearn.bench.tables.readme

Both are made of `RESULTS` only: what `evaluate.py tables --world=demo` left there.
"""
from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click

from eg3d_unlearn.bench.tables.build import grid, heading, markdown, ordering, rows_of, whom, write_tables
from eg3d_unlearn.bench.tables.command import networks_of
from eg3d_unlearn.bench.tables.jobs import load_experiments
from eg3d_unlearn.console import PATH, command
from eg3d_unlearn.run_folder import write_whole
from torch_utils_ext.errors import InputError

RESULTS, NETWORKS = Path(__file__).parent / 'demo', networks_of('demo')
PEOPLE, SEEDS = 20, 2                # at most; cells are made of what is there
SCENARIO = 'in-domain'               # the page's; the others stand in tables.md
PAGE = 'docs/results.md'
METRICS = ('id', 'id_others', 'fid_pre', 'dfid_real', 'retain')
BEGIN, END = '<!-- results: python -m eg3d_unlearn.bench.tables.readme -->', '<!-- end of the results -->'
BEGIN_CLOSED, END_CLOSED = '<!-- closed form: python -m eg3d_unlearn.bench.tables.readme -->', '<!-- end of the closed form -->'


def results() -> str:
    """What stands between the marks: GUIDE step by step on each demo network that has results."""
    table = dataclasses.replace(load_experiments(('table1',))[0], metrics=METRICS, scenarios=(SCENARIO,))
    parts = [(network, markdown(table, RESULTS, network, PEOPLE, SEEDS)) for network in NETWORKS]
    steps = agreement()
    alike = [step for _, step in steps if step['alike']]
    said = (f'{sum(step["agrees"] for _, step in steps)} of {len(steps)} steps from one row of Tables 1 to 4 to the next move a figure the way '
            f'they do in the paper; of the {len(alike)} in which every person and seed moves alike, {sum(step["agrees"] for step in alike)} do. '
            '`python -m eg3d_unlearn.bench.tables.readme` lists the others.\n')
    return '\n'.join([*(f'`{network}`, {text}' for network, text in parts if text), said])


def closed_form() -> str:
    """The closed form on people of each scenario, one row each, and against GUIDE."""
    table, against = load_experiments(('closed-form', 'closed-form-against-guide'))
    parts = []
    for network in NETWORKS:
        found = {scenario: rows_of(table, RESULTS, network, scenario, PEOPLE, 1)[0][1] for scenario in table.scenarios}
        metrics = [metric for metric in table.metrics if any(cells[metric] for cells in found.values())]
        rows = [(f'{scenario}, {whom([cell for cell in cells.values() if cell])}', [cells[metric] for metric in metrics])
                for scenario, cells in found.items() if any(cells.values())]
        if rows:
            parts += [f'`{network}`, mean ± standard deviation over people, the worst of them in brackets:\n',
                      grid([heading(metric) for metric in metrics], rows, worst=True), '']
    for network in NETWORKS:
        if text := markdown(against, RESULTS, network, PEOPLE, 1):
            parts.append(f'Against GUIDE, `{network}`, {text}')
    return '\n'.join(parts)


def agreement() -> list[tuple[str, dict]]:
    """Every step of every table that the paper has figures for, by network."""
    found = {}
    for experiment in load_experiments():
        for network in NETWORKS:
            for step in ordering(experiment, RESULTS, network, PEOPLE, SEEDS):   # Tables 1 and 2 share some
                found[network, step['scenario'], step['from'], step['to'], step['metric']] = (network, step)
    return list(found.values())


def renewed(page: str) -> str:
    """The text of the page with today's results.

    Raises:
        InputError: it has no place for them.
    """
    for begin, end, made in ((BEGIN, END, results), (BEGIN_CLOSED, END_CLOSED, closed_form)):
        pattern = re.compile(f'{re.escape(begin)}.*{re.escape(end)}', re.DOTALL)
        if not pattern.search(page):
            raise InputError(f'{PAGE} has no lines {begin} and {end}, between which the results belong.')
        page = pattern.sub(lambda _, begin=begin, end=end, made=made: f'{begin}\n\n{made()}\n{end}', page)
    return page


@command()
@click.option('--page', help='The file to renew.', type=PATH, metavar='FILE', default=PAGE, show_default=True)
def main(page: str) -> None:
    """Renew the tables of docs/results.md, and tables.md, and tables.json beside the results."""
    path = Path(page)
    if not path.is_file():
        raise InputError(f'{page} is not there. Run this from the top folder, or name the file with --page.')
    text = renewed(path.read_text(encoding='utf-8'))
    write_tables(load_experiments(), RESULTS, list(NETWORKS), PEOPLE, SEEDS)
    write_whole(path, lambda file: file.write(text.encode()))
    steps = agreement()
    click.echo(f'{sum(step["agrees"] for _, step in steps)} of {len(steps)} steps go the way they go in the paper.')
    for network, step in steps:
        if not step['agrees']:
            click.echo(f'  {network}, {step["scenario"]}, {step["from"]} -> {step["to"]}: {step["metric"]} {step["here"]:+.3f}, '
                       f'in the paper {step["paper"]:+.3f} ({"all of " if step["alike"] else ""}{step["runs"]} runs)')


if __name__ == '__main__':
    main()
