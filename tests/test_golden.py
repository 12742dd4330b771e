"""Every network held against stored outputs of the upstream code, to a fraction of each output's standard deviation.

``GOLDEN_DIR`` names the folder with all references (default: shared/golden beside the repository); any json with a
``class_name`` in it is taken.  A small subset in tests/data needs no folder.  ``-s`` prints the measured errors.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from eg3d_unlearn.generators.build import build_network as build

sys.path.insert(0, str(Path(__file__).resolve().parent))
import golden_reference as reference  # noqa: E402  the folder is no package


def _arcface() -> nn.Module:
    from eg3d_unlearn.judges.identity.arcface import ArcFaceIRSE50
    return ArcFaceIRSE50()


def _curricularface() -> nn.Module:
    from eg3d_unlearn.judges.identity.curricularface import CurricularFaceIR101
    return CurricularFaceIR101()


# Pictures in, numbers out: (constructor, the stored output).  The folder has more of this kind than are built here.
RECOGNISERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    'arcface-irse50': (_arcface, 'embedding'),
    'curricularface-ir101': (_curricularface, 'embedding'),
}


def _stored_in_folder(names: Callable[[Path], list[str]]) -> list:
    """One test for each name in the golden folder, or one skipped test that says why there are none."""
    folder = reference.golden_dir()
    found = names(folder) if folder.is_dir() else []
    why = f'{folder} does not exist or holds no such reference; set GOLDEN_DIR to the folder with the golden outputs'
    return found or [pytest.param('none', marks=pytest.mark.skip(reason=why))]


def check_network(golden: reference.Golden) -> None:
    network = build(golden.meta['class_name'], golden.meta['init_kwargs'])
    assert reference.state_dict_list(network) == golden.meta['state_dict']
    check_rows(golden.name, reference.compare_network(golden, network))


def check_rows(name: str, rows: list[reference.Row]) -> None:
    table = reference.table(name, rows)
    print('\n' + table)
    assert rows and all(row.ok for row in rows), '\n' + table


@pytest.mark.parametrize('name', _stored_in_folder(reference.network_names))
def test_golden_network(name):
    check_network(reference.load_golden(reference.golden_dir(), name))


@pytest.mark.parametrize('name', _stored_in_folder(
    lambda folder: [name for name in RECOGNISERS if (folder / f'{name}.json').is_file()]))
def test_golden_recogniser(name):
    golden = reference.load_golden(reference.golden_dir(), name)
    constructor, output = RECOGNISERS[name]
    network = constructor().eval()
    assert reference.state_dict_list(network) == golden.meta['state_dict']
    reference.set_weights(network, reference.recogniser_value, reference.CONSTRUCTED_RECOGNISER, {})
    with torch.no_grad():
        found = network(reference.described_pattern(golden.meta['input']))
    check_rows(name, [reference.compare(output, found, golden.tensor(output), golden.tolerance)])


@pytest.mark.parametrize('name', reference.network_names(reference.SUBSET_DIR))
def test_golden_subset(name):
    check_network(reference.load_golden(reference.SUBSET_DIR, name))


@pytest.mark.parametrize('mistake', [lambda image: image * 1.002, lambda image: image * float('nan'), lambda image: image.mT],
                         ids=['brightness', 'NaN', 'transposed'])
def test_golden_comparison_sees_mistakes(mistake):
    golden = reference.load_golden(reference.SUBSET_DIR, 'stylegan3-t-64-tiny')
    network = build(golden.meta['class_name'], golden.meta['init_kwargs'])
    network.synthesis.register_forward_hook(lambda module, arguments, image: mistake(image))
    assert [row.output for row in reference.compare_network(golden, network) if not row.ok] == ['image']


@pytest.mark.parametrize('ours, stored, ok', [(1.0, 1.0, True), (0.0, 0.0, True), (1.001, 1.0, False), (1e-9, 0.0, False),
                                              (float('nan'), 1.0, False), (0.0, 1.0, False)])
def test_golden_gradient_norms(ours, stored, ok):
    row = reference.worst_norm(reference.Measured({}, {'weight': ours, 'bias': 1.0}),
                               reference.Measured({}, {'weight': stored, 'bias': 1.0}), tolerance=1e-4)
    assert row.ok == ok
