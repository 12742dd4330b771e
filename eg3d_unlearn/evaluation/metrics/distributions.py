"""What became of everything else that the network can make: distances between sets of pictures."""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.metrics import distances
from eg3d_unlearn.evaluation.metrics.crowd import Crowd, as_trained, camera, training_cameras
from eg3d_unlearn.evaluation.metrics.features import Features, load_features
from eg3d_unlearn.evaluation.metrics.looking import in_batches, mapped, shown
from eg3d_unlearn.evaluation.metrics.real import real_pictures
from eg3d_unlearn.evaluation.metrics.registry import Name, metric
from eg3d_unlearn.evaluation.metrics.settings import Settings
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.memory import batch_size

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

SMALL_N = 'biased by the number of pictures: compare with figures of the same number only'
JACKKNIFE = f'95 %, by leaving out each of {distances.GROUPS} groups of pictures in turn (jackknife)'


def features_of(generator: Generator, crowd: Crowd, features: Features, settings: Settings, half: bool, title: str,
                on_disk: bool) -> Tensor:             # [N, D]
    """Features of what a network makes of the crowd's latents; pictures go by, only features are kept."""
    def make() -> Tensor:
        found = []
        for rows in in_batches(len(crowd), batch_size(generator, settings.batch), settings, title):
            backbone = generator.backbone(mapped(generator, crowd.z, rows))
            found.append(features(shown(generator, backbone, camera(crowd, rows), half)[0]))
        return torch.cat(found)
    return settings.cache.get({'what': 'features', **crowd.key(generator, half), **features.key()}, make, on_disk)


def both(evidence: Evidence, name: Name, settings: Settings) -> tuple[Tensor, Tensor, dict]:
    """Features of G_u and G_s from the same latents and cameras, and the protocol."""
    features, crowd = load_features(evidence, settings), as_trained(evidence, settings, name.count)
    s = features_of(evidence.g_s, crowd, features, settings, name.half, f'{name}: before', on_disk=True)
    u = features_of(evidence.g_u, crowd, features, settings, name.half, f'{name}: after', on_disk=False)
    protocol = {'pictures': name.count, 'features': features.name, 'features_sha256': features.sha256, 'dimensions': u.shape[1],
                'cameras': crowd.cameras_are, 'latents': 'z ~ N(0, I), no truncation, the same on both sides, mapped under the frontal camera',
                'noise': 'constant, fixed depths', 'rays': 'half' if name.half else 'full', 'pixels': '8 bit', 'interval': JACKKNIFE}
    return u, s, protocol


def check_features(evidence: Evidence, name: Name, settings: Settings) -> None:
    distances.check_library()
    load_features(evidence, settings)
    training_cameras(evidence, settings, 1)


def check_real(evidence: Evidence, name: Name, settings: Settings) -> None:
    check_features(evidence, name, settings)
    real_pictures(evidence, settings, name.count, 1)


@metric('fid_pre', better='low', default_count=5000, least_count=40, check=check_features)
def fid_pre(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """FID between what G_u and G_s make of the same latents, cameras and noise (the paper's FID_pre)."""
    u, s, protocol = both(evidence, name, settings)
    return {'value': distances.fid_pre(u, s, settings.seed), 'protocol': {**protocol, 'note': SMALL_N}}


@metric('kid_pre', better='low', default_count=5000, least_count=40, check=check_features)
def kid_pre(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """KID (squared MMD, cubic kernel) between what G_u and G_s make of the same latents, cameras and noise."""
    u, s, protocol = both(evidence, name, settings)
    return {'value': distances.kid_pre(u, s, settings.seed),
            'protocol': {**protocol, 'note': 'pairs from one latent are left out, so that two equal networks have 0'}}


@metric('pr_pre', better='high', default_count=5000, least_count=40, check=check_features)
def pr_pre(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """Precision (the value: G_u's pictures that G_s could make) and recall (G_s's pictures that G_u could make)."""
    u, s, protocol = both(evidence, name, settings)
    precision, recall = distances.precision_recall(u, s)
    protocol = {**protocol, 'neighbours': distances.NEIGHBOURS, 'interval': "95 %, Wilson's, for the manifolds as found"}
    return {'value': precision, 'recall': recall, 'protocol': protocol}


@metric('dfid_real', better='low', default_count=5000, least_count=40, check=check_real)
def dfid_real(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """FID(G_u, real pictures) - FID(G_s, real pictures) (the paper's ΔFID_real); above 0: G_u is the worse one."""
    features = load_features(evidence, settings)
    makers, key, about = real_pictures(evidence, settings, name.count, batch_size(evidence.g_s, settings.batch))

    def make() -> Tensor:
        return torch.cat([features(makers[rows.start]()) for rows in in_batches(len(makers), 1, settings, f'{name}: real, batches')])
    u, s, protocol = both(evidence, name, settings)
    # Features of a user's photos stay in memory; those of rendered people may be kept.
    real = settings.cache.get({'what': 'real', **key, **features.key()}, make, on_disk=settings.data is None)
    return {'value': distances.fid_difference(u, s, real, settings.seed), 'before': distances.fid(s, real), 'after': distances.fid(u, real),
            'protocol': {**protocol, 'real': about, 'note': SMALL_N}}
