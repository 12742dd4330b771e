"""The structure of the code in figures.

    python -m eg3d_unlearn.bench.structure
"""
from __future__ import annotations

import ast
from pathlib import Path

import click
import numpy as np
from scipy.sparse.csgraph import connected_components

import eg3d_unlearn
from eg3d_unlearn.config import OPTIONS
from eg3d_unlearn.console import command
from eg3d_unlearn.options import flag_of

ROOT = Path(eg3d_unlearn.__file__).parent
LONG = 60                            # lines of a function
TOLD_BY_OTHERS = ('forward', 'backbone', 'render', 'planes', 'attack', 'say')  # by the class, the contract or the module that they belong to
MACHINERY = ('worlds', 'bench', 'generators/networks')  # not counted as the product
MAIN = ('command', 'evaluation.options')                # modules with the options of the main commands


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name."""
    found = {}
    for path in sorted(ROOT.rglob('*.py')):
        parts = ('eg3d_unlearn', *path.relative_to(ROOT).with_suffix('').parts)
        found['.'.join(parts).removesuffix('.__init__')] = ast.parse(path.read_text(encoding='utf-8'))
    return found


def imports(tree: ast.Module, known: set[str]) -> set[str]:
    """The modules of the package that a module imports, also inside functions; not those for type checkers alone."""
    found = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == 'TYPE_CHECKING':
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {name if (name := f'{node.module}.{alias.name}') in known else node.module for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        pending += ast.iter_child_nodes(node)
    return found & known


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that import each other, directly or by others: strongly connected components."""
    edges = np.array([[other in imported for other in graph] for imported in graph.values()])
    count, labels = connected_components(edges, connection='strong')
    found = [{name for name, label in zip(graph, labels, strict=True) if label == number} for number in range(count)]
    return [circle for circle in found if len(circle) > 1]


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def public(tree: ast.Module) -> list[ast.FunctionDef]:
    """Functions of a module and methods of its public classes, underscored and special ones left out."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith('_'))]
    return [node for body in bodies for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith('_')]


def is_told(function: ast.FunctionDef, lines: list[str]) -> bool:
    """Whether a function has a docstring, or is a few plain lines, and a shape or its like beside every tensor that it takes or gives."""
    has_docstring = ast.get_docstring(function) is not None or function.name in TOLD_BY_OTHERS or bool(function.decorator_list)
    if not has_docstring and function.end_lineno - function.lineno > 4:
        return False
    header = '\n'.join(lines[function.lineno - 1:function.body[0].lineno])
    takes = [a for a in function.args.args + function.args.kwonlyargs if a.annotation is not None and ast.unparse(a.annotation) == 'Tensor']
    return not takes or '[' in header.partition('(')[2].replace('dict[', '').replace('list[', '').replace('tuple[', '')


def places(trees: dict[str, ast.Module], options: dict[str, str]) -> dict[str, list[str]]:
    """By name where an option (name -> flag) is written down: fields of a configuration, click options, lists of names; its use is none."""
    found: dict[str, list[str]] = {name: [] for name in options}

    def add(module: str, node: ast.AST, written: set[str]) -> None:
        for name, flag in options.items():
            if written & {name, flag}:
                found[name].append(f'{module}:{node.lineno}')
    for module, tree in trees.items():
        short = module.removeprefix('eg3d_unlearn.')
        if short.startswith(('bench.', 'worlds.')):
            continue
        tables = [part.value for part in tree.body if isinstance(part, ast.Assign)]
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and short == 'config':
                for field in node.body:
                    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                        add(short, field, {field.target.id})
            elif isinstance(node, ast.Call) and short in MAIN and ast.unparse(node.func).endswith('option'):
                add(short, node, {part.value for part in node.args[:2] if isinstance(part, ast.Constant) and str(part.value).startswith('--')})
            elif isinstance(node, (ast.Tuple, ast.List, ast.Set)):
                listed = {part.value for part in node.elts if isinstance(part, ast.Constant)}
                add(short, node, listed if len(listed & set(options)) > 2 else set())
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict' and node in tables:
                add(short, node, {part.arg for part in node.keywords if part.arg})
    return found


def lines_by_room() -> dict[str, int]:
    """Lines of code files by the first folder, those in none under 'eg3d_unlearn'."""
    found: dict[str, int] = {}
    for path in ROOT.rglob('*.py'):
        parts = path.relative_to(ROOT).parts
        room = '/'.join(parts[:2]) if '/'.join(parts[:2]) in MACHINERY else parts[0] if len(parts) > 1 else 'eg3d_unlearn'
        found[room] = found.get(room, 0) + len(path.read_text(encoding='utf-8').splitlines())
    return dict(sorted(found.items()))


@command()
def main() -> None:
    """Print modules, circles of imports, lines by room, long functions, and how many functions tell what they take."""
    trees = modules()
    found = circles({name: imports(tree, set(trees)) for name, tree in trees.items()})
    click.echo(f'modules: {len(trees)}; circles of imports: {len(found)}')
    for circle in found:
        click.echo(f'  {", ".join(sorted(circle))}')
    rooms = lines_by_room()
    for room, count in rooms.items():
        click.echo(f'  {room:24s}{count:7,d} lines')
    click.echo(f'  the product (without {", ".join(MACHINERY)}): {sum(count for room, count in rooms.items() if room not in MACHINERY):,} lines')
    counts = [len(where) for where in places(trees, {name: flag_of(field) for name, field in OPTIONS.items()}).values()]
    click.echo(f'options: {len(counts)}; by number of places: {", ".join(f"{counts.count(n)} in {n}" for n in sorted(set(counts)))}')
    long = [f'{name}.{node.name} ({node.end_lineno - node.lineno + 1})' for name, tree in trees.items() for node in functions(tree)
            if node.end_lineno - node.lineno + 1 > LONG]
    click.echo(f'functions over {LONG} lines: {len(long)}{": " if long else ""}{", ".join(long)}')
    told = []
    for name, tree in trees.items():
        path = ROOT.parent / Path(*name.split('.'))
        source = (path / '__init__.py' if path.is_dir() else path.with_suffix('.py')).read_text(encoding='utf-8').splitlines()
        told += [is_told(function, source) for function in public(tree)]
    click.echo(f'public functions with docstring and shapes: {sum(told)} of {len(told)} ({sum(told) / len(told):.1%})')


if __name__ == '__main__':
    main()
