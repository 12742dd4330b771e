"""What a pickle says of itself is checked before it costs anything, and what cannot be written back is said before the work."""
from __future__ import annotations

import ast
import collections
import pickle
from pathlib import Path
from types import SimpleNamespace

import pickle_stand_ins as stand_ins
import pytest
import torch
from small import SMALL, small_generator

from eg3d_unlearn import preflight, run
from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation.pictures import Pictures
from eg3d_unlearn.generators.build import build, build_network
from eg3d_unlearn.generators.checkout import SIZES as SIZES_OF_TRUSTED
from eg3d_unlearn.generators.checkout import load_trusted
from eg3d_unlearn.report.files import RunFiles
from eg3d_unlearn.report.page import page
from torch_utils_ext import network_patch, network_pickle, network_save
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import (
    check_writable,
    copies_elsewhere,
    read_network_pickle,
    save_network_pickle,
    write_unlearned_pickle,
)
from torch_utils_ext.pickle_tensors import TensorRecord
from torch_utils_ext.safe_pickle import PickleError, Window

ROOT = Path(__file__).parent.parent
NAN, INF = float('nan'), float('inf')
FAMILIES = list(SMALL)
CODES = '\x1b[2J\x1b]0;pwned\x07\nError: a false line'


@pytest.fixture(scope='module')
def states():
    return {family: small_generator(family).network.state_dict() for family in FAMILIES}


def assert_one_sentence(error: BaseException) -> None:
    message = str(error)
    assert message.isprintable() and len(message) < 900


def file_of(path: Path, family: str, states: dict, attributes: dict | None = None, tensors: dict | None = None, **kwargs) -> Path:
    usual = {'neural_rendering_resolution': 16} if family == 'eg3d' else {}
    save_network_pickle(path, SMALL[family][0], {**SMALL[family][1], **kwargs}, {**states[family], **(tensors or {})},
                        {**usual, **(attributes or {})})
    return path


def nested(family: str, name: str, value: object) -> dict:
    """``name`` as 'group.argument' or 'argument'."""
    group, _, argument = name.rpartition('.')
    return {group: {**SMALL[family][1].get(group, {}), argument: value}} if group else {argument: value}


SIZES = [(name, value) for name in ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels')
         for value in ('abc', None, -1, 1.5, [1], {'a': 1}, NAN, INF, True, 2**40, 2**200)]
MAPPING = [(f'mapping_kwargs.{name}', value) for name, value in (
    ('num_layers', 2**20), ('num_layers', 0), ('num_layers', 'x'), ('activation', 'nope'), ('activation', []), ('lr_multiplier', 0),
    ('lr_multiplier', NAN), ('w_avg_beta', 2), ('embed_features', 2**40), ('layer_features', -1))]
SYNTHESIS = [('channel_base', 2**40), ('channel_base', 0), ('channel_base', 8), ('channel_max', 2**30), ('channel_max', None),
             ('num_fp16_res', -1), ('num_fp16_res', 10**6), ('conv_clamp', 'x'), ('conv_clamp', -1), ('conv_clamp', NAN), ('architecture', []),
             ('resample_filter', [1] * 1000), ('resample_filter', 'abc'), ('resample_filter', [[1, 2], [3]]), ('resample_filter', []),
             ('resample_filter', [NAN]), ('resample_filter', [1, -1]),
             ('activation', 7), ('kernel_size', 10**6), ('kernel_size', 2), ('use_noise', 'x'),
             ('fp16_channels_last', 'x')]
RENDERING = [(f'rendering_kwargs.{name}', value) for name, value in (
    ('depth_resolution', 10**9), ('depth_resolution', -1), ('depth_resolution', 'a'), ('depth_resolution_importance', -1), ('ray_start', 'x'),
    ('ray_start', NAN), ('box_warp', 0), ('box_warp', None), ('clamp_mode', []), ('clamp_mode', CODES), ('superresolution_module', []),
    ('superresolution_module', CODES), ('avg_camera_pivot', 5), ('avg_camera_pivot', [1]), ('avg_camera_radius', 'x'), ('decoder_lr_mul', 'x'),
    ('sr_antialias', 'x'), ('c_scale', 'x'), ('superresolution_noise_mode', 'loud'))]
