"""Recognisers and crops: faces land where a recogniser expects them, bad files are refused."""
import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from eg3d_unlearn.judges import identity
from eg3d_unlearn.judges.identity import ALIGNMENTS, NAMES, crop, identity_distance, load_identity
from eg3d_unlearn.judges.resample import FULL, Box, resample
from eg3d_unlearn.judges.weights import fetching_nothing
from torch_utils_ext.errors import InputError

POSES = Path(os.environ.get('GOLDEN_DIR', Path(__file__).parents[2] / 'shared' / 'golden')) / 'pose_reference.json'


@pytest.fixture(scope='module')
def arcface():
    return load_identity('arcface', random_weights=True)


def faces(n=2, size=112, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return resample(torch.rand(n, 3, 12, 12, generator=generator) * 2 - 1, size)


def randomise_norms(net, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.3)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.3, generator=generator)
                nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return net


# ---- The networks

@pytest.mark.filterwarnings('ignore::UserWarning')
def test_facenet_equals_the_package():
    package = pytest.importorskip('facenet_pytorch')
    from eg3d_unlearn.judges.identity.facenet import FaceNet

    torch.manual_seed(0)
    ours, theirs = FaceNet().eval(), package.InceptionResnetV1(pretrained=None).eval()
    randomise_norms(ours)
    state = {**ours.net.state_dict(), 'logits.weight': torch.zeros(8631, 512), 'logits.bias': torch.zeros(8631)}
    theirs.load_state_dict(ours.net.state_dict())
    again = FaceNet().eval()
    again.load_published(state, 'w.pt')
    x = faces(2, 160)
    with torch.no_grad():
        expected = theirs(((x + 1) * 127.5 - 127.5) / 128)  # the package: 8-bit values, minus 127.5, over 128
        assert torch.allclose(ours(x), expected, atol=1e-6)
        assert torch.allclose(again(x), expected, atol=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_embeddings_are_unit_vectors(name):
    recogniser = load_identity(name, random_weights=True)
    assert recogniser.name == name and recogniser.source is None
    with torch.no_grad():
        embeddings = recogniser.embed(faces(3, 128), 'eg3d')
    assert embeddings.shape == (3, 512) and embeddings.dtype == torch.float32
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(3), atol=1e-5)
    assert identity_distance(embeddings[:1], embeddings[1:2]) > 0.05  # untrained, yet it tells pictures apart


def test_untrained_weights_are_reproducible_and_leave_the_global_generator_alone(arcface):
    before = torch.random.get_rng_state()
    again = load_identity('arcface', random_weights=True)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(again(faces()), arcface(faces()))


def test_gradients_reach_pictures_only(arcface):
    images = faces(2, 64).requires_grad_()
    embeddings = arcface.embed(images, 'ffhq')
    identity_distance(embeddings[:1], embeddings[1:]).sum().backward()
    assert images.grad.isfinite().all() and images.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in arcface.parameters()) and not arcface.training


def test_each_picture_by_itself(arcface):
    with torch.no_grad():
        one_by_one = torch.cat([arcface(faces(3)[i:i + 1]) for i in range(3)])
        assert torch.allclose(arcface(faces(3)), one_by_one, atol=1e-5)


def test_distance_by_hand():
    a = torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0]], requires_grad=True)
    b = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]])
    values = identity_distance(a, b)
    assert values.tolist() == pytest.approx([0, 0.04, 2])
    values.sum().backward()
    assert torch.equal(a.grad, -b)


# ---- Crops

def dots(points, pixels):
    """One picture a point [5, 1, pixels, pixels]: a soft dot, so that its centre of mass tells where it lies."""
    grid = (torch.arange(pixels) + 0.5) / pixels
    squared = torch.stack([(grid - x) ** 2 + (grid[:, None] - y) ** 2 for x, y in points])
    return torch.exp(-squared / (2 * 0.02 ** 2))[:, None]


def centres(images):
    """[5, 2] x and y of the centre of mass, in pixels."""
    grid = torch.arange(images.shape[-1]) + 0.5
    mass = images[:, 0] / images.sum((1, 2, 3)).view(-1, 1, 1)
    return torch.stack([(mass.sum(1) * grid).sum(1), (mass.sum(2) * grid).sum(1)], 1)


