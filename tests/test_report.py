"""`write_report`: from a folder's files alone, and with pictures of both networks."""
from __future__ import annotations

import json

import page_stand_ins as stand_ins
import pytest
from page_stand_ins import Reader

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
    write_report(tmp_path, None, log=said.append)
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


def test_pictures_of_both_networks_and_what_else_is_to_be_said(tmp_path):
    report = {**stand_ins.report(person={'given_as': 'image'}), 'evidence': stand_ins.evidence()}
    said = []
    write_report(tmp_path, stand_ins.pictures(), report, notes=['WARNING: perhaps <it> is not the same person.'], log=said.append)
    reader = Reader((tmp_path / 'report.html').read_text())
    assert said == ['WARNING: perhaps <it> is not the same person.'] and said[0] in reader.words
    assert {'likeness', 'photos', 'neighbours', 'people', 'recognisers'} <= set(reader.ids)
    assert report['evidence']['likeness']['demo-measuring']['other_people']['value'] in reader.data
    assert [path.name for path in tmp_path.iterdir()] == ['report.html']
