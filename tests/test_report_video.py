"""The film of a run."""
from __future__ import annotations

import pytest
from test_comparison import SETTINGS, evidence_of

from eg3d_unlearn.report import video
from torch_utils_ext.errors import InputError


@pytest.mark.parametrize('family', ['eg3d', 'stylegan2'])
def test_a_film(family, tmp_path):
    imageio = pytest.importorskip('imageio.v2')
    pytest.importorskip('imageio_ffmpeg')
    video.write_video(tmp_path / 'before-after.mp4', evidence_of(family, changed=1.0), SETTINGS, frames=5)
    with imageio.get_reader(tmp_path / 'before-after.mp4') as film:
        frames = [frame for frame in film]
    assert len(frames) == 5 and frames[0].shape == (288, 512, 3)
    assert not [path for path in tmp_path.iterdir() if path.suffix == '.part']


def test_a_film_without_its_package(monkeypatch):
    monkeypatch.setattr(video.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match='--video needs imageio and imageio_ffmpeg, which are not installed. Install with'):
        video.check_video()
