"""ArcFace IR-SE50, the recogniser of GUIDE's identity loss."""

from __future__ import annotations

from eg3d_unlearn.judges.identity.iresnet import IResNet
from eg3d_unlearn.judges.weights import WeightFile

IRSE50_BLOCKS = (3, 4, 14, 3)


class ArcFaceIRSE50(IResNet):
    """50-layer improved residual network with squeeze-and-excitation: [N, 3, 112, 112] in [-1, 1] -> [N, 512]."""
    # facexlib re-publishes the very file of InsightFace_Pytorch under another name.
    weights = WeightFile(
        'model_ir_se50.pth', 'face recogniser ArcFace IR-SE50 (--id-network=arcface)',
        'trained on web photographs collected for research; no licence is stated for the weights', '--id-weights',
        url='https://github.com/xinntao/facexlib/releases/download/v0.1.0/recognition_arcface_ir_se50.pth',
        page='https://drive.google.com/drive/folders/1tl7zLPZgwOpa6xWmRsjz7LMrysfSbh_8', size=175_367_323,
        sha256='a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28')

    def __init__(self):
        super().__init__(blocks=IRSE50_BLOCKS, squeeze_excite=True, output_affine=True)


NETWORK = ArcFaceIRSE50
