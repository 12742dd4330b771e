"""The README and the pages in docs/: their links, and the files, modules, tests and options that they name, exist."""
from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import click
import pytest
from fuzz import main as fuzz_command
from test_console import COMMANDS

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted([PROJECT / 'README.md', PROJECT / 'CONTRIBUTING.md', *(PROJECT / 'docs').glob('*.md')])
NAMES = [page.relative_to(PROJECT).as_posix() for page in PAGES]
EVERY_PAGE = pytest.mark.parametrize('page', PAGES, ids=NAMES)


def prose(page: Path) -> str:
    """The text of a page without comments."""
    return re.sub(r'<!--.*?-->', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link may name behind #: the headings, as GitHub writes them."""
    headings = re.findall(r'^#+ +(.+)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', [*PAGES, PROJECT / 'CHANGELOG.md'], ids=[*NAMES, 'CHANGELOG.md'])
def test_relative_links_lead_somewhere(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', prose(page)):
        if re.match(r'[a-z]+://', link):
            continue
        file, _, anchor = link.partition('#')
        target = page.parent / file if file else page
        assert target.exists(), f'{link} leads nowhere'
        assert not anchor or anchor in anchors(target), f'{link}: {target.name} has no such heading'


@EVERY_PAGE
def test_files_and_tests_that_are_named_exist(page):
    path = None
    for name, test in re.findall(r'`((?:[\w.-]+/)+(?:[\w.-]+\.\w+)?|(?=::))((?:::\w+)?)`', prose(page)):
        path = PROJECT / name if name else path          # `::test_x` is in the file that was named before
        assert path.exists(), f'{name} is not there'
        if test:
            tree = ast.parse(path.read_text(encoding='utf-8'))
            functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert test.removeprefix('::') in functions, f'{path.name} has no {test}'


@EVERY_PAGE
def test_modules_that_are_named_exist(page):
    names = set(re.findall(r'(?<![\w/.])((?:eg3d_unlearn|torch_utils_ext|patches|tests)(?:\.[A-Za-z_]\w*)+)', prose(page)))
    for name in names:
        assert is_there(name), f'{name} is not there'


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, _, attribute = name.rpartition('.')
    try:
        return importlib.util.find_spec(name) is not None or hasattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:      # what is before the last dot is no package
        return hasattr(importlib.import_module(module), attribute)


def options_of(command: click.Command) -> set[str]:
    """Every option of a command and of the commands in it."""
    found = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]} | {'--help'}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found |= options_of(command.get_command(context, name))
    return found


def test_options_that_are_named_exist():
    known = options_of(fuzz_command)
    for name in COMMANDS:
        known |= options_of(importlib.import_module(f'eg3d_unlearn.{name}').main)
    known |= set(re.findall(r"'(--[a-z-]+)", (PROJECT / 'patches' / 'run.py').read_text(encoding='utf-8')))
    for page in PAGES:
        # Not those of other programs.
        text = re.sub(r'patches\.run .* -- .*|torchrun --\w+|dask worker .*?`', '', prose(page))
        named = set(re.findall(r'(?<![\w-])--[a-z][a-z0-9-]*', text))
        assert named <= known, f'{page.name}: {", ".join(sorted(named - known))}'


def test_the_readme_is_short():
    assert len((PROJECT / 'README.md').read_text(encoding='utf-8').splitlines()) <= 180


def test_every_page_is_reached_from_the_readme():
    links = set(re.findall(r'\]\((docs/[\w-]+\.md)', prose(PROJECT / 'README.md')))
    assert links == {name for name in NAMES if name.startswith('docs/')}
