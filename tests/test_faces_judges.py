"""Judges of the world of real faces: foreign files become the same networks, each sees the crop it knows; with the packages, dlib's answers."""
import math
import pickle
import struct

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from eg3d_unlearn.judges.identity.crop import face_points
from eg3d_unlearn.judges.identity.facenet import FaceNet
from eg3d_unlearn.judges.perceptual import NETS, Lpips
from eg3d_unlearn.judges.resample import FULL, resample
from eg3d_unlearn.judges.verification import pairs_of, threshold_at
from eg3d_unlearn.worlds.faces import judges, recognisers, verify
from eg3d_unlearn.worlds.faces.formats import Layer, dlib_layers, tflite_layers
from eg3d_unlearn.worlds.faces.perceptual import VggFeatures, trunk_state
from eg3d_unlearn.worlds.faces.recognisers import DLIB_POINTS, DlibNetwork, dlib_box, dlib_state, facenet_state, padded, recogniser_of
from eg3d_unlearn.worlds.faces.verify import Verification
from torch_utils_ext.errors import InputError

STAGES = ((4, 1), (6, 2))
RNG = torch.Generator().manual_seed(0)


def numbers(*shape):
    return torch.randn(shape, generator=RNG)


# dlib's files


def dlib_integer(value):
    content = value.to_bytes(2, 'little').rstrip(b'\0')
    return bytes([len(content)]) + content


def dlib_tensor(*parts):
    flat = torch.cat([part.flatten() for part in parts]).numpy().astype('<f4')
    return b'\x01\x02' + b''.join(map(dlib_integer, (len(flat), 1, 1, 1))) + flat.tobytes()


def dlib_file(network):
    """As dlib writes `DlibNetwork`, but without what nobody reads; each convolution comes apart into itself and an 'affine_' layer."""
    content = b'\x01\x0dloss_metric_2'
    for convolution in network.convolutions:
        scale, shift = numbers(len(convolution.weight)) + 2, numbers(len(convolution.weight))
        weight, bias = convolution.weight / scale.view(-1, 1, 1, 1), (convolution.bias - shift) / scale
        content += b'\x01\x05con_4' + dlib_tensor(weight, bias) + b''.join(map(dlib_integer, weight.shape[:1] + weight.shape[2:])) + b'\x01\x01'
        content += b'\x01\x07affine_' + dlib_tensor(scale, shift) + b'\x01\x00'
    head = network.head.weight
    return content + b'\x01\x04fc_2' + b''.join(map(dlib_integer, head.shape)) + dlib_tensor(head.T)


@pytest.fixture
def small_dlib(monkeypatch):
    monkeypatch.setitem(recognisers.RECOGNISERS, 'dlib', (lambda: DlibNetwork(STAGES, 5), 150, dlib_box))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return DlibNetwork(STAGES, 5).eval().requires_grad_(False)


def test_a_file_of_dlib_gives_the_network_that_was_written(small_dlib):
    with torch.no_grad():
        read = recogniser_of('dlib', dlib_state(dlib_file(small_dlib), 'it'))
        faces = numbers(2, 3, 150, 150).clamp(-1, 1)
        torch.testing.assert_close(read.network(faces), small_dlib(faces), rtol=1e-4, atol=1e-5)


def test_the_first_convolution_of_dlib_sees_what_dlib_shows_it():
    """Red 255, mean red 122.782, over 256; no padding at a stride of 2, so 72 places."""
    network = DlibNetwork(((2, 1),), 2)
    with torch.no_grad():
        first = network.convolutions[0]
        first.weight.zero_()
        first.weight[0, 0, 0, 0] = 1
        first.bias.zero_()
        seen = []
        first.register_forward_hook(lambda module, args, out: seen.append(out))
        network(torch.ones(1, 3, 150, 150))
    assert seen[0].shape == (1, 2, 72, 72)
    assert seen[0][0, 0].unique().tolist() == pytest.approx([(255 - 122.782) / 256])


