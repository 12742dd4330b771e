"""Encoders: held against the published networks' outputs, their parts by hand, and files and generators that do not fit.

``GOLDEN_DIR`` names the folder with the reference outputs (default: shared/golden beside the repository); every
``goae-encoder*`` and ``e4e-encoder*`` in it is taken.  ``-s`` prints the measured errors.
"""
from __future__ import annotations

import json
import math
import re
import sys
import zlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from eg3d_unlearn.generators.build import build_network, wrap
from eg3d_unlearn.person.inversion import PUBLISHED, make_inverter, swin_v2
from eg3d_unlearn.person.inversion import e4e as e4e_module
from eg3d_unlearn.person.inversion import goae as goae_module
from eg3d_unlearn.person.inversion.e4e import E4E, E4EEncoder
from eg3d_unlearn.person.inversion.goae import GOAE, GOAEEncoder
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError

sys.path.insert(0, str(Path(__file__).resolve().parent))
import golden_reference as reference  # noqa: E402  the folder is no package
from small import PoorMansLpips, small_generator  # noqa: E402

# crc32 of the published names and shapes, in order.
KEYS = {'goae': 1088432775, 'e4e': 2592660604}
ENCODERS = {'goae': GOAEEncoder, 'e4e': E4EEncoder}
NAME = re.compile(r'(goae|e4e)-encoder(?:-(\d+))?')


def golden_names() -> list:
    """One test for each encoder in the golden folder, or one skipped test that says why there are none."""
    folder = reference.golden_dir()
    found = [path.stem for path in sorted(folder.glob('*-encoder*.json')) if NAME.fullmatch(path.stem)]
    why = f'{folder} does not exist or holds no encoder; set GOLDEN_DIR to the folder with the golden outputs'
    return found or [pytest.param('none', marks=pytest.mark.skip(reason=why))]


def build(name: str) -> nn.Module:
    """The encoder that a golden file's name speaks of, such as e4e-encoder-1024."""
    kind, resolution = NAME.fullmatch(name).groups()
    pixels = int(resolution or 1024)
    return ENCODERS[kind]() if kind == 'goae' else ENCODERS[kind](2 * pixels.bit_length() - 4)


@pytest.mark.parametrize('name', golden_names())
def test_golden_names_and_shapes(name):
    with torch.device('meta'):
        network = build(name)
    assert reference.state_dict_list(network) == reference.load_golden(reference.golden_dir(), name).meta['state_dict']


@pytest.mark.slow
@pytest.mark.parametrize('name', golden_names())
def test_golden_encoder(name, monkeypatch):
    for layer in (nn.Linear, nn.modules.conv._ConvNd):  # initial values would take a minute and be overwritten
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
    golden, network = reference.load_golden(reference.golden_dir(), name), build(name)
    reference.set_weights(network, reference.recogniser_value, reference.CONSTRUCTED_RECOGNISER, {})
    with torch.no_grad():
        out = network(reference.described_pattern(golden.meta['input']))
    ours = dict(zip(('ws', 'ws_base'), out if isinstance(out, tuple) else (out,), strict=False))
    assert set(golden.arrays) <= set(ours)
    rows = [reference.compare(key, ours[key], golden.tensor(key), golden.tolerance) for key in golden.arrays]
    table = reference.table(name, rows)
    print('\n' + table)
    assert rows and all(row.ok for row in rows), '\n' + table


@pytest.mark.parametrize('kind', KEYS)
def test_names_and_shapes_are_the_published_ones(kind):
    with torch.device('meta'):
        network = ENCODERS[kind]()
    assert zlib.crc32(json.dumps(reference.state_dict_list(network)).encode()) == KEYS[kind]


# ---- Swin V2

def test_log_offsets_by_hand():
    table = swin_v2.log_offsets(window=3, pretrained=2)[0]  # one token away is the whole pre-training window: 8 eighths
    along = [-torch.tensor(17.0).log2().item() / 3, -torch.tensor(9.0).log2().item() / 3, 0.0]
    along += [-value for value in along[1::-1]]
    assert table.shape == (5, 5, 2)
    assert torch.allclose(table[:, 2, 0], torch.tensor(along)) and torch.allclose(table[2, :, 1], torch.tensor(along))
    assert not table[:, 2, 1].any() and not table[2, :, 0].any()