@pytest.mark.parametrize('pixels', [64, 128, 512, 1024])
@pytest.mark.parametrize('alignment, worst', [('eg3d', 1.7), ('ffhq', 0.1)])
def test_landmarks_come_to_lie_on_the_template(arcface, alignment, worst, pixels):
    images = dots(crop.face_points(alignment), pixels)
    found = centres(resample(images, 112, arcface.box(alignment)))
    assert (found - torch.tensor(crop.ARCFACE_POINTS)).norm(dim=1).max() < worst  # pixels of 112


def test_boxes_are_those_of_the_documentation():
    assert [512 * edge for edge in crop.arcface_box('eg3d')] == pytest.approx([48.5, 3.5, 463.3, 418.3], abs=0.1)
    assert crop.arcface_box('ffhq') == pytest.approx((0.118, 0.120, 0.883, 0.885), abs=1e-3)
    published = Box(32 / 256, 35 / 256, 220 / 256, 223 / 256)  # GUIDE's crop for FFHQ
    assert max(abs(a - b) for a, b in zip(crop.arcface_box('ffhq'), published, strict=True)) < 0.025
    assert all(box('full') == FULL for box in (crop.arcface_box, crop.facenet_box))


@pytest.mark.skipif(not POSES.exists(), reason='pose_reference.json is not beside this checkout (GOLDEN_DIR)')
def test_eg3d_points_are_the_mean_of_the_reference_faces():
    reference = json.loads(POSES.read_text())['faces']
    points = torch.tensor([face['landmarks_xy'] for face in reference if abs(face['yaw_deg']) < 15])
    mean = points.mean(0)
    mirrored = mean[[1, 0, 2, 4, 3]] * torch.tensor([-1.0, 1.0]) + torch.tensor([512.0, 0.0])
    assert torch.allclose((mean + mirrored) / 2, torch.tensor(crop.EG3D_POINTS), atol=0.06)
    for face in points:
        box = crop.fit_box([(x / 512, y / 512) for x, y in face.tolist()], crop.ARCFACE_POINTS, 112)
        assert max(abs(a - b) for a, b in zip(box, crop.arcface_box('eg3d'), strict=True)) < 0.045  # 5 of 112 pixels


def test_fit_box_recovers_a_known_box():
    points = [((10 + 2 * x) / 300, (20 + 2 * y) / 300) for x, y in crop.ARCFACE_POINTS]
    box = crop.fit_box(points, crop.ARCFACE_POINTS, 112)
    assert [300 * edge for edge in box] == pytest.approx([10, 20, 234, 244])


@pytest.mark.parametrize('alignment', ['eg3d', 'ffhq'])
def test_facenet_sees_the_whole_face(alignment):
    box = crop.facenet_box(alignment)
    assert min(box) >= 0 and max(box) <= 1
    assert box.bottom - box.top > box.right - box.left
    assert all(box.left < x < box.right and box.top < y < box.bottom for x, y in crop.face_points(alignment))


def test_unknown_alignment():
    with pytest.raises(ValueError, match="alignment 'celeba'; expected 'eg3d', 'ffhq' or 'full'"):
        crop.arcface_box('celeba')
    assert ALIGNMENTS == ('eg3d', 'ffhq', 'full')


def test_cropping_does_not_alias():
    stripes = torch.ones(1, 3, 1024, 1024)
    stripes[..., 1::2] = -1
    assert resample(stripes, 112, crop.arcface_box('eg3d')).abs().max() < 0.1


# ---- Loading

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 7)

    def forward(self, x):
        return self.layer(x.mean((2, 3)))


class Wrong(Own):
    def __init__(self, fault: str):
        super().__init__()
        self.fault = fault

    def forward(self, x):
        out = self.layer(x.mean((2, 3)))
        if self.fault == 'shape':
            return out[None]
        if self.fault == 'nan':
            return out / torch.zeros_like(out) * 0
        if self.fault == 'detached':
            return out.detach()
        if self.fault == 'size':
            return self.layer(x)
        return out.round().to(torch.int64)


def script(module, path):
    torch.jit.script(module).save(str(path))
    return path


@pytest.mark.filterwarnings('ignore:.*torch.jit.script')
def test_own_torchscript_network(tmp_path):
    path = script(Own(), tmp_path / 'own.ts')
    recogniser = load_identity(path, trust=True)
    assert recogniser.name == str(path) and recogniser.source == path
    images = faces(2, 64).requires_grad_()
    embeddings = recogniser.embed(images, 'full')
    assert embeddings.shape == (2, 7) and torch.allclose(embeddings.norm(dim=1), torch.ones(2))
    embeddings[:, 0].sum().backward()
    assert images.grad.abs().sum() > 0 and not any(p.requires_grad for p in recogniser.parameters())
    assert torch.equal(recogniser.embed(images, 'full'), embeddings)  # also after the optimiser would have run