@torch.no_grad()
def test_a_block_of_dlib_adds_what_it_makes_to_what_it_was_given():
    """Convolutions that make nothing: the first map, pooled, goes through; the second half of the channels is new."""
    network = DlibNetwork(((2, 1), (4, 2)), 4).requires_grad_(False)
    for convolution in network.convolutions[1:]:
        convolution.weight.zero_()
        convolution.bias.zero_()
    network.head.weight.copy_(torch.eye(4))
    network.convolutions[4].bias[2:] = 1.5                       # the second convolution of the block that halves
    network.convolutions[6].bias.copy_(torch.tensor([-100.0, 0, 0, 0.5]))   # of the last block
    faces = numbers(1, 3, 150, 150).clamp(-1, 1)
    first = F.max_pool2d(network.convolutions[0](((faces + 1) * 127.5 - network.mean) / 256).relu(), 3, 2)
    assert first.shape[2:] == (35, 35)
    wanted = F.avg_pool2d(first, 2).mean((2, 3))
    torch.testing.assert_close(network(faces), torch.stack([torch.tensor([0, wanted[0, 1], 1.5, 2.0])]))


def test_maps_of_two_sizes_are_added_as_dlib_does():
    large, small = torch.ones(1, 2, 3, 3), torch.ones(1, 4, 2, 2)
    both = padded(large, small) + padded(small, large)
    assert both.shape == (1, 4, 3, 3)
    assert both[0, 0].tolist() == [[2, 2, 1], [2, 2, 1], [1, 1, 1]] and both[0, 3].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize('content, says', [
    (b'', 'no network that dlib wrote'),
    (b'PK\x03\x04 a zip', 'no network that dlib wrote'),
    (b'\x01\x05con_4\x01\x02\x02\xff\xff\x01\x01\x01\x01\x01\x01 short', 'damaged'),
    (b'\x01\x05con_4\x01\x03\x01\x01\x01\x01\x01\x01\x01\x01', 'damaged'),
    (b'\x01\x07affine_' + dlib_tensor(torch.ones(4)), 'damaged'),
    (b'\x01\x04fc_2\x01\x03\x01\x03' + dlib_tensor(torch.ones(4)), 'damaged'),
])
def test_what_is_no_file_of_dlib_is_refused(content, says):
    with pytest.raises(InputError, match=f'^It .*{says}'):
        dlib_layers(content, 'It')


def test_dlib_is_centred_on_what_all_people_share(small_dlib):
    people = numbers(9, 3, 64, 64).clamp(-1, 1)
    state = dlib_state(dlib_file(small_dlib), 'it')
    state['centre'] = recognisers.centre_of(state, people)
    with torch.no_grad():
        vectors = recogniser_of('dlib', state).network(resample(people, 150, dlib_box('ffhq')))
    assert vectors.mean(0).abs().max() < 1e-5 < state['centre'].abs().max()


@pytest.mark.parametrize('alignment', ['ffhq', 'eg3d'])
def test_the_crop_brings_eyes_and_nose_to_where_dlib_has_them(alignment):
    box = dlib_box(alignment)
    for (x, y), wanted in zip(face_points(alignment)[:2], DLIB_POINTS, strict=False):
        found = (x - box.left) / (box.right - box.left) * 150, (y - box.top) / (box.bottom - box.top) * 150
        assert found == pytest.approx(wanted, abs=3)
    assert dlib_box('full') == FULL


# Files of TensorFlow Lite


def table(fields):
    """A table of flatbuffers that follows its own list of fields; values are bytes in line or `bytearray`, to be pointed at."""
    inline, pointed = b'', []
    offsets = [0] * (max(fields, default=-1) + 1)
    for number, value in fields.items():
        inline += b'\0' * (-(4 + len(inline)) % len(value) if isinstance(value, bytes) else -(4 + len(inline)) % 4)
        offsets[number] = 4 + len(inline)
        if isinstance(value, bytearray):
            pointed.append((len(inline), value))
            inline += b'\0' * 4
        else:
            inline += value
    head = struct.pack(f'<HH{len(offsets)}H', 4 + 2 * len(offsets), 4 + len(inline), *offsets)
    head += b'\0' * (-len(head) % 8)
    inline, tail = bytearray(inline), b''
    for place, value in pointed:
        tail += b'\0' * (-(4 + len(inline) + len(tail)) % 8)
        start, content = target(value)
        inline[place:place + 4] = struct.pack('<I', 4 + len(inline) - (4 + place) + len(tail) + start)
        tail += content
    return len(head), head + struct.pack('<i', len(head)) + bytes(inline) + tail


