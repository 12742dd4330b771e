"""What is read of a run's folder, and what is left out of it."""
from __future__ import annotations

import json
import re

import page_stand_ins as stand_ins
import pytest

from eg3d_unlearn.report.files import read_folder
from torch_utils_ext.errors import InputError


def test_the_audit_may_lie_elsewhere(tmp_path):
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report()))
    assert read_folder(tmp_path).audit is None
    with pytest.raises(InputError, match='holds no audit.json. Name the --outdir of a finished audit'):
        read_folder(tmp_path, audit=tmp_path / 'audit')
    (tmp_path / 'audit').mkdir()
    (tmp_path / 'audit' / 'audit.json').write_text(json.dumps(stand_ins.audit()))
    assert read_folder(tmp_path).audit == read_folder(tmp_path, audit=tmp_path / 'audit' / 'audit.json').audit == stand_ins.audit()
    (tmp_path / 'audit' / 'audit.json').write_text('[]')
    with pytest.raises(InputError, match='is no audit.json of evaluate.py audit'):
        read_folder(tmp_path, audit=tmp_path / 'audit')


def test_results_about_another_network_are_left_out(tmp_path):
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report()))
    other = stand_ins.metric() | {'networks': {'before': 'a' * 64, 'after': 'c' * 64}}
    (tmp_path / 'metric-id.jsonl').write_text(json.dumps(other))
    (tmp_path / 'audit.json').write_text(json.dumps(stand_ins.audit()))
    found = read_folder(tmp_path)
    assert len(found.notes) == 1 and found.notes[0].startswith('Metric id was measured on another network after (cccccccccccc…)')
    assert found.metrics == [] and found.audit is not None
    (tmp_path / 'metric-id.jsonl').write_text(json.dumps(other | {'networks': {'before': 'd' * 64, 'after': 'b' * 64}}))
    found = read_folder(tmp_path)
    assert found.metrics == [] and found.notes[0].startswith('Metric id was measured on another network before (dddddddddddd…)')
    (tmp_path / 'audit.json').write_text(json.dumps(stand_ins.audit() | {'networks': {'after': 'c' * 64}}))
    found = read_folder(tmp_path)
    assert found.audit is None and found.notes[1].endswith(' and is left out.')


@pytest.mark.parametrize('files, sentence', [
    ({}, 'holds no report.json: name the --outdir of a finished run'),
    ({'training_options.json': '{}'}, 'its run is not finished. Run the same unlearn.py command again'),
    ({'report.json': '{'}, 'is no report of unlearn.py, or is damaged'),
    ({'report.json': '[]'}, 'is no report of unlearn.py'),
])
def test_folders_that_hold_no_run(tmp_path, files, sentence):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(sentence)):
        read_folder(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match='is no folder'):
        read_folder(tmp_path / 'nowhere')
