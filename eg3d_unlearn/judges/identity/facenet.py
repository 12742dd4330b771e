"""FaceNet: facenet-pytorch's InceptionResnetV1, trained on VGGFace2 (weights: ``20180402-114759-vggface2.pt``)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from eg3d_unlearn.judges.weights import load_into
from torch_utils_ext.errors import InputError

INPUT_SIZE = 160
# The package maps 8-bit values to (v - 127.5) / 128, we map them to v / 127.5 - 1.
INPUT_SCALE = 127.5 / 128


class FaceNet(nn.Module):
    """InceptionResnetV1 behind our picture range: [N, 3, 160, 160] in [-1, 1] -> [N, 512], unit norm."""

    def __init__(self):
        super().__init__()
        try:
            from facenet_pytorch import InceptionResnetV1
        except (ImportError, RuntimeError) as error:
            raise InputError(f'--id-network=facenet needs the package facenet-pytorch ({error}). '
                             'Install it with: pip install facenet-pytorch') from None
        self.net = InceptionResnetV1(pretrained=None, classify=False)
        self.eval().requires_grad_(False)

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

    @torch.no_grad()
    def fold(self) -> FaceNet:
        """Merge every BatchNorm into the convolution before it, in place; the same function to rounding."""
        for module in self.net.modules():
            if hasattr(module, 'conv') and hasattr(module, 'bn'):
                norm = module.bn
                module.conv.weight, module.conv.bias = fuse_conv_bn_weights(
                    module.conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
                module.bn = nn.Identity()
        return self.eval().requires_grad_(False).to(memory_format=torch.channels_last)