class Table(bytearray):
    """To be pointed at: where it begins in its bytes."""
    start = 0


def target(value):
    return (value.start, bytes(value)) if isinstance(value, Table) else (0, bytes(value))


def as_table(fields):
    start, content = table(fields)
    made = Table(content)
    made.start = start
    return made


def vector(values):
    values = np.asarray(values)
    return bytearray(struct.pack('<I', len(values)) + values.tobytes())


def tables(parts):
    made, content = bytearray(struct.pack('<I', len(parts)) + b'\0' * 4 * len(parts)), b''
    for number, part in enumerate(parts):
        content += b'\0' * (-(4 + 4 * len(parts) + len(content)) % 8)
        place = 4 + 4 * number
        made[place:place + 4] = struct.pack('<I', 4 + 4 * len(parts) + len(content) + part.start - place)
        content += bytes(part)
    return made + content


def tflite_file(layers, stored):
    """A model of convolutions (4 dimensions) and matrices; ``stored``: weight -> values, scale, zero point, number of the type."""
    buffers, tensors, operators = [as_table({})], [as_table({0: vector(np.array([1], '<i4'))})], []
    for layer in layers:
        for values in layer:
            kept, scale, zero, kind = stored(values)
            tensors.append(as_table({0: vector(np.array(values.shape, '<i4')), 1: struct.pack('<b', kind),
                                     2: struct.pack('<I', len(buffers)),
                                     4: as_table({2: vector(np.array(scale, '<f4')), 3: vector(np.array(zero, '<i8'))})}))
            buffers.append(as_table({0: vector(kept.view('u1').ravel())}))
        code = 0 if layer[0].ndim == 4 else 1
        operators.append(as_table({0: struct.pack('<I', code), 1: vector(np.array([0, len(tensors) - 2, len(tensors) - 1], '<i4'))}))
    graph = as_table({0: tables(tensors), 3: tables(operators)})
    model = as_table({1: tables([as_table({0: struct.pack('<b', 3)}), as_table({0: struct.pack('<b', 9)})]), 2: tables([graph]),
                      4: tables(buffers)})
    return struct.pack('<I', 8 + model.start) + b'TFL3' + bytes(model)


WEIGHTS = (np.arange(2 * 3 * 3 * 2, dtype=np.float32).reshape(2, 3, 3, 2) / 4, np.array([1, -2], np.float32))
MATRIX = (np.arange(6, dtype=np.float32).reshape(3, 2) / 4, np.array([0.25, 0, 3], np.float32))


@pytest.mark.parametrize('stored', [
    lambda values: (values.astype('<f4'), (), (), 0),
    lambda values: ((values * 4 + 100).astype('u1'), (0.25,), (100,), 3),
    lambda values: ((values * 4).astype('<i4'), (0.25,), (0,), 2),
], ids=['float', '8 bits', '32 bits'])
def test_a_model_of_tensorflow_lite_gives_its_layers_in_order(stored):
    first, last = tflite_layers(tflite_file([WEIGHTS, MATRIX], stored), 'it')
    np.testing.assert_array_equal(first.weight.permute(0, 2, 3, 1), WEIGHTS[0])   # [out, rows, columns, in] there
    np.testing.assert_array_equal(first.bias, WEIGHTS[1])
    np.testing.assert_array_equal(last.weight, MATRIX[0])
    np.testing.assert_array_equal(last.bias, MATRIX[1])


