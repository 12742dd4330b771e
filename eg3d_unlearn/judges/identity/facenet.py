"""FaceNet: facenet-pytorch's InceptionResnetV1, trained on VGGFace2."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from eg3d_unlearn.judges.identity.crop import FACENET_SIZE, facenet_box
from eg3d_unlearn.judges.weights import WeightFile, load_into
from torch_utils_ext.errors import InputError

# The package maps 8-bit values to (v - 127.5) / 128, we map them to v / 127.5 - 1.
INPUT_SCALE = 127.5 / 128


class FaceNet(nn.Module):
    """InceptionResnetV1 behind our picture range: [N, 3, 160, 160] in [-1, 1] -> [N, 512], unit norm."""
    input_size, box = FACENET_SIZE, staticmethod(facenet_box)
    weights = WeightFile(
        '20180402-114759-vggface2.pt', 'face recogniser FaceNet (--id-network=facenet)',
        'facenet-pytorch: MIT; trained on VGGFace2 (research only)', '--id-weights',
        url='https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt',
        size=111_898_327, torch_cache=True, sha256='281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b')

    def __init__(self):
        super().__init__()
        try:
            from facenet_pytorch import InceptionResnetV1
        except (ImportError, RuntimeError) as error:
            raise InputError(f'--id-network=facenet needs the package facenet-pytorch ({error}). '
                             'Install it with: pip install facenet-pytorch') from None
        self.net = InceptionResnetV1(pretrained=None, classify=False)

    def forward(
        self,
        faces: Tensor,  # [N, 3, 160, 160] float32 in [-1, 1], RGB
    ) -> Tensor:        # [N, 512] float32, unit norm
        return F.normalize(self.net(faces * INPUT_SCALE))

    def load_published(
        self,
        state: dict[str, Tensor],  # facenet-pytorch's file
        source: str | Path,        # where it came from, for the error
    ):
        """Take over a file's weights, without the classifier over VGGFace2's 8631 people that it also holds."""
        load_into(self.net, state, source, ignore=('logits.',))


NETWORK = FaceNet