def test_offset_index_names_the_offset_of_every_pair():
    window = 3
    index, offsets = swin_v2.offset_index(window), torch.cartesian_prod(torch.arange(-2, 3), torch.arange(-2, 3))
    for a in range(window ** 2):
        for b in range(window ** 2):
            assert offsets[index[a, b]].tolist() == [a // window - b // window, a % window - b % window]


@pytest.mark.parametrize('shift, token, rows', [(0, 5, range(4, 8)), (2, 5, range(2, 6)), (2, 7, range(6, 8)), (2, 0, range(2))])
def test_a_token_sees_its_window_and_nothing_else(shift, token, rows):
    torch.manual_seed(0)
    block = swin_v2.Block(8, grid=8, heads=2, window=4, shift=shift, pretrained=4)
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    block(x)[0, token, token].square().sum().backward()
    seen = x.grad[0].abs().amax(-1) > 1e-12
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[rows.start:rows.stop, rows.start:rows.stop] = True
    assert torch.equal(seen, expected)


def test_a_picture_of_one_window_is_not_shifted():
    block = swin_v2.Block(8, grid=4, heads=2, window=16, shift=8, pretrained=4)
    assert (block.attn.window, block.attn.shift, block.attn_mask) == (4, 0, None)
    assert 'attn_mask' not in block.state_dict()


def test_attention_is_by_direction_not_length():
    torch.manual_seed(0)
    attention = swin_v2.WindowAttention(8, window=2, shift=0, heads=2, pretrained=2)
    x = torch.randn(3, 2, 2, 8)
    expected = attention(x)
    with torch.no_grad():
        attention.qkv.weight[:8] *= 7  # queries seven times as long
        assert torch.allclose(attention(x), expected, atol=1e-6)
        attention.logit_scale.fill_(50.0)
        sharp = attention(x)
        attention.logit_scale.fill_(math.log(100))   # section 3.3: the temperature never falls below 0.01
        assert torch.allclose(attention(x), sharp) and not torch.allclose(sharp, expected, atol=1e-3)


def test_merging_takes_the_four_by_columns():
    merge = swin_v2.PatchMerging(1)
    with torch.no_grad():
        merge.reduction.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]))
    merge.norm = nn.Identity()
    x = torch.arange(16.0).reshape(1, 4, 4, 1)
    assert torch.equal(merge(x)[0, 0, 0], torch.tensor([0.0, 4.0])) and torch.equal(merge(x)[0, 1, 0], torch.tensor([8.0, 12.0]))


# ---- The networks, small

def tiny_goae() -> GOAEEncoder:
    return GOAEEncoder(image_size=64, channels=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4), window=4, pretrained_windows=(3, 3, 3, 3))


SMALL = dict(image_size=32, blocks=(1, 1, 1, 1))


def tiny_e4e() -> E4EEncoder:
    """Four latents from pictures of 32 pixels; without values."""
    with torch.device('meta'):
        network = E4EEncoder(4, **SMALL)
    return network.to_empty(device='cpu')


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in ** 0.5)
    return network