def test_what_is_no_model_of_tensorflow_lite_is_refused():
    whole = tflite_file([WEIGHTS, MATRIX], lambda values: (values.astype('<f4'), (), (), 0))
    with pytest.raises(InputError, match='^It is no model of TensorFlow Lite'):
        tflite_layers(b'\x80\x03}q\0.' * 3, 'It')
    for end in range(8, len(whole) - 1, 7):
        with pytest.raises(InputError, match='^It is damaged'):
            tflite_layers(whole[:end], 'It')
    two_scales = tflite_file([MATRIX], lambda values: (values.astype('u1'), (1, 2), (0, 0), 3))
    with pytest.raises(InputError, match='scale for each channel'):
        tflite_layers(two_scales, 'It')


def test_the_layers_of_the_8_bit_file_are_facenet(monkeypatch):
    """A FaceNet with BatchNorms and scales gives the same vectors as one that was folded, file and all."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        original = FaceNet().eval()
        for norm in (module for module in original.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)):
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
        layers = []
        for name, module in original.net.named_modules():
            if isinstance(module, nn.Conv2d):
                owner = original.net.get_submodule(name.rpartition('.')[0])
                norm = getattr(owner, 'bn', None) if name.endswith('.conv') else None
                factor = 1.0 if norm is not None else owner.scale
                weight, bias = (module.weight, module.bias) if norm is None else fuse_conv_bn_weights(
                    module.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
                layers.append(Layer(weight * factor, bias * factor))
        norm = original.net.last_bn
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        layers.append(Layer(original.net.last_linear.weight * scale[:, None], norm.bias - norm.running_mean * scale))
        monkeypatch.setattr(recognisers, 'tflite_layers', lambda content, name: layers)
        folded = recogniser_of('facenet-8-bit', facenet_state(b'', 'it'))
        faces = numbers(1, 3, 160, 160).clamp(-1, 1)
        torch.testing.assert_close(folded(faces), original(faces), rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(recognisers, 'tflite_layers', lambda content, name: layers[1:])
    with pytest.raises(InputError, match='It has 132 layers, FaceNet has 133'):
        facenet_state(b'', 'It')


# LPIPS


def flax_file(net, seed=0):
    """As the package pickles a trunk; and the tensors that it holds, under torchvision's names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wanted = {name: value * 0.1 for name, value in Lpips(net, random_weights=True).trunk.state_dict().items()}
    layers = {}
    for number, name in enumerate(name for name in wanted if name.endswith('.weight')):
        layers[f'Conv_{number}'] = {'kernel': wanted[name].permute(2, 3, 1, 0).contiguous().numpy(),
                                    'bias': wanted[name.replace('weight', 'bias')].numpy()}
    return pickle.dumps({{'alex': 'AlexNet_0', 'vgg': 'VGG16_0'}[net]: layers}, protocol=3), wanted


def test_the_trunk_of_lpips_comes_from_a_pickle_that_is_not_unpickled(tmp_path):
    content, wanted = flax_file('alex')
    found = trunk_state('alex', content, 'it')
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    torch.save(found, tmp_path / 'alexnet.pt')
    pictures = numbers(2, 3, 64, 64).clamp(-1, 1)
    assert Lpips('alex', weights=tmp_path / 'alexnet.pt')(pictures[:1], pictures[1:]) > 0


class Hostile:
    def __reduce__(self):
        return exec, ('raise SystemExit',)


@pytest.mark.parametrize('content, says', [
    (pickle.dumps({'VGG16_0': {}}), 'does not hold the trunk AlexNet_0'),
    (pickle.dumps([1, 2]), 'does not hold the trunk AlexNet_0'),
    (pickle.dumps({'AlexNet_0': {'Conv_0': Hostile()}}), 'cannot be used: it asks for builtins.exec'),
    (b'\x80\x03}q\0(', 'cannot be used: it ends in the middle'),
])
def test_another_pickle_is_refused_and_not_run(content, says):
    with pytest.raises(InputError, match=f'^It {says}'):
        trunk_state('alex', content, 'It')


