"""Every command that README, docs, help texts, docstrings and messages name: its options are ones that it has, and the cheap ones run."""
from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from small import SMALL

from eg3d_unlearn import command, evaluate_command

PROJECT = Path(__file__).resolve().parents[1]
SCRIPTS = {'unlearn.py': command.main, 'evaluate.py': evaluate_command.main}
PAGES = (PROJECT / 'README.md', PROJECT / 'CONTRIBUTING.md', *(PROJECT / 'docs').glob('*.md'))
WRITTEN = re.compile(r'python3? +((?:-m (?:eg3d_unlearn|patches)[\w.]*|(?:unlearn|evaluate)\.py)[^`\n\\]*(?:\\\n[^`\n\\]*)*)')


def strings_of(path: Path) -> list[str]:
    """All texts of a source file: docstrings, help, messages; parts of one message are joined by Python itself."""
    return [node.value for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and 'python' in node.value]


def written() -> list[str]:
    """Each command line once, without the words around it."""
    sources = [path for folder in ('eg3d_unlearn', 'patches') for path in (PROJECT / folder).rglob('*.py')]
    texts = [path.read_text(encoding='utf-8') for path in PAGES]
    for path in [*sources, *(PROJECT / name for name in SCRIPTS)]:
        texts += strings_of(path)
    found = {match[1] for text in texts for match in WRITTEN.finditer(text)}
    ends = r"[,;]\s|(?<!\.)\.(?:\s|$)|\s#|\s{2}(?=\S)|\s-->|\)"          # of the command, in a sentence or before a comment
    return sorted({re.split(ends, re.sub(r"\s*\\\n\s*", " ", line))[0].strip() for line in found})


def command_of(words: list[str]) -> tuple[click.Command | None, str, list[str]]:
    """The click command of a line, its name, and its arguments; None for a module without options."""
    if words[0] in SCRIPTS:
        return SCRIPTS[words[0]], words[0], words[1:]
    name = words[1] if not importlib.util.find_spec(words[1]).submodule_search_locations else f'{words[1]}.__main__'
    main = importlib.import_module(name).main
    return (main if isinstance(main, click.Command) else None), name, words[2:]


LINES = written()


def test_the_lines_are_found():
    assert len(LINES) > 40
    assert {'-m eg3d_unlearn.bench.benchmark --setting=tiny', 'evaluate.py report --run=out --image=demo [--video]'} <= set(LINES)
    assert any(line.startswith('evaluate.py metrics') and '--data=ffhq.zip' in line for line in LINES)   # over two lines


@pytest.mark.parametrize('line', LINES)
def test_its_options_are_there(line, tmp_path, monkeypatch):
    """A dry parse by the real command: an unknown option, a wrong value or a missing one is an error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photos').mkdir()
    main, name, words = command_of(shlex.split(line.replace('[', '').replace(']', '')))
    words = ['FILE' if word == 'FILES...' else word for word in words if word != '...']
    while isinstance(main, click.Group) and words and not words[0].startswith('-'):
        main, name, words = main.get_command(click.Context(main), words[0]), words[0], words[1:]
        assert main is not None, f'{name} is no command'
    if main is None or words in (['--help'], ['--help-all']):
        assert words in ([], ['--help']) or main is not None
        return
    if not any(isinstance(parameter, click.Argument) for parameter in main.params):
        # Behind the options stand words of the sentence around.
        ends = [i for i, word in enumerate(words) if not word.startswith('-') and (i == 0 or not re.fullmatch('-[a-z]', words[i - 1]))]
        words = words[:ends[0]] if ends else words
    if any(word.startswith('-') for word in words):  # a name alone is spoken of, not written down to be run
        main.make_context(name, words)


# ---- those that take a moment ----

CHEAP = {
    'eg3d_unlearn.worlds.demo.sheet': ['--people=2', '--views=1', '--resolution=16', '--outfile={out}.png'],
    'eg3d_unlearn.worlds.demo.dataset': ['--people=2', '--photos=1', '--resolution=16', '--outfile={out}.zip'],
    'eg3d_unlearn.worlds.demo.export': ['--network=demo-stylegan2', '--outfile={out}.pkl'],
    'eg3d_unlearn.bench.make_network': ['--setting=stylegan2', '--outfile={out}.pkl'],
}


@pytest.mark.parametrize('name', CHEAP)
def test_it_runs(name, tmp_path):
    words = [word.format(out=tmp_path / 'out') for word in CHEAP[name]]
    done = CliRunner().invoke(importlib.import_module(name).main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert Path(words[-1].split('=')[1]).stat().st_size > 0


def test_the_benchmark_runs(monkeypatch):
    from eg3d_unlearn.bench import benchmark
    small = dict(upstream_class=SMALL['stylegan2'][0], init_kwargs=SMALL['stylegan2'][1], family='stylegan2', raw=None)
    monkeypatch.setitem(benchmark.FULL, 'tiny', small)
    monkeypatch.setattr(benchmark, 'convolution_rate', lambda device: 1.0)
    words = ['--steps=1', '--warmup=0', '--id-network=none', '--lpips-net=squeeze', '--lpips-resolution=32', '--device=cpu']
    done = CliRunner().invoke(benchmark.main, words, catch_exceptions=False)
    assert done.exit_code == 0 and 's a step' in done.output and 's to erase the person, where 1000 steps take' in done.output
    figures = json.loads(CliRunner().invoke(benchmark.main, [*words, '--json'], catch_exceptions=False).output)
    assert figures['seconds_per_step'] > 0 and figures['closed_form_seconds'] > 0