ALIAS_FREE = [('num_critical', 10**9), ('num_critical', 6), ('num_layers', 10**8), ('num_layers', 'x'), ('first_cutoff', 0),
              ('first_cutoff', 40), ('first_stopband', -1.0), ('last_stopband_rel', NAN), ('filter_size', 10**8), ('margin_size', 10**7),
              ('conv_kernel', 0), ('lrelu_upsampling', 1000),
              ('magnitude_ema_beta', -1), ('use_radial_filters', 'x'), ('output_scale', None), ('channel_base', 0)]
BAD = [*((family, *case) for family in FAMILIES for case in (*SIZES, *MAPPING)),
       *(('stylegan2', f'synthesis_kwargs.{name}', value) for name, value in SYNTHESIS),
       *(('eg3d', name, value) for name, value in (*SYNTHESIS, *RENDERING, ('sr_kwargs.channel_base', 2**40), ('sr_num_fp16_res', -1),
                                                   ('w_dim', 24), ('sr_kwargs.kernel_size', 4))),
       *(('stylegan3', name, value) for name, value in ALIAS_FREE)]


@pytest.mark.parametrize(('family', 'name', 'value'), BAD)
def test_arguments_that_no_network_has(family, name, value):
    """Named, with what was got and expected, and at once: on the meta device nothing is filled."""
    kwargs = {**SMALL[family][1], **nested(family, name, value)}
    with torch.device('meta'), pytest.raises(InputError) as raised:
        build_network(SMALL[family][0], kwargs)
    assert name.rpartition('.')[2] in str(raised.value) or name.startswith('channel_base')
    assert 'expected' in str(raised.value) or 'known are' in str(raised.value) or "only 'softplus'" in str(raised.value)
    assert_one_sentence(raised.value)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('change', [{7: 1}, {7: 1, 'a': 2}, {None: 1}, {CODES: 1}, {'\ud800': 1}, {'a' * 1_000_000: 1}, {'mapping_kwargs': [1]},
                                    {'mapping_kwargs': 'ab'}, {'mapping_kwargs': {CODES: 1}}, {f'a{index}': 1 for index in range(1000)}])
def test_unknown_arguments_of_any_kind(family, change):
    with pytest.raises(InputError, match='has unknown arguments|expected a dictionary') as raised:
        build_network(SMALL[family][0], {**SMALL[family][1], **change})
    assert_one_sentence(raised.value)


@pytest.mark.parametrize(('name', 'value'), [
    *(('neural_rendering_resolution', value) for value in (10**9, -1, 0, 'x', [], 1.5)),
    *(('rendering_kwargs', value) for value in ([], 5, {}, 'abc', {'depth_resolution': 10**9}, {**SMALL['eg3d'][1]['rendering_kwargs'],
                                                                                               'depth_resolution': 1024,
                                                                                               'depth_resolution_importance': 1024,
                                                                                               'ray_start': 5}))])
def test_attributes_that_no_network_has(tmp_path, states, name, value):
    path = file_of(tmp_path / 'n.pkl', 'eg3d', states, {name: value})
    with pytest.raises(InputError, match=f'{name}|rendering_kwargs') as raised:
        build(read_network_pickle(path).records['G_ema'])
    assert_one_sentence(raised.value)


@pytest.mark.parametrize(('family', 'change'), [
    ('stylegan2', {'w_dim': 2**15}), ('stylegan2', {'mapping_kwargs': {'num_layers': 64, 'layer_features': 2**16}}),
    ('stylegan2', {'synthesis_kwargs': {'channel_base': 2**20, 'channel_max': 2**14}}), ('eg3d', {'channel_base': 2**20, 'channel_max': 2**14}),
    ('stylegan3', {'channel_base': 2**20, 'channel_max': 2**14}), ('stylegan3', {'use_radial_filters': True, 'filter_size': 32})])
def test_shapes_are_compared_before_memory_is_taken(tmp_path, states, monkeypatch, family, change):
    path = file_of(tmp_path / 'n.pkl', family, states, **change)
    monkeypatch.setattr(TensorRecord, 'read', lambda *_: pytest.fail('a tensor was read'))
    monkeypatch.setattr(torch.nn.Module, 'to_empty', lambda *_, **__: pytest.fail('memory was taken'))
    with pytest.raises(InputError, match='do not fit its init_kwargs: .* in all') as raised:
        build(read_network_pickle(path).records['G_ema'])
    assert_one_sentence(raised.value)


