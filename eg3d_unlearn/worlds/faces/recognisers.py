"""Two face recognisers that share neither data nor architecture, made from packages: dlib's for the losses, FaceNet's for measuring."""
from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.judges.identity import Recogniser
from eg3d_unlearn.judges.identity.crop import FACENET_SIZE, Point, face_points, facenet_box, fit_box
from eg3d_unlearn.judges.identity.facenet import FaceNet
from eg3d_unlearn.judges.resample import FULL, Box, resample
from eg3d_unlearn.judges.weights import load_into
from eg3d_unlearn.worlds.faces.formats import dlib_layers, tflite_layers
from torch_utils_ext.errors import InputError

STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))  # channels and residual blocks of dlib's network
DLIB_SIZE = 150                      # pixels of its crop
MEAN_RED, MEAN_GREEN, MEAN_BLUE = 122.782, 117.001, 104.298   # that it subtracts, of 255
# The five points of dlib's mean face, in which its crop is defined: middles of the eyes and the point under the nose, pixels of the crop
# with its margin of a quarter.
DLIB_POINTS: tuple[Point, ...] = ((47.73, 47.14), (100.28, 47.12), (74.01, 87.78))
BELOW_TIP = 0.4                      # where that point lies between the tip of the nose and the mouth; mean over faces of the generator


class DlibNetwork(nn.Module):
    """dlib's residual network of 29 layers (``dlib_face_recognition_resnet_model_v1``), trained on 3 million pictures of 7485 people.

    Its own vectors of two people have a cosine of 0.86, since all faces share a large part; that part is taken off, so that strangers are
    near 0. Without it, dlib's rule is: one person if the vectors are nearer than 0.6.
    """

    def __init__(
        self,
        stages: tuple[tuple[int, int], ...] = STAGES,   # channels and residual blocks
        embedding: int = 128,        # D
    ):
        super().__init__()
        widths = [stages[0][0], *(width for width, _ in stages)]
        convolutions = [nn.Conv2d(3, widths[0], 7, stride=2)]
        self.halves = []             # by residual block: whether it halves the picture
        for stage, (width, count) in enumerate(stages):
            for block in range(count):
                halves = stage > 0 and block == 0
                before, stride, padding = (widths[stage], 2, 0) if halves else (width, 1, 1)
                convolutions += [nn.Conv2d(before, width, 3, stride, padding), nn.Conv2d(width, width, 3, 1, 1)]
                self.halves.append(halves)
        self.convolutions = nn.ModuleList(convolutions)
        self.head = nn.Linear(widths[-1], embedding, bias=False)
        self.register_buffer('mean', torch.tensor([MEAN_RED, MEAN_GREEN, MEAN_BLUE]).view(1, 3, 1, 1))
        self.register_buffer('centre', torch.zeros(embedding))   # of the vectors of many people

    def forward(
        self,
        faces: Tensor,  # [N, 3, 150, 150] in -1 to 1, RGB
    ) -> Tensor:        # [N, D], not of unit norm
        first, *others = self.convolutions
        x = F.max_pool2d(first(((faces + 1) * 127.5 - self.mean) / 256).relu(), 3, 2)
        for number, halves in enumerate(self.halves):
            one, two = others[2 * number:2 * number + 2]
            side = F.avg_pool2d(x, 2) if halves else x
            main = two(one(x).relu())
            x = (padded(main, side) + padded(side, main)).relu()
        return self.head(x.mean((2, 3))) - self.centre


def padded(
    x: Tensor,          # [N, C, H, W]
    like: Tensor,       # [N, C', H', W']
) -> Tensor:            # [N, max(C, C'), max(H, H'), max(W, W')]
    """Zeros where the other map is larger, as dlib adds maps of two sizes."""
    channels, rows, columns = (max(0, theirs - ours) for ours, theirs in zip(x.shape[1:], like.shape[1:], strict=True))
    return F.pad(x, (0, columns, 0, rows, 0, channels))


