"""What networks were trained on: whose focal length, crop, d and alpha_max they get, and what is refused or said."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small import SMALL, save_noise, small_generator

from eg3d_unlearn.config import Config
from eg3d_unlearn.generators.build import build_network, wrap
from eg3d_unlearn.generators.checkout import check_picture
from eg3d_unlearn.generators.families.stylegan2 import Trusted2D
from eg3d_unlearn.generators.trained_on import TrainedOn, by_words, orbit_of, trained_on
from eg3d_unlearn.judges.judges import alignment_of
from eg3d_unlearn.person import person as finding
from eg3d_unlearn.person.checks import check_person
from eg3d_unlearn.person.photo.prepare import Prepared
from eg3d_unlearn.run import unlearn
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import save_network_pickle
from torch_utils_ext.network_url import PUBLISHED

# What NVIDIA's train.py writes for --cfg.
CAMERAS = {
    'FFHQ': {'avg_camera_radius': 2.7, 'avg_camera_pivot': [0, 0, 0.2]}, 'AFHQ': {'avg_camera_radius': 2.7, 'avg_camera_pivot': [0, 0, -0.06]},
    'ShapeNet': {'avg_camera_radius': 1.7, 'avg_camera_pivot': [0, 0, 0]},
}


def pickle_of(name='network.pkl', path=None):
    return SimpleNamespace(path=name, training_set_kwargs=None if path is None else {'path': path})


@pytest.mark.parametrize('name, expected', [
    ('ffhq512-128.pkl', ('FFHQ', True)), ('ffhqrebalanced512-64.pkl', ('FFHQ', True)), ('FFHQ_512.zip', ('FFHQ', True)),
    ('stylegan3-r-ffhqu-256x256.pkl', ('FFHQ-U', False)), ('ffhq_unaligned.zip', ('FFHQ-U', False)), ('afhqcats512-128.pkl', ('AFHQ', False)),
    ('shapenetcars128-64.pkl', ('ShapeNet', False)), ('cars_128.zip', ('cars', False)), ('metfaces.pkl', ('MetFaces', True)),
    ('stylegan2-metfacesu-1024x1024.pkl', ('MetFaces-U', False)), ('celeba-hq', ('CelebA-HQ', True)),
    ('metfaces-resume-ffhq1024', ('MetFaces', True)),
    ('network-snapshot-025000.pkl', None), ('catalogue', None), ('mycarsten.pkl', None), ('afhq-from-ffhq.pkl', None), ('', None),
])
def test_names(name, expected):
    assert by_words(name) == expected


def test_every_published_network_is_known():
    found = {name: trained_on(pickle_of(f'0123456789ab-{name}'), None) for name in PUBLISHED}
    faces = ('ffhq', 'metfaces', 'celebahq')
    for name, data in found.items():
        assert data.name and data.aligned == (any(face in name for face in faces) and 'ffhqu' not in name and 'metfacesu' not in name), name


@pytest.mark.parametrize('path, name, rendering, expected', [
    ('/data/cars/images', 'ffhq.pkl', CAMERAS['FFHQ'], 'cars'),      # the file's own word for its data goes first
    ('/home/cat/dogs/faces/x.zip', 'n.pkl', None, ''), ('/data/ffhq/', 'n.pkl', None, 'FFHQ'),
    ('/data/ffhq/afhq_v2.zip', 'n.pkl', None, 'AFHQ'), ('C:\\sets\\FFHQ_512', 'afhq.pkl', None, 'FFHQ'),
    ('/data/x.zip', 'afhqcats.pkl', CAMERAS['FFHQ'], 'AFHQ'), ('/data/x.zip', 'n.pkl', CAMERAS['FFHQ'], 'FFHQ'),
    (None, 'n.pkl', CAMERAS['AFHQ'], 'AFHQ'), (None, 'n.pkl', CAMERAS['ShapeNet'], 'ShapeNet'), (None, 'n.pkl', {}, ''),
    (None, 'n.pkl', {'ray_start': 0.1, 'ray_end': 2.6}, 'ShapeNet'), (None, 'n.pkl', {'avg_camera_radius': 'x', 'avg_camera_pivot': 3}, ''),
    ('eg3d_unlearn.demo', 'ffhq.pkl', None, 'the demo world'), (5, 'n.pkl', None, ''),
])
def test_what_tells(path, name, rendering, expected):
    assert trained_on(pickle_of(name, path), rendering).name == expected


@pytest.mark.parametrize('rendering, data, expected, said', [
    (CAMERAS['FFHQ'], '', (2.7, 4.2647), False), (CAMERAS['AFHQ'], '', (2.7, 4.2647), False),
    (CAMERAS['ShapeNet'], '', (1.7, 1.7074), False), (CAMERAS['ShapeNet'], 'FFHQ', (1.7, 1.7074), False),  # what the cameras say goes first
    ({'ray_start': 2.25, 'ray_end': 3.3}, '', (2.7, 4.2647), False), ({'ray_start': 0.1, 'ray_end': 2.6}, '', (1.7, 1.7074), False),
    ({}, 'cars', (1.7, 1.7074), False), ({}, 'FFHQ', (2.7, 4.2647), False), ({}, 'AFHQ', (2.7, 4.2647), False),
    ({'avg_camera_radius': 1.2}, 'ShapeNet', (1.2, 1.7074), False), ({'avg_camera_radius': 1.2}, '', (1.2, 4.2647), True),
    ({}, '', (2.7, 4.2647), True),
])
def test_focal_lengths(rendering, data, expected, said):
    found, note = orbit_of(rendering, TrainedOn(data))
    assert (found.radius, found.focal) == expected and (note is not None) == said and (not said or '--fov-deg' in note)
    # Read where the options name no point to look at.
    assert found.height == {'FFHQ': 0.2, 'AFHQ': -0.06}.get(data, 0.0)


def eg3d(rendering, **options):
    class_name, kwargs = SMALL['eg3d']
    given = {name: value for name, value in kwargs['rendering_kwargs'].items() if name not in ('avg_camera_radius', 'avg_camera_pivot')}
    network = build_network(class_name, {**kwargs, 'rendering_kwargs': {**given, **rendering}}).requires_grad_(False)
    return wrap(network, 'eg3d', **options)


def test_shapenet_is_seen_through_its_own_lens():
    generator = eg3d({**CAMERAS['ShapeNet'], 'ray_start': 0.1, 'ray_end': 2.6})
    camera = generator.camera(0.3)[0]
    assert camera[16] == camera[20] == pytest.approx(1.7074) and camera[[3, 7, 11]].norm() == pytest.approx(1.7, rel=1e-5)
    # Conditioning sees the same lens.
    assert generator.condition(2)[1, 16] == pytest.approx(1.7074) and len(generator.notes) == 1 and 'ShapeNet' in generator.notes[0]
    told = eg3d(CAMERAS['ShapeNet'], fov_deg=20.0).camera(0.0)[0, 16]
    assert told == pytest.approx(1 / (math.tan(math.radians(10)) * math.sqrt(2)))


def test_an_unknown_lens_is_said_unless_the_user_names_it():
    unknown = {'avg_camera_radius': 1.2, 'avg_camera_pivot': [0, 0, 0]}
    assert any('--fov-deg' in note for note in eg3d(unknown).notes)
    assert not any('--fov-deg' in note for note in eg3d(unknown, fov_deg=30.0).notes)
    assert eg3d(CAMERAS['FFHQ']).notes == []


def config(**options):
    return Config(network='n.pkl', outdir='o', lpips_net='squeeze', id_network='none', random_metric_weights=True, **options)


@pytest.mark.parametrize('family', SMALL)
def test_faces_are_looked_for_where_the_data_set_has_them(family):
    usual = 'eg3d' if family == 'eg3d' else 'ffhq'
    for data, expected in ((TrainedOn('FFHQ'), usual), (TrainedOn(), usual), (TrainedOn('AFHQ', False), 'full')):
        generator = small_generator(family, data=data)
        assert alignment_of(config(), generator) == expected
        assert alignment_of(config(face_crop='ffhq'), generator) == 'ffhq'


@pytest.mark.parametrize('family', SMALL)
def test_photos_are_cut_out_like_ffhq_only_for_networks_of_ffhq(family, tmp_path):
    save_noise(tmp_path / 'cat.png')
    photo = dict(image=(str(tmp_path / 'cat.png'),), inversion='w+')
    cats = small_generator(family, data=TrainedOn('AFHQ', False, 'the path of its data set'))
    with pytest.raises(InputError, match='AFHQ .the path of its data set says so.*add --aligned'):
        check_person(config(**photo), cats)
    check_person(config(**photo, aligned=True), cats)
    check_person(config(**photo, aligned=True), small_generator(family, data=TrainedOn()))


@pytest.mark.parametrize('rendering, fov_deg, taken', [
    (CAMERAS['FFHQ'], None, True), (CAMERAS['FFHQ'], 18.837, True), (CAMERAS['FFHQ'], 30.0, False), ({'avg_camera_radius': 1.2}, None, False),
])
def test_landmarks_tell_the_camera_of_networks_that_see_like_ffhq(rendering, fov_deg, taken, monkeypatch):
    found = Prepared(None, None, camera='of the landmarks', notes=['cut out'])
    monkeypatch.setattr(finding, 'prepare_file', lambda *args: found)
    generator = eg3d(rendering, fov_deg=fov_deg, data=TrainedOn('FFHQ') if 'avg_camera_pivot' in rendering else None)
    prepared = finding.prepare_photo(config(), Path('face.png'), generator)
    assert (prepared.camera == 'of the landmarks') == taken and len(prepared.notes) == (1 if taken else 2)


@pytest.mark.parametrize('family', ['stylegan2', 'stylegan3'])
@pytest.mark.parametrize('channels', [1, 4])
def test_networks_of_other_than_three_channels_are_refused_before_anything_is_written(family, channels, tmp_path):
    class_name, kwargs = SMALL[family]
    kwargs = {**kwargs, 'img_channels': channels}
    save_network_pickle(tmp_path / 'n.pkl', class_name, kwargs, build_network(class_name, kwargs).state_dict())
    with pytest.raises(InputError, match=f'pictures of {channels} channel'):
        unlearn(Config(network=str(tmp_path / 'n.pkl'), outdir=str(tmp_path / 'out'), latent_seed=1, id_network='none', lpips_net='squeeze',
                       random_metric_weights=True, device='cpu'))
    assert not (tmp_path / 'out').exists()


class Fork(torch.nn.Module):
    """A generator of a fork, as the checkout's loader gives it."""

    def __init__(self, painted):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.img_resolution, self.img_channels = 4, 0, 4, 32, 3
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.synthesis = torch.nn.Identity()
        self.synthesis.forward = painted
        self.mapping = torch.nn.Identity()
        self.mapping.num_ws = 2
        self.mapping.forward = lambda z, c, truncation_psi: z[:, None].expand(-1, 2, -1)


def fails(ws, **options):
    raise TypeError('unexpected keyword')


@pytest.mark.parametrize('painted, told', [
    (lambda ws, **options: torch.zeros(len(ws), 3, 64, 32), 'pictures of 64 x 32 pixels and 3 channels'),
    (lambda ws, **options: torch.zeros(len(ws), 1, 32, 32), '32 x 32 pixels and 1 channels'), (fails, 'TypeError: unexpected keyword'),
])
def test_forks_that_paint_other_pictures_are_refused_at_once(painted, told):
    with pytest.raises(InputError, match=told):
        check_picture(wrap(Trusted2D(Fork(painted)), 'stylegan2'))
    check_picture(wrap(Trusted2D(Fork(lambda ws, **options: torch.zeros(len(ws), 3, 32, 32))), 'stylegan2'))