@pytest.mark.parametrize(('values', 'message'), [
    (torch.full([24], NAN), 'mapping.w_avg of Generator in the file holds numbers that are NaN or infinite'),
    (torch.full([24], INF), 'NaN or infinite'), (torch.full([24], 1e300, dtype=torch.float64), 'NaN or infinite'),
    (torch.zeros(24, dtype=torch.int64), 'mapping.w_avg is of the type torch.int64, expected a floating-point type'),
    (torch.zeros(24, dtype=torch.bool), 'is of the type torch.bool'), (torch.zeros(25), 'has the shape \\[25\\], expected \\[24\\]')])
def test_tensors_that_no_network_has(tmp_path, states, values, message):
    path = file_of(tmp_path / 'n.pkl', 'stylegan2', states, tensors={'mapping.w_avg': values})
    with pytest.raises(InputError, match=message):
        build(read_network_pickle(path).records['G_ema'])


def test_names_of_tensors_are_shown_escaped(tmp_path, states):
    path = file_of(tmp_path / 'n.pkl', 'stylegan2', states, tensors={CODES: torch.zeros(1)})
    source = read_network_pickle(path)
    with pytest.raises(InputError, match='pwned') as raised:
        build(source.records['G_ema'])
    assert_one_sentence(raised.value)
    with pytest.raises(InputError, match='pwned') as raised:
        write_unlearned_pickle(source, tmp_path / 'out.pkl', states['stylegan2'])
    assert_one_sentence(raised.value)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_built_network_has_the_files_numbers_and_layout(tmp_path, states, family):
    """Also when the file keeps them as float16; layouts are those of a network that was built directly."""
    record = read_network_pickle(file_of(tmp_path / 'n.pkl', family, states)).records['G_ema']
    halves = {name: tensor.half() for name, tensor in states[family].items()}
    path = file_of(tmp_path / 'half.pkl', family, states, tensors=halves)
    state, rounded = build(record).state_dict(), build(read_network_pickle(path).records['G_ema']).state_dict()
    assert list(state) == list(states[family])
    for name, tensor in states[family].items():
        assert torch.equal(state[name], tensor) and state[name].stride() == tensor.stride() and rounded[name].dtype == torch.float32
        assert torch.equal(rounded[name], tensor.half().float())


# What could not be written back at the end

NAME, OTHER = 'mapping.w_avg', 'synthesis.b4.const'


def written(tmp_path: Path, change) -> tuple:
    """A pickle of a generator after ``change(net, contents)``, and its state dict."""
    net = stand_ins.generator()
    contents = stand_ins.network_contents() | {'G': net, 'G_ema': net}
    change(net, contents)
    path = tmp_path / 'n.pkl'
    path.write_bytes(stand_ins.dump(contents))
    source = read_network_pickle(path)
    return source, source.records['G_ema'].state_dict()


def tie(net, contents):
    net.register_buffer('tied', net.mapping.w_avg)


def lend(net, contents):
    contents['D'].register_buffer('borrowed', net.mapping.w_avg)


def overflow(net, contents):
    contents['G'] = stand_ins.generator()
    contents['G'].mapping.w_avg = torch.zeros(8, dtype=torch.float16)
    net.mapping.w_avg.fill_(1e6)


def counted(net, contents):
    contents['G'] = stand_ins.generator()
    contents['G'].mapping.w_avg = torch.zeros(8, dtype=torch.int64)


def broken(net, contents):
    net.mapping.w_avg[0] = NAN


def other_g(net, contents):
    contents['G'] = stand_ins.generator('stylegan3')


@pytest.mark.parametrize(('change', 'message'), [
    (tie, 'share their numbers in the file, so that one cannot change without the other'), (lend, 'in another part of the file as well'),
    (overflow, 'too large for torch.float16'), (counted, 'is torch.float32, expected torch.int64'), (broken, 'NaN or infinite'),
    (other_g, 'does not fit G of the pickle')])
def test_what_cannot_be_written_back_is_said_before_the_work(tmp_path, change, message):
    source, state = written(tmp_path, change)
    with pytest.raises(InputError, match=message):
        check_writable(source, state, {NAME})
    if change in (tie, lend):        # nothing that is trained is in the way, so nothing is
        check_writable(source, state, {OTHER})


class View:
    """A tensor that is pickled with a storage that others have too."""

    def __init__(self, storage: torch.UntypedStorage, offset: int, size: int, stride: int):
        self.place = storage, offset, (size,), (stride,)

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v3, (*self.place, False, collections.OrderedDict(), torch.float32)