def test_features_are_means_of_the_last_map_at_a_fixed_size(tmp_path):
    torch.save(flax_file('vgg')[1], tmp_path / 'vgg16.pt')
    network = VggFeatures(tmp_path / 'vgg16.pt')
    pictures = numbers(1, 3, 128, 128).clamp(-1, 1)
    with torch.no_grad():
        last = network.lpips.trunk((pictures - network.lpips.shift) / network.lpips.scale)[-1]
        torch.testing.assert_close(network.features(pictures), last.mean((2, 3)))
        assert network.features(F.interpolate(pictures, size=200)).shape == (1, 512)


# Files in the cache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path))
    content, wanted = flax_file('alex')
    monkeypatch.setattr(judges, 'SOURCES', {'alexnet': judges.SOURCES['alexnet']})
    monkeypatch.setattr(judges, 'member', lambda package, name: content)
    return wanted


def test_a_judge_is_made_once_and_checked_when_it_is_read(cache, monkeypatch):
    with pytest.raises(InputError, match='network alexnet of the world of real faces has not been made .* Run: .*faces setup'):
        judges.perceptual()
    judges.make_judges(lambda: pytest.fail('needs no people'))
    assert torch.equal(judges.perceptual().trunk.features[0].weight, cache['features.0.weight'])
    monkeypatch.setattr(judges, 'member', lambda package, name: pytest.fail('it was made'))
    judges.make_judges(lambda: None)
    path = judges.made_path('alexnet')
    path.write_bytes(path.read_bytes() + b'\0')
    with pytest.raises(InputError, match='checksum differs'):
        judges.perceptual()


def test_every_package_has_its_checksum_and_its_licence():
    assert all(len(package.sha256) == 64 and package.licence.endswith('.') and not package.what.endswith('.') for package in judges.PACKAGES)
    assert {source.package for source in judges.SOURCES.values()} == set(judges.PACKAGES)


# Photos of real people


def test_errors_of_verification_by_hand():
    """One of four pairs of a person below 0.5, one of five pairs of strangers above; a cut at 0.45 makes 1/4 and 1/5."""
    found = Verification(np.array([0.9, 0.8, 0.7, 0.4]), np.array([0.6, 0.3, 0.2, 0.1, 0.0]), 0.5)
    assert (found.false_rejects(), found.false_accepts()) == (0.25, 0.2)
    assert found.equal_error_rate() == pytest.approx(0.225)
    assert Verification(np.array([0.9]), np.array([0.1]), 0.5).equal_error_rate() == 0


@pytest.fixture
def stand_ins(monkeypatch):
    """Photos are flat pictures, and a recogniser that sees their grey as an angle; no face in white ones."""
    class Prepared:
        def __init__(self, path):
            grey = PIL.Image.open(path).getpixel((0, 0))
            if grey == 255:
                raise InputError(f'{path.name}: No face was found.')
            self.tensor = lambda resolution: torch.full((1, 3, resolution, resolution), grey / 127.5 - 1)

    class Angle:
        def embed(self, images, alignment):
            angle = (images[:, 0, 0, 0] + 1) * 127.5 / 100
            return torch.stack([angle.cos(), angle.sin()], 1)

    monkeypatch.setattr(verify, 'prepare_file', lambda path, kind: Prepared(path))
    monkeypatch.setattr(judges, 'recognisers', lambda: {'angle': Angle()})


def photos_of(folder, **greys):
    for name, values in greys.items():
        (folder / name).mkdir(parents=True)
        for number, grey in enumerate(values):
            PIL.Image.new('L', (4, 4), grey).save(folder / name / f'{number}.png')
    return folder