@pytest.mark.filterwarnings('ignore:.*torch.jit.script')
@pytest.mark.parametrize('fault, sentence', [
    ('shape', r'maps \[2, 3, 112, 112\] to torch.float32 \[1, 2, 7\]; expected \[N, 3, 112, 112\]'),
    ('nan', 'gives NaN, infinite or zero vectors; expected'),
    ('detached', 'passes no gradient to its pictures'),
    ('size', r'fails on pictures \[2, 3, 112, 112\] \('),
    ('int', r'to torch.int64 \[2, 7\]; expected'),
])
def test_torchscript_networks_that_do_something_else(tmp_path, fault, sentence):
    path = script(Wrong(fault), tmp_path / 'own.ts')
    with pytest.raises(InputError, match=sentence) as error:
        load_identity(path, trust=True)
    assert f'--id-network={path}' in str(error.value)


def test_files_that_are_no_torchscript(tmp_path):
    (tmp_path / 'text.ts').write_text('hello')
    torch.save(Own().state_dict(), tmp_path / 'state.pth')
    for name in ('text.ts', 'state.pth'):
        with pytest.raises(InputError, match=f'{name} is not a TorchScript file.*belongs to --id-weights'):
            load_identity(tmp_path / name)
    with pytest.raises(InputError, match='--id-network=arcfase is neither one of facenet, arcface, curric.*Did you mean arcface'):
        load_identity('arcfase')


def test_none():
    assert load_identity('none') is None


def test_missing_and_foreign_weights(tmp_path, monkeypatch):
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path))
    with fetching_nothing(), pytest.raises(InputError, match='^model_ir_se50.pth, the face recogniser ArcFace .*a run fetches it '):
        load_identity('arcface')
    path = tmp_path / 'w.pth'
    torch.save({'input_layer.0.weight': torch.zeros(64, 3, 3, 3), 'head': torch.zeros(1)}, path)
    with pytest.raises(InputError, match='does not fit ArcFaceIRSE50: missing: .* and 337 more; unexpected: head'):
        load_identity('arcface', weights=path)


def test_weights_from_a_file(tmp_path):
    from eg3d_unlearn.judges.identity.arcface import ArcFaceIRSE50

    torch.manual_seed(0)
    net = ArcFaceIRSE50().eval()
    path = tmp_path / 'model_ir_se50.pth'
    torch.save(net.state_dict(), path)
    recogniser = load_identity('arcface', weights=path)
    assert recogniser.source == path
    with torch.no_grad():
        assert torch.allclose(recogniser(faces(1)), net(faces(1)), atol=1e-5)


TOY = '''
from torch import nn
from eg3d_unlearn.judges.identity.crop import ARCFACE_SIZE, arcface_box
from eg3d_unlearn.judges.weights import WeightFile, load_into

class NETWORK(nn.Module):
    input_size, box = ARCFACE_SIZE, staticmethod(arcface_box)
    weights = WeightFile('toy.pth', 'toy recogniser', 'none', '--id-weights', page='https://example.org/toy')

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 7)

    def forward(self, faces):
        return self.layer(faces.mean((2, 3)))

    def load_published(self, state, source):
        load_into(self, state, source)
'''


def test_a_recogniser_is_one_file_and_its_name(tmp_path, monkeypatch):
    (tmp_path / 'toy.py').write_text(TOY)
    monkeypatch.setattr(identity, '__path__', [*identity.__path__, str(tmp_path)])
    monkeypatch.setattr(identity, 'NAMES', (*NAMES, 'toy'))
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path / 'cache'))
    with pytest.raises(InputError, match='The weights of the toy recogniser are not on this machine. Fetch toy.pth from https://example.org/toy'):
        load_identity('toy')
    torch.save(nn.Linear(3, 7).state_dict(), tmp_path / 'wrong.pth')
    with pytest.raises(InputError, match='does not fit NETWORK: missing: layer.bias, layer.weight|layer.weight, layer.bias'):
        load_identity('toy', weights=tmp_path / 'wrong.pth')
    torch.save({f'layer.{name}': value for name, value in nn.Linear(3, 7).state_dict().items()}, tmp_path / 'toy.pth')
    assert load_identity('toy', weights=tmp_path / 'toy.pth').embed(faces(2), 'eg3d').shape == (2, 7)
