"""Methods: which terms, which target, which settings.  A paper's variant that only re-weights is a preset here."""
from __future__ import annotations

# GUIDE as published (arXiv 2405.09879 and its code): EG3D FFHQ-512, 15 minutes on one RTX 3090.
GUIDE = dict(target='ufo', target_d=30.0, iters=1000, lr=1e-4, n_adj=2, n_global=2, alpha_max=15.0, lambda_local=1.0,
             lambda_adj=1.0, lambda_global=1.0, lambda_l2=1e-2, lambda_lpips=1.0, lambda_id=0.1)

PRESETS = {
    'guide': GUIDE,
    # Table 1, first row: the mean latent as target, local loss only.
    'baseline': {**GUIDE, 'target': 'mean', 'lambda_adj': 0.0, 'lambda_global': 0.0},
}