def test_photos_of_people_are_compared(tmp_path, stand_ins, capsys):
    people = torch.arange(0, 160, 40).view(-1, 1, 1, 1).expand(-1, 3, 8, 8) / 127.5 - 1
    found = verify.verify(photos_of(tmp_path, ann=[10, 20, 255], ben=[110]), lambda: people)['angle']
    np.testing.assert_allclose(found.same, [math.cos(0.1)], atol=1e-5)
    np.testing.assert_allclose(sorted(found.different), [math.cos(1), math.cos(0.9)], atol=1e-5)
    assert found.threshold == pytest.approx(math.cos(0.4), abs=1e-5)
    assert capsys.readouterr().out.count('Left out: ') == 1
    assert '1 pairs of one person, cosine 1.00 (1.00 at least), 0.0% rejected; 2 pairs of two people' in str(found)


@pytest.mark.parametrize('greys', [dict(ann=[10, 20]), dict(ann=[10], ben=[20]), dict()])
def test_photos_that_make_no_two_kinds_of_pairs_are_refused(tmp_path, stand_ins, greys):
    with pytest.raises(InputError, match='Expected a folder for each person, at least two of them, and two photos of one'):
        verify.verify(photos_of(tmp_path, **greys), lambda: pytest.fail('too early'))


# The packages themselves


@pytest.mark.faces
def test_dlib_gives_the_same_vectors(tmp_path):
    dlib = pytest.importorskip('dlib', reason='needs dlib itself: pip install dlib-bin')
    source = judges.SOURCES['dlib']
    (tmp_path / 'dlib.dat').write_bytes(judges.member(source.package, source.member))
    theirs = dlib.face_recognition_model_v1(str(tmp_path / 'dlib.dat'))
    network = judges.recognisers()['dlib'].network
    chips = np.random.RandomState(0).randint(0, 256, (3, 150, 150, 3)).astype(np.uint8)
    chips[1:] = np.uint8(resample(torch.from_numpy(chips[1:, :9, :9]).permute(0, 3, 1, 2).float(), 150).permute(0, 2, 3, 1))
    with torch.no_grad():
        ours = network(torch.from_numpy(chips).permute(0, 3, 1, 2) / 127.5 - 1) + network.centre
    wanted = torch.tensor(np.array([theirs.compute_face_descriptor(chip) for chip in chips]))
    torch.testing.assert_close(ours.double(), wanted.double(), rtol=0, atol=1e-4)


@pytest.mark.faces
@pytest.mark.parametrize('net, name', [('alex', 'alexnet'), ('vgg', 'vgg16')])
def test_the_package_holds_the_published_lpips(net, name):
    """Its heads are those of the package lpips, and the first weight of VGG16 is torchvision's."""
    from torch_utils_ext.tensor_file import read_pickled_arrays
    source = judges.SOURCES[name]
    arrays = read_pickled_arrays(judges.member(source.package, source.member), name)
    distance = Lpips(net, weights=judges.judge_path(name))
    for number, head in enumerate(distance.heads):
        np.testing.assert_array_equal(arrays[f'NetLinLayer_{number}']['Conv_0']['kernel'].ravel(), head)
    if net == 'vgg':
        assert float(distance.trunk.features[0].weight[0, 0, 0, 0]) == pytest.approx(-0.55373, abs=1e-5)
    assert net in NETS


@pytest.mark.faces
def test_strangers_are_far_apart_and_the_astronaut_is_herself():
    """Random people of the network at the product's rate of false accepts; the photo, mirrored and darkened, lies above."""
    import skimage.data

    from eg3d_unlearn.person.photo.prepare import prepare
    from eg3d_unlearn.worlds.faces.setup import random_people
    photo = prepare(PIL.Image.fromarray(skimage.data.astronaut()), 'ffhq')
    assert photo.square.side == pytest.approx(172, abs=3)
    person, people = photo.tensor(256), random_people(60)
    for recogniser in judges.recognisers().values():
        with torch.no_grad():
            vectors = recogniser.embed(torch.cat([person, person.flip(3), person * 0.7 - 0.2, people]), 'ffhq')
        threshold = threshold_at(pairs_of(vectors[3:] @ vectors[3:].T))
        assert threshold < 0.75 and (vectors[0] @ vectors[1:3].T).min() > threshold > (vectors[0] @ vectors[3:].T).max()
