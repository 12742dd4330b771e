"""ArcFace IR-SE50, the recogniser of GUIDE's identity loss (weights: ``model_ir_se50.pth``)."""

from __future__ import annotations

from eg3d_unlearn.judges.identity.iresnet import IResNet

IRSE50_BLOCKS = (3, 4, 14, 3)


class ArcFaceIRSE50(IResNet):
    """50-layer improved residual network with squeeze-and-excitation: [N, 3, 112, 112] in [-1, 1] -> [N, 512]."""

    def __init__(self):
        super().__init__(blocks=IRSE50_BLOCKS, squeeze_excite=True, output_affine=True)
