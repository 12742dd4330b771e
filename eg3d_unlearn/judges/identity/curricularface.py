"""CurricularFace IR-101, the recogniser of GUIDE's identity metric (weights: ``CurricularFace_Backbone.pth``)."""

from __future__ import annotations

from eg3d_unlearn.judges.identity.iresnet import IResNet


class CurricularFaceIR101(IResNet):
    """101-layer improved residual network without gates: [N, 3, 112, 112] in [-1, 1] -> [N, 512].

    Source: Huang et al., CurricularFace (CVPR 2020, arXiv 2004.00288).
    """

    def __init__(self):
        super().__init__(blocks=(3, 13, 30, 3), squeeze_excite=False, output_affine=False)
