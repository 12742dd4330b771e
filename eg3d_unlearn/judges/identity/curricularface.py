"""CurricularFace IR-101, the recogniser of GUIDE's identity metric."""

from __future__ import annotations

from eg3d_unlearn.judges.identity.iresnet import IResNet
from eg3d_unlearn.judges.weights import WeightFile


class CurricularFaceIR101(IResNet):
    """101-layer improved residual network without gates: [N, 3, 112, 112] in [-1, 1] -> [N, 512].

    Source: Huang et al., CurricularFace (CVPR 2020, arXiv 2004.00288).
    """
    weights = WeightFile(
        'CurricularFace_Backbone.pth', 'face recogniser CurricularFace IR-101 (--id-network=curricularface)',
        'trained on web photographs collected for research; no licence is stated for the weights', '--id-weights',
        page='https://drive.google.com/file/d/1f4IwVa2-Bn9vWLwB-bUwm53U_MlvinAj/view')

    def __init__(self):
        super().__init__(blocks=(3, 13, 30, 3), squeeze_excite=False, output_affine=False)


NETWORK = CurricularFaceIR101