class FoldedFaceNet(FaceNet):
    """FaceNet whose BatchNorms and residual scales are merged into its convolutions, as TensorFlow Lite's converter does."""

    def __init__(self):
        super().__init__()
        for module in self.net.modules():
            if hasattr(module, 'conv') and hasattr(module, 'bn'):
                module.conv.bias, module.bn = nn.Parameter(torch.empty(module.conv.out_channels)), nn.Identity()
            if hasattr(module, 'scale'):
                module.scale = 1.0
        self.net.last_linear.bias = nn.Parameter(torch.empty(self.net.last_linear.out_features))
        self.net.last_bn = nn.Identity()


def dlib_state(
    content: bytes,     # dlib_face_recognition_resnet_model_v1.dat
    name: str,          # what it is, for an error
) -> dict[str, Tensor]:
    """The tensors of `DlibNetwork`; the centre is 0, see `centred`."""
    *convolutions, head = dlib_layers(content, name)
    state = {}
    for number, layer in enumerate(convolutions):
        state |= {f'convolutions.{number}.weight': layer.weight, f'convolutions.{number}.bias': layer.bias}
    mean = torch.tensor([MEAN_RED, MEAN_GREEN, MEAN_BLUE]).view(1, 3, 1, 1)
    return {**state, 'head.weight': head.weight, 'mean': mean, 'centre': torch.zeros(len(head.weight))}


def facenet_state(
    content: bytes,     # facenet.tflite
    name: str,          # what it is, for an error
) -> dict[str, Tensor]:
    """The tensors of `FoldedFaceNet`."""
    layers = tflite_layers(content, name)
    with torch.device('meta'):
        modules = FoldedFaceNet().named_modules()
        names = [place for place, module in modules if isinstance(module, (nn.Conv2d, nn.Linear))]
    if len(names) != len(layers):
        raise InputError(f'{name} has {len(layers)} layers, FaceNet has {len(names)}.')
    return {f'{place}.{part}': getattr(layer, part) for place, layer in zip(names, layers, strict=True) for part in ('weight', 'bias')}


def dlib_box(alignment: str) -> Box:  # 'eg3d' | 'ffhq' | 'full'
    """The crop that dlib's recogniser was trained on."""
    if alignment == 'full':
        return FULL
    left_eye, right_eye, tip, *mouth = face_points(alignment)
    under_nose = tuple((1 - BELOW_TIP) * a + BELOW_TIP * (b + c) / 2 for a, b, c in zip(tip, *mouth, strict=True))
    return fit_box((left_eye, right_eye, under_nose), DLIB_POINTS, DLIB_SIZE)


# name -> network, pixels that it takes, its crop: the recogniser of the losses, then the one that measures
RECOGNISERS = {'dlib': (DlibNetwork, DLIB_SIZE, dlib_box), 'facenet-8-bit': (FoldedFaceNet, FACENET_SIZE, facenet_box)}


def recogniser_of(
    name: str,          # of `RECOGNISERS`
    state: dict[str, Tensor],
    source: Path | None = None,  # file that it came from
) -> Recogniser:
    """A recogniser with these tensors.  Raises InputError: they are another network's."""
    make, size, box = RECOGNISERS[name]
    with torch.device('meta'):       # initial values would take seconds
        network = make()
    network = network.to_empty(device='cpu')
    load_into(network, state, source or name)
    return Recogniser(name, network, size, box, source)


@torch.no_grad()
def centre_of(
    state: dict[str, Tensor],        # of `dlib_state`
    images: Tensor,     # [N, 3, H, W] in -1 to 1: many different people, aligned as FFHQ's pictures
) -> Tensor:            # [D]
    """What dlib's vectors of all people share: their mean."""
    recogniser = recogniser_of('dlib', state)
    faces = (resample(part, DLIB_SIZE, dlib_box('ffhq')) for part in images.split(8))
    return torch.cat([recogniser.network(part) for part in faces]).mean(0)