def pictures(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_goae_refines_all_but_the_first_latent():
    network = randomised(tiny_goae())
    ws, base = network(pictures())
    assert ws.shape == base.shape == (2, 14, 512) and not ws.requires_grad
    assert torch.equal(base, base[:, :1].expand(-1, 14, -1)) and torch.equal(ws[:, 0], base[:, 0])
    assert ((ws - base)[:, 1:].abs().amax(-1) > 1e-3).all()
    assert torch.allclose(network(pictures()[1:])[0], ws[1:], atol=1e-4)  # each picture by itself


@pytest.fixture(scope='module')
def trained():
    return randomised(tiny_e4e())


def test_e4e_adds_the_first_latent_to_the_others(trained):
    images = pictures(2, 32)
    coarse, _, _ = trained.maps(images)
    read = torch.stack([style(coarse) for style in trained.styles[:3]], dim=1)      # before the first is added
    ws = trained(images)
    assert ws.shape == (2, 4, 512)
    assert torch.allclose(ws[:, 0], read[:, 0]) and torch.allclose(ws[:, 1:3], read[:, 1:] + read[:, :1], atol=1e-6)


def test_latents_are_read_from_coarse_middle_and_fine_maps():
    with torch.device('meta'):
        network, images = E4EEncoder(10), torch.empty(2, 3, 256, 256)
        maps, ws = network.maps(images), network(images)
    assert [tuple(x.shape) for x in maps] == [(2, 512, 16, 16), (2, 512, 32, 32), (2, 512, 64, 64)]
    assert [len(style.convs) // 2 for style in network.styles] == [4, 4, 4, 5, 5, 5, 5, 6, 6, 6]
    assert ws.shape == (2, 10, 512)


# ---- Files and generators

@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def stylegan2():
    """A StyleGAN2 of 8 pixels: four latents."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network('training.networks.Generator', dict(
            z_dim=16, c_dim=0, w_dim=512, img_resolution=8, img_channels=3, mapping_kwargs={'num_layers': 2},
            synthesis_kwargs=dict(channel_base=64, channel_max=8)))
    return wrap(network.requires_grad_(False), 'stylegan2')


@pytest.fixture
def small_networks(monkeypatch):
    monkeypatch.setattr(e4e_module, 'INPUT_SIZE', 32)
    monkeypatch.setattr(e4e_module, 'E4EEncoder', partial(E4EEncoder, **SMALL))


def checkpoint(path: Path, network: nn.Module, changes=lambda content: None, **entries) -> Path:
    """A file of the published form."""
    content = {'state_dict': {f'encoder.{name}': value for name, value in network.state_dict().items()},
               'latent_avg': torch.full([512], 0.5), 'opts': {'encoder_type': 'Encoder4Editing', 'start_from_latent_avg': True}}
    content.update(entries)
    changes(content)
    torch.save({name: value for name, value in content.items() if value is not None}, path)
    return path


def test_inverters_by_name():
    assert set(PUBLISHED) == set(ENCODERS)
    assert all(PUBLISHED[name].name == name for name in PUBLISHED)


def test_e4e_from_a_file(tmp_path, stylegan2, trained, small_networks):
    path = checkpoint(tmp_path / 'e4e.pt', trained)
    images, counted = pictures(5, 8), []
    found = make_inverter('e4e', path)(stylegan2, images, None, PoorMansLpips(), lambda done, figures: counted.append(done))
    assert torch.allclose(found.ws, trained(e4e_module.resample(images, 32)) + 0.5, atol=1e-5)
    assert found.lpips.shape == found.psnr.shape == (5,) and counted == [5]
    assert found.notes == {'weights': 'e4e.pt', 'sha256': sha256_of(path), 'published': False,
                           'mean_latent': 'latent_avg of the weights file', 'trained_with_this_generator': None}
    assert torch.equal(make_inverter('e4e', path).encode(stylegan2, images)[0], found.ws)


def test_mean_latents(tmp_path, stylegan2, trained, small_networks):
    def inverted(name, mean=None, **entries):
        path = checkpoint(tmp_path / f'{name}.pt', trained, **entries)
        ws, notes = E4E(path, mean=mean).encode(stylegan2, pictures(1, 8))
        return ws - trained(e4e_module.resample(pictures(1, 8), 32)), notes['mean_latent']

    def close(a, b):
        return torch.allclose(a, b, atol=1e-5)

    layers = torch.arange(4.0)[:, None].expand(4, 512)
    added, source = inverted('layers', latent_avg=layers[None].clone())
    assert close(added[0], layers) and source == 'latent_avg of the weights file'
    added, source = inverted('absent', latent_avg=None)
    assert close(added[0], stylegan2.w_avg) and source.startswith("the generator's: ")
    added, source = inverted('off', latent_avg=None, opts={'start_from_latent_avg': False})
    assert not added.round(decimals=4).any() and source.startswith('none: ')
    torch.save(layers.clone(), tmp_path / 'mean.pt')
    added, source = inverted('other', mean=tmp_path / 'mean.pt')
    assert close(added[0], layers) and source == 'mean.pt (--encoder-mean)'
    with pytest.raises(InputError, match=r'latent_avg of .*has shape \[18, 512\], but this network takes .*\[4, 512\]'):
        inverted('many', latent_avg=torch.zeros(18, 512))
    with pytest.raises(InputError, match='--encoder-mean=/nowhere/mean.pt is not a file'):
        E4E(tmp_path / 'layers.pt', mean='/nowhere/mean.pt')


@pytest.mark.parametrize('own', [True, False])
def test_the_decoder_tells_whose_encoder_it_is(tmp_path, stylegan2, trained, small_networks, own):
    mapping = stylegan2.network.mapping.fc0.weight
    theirs = mapping.clone() if own else torch.randn(mapping.shape, generator=torch.Generator().manual_seed(3))

    def with_decoder(content):
        content['state_dict']['decoder.style.1.weight'] = theirs
    _, notes = E4E(checkpoint(tmp_path / 'e4e.pt', trained, with_decoder)).encode(stylegan2, pictures(1, 8))
    assert notes['trained_with_this_generator'] is own
    assert ('warning' in notes) is not own


def spoil(content):
    state = content['state_dict']
    del state['encoder.latlayer1.bias']
    state['encoder.styles.0.linear.weight'] = torch.zeros(3, 512)
    state['encoder.extra'] = state['stray'] = torch.zeros(1)


@pytest.mark.parametrize('entries, sentence', [
    (dict(changes=spoil), 'does not fit E4EEncoder: missing: latlayer1.bias; unexpected: extra, stray; wrong shape: '
                          r'styles.0.linear.weight \[3, 512\] instead of \[512, 512\]\.'),
    (dict(opts={'encoder_type': 'GradualStyleEncoder'}), 'another encoder than e4e: its opts say encoder_type GradualStyleEncoder, '
                                                         'expected Encoder4Editing'),
    (dict(state_dict=None), 'holds a dict with the entries latent_avg, opts; expected the checkpoint of an e4e'),
    (dict(state_dict={}), 'does not fit E4EEncoder: missing: input_layer.0.weight, '),
    (dict(latent_avg=torch.full([512], float('nan'))), 'latent_avg of .* holds NaN or infinite'),
])
def test_files_that_do_not_fit(tmp_path, stylegan2, trained, small_networks, entries, sentence):
    path = checkpoint(tmp_path / 'e4e.pt', trained, **entries)
    with pytest.raises(InputError, match=sentence):
        make_inverter('e4e', path).encode(stylegan2, pictures(1, 8))


def test_an_encoder_of_another_size_is_named(tmp_path, stylegan2, small_networks):
    with torch.device('meta'):
        names = [f'encoder.{name}' for name in E4EEncoder(18).state_dict()]
    torch.save({'state_dict': {name: torch.zeros(0) for name in names}}, tmp_path / 'e4e.pt')
    with pytest.raises(InputError, match='makes 18 latents, for a StyleGAN2 of 1024 pixels; this network has 4'):
        E4E(tmp_path / 'e4e.pt').encode(stylegan2, pictures(1, 8))


@pytest.mark.parametrize('name, family, sentence', [
    ('goae', 'eg3d', r'is for the EG3D network of FFHQ \(512 pixels, 14 latents of 512 numbers\); this network is eg3d with 128 pixels'),
    ('goae', 'stylegan2', 'this network is stylegan2 with 32 pixels and 8 latents of 24 numbers. Use --inversion=w'),
    ('e4e', 'stylegan2', 'is for StyleGAN2 networks with latents of 512 numbers'),
    ('e4e', 'eg3d', 'is for StyleGAN2 networks with latents of 512 numbers .*; this network is eg3d'),
])
def test_a_generator_of_another_kind_is_refused_before_the_file_is_read(tmp_path, name, family, sentence):
    (tmp_path / 'w.pt').write_bytes(b'not looked at')
    generator = small_generator(family)
    with pytest.raises(InputError, match=sentence):
        make_inverter(name, tmp_path / 'w.pt')(generator, pictures(1), None, PoorMansLpips())


@pytest.mark.parametrize('name, filename', [('goae', 'encoder_FFHQ.pt'), ('e4e', 'e4e_ffhq_encode.pt')])
def test_missing_weights_say_what_to_fetch(name, filename):
    with pytest.raises(InputError, match=f'Fetch {filename} from https://drive.google.com/.*--encoder=PATH'):
        make_inverter(name)


def test_a_cached_file_must_be_the_published_one(tmp_path):
    (tmp_path / 'cache').mkdir()
    (tmp_path / 'cache' / 'e4e_ffhq_encode.pt').write_bytes(b'half of it')
    with pytest.raises(InputError, match='has 10 bytes, expected 1,201,649,680'):
        make_inverter('e4e')


def test_a_pickle_that_acts_is_refused(tmp_path, stylegan2, capsys):
    class Payload:
        def __reduce__(self):
            return print, ('this must not run',)
    torch.save({'state_dict': {}, 'opts': Payload()}, tmp_path / 'e4e.pt')
    with pytest.raises(InputError, match='nothing in it was run.*Expected a checkpoint of an e4e training'):
        make_inverter('e4e', tmp_path / 'e4e.pt').encode(stylegan2, pictures(1, 8))
    assert capsys.readouterr().out == ''


# ---- GOAE behind the interface

def ffhq512():
    """What GOAE asks of a generator, without one of its size."""
    def synthesize(ws, camera=None):
        return SimpleNamespace(image=ws[:, :3, 0].reshape(-1, 3, 1, 1).expand(-1, 3, 16, 16))
    return SimpleNamespace(family='eg3d', img_resolution=512, num_ws=14, w_dim=512, device=torch.device('cpu'), synthesize=synthesize,
                           w_avg=torch.full([14, 512], 2.0), w_avg_source='backbone.mapping.w_avg')


def test_goae_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(goae_module, 'INPUT_SIZE', 64)
    monkeypatch.setattr(GOAE, 'architecture', lambda self, generator: tiny_goae())
    network, images = randomised(tiny_goae()), pictures(2, 16)
    torch.save(network.state_dict(), tmp_path / 'goae.pt')
    found = make_inverter('goae', tmp_path / 'goae.pt')(ffhq512(), images, None, PoorMansLpips())
    shown = nn.functional.interpolate(images, size=(64, 64), mode='bicubic', antialias=True).clamp(-1, 1)
    assert torch.allclose(found.ws, network(shown)[0] + 2, atol=1e-5)
    assert found.notes == {'weights': 'goae.pt', 'sha256': sha256_of(tmp_path / 'goae.pt'), 'published': None,
                           'mean_latent': "the generator's: backbone.mapping.w_avg"}
    damaged = {**network.state_dict(), 'mapper_base_spatial.0.bias': torch.full([4], float('nan'))}
    torch.save(damaged, tmp_path / 'goae.pt')
    with pytest.raises(InputError, match='NaN or infinite: mapper_base_spatial.0.bias'):
        make_inverter('goae', tmp_path / 'goae.pt').encode(ffhq512(), images)


def test_goae_sees_what_pillow_shrinks():
    import numpy as np
    import PIL.Image
    # Greys: Pillow would clip what overshoots before the second direction, too.
    pixels = np.random.RandomState(0).randint(80, 176, [32, 32, 3], dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    pillow = torch.from_numpy(np.array(PIL.Image.fromarray(pixels).resize((256, 256)))).permute(2, 0, 1)[None].float() / 127.5 - 1
    difference = (GOAE.see(None, image) - pillow).abs().max().item()
    assert difference < 1.5 / 127.5  # grey levels; Pillow rounds twice