@pytest.mark.parametrize(('views', 'refused'), [({'even': (0, 6, 2), 'odd': (1, 6, 2)}, False), ({'even': (0, 6, 2), 'odd': (1, 3, 3)}, True),
                                                ({'even': (0, 6, 1), 'odd': (6, 6, 1)}, False), ({'even': (0, 7, 1), 'odd': (6, 6, 1)}, True)])
def test_views_of_one_storage(tmp_path, views, refused):
    base = torch.arange(12.0)
    storage = base.untyped_storage()

    def share(net, contents):
        net._buffers |= {name: View(storage, *view) for name, view in views.items()}
    source, state = written(tmp_path, share)
    if refused:
        with pytest.raises(InputError, match='odd and even share their numbers|even and odd share their numbers'):
            check_writable(source, state, {'even'})
        return
    check_writable(source, state, {'even', 'odd'})
    write_unlearned_pickle(source, tmp_path / 'out.pkl', {**state, 'even': state['even'] + 1})
    found = read_network_pickle(tmp_path / 'out.pkl').records['G'].state_dict()
    assert torch.equal(found['even'], state['even'] + 1) and torch.equal(found['odd'], state['odd'])


def test_a_run_refuses_it_before_anything_is_loaded_or_written(tmp_path, states, monkeypatch):
    """Numbers that an unknown part of the file shares with the weights: refused before the judges, without a folder."""
    emit = network_save.Emitter.emit

    def borrow(self, value):
        if isinstance(value, dict) and 'augment_pipe' in value:
            value = {**value, 'augment_pipe': [value['G'].args[0]['state']['tensors']['synthesis.b4.const']]}
        emit(self, value)
    monkeypatch.setattr(network_save.Emitter, 'emit', borrow)
    path = file_of(tmp_path / 'n.pkl', 'stylegan2', states)
    monkeypatch.setattr(preflight, 'load_judges', lambda *_: pytest.fail('judges were loaded'))
    with pytest.raises(InputError, match='in another part of the file as well'):
        run.unlearn(Config(network=str(path), outdir=str(tmp_path / 'out'), latent_seed=1, device='cpu', random_metric_weights=True))
    assert not (tmp_path / 'out').exists()


# Other generators in the file

def test_other_generators_and_copies_are_named(tmp_path):
    net = stand_ins.generator('eg3d', seed=2)
    net.remark = torch.randn(3)
    trained = [name for name in net.state_dict() if name.startswith('backbone.synthesis')]
    weights = net.state_dict()
    path = stand_ins.write_pickle(
        tmp_path / 'n.pkl', 'eg3d', G_ema=net, G_ema2=stand_ins.generator('eg3d', seed=3),
        more=[{'snap\x1b': stand_ins.generator('stylegan2', seed=4)}],
        average={'weights': dict(stand_ins.generator('eg3d', seed=5).state_dict())},
        optimiser=[weights['backbone.synthesis.b4.const'].clone(), weights['backbone.synthesis.b4.conv1.weight'].contiguous().numpy()],
        zeros=torch.zeros(4, 4, 4))
    said = copies_elsewhere(read_network_pickle(path), trained)
    assert [line.split('.')[0] for line in said[:3] if 'another generator' in line] and len(said) == 4
    assert any('another generator under G_ema2.' in line for line in said)
    assert any('another generator under more.0.snap\\x1b.' in line for line in said)
    assert any('the weights of another generator under average.weights.' in line for line in said)
    assert '2 in all' in said[-1] and 'optimiser.0' in said[-1] and 'optimiser.1' in said[-1]
    assert all(line.isprintable() and 'remove it' in line for line in said)


@pytest.mark.parametrize('kind', ['eg3d', 'stylegan2', 'stylegan2-ada', 'stylegan3'])
def test_an_ordinary_file_holds_no_other_generator(tmp_path, kind):
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'n.pkl', kind))
    assert copies_elsewhere(source, source.records['G_ema'].tensors) == []


def test_a_network_of_our_own_holds_no_other_generator(tmp_path, states):
    source = read_network_pickle(file_of(tmp_path / 'n.pkl', 'eg3d', states))
    assert copies_elsewhere(source, source.records['G_ema'].tensors) == []


def test_notes_of_the_file_stand_on_the_page():
    """The page's list of what it does not show; `run` puts the same sentences into the log and report.json."""
    found = RunFiles({'networks': {'in': {'file': 'n.pkl', 'notes': ["The file holds no 'G'.", '<script>']}, 'out': {}}, 'config': {}})
    text = page(found, Pictures(), '')
    assert '<li><b>Note.</b> The file holds no' in text and '&lt;script&gt;' in text and '<li><b>Note.</b> <script>' not in text


