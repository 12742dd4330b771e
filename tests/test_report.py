"""`write_report`: from a folder's files alone, and with both networks."""
from __future__ import annotations

import json

import page_stand_ins as stand_ins
import pytest
from page_stand_ins import Reader
from test_comparison import PLAN, SETTINGS, evidence_of

from eg3d_unlearn.report import write_report


def test_the_page_of_a_folder_without_a_person(tmp_path):
    """As a first report of any run: from its files alone, the picture of the run in it."""
    import PIL.Image
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report()))
    (tmp_path / 'stats.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in stand_ins.stats()) + '{"step": 8')
    (tmp_path / 'metric-id.jsonl').write_text(json.dumps(stand_ins.metric(value=0.5)) + '\n' + json.dumps(stand_ins.metric(value=0.25)) + '\n')
    (tmp_path / 'audit.json').write_text('{"tiers": 3}')
    PIL.Image.new('RGB', (64, 48)).save(tmp_path / 'before-after.png')
    said = []
    assert write_report(tmp_path, None, log=said.append) == {}
    reader = Reader((tmp_path / 'report.html').read_text())
    assert not reader.wrong and {'curves', 'metrics', 'limits'} <= set(reader.ids) and 'audit' not in reader.ids
    assert 0.25 in reader.data and 0.5 not in reader.data          # of a metric the last line counts
    assert len(reader.all('img')) == 1
    assert any('1 damaged line of stats.jsonl' in line for line in said) and any('audit.json cannot be read' in line for line in said)
    assert 'audit.json cannot be read' in reader.words


@pytest.mark.parametrize('content, sentence', [
    (b'hello', 'before-after.png is not a picture'), (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n', 'is not a picture'),
    (b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0u0\0\0u0\x08\2\0\0\0\xe9\x45\x6f\xed' + b'\0\0\0\0IDAT', 'claims more than 170 million')])
def test_a_picture_of_the_folder_that_is_none(tmp_path, content, sentence):
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report()))
    (tmp_path / 'before-after.png').write_bytes(content)
    said = []
    write_report(tmp_path, None, log=said.append)
    reader = Reader((tmp_path / 'report.html').read_text())
    assert not reader.wrong and not reader.all('img') and any(sentence in line for line in said) and sentence in reader.words


@pytest.mark.parametrize('uri, shown, said', [
    (None, True, None), ('data:image/jpeg;base64,JSFQUy1BZG9iZS0zLjA=', False, 'The picture of the audit is not a picture'),   # PostScript
    ('https://example.org/face.jpg', False, None), (7, False, None)])
def test_the_face_that_came_back_is_shown(tmp_path, uri, shown, said):
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report()))
    audit = stand_ins.audit()
    audit['tiers'][3]['recovered'] = {'likeness': 0.9, 'picture': stand_ins.picture().uri if uri is None else uri}
    (tmp_path / 'audit.json').write_text(json.dumps(audit))
    write_report(tmp_path, None, log=lambda line: None)
    reader = Reader((tmp_path / 'report.html').read_text())
    assert [picture['alt'] for picture in reader.all('img')] == ['The person, as an attack brought them back.'] * shown
    assert 'example.org' not in (tmp_path / 'report.html').read_text() and (said is None or said in reader.words)


# ---- with both networks ----

@pytest.fixture
def run_folder(tmp_path):
    (tmp_path / 'report.json').write_text(json.dumps(stand_ins.report(config={**SETTINGS, 'keep_source': False}, person={'given_as': 'image'})))
    return tmp_path


def test_the_page_and_what_report_json_gains_are_written_together(run_folder):
    gained = write_report(run_folder, evidence_of('stylegan2', changed=1.0), plan=PLAN, log=lambda line: None)
    text = (run_folder / 'report.html').read_text()
    assert gained['evidence']['likeness']['unused']['other_people']['value'] in Reader(text).data
    # What the person is known by stays out.
    assert 'face.png' not in text and 'face.png' not in json.dumps(gained)
    assert not list(run_folder.glob('.*'))


def test_somebody_else_than_the_erased_one_is_doubted(run_folder):
    evidence = evidence_of('stylegan2')
    evidence.person.notes = {'given_as': 'seed'}
    said = []
    write_report(run_folder, evidence, plan=PLAN, log=said.append)
    assert 'perhaps it is not the same person' in said[0] and said[0][9:] in Reader((run_folder / 'report.html').read_text()).words
