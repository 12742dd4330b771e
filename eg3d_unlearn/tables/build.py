"""Tables out of result files, and out of nothing else: mean ± standard deviation over people and seeds."""
from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.tables import plots
from eg3d_unlearn.tables.jobs import Experiment, Job, Row
from eg3d_unlearn.tables.runner import EMBEDDINGS, known

SWEEP = 'figure9'
HEADINGS = {'id': 'ID ↓', 'id_others': 'ID_others ↓', 'fid_pre': 'FID_pre ↓', 'dfid_real': 'ΔFID_real ↓', 'retain': 'likeness of others ↑'}


@dataclass(frozen=True)
class Cell:
    """A figure over several runs."""
    mean: float
    std: float | None                # None for a single run
    runs: int

    def __str__(self) -> str:
        digits = 1 if abs(self.mean) >= 10 else 2
        return f'{self.mean:.{digits}f}' + ('' if self.std is None else f' ± {self.std:.{digits}f}')


def cell(outdir: Path, jobs: list[Job], metric: str) -> Cell | None:
    """``metric`` over ``jobs``; None where no run has it. Of several numbers of samples that which most runs have."""
    by_name: dict[str, list[float]] = {}
    for job in jobs:
        for name, figure in known(outdir, job).items():
            if figure is not None and name != EMBEDDINGS and base_of(name) == metric:
                by_name.setdefault(name, []).append(figure['value']['value'])
    if not by_name:
        return None
    values = max(by_name.values(), key=len)   # never a mean over different numbers of samples
    return Cell(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def base_of(name: str) -> str:
    """A metric's name without its number of samples: fid_pre500-half is fid_pre."""
    from eg3d_unlearn.metrics import parse
    return parse(name).base


Line = tuple[Row, dict[str, Cell | None]]


def rows_of(experiment: Experiment, outdir: Path, network: str, scenario: str, people: int, seeds: int) -> list[Line]:
    """Each row with its cells."""
    found = []
    for row in experiment.rows:
        jobs = list(dict.fromkeys(row.job(network, scenario, person, seed) for person in range(people) for seed in range(seeds)))
        found.append((row, {metric: cell(outdir, jobs, metric) for metric in experiment.metrics}))
    return found


def markdown(experiment: Experiment, outdir: Path, network: str, people: int, seeds: int) -> str:
    """The table of one network, scenarios side by side, and what its cells are means of; cells without a result stay empty."""
    scenarios = [scenario for scenario in experiment.scenarios
                 if any(any(cells.values()) for _, cells in rows_of(experiment, outdir, network, scenario, people, seeds))]
    columns = [(scenario, metric) for scenario in scenarios for metric in experiment.metrics
               if any(cells[metric] for _, cells in rows_of(experiment, outdir, network, scenario, people, seeds))]
    if not columns:
        return ''
    several = len({scenario for scenario, _ in columns}) > 1
    heads = [f'{scenario}: {HEADINGS[metric]}' if several else HEADINGS[metric] for scenario, metric in columns]
    lines = ['| ' + ' | '.join(['', *heads]) + ' |',
             '|' + '---|' * (len(columns) + 1)]
    by_scenario = {scenario: rows_of(experiment, outdir, network, scenario, people, seeds) for scenario in scenarios}
    runs = set()
    for index, row in enumerate(experiment.rows):
        cells = [by_scenario[scenario][index][1][metric] for scenario, metric in columns]
        if any(cells):
            lines.append('| ' + ' | '.join([row.title, *('' if one is None else str(one) for one in cells)]) + ' |')
            runs |= {one.runs for one in cells if one}
    if len(lines) < 4:               # one row compares nothing
        return ''
    where = '' if several else f'{columns[0][0]}, '
    return f'{where}{of_what(runs, seeds)}\n\n' + '\n'.join(lines) + '\n'


def of_what(runs: set[int], seeds: int) -> str:
    """What the cells of a table stand for, in words."""
    if runs == {1}:
        return 'one person:'
    many = str(max(runs)) if len(runs) == 1 else f'{min(runs)} to {max(runs)}'
    return f'mean ± standard deviation over {many} {"people" if seeds == 1 else "people and seeds"}:'


def ordering(experiment: Experiment, outdir: Path, network: str, people: int, seeds: int) -> list[dict]:
    """Each step from one row to the next: whether a figure rises or falls here, and in the paper where it says so."""
    found = []
    for scenario in experiment.scenarios:
        rows = rows_of(experiment, outdir, network, scenario, people, seeds)
        paper = experiment.paper.get(scenario, {})
        for (first, before), (second, after) in zip(rows, rows[1:], strict=False):
            for metric in experiment.metrics:
                a, b = before[metric], after[metric]
                theirs = [paper.get(row.title, {}).get(metric) for row in (first, second)]
                if a and b and None not in theirs and theirs[0] != theirs[1]:
                    found.append({'scenario': scenario, 'from': first.title, 'to': second.title, 'metric': metric,
                                  'here': round(b.mean - a.mean, 4), 'paper': round(theirs[1] - theirs[0], 4),
                                  'agrees': (b.mean - a.mean) * (theirs[1] - theirs[0]) > 0})
    return found


def write_tables(experiments: list[Experiment], outdir: Path, networks: list[str], people: int, seeds: int) -> str:
    """Write ``tables.md`` and ``tables.json`` from the results and return the former."""
    parts, content = [], {}
    for experiment in experiments:
        if experiment.metrics == (EMBEDDINGS,):
            draw_neighbours(experiment, outdir, networks, people)
            continue
        if experiment.name == SWEEP:
            lines = {network: rows_of(experiment, outdir, network, experiment.scenarios[0], people, seeds) for network in networks}
            lines = {network: rows for network, rows in lines.items() if sum(any(cells.values()) for _, cells in rows) > 1}
            if lines:
                plots.sweep(experiment, lines, outdir / f'{SWEEP}.svg')
        for network in networks:
            table = markdown(experiment, outdir, network, people, seeds)
            if table:
                parts.append(f'### {experiment.title}, {Path(network).stem}\n\n{table[0].upper()}{table[1:]}')
                content[f'{experiment.name}/{Path(network).stem}'] = {
                    'cells': {scenario: cells_of(rows_of(experiment, outdir, network, scenario, people, seeds))
                              for scenario in experiment.scenarios},
                    'ordering': ordering(experiment, outdir, network, people, seeds)}
    text = '\n'.join(parts) or 'No results yet.\n'
    write_whole(outdir / 'tables.md', lambda file: file.write(text.encode()))
    write_whole(outdir / 'tables.json', lambda file: file.write((json.dumps(content, indent=1, ensure_ascii=False) + '\n').encode()))
    return text


def draw_neighbours(experiment: Experiment, outdir: Path, networks: list[str], people: int) -> None:
    """A t-SNE of each network's people, where there are results."""
    for network in networks:
        vectors, whose, states = [], [], []
        for job in experiment.jobs([network], people, 1):
            found = known(outdir, job).get(EMBEDDINGS)
            if found:
                vectors += found['vectors']
                states += found['states']
                whose += [f'person {job.person + 1}'] * len(found['states'])
        if vectors:
            plots.neighbours(torch.tensor(vectors), whose, states, outdir / f'{experiment.name}-{Path(network).stem}.svg')


def cells_of(lines: list[Line]) -> dict:
    """Rows and cells as they are written."""
    return {row.title: {metric: None if one is None else {'mean': round(one.mean, 5), 'std': None if one.std is None else round(one.std, 5),
                                                          'runs': one.runs} for metric, one in cells.items()} for row, cells in lines}
