"""Tables out of result files, and out of nothing else: mean ± standard deviation over people and seeds."""
from __future__ import annotations

import itertools
import json
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from eg3d_unlearn.bench.tables.jobs import Experiment, Row
from eg3d_unlearn.bench.tables.runner import known
from eg3d_unlearn.evaluation.metrics import METRICS, parse
from eg3d_unlearn.run_folder import write_whole

TABLES = 'tables.md'


@dataclass(frozen=True)
class Cell:
    """A figure over several runs."""
    mean: float
    std: float | None                # None for a single run
    runs: int
    worst: float                     # of the runs
    people: int = 1                  # among the runs

    def told(self, worst: bool) -> str:
        """The figure, and where it is asked for that of the worst person."""
        return f'{self} ({self.worst:.2f})' if worst and self.runs > 1 else str(self)

    def __str__(self) -> str:
        digits = 1 if abs(self.mean) >= 10 else 2
        mean = round(self.mean, digits) + 0.0        # no minus before zeros
        return f'{mean:.{digits}f}' + ('' if self.std is None else f' ± {self.std:.{digits}f}')


Run = tuple[int, int]                # person and seed


def values_of(experiment: Experiment, outdir: Path, network: str, scenario: str, people: int, seeds: int,
              metric: str) -> dict[Row, dict[Run, float]]:
    """``metric`` of each row by run, for the runs that all rows have: means over different people would compare people, not rows.

    Rows without any result do not count; where no run is common to the others, the one that most of them have decides.
    Of several numbers of samples that which most runs have: they are never mixed.
    """
    base, _, field = metric.partition(':')
    by_name: dict[str, dict[Row, dict[Run, float]]] = {}
    for row in experiment.rows:
        for run in itertools.product(experiment.people(people), range(seeds)):
            for name, figure in known(outdir, row.job(network, scenario, *run)).items():
                if figure is not None and base_of(name) == base and (field or 'value') in figure:
                    by_name.setdefault(name, {}).setdefault(row, {})[run] = figure[field] if field else figure['value']['value']
    if not by_name:
        return {}
    found = max(by_name.values(), key=lambda rows: sum(map(len, rows.values())))
    rows_with = Counter(run for runs in found.values() for run in runs)
    common = [run for run in sorted(rows_with) if rows_with[run] == max(rows_with.values())]
    return {row: {run: runs[run] for run in common} for row, runs in found.items() if set(common) <= set(runs)}


def cell_of(row: Row, runs: dict[Run, float], metric: str) -> Cell:
    """The mean over a row's runs; where nothing is learned all seeds of a person are one run."""
    values = list(({run[0]: value for run, value in runs.items()} if row.method is None else runs).values())
    worst = (max if METRICS[metric.partition(':')[0]].better == 'low' else min)(values)
    return Cell(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values), worst,
                len({person for person, _ in runs}))


def base_of(name: str) -> str:
    """A metric's name without its number of samples: fid_pre500-half is fid_pre."""
    return parse(name).base


def heading(column: str) -> str:
    """What stands above a column: 'retain' or 'retain:worst'."""
    base, _, detail = column.partition(':')
    return METRICS[base].heading_of(detail)


Line = tuple[Row, dict[str, Cell | None]]


def rows_of(experiment: Experiment, outdir: Path, network: str, scenario: str, people: int, seeds: int) -> list[Line]:
    """Each row with its cells."""
    columns = {metric: values_of(experiment, outdir, network, scenario, people, seeds, metric) for metric in experiment.metrics}
    return [(row, {metric: cell_of(row, rows[row], metric) if row in rows else None for metric, rows in columns.items()})
            for row in experiment.rows]


def markdown(experiment: Experiment, outdir: Path, network: str, people: int, seeds: int) -> str:
    """The table of one network, scenarios side by side, and what its cells are means of; cells without a result stay empty."""
    by_scenario = {scenario: rows_of(experiment, outdir, network, scenario, people, seeds) for scenario in experiment.scenarios}
    columns = [(scenario, metric) for scenario, lines in by_scenario.items() for metric in experiment.metrics
               if any(cells[metric] for _, cells in lines)]
    rows = [(row.title, [by_scenario[scenario][index][1][metric] for scenario, metric in columns]) for index, row in enumerate(experiment.rows)]
    rows = [(title, cells) for title, cells in rows if any(cells)]
    if len(rows) < min(2, len(experiment.rows)):     # one row of several compares nothing
        return ''
    several = len({scenario for scenario, _ in columns}) > 1
    heads = [f'{scenario}: {heading(metric)}' if several else heading(metric) for scenario, metric in columns]
    where = '' if several else f'{columns[0][0]}, '
    of = of_what([cell for _, cells in rows for cell in cells if cell], experiment.worst)
    return f'{where}{of}\n\n{grid(heads, rows, experiment.worst)}\n'