def test_a_run_tells_the_notes_in_log_and_report(tmp_path, states, monkeypatch):
    path = file_of(tmp_path / 'n.pkl', 'stylegan2', states)
    config = Config(network=str(path), outdir=str(tmp_path / 'out'), latent_seed=1, device='cpu', random_metric_weights=True, report='brief')
    monkeypatch.setattr(preflight, 'copies_elsewhere', lambda *_: ['Another generator is here.'])
    names = dict.fromkeys(('perceptual', 'recogniser', 'measuring'), '-')
    monkeypatch.setattr(preflight, 'load_judges', lambda *_: SimpleNamespace(names=names))
    monkeypatch.setattr(run, 'run_in', lambda _, checked: ({'networks': {'in': {'notes': checked.notes}}, 'summary': {}}, None, None))
    monkeypatch.setattr(run, 'write_report', lambda *_, **__: None)
    monkeypatch.setattr(run, 'how_long', lambda *_: [])
    monkeypatch.setattr(run, 'summarise', lambda *_: None)
    assert run.unlearn(config)['networks']['in']['notes'][-1] == 'Another generator is here.'
    assert 'WARNING: Another generator is here.' in (tmp_path / 'out' / 'log.txt').read_text()


# Files that change while they are used

def test_a_file_that_is_cut_while_it_is_read(tmp_path, monkeypatch):
    path = stand_ins.write_pickle(tmp_path / 'n.pkl')
    size = path.stat().st_size
    with open(path, 'rb') as file:
        window = Window(file, size)
        assert window[0:2] == b'\x80\x04'
        with open(path, 'r+b') as other:
            other.truncate(100)
        with pytest.raises(PickleError, match='became shorter'):
            window[Window.PIECE : Window.PIECE + 10]
    stand_ins.write_pickle(path)

    def cut(file, size):
        with open(path, 'r+b') as other:
            other.truncate(4096)
    monkeypatch.setattr(network_pickle, 'describe_file', cut)
    with pytest.raises(InputError, match='was changed while it was in use; start again'):
        read_network_pickle(path)


@pytest.mark.parametrize('use', ['copy', 'hash', 'state'])
def test_a_file_that_is_cut_while_it_is_used(tmp_path, monkeypatch, use):
    path = stand_ins.write_pickle(tmp_path / 'n.pkl')
    source = read_network_pickle(path)
    state = source.records['G_ema'].state_dict()

    def cut(*_):
        with open(path, 'r+b') as other:
            other.truncate(4096)
    monkeypatch.setattr(network_patch, '_copy', cut)
    with pytest.raises(InputError, match='was changed while it was in use; start again'):
        if use == 'copy':
            write_unlearned_pickle(source, tmp_path / 'out.pkl', state)
        with source.open() as file:
            cut()
            file.read()
    assert [entry.name for entry in tmp_path.iterdir()] == ['n.pkl']


# Running a file's code

def test_whoever_recommends_trust_pickle_says_what_it_does():
    said = []
    for path in [*(ROOT / 'eg3d_unlearn').rglob('*.py'), *(ROOT / 'torch_utils_ext').rglob('*.py')]:
        source = path.read_text(encoding='utf-8')
        if 'trust-pickle' not in source:
            continue
        tree = ast.parse(source)
        documented = {id(node.body[0].value) for node in ast.walk(tree)
                      if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body and isinstance(node.body[0], ast.Expr)}
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and id(node) not in parts | documented):
                text = ''.join(part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))
                said += [text] if 'trust-pickle' in text and text != '--trust-pickle' and not text.startswith('NVIDIA checkout, for') else []
    assert len(said) >= 4
    assert all('code' in text.lower() for text in said), said


def test_trusted_file_with_g_ema_alone(tmp_path):
    for name in ('torch_utils/ops/bias_act.py', 'dnnlib/__init__.py'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'legacy.py').write_text(
        "import pickle\ndef load_network_pkl(f):\n    data = pickle.load(f)\n    assert data['G']\n    return data\n")
    with open(tmp_path / 'n.pkl', 'wb') as file:
        network = torch.nn.ModuleDict({'mapping': torch.nn.Identity(), 'synthesis': torch.nn.Identity()})
        for size in SIZES_OF_TRUSTED:
            setattr(network, size, 3)
        pickle.dump({'G_ema': network}, file)
    assert load_trusted(tmp_path / 'n.pkl', str(tmp_path))[1] == 'stylegan2'