def grid(
    heads: list[str],                # of the columns
    rows: list[tuple[str, list[Cell | None]]],   # title and cells of each
    worst: bool,                     # whether cells name the worst person, too
) -> str:
    """A table in Markdown."""
    told = [[title, *('' if cell is None else cell.told(worst) for cell in cells)] for title, cells in rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in [['', *heads], ['---'] * (len(heads) + 1), *told])


def of_what(cells: list[Cell], worst: bool = False) -> str:
    """What the cells of a table stand for, in words; ``worst``: they name the worst person, too."""
    runs = {cell.runs for cell in cells}
    if runs == {1}:
        return 'one person:'
    several = all(cell.runs == cell.people for cell in cells)
    over = whom(cells) if several else f'{counts(runs)} runs of {whom(cells)}'
    return f'mean ± standard deviation over {over}{", the worst person in brackets" if worst else ""}:'


def whom(cells: list[Cell]) -> str:
    """How many people cells are about."""
    people = {cell.people for cell in cells}
    return 'one person' if people == {1} else f'{counts(people)} people'


def counts(numbers: set[int]) -> str:
    return f'{min(numbers)}' if len(numbers) == 1 else f'{min(numbers)} to {max(numbers)}'


def ordering(experiment: Experiment, outdir: Path, network: str, people: int, seeds: int) -> list[dict]:
    """Each step from one row to the next: whether a figure rises or falls here, and in the paper where it says so.

    ``alike``: several runs were made, and each of them moves the same way.
    """
    found = []
    for scenario in experiment.scenarios:
        paper = experiment.paper.get(scenario, {})
        for metric in experiment.metrics:
            values = values_of(experiment, outdir, network, scenario, people, seeds, metric)
            for first, second in itertools.pairwise(experiment.rows):
                theirs = [paper.get(row.title, {}).get(metric) for row in (first, second)]
                if first not in values or second not in values or None in theirs or theirs[0] == theirs[1]:
                    continue
                here = [values[second][run] - before for run, before in values[first].items()]
                mean = statistics.mean(here)
                found.append({'scenario': scenario, 'from': first.title, 'to': second.title, 'metric': metric,
                              'here': round(mean, 4), 'paper': round(theirs[1] - theirs[0], 4), 'runs': len(here),
                              'alike': len(here) > 1 and all(step * mean > 0 for step in here),
                              'agrees': mean * (theirs[1] - theirs[0]) > 0})
    return found


def write_tables(experiments: list[Experiment], outdir: Path, networks: list[str], people: int, seeds: int) -> str:
    """Write ``tables.md`` and ``tables.json`` from the results and return the former."""
    parts, content = [], {}
    for experiment in experiments:
        for network in networks:
            table = markdown(experiment, outdir, network, people, seeds)
            if table:
                parts.append(f'### {experiment.title}, {Path(network).stem}\n\n{table[0].upper()}{table[1:]}')
                content[f'{experiment.name}/{Path(network).stem}'] = {
                    'cells': {scenario: cells_of(rows_of(experiment, outdir, network, scenario, people, seeds))
                              for scenario in experiment.scenarios},
                    'ordering': ordering(experiment, outdir, network, people, seeds)}
    text = '\n'.join(parts) or 'No results yet.\n'
    write_whole(outdir / TABLES, lambda file: file.write(text.encode()))
    write_whole(outdir / 'tables.json', lambda file: file.write((json.dumps(content, indent=1, ensure_ascii=False) + '\n').encode()))
    return text


def cells_of(lines: list[Line]) -> dict:
    """Rows and cells as they are written."""
    def written(one: Cell | None) -> dict | None:
        if one is None:
            return None
        std = None if one.std is None else round(one.std, 5)
        return {'mean': round(one.mean, 5), 'std': std, 'runs': one.runs, 'worst': round(one.worst, 5)}
    return {row.title: {metric: written(one) for metric, one in cells.items()} for row, cells in lines}
