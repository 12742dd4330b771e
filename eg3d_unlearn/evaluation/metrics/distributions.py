"""What became of everything else that the network can make: distances between sets of pictures."""
from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.metrics import distances
from eg3d_unlearn.evaluation.metrics.registry import Name, metric
from eg3d_unlearn.evaluation.rendering import in_batches, render, to_bytes, to_floats
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.evaluation.verification import RandomPeople
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.memory import batch_size
from eg3d_unlearn.judges.features import Features, inception, torchscript
from eg3d_unlearn.person.photo.dataset import data_set, labels_of
from eg3d_unlearn.worlds.registry import REGISTERED, world_named
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

SMALL_N = 'biased by the number of pictures: compare with figures of the same number only'
JACKKNIFE = f'95 %, by leaving out each of {distances.GROUPS} groups of pictures in turn (jackknife)'
# Yaw and pitch of portraits where no labels are at hand: pi-GAN's fit to CelebA (arXiv 2012.00926), used for FFHQ as well.
YAW_SD, PITCH_SD = 0.3, 0.155        # [radians]
SAMPLES = {'counts': 'pictures', 'default_count': 5000, 'least_count': 40}   # of every metric here


def as_trained(evidence: Evidence, settings: Settings, count: int) -> RandomPeople:
    """People seen as the training pictures were."""
    z = torch.randn([count, evidence.g_s.z_dim], generator=settings.rng('pictures'))
    labels, about = training_cameras(evidence, settings, count)
    return RandomPeople(z, None if labels is None else labels[:, None], about)


def training_cameras(evidence: Evidence, settings: Settings, count: int) -> tuple[Tensor | None, str]:
    """Cameras [count, 25] distributed as the network's training labels, and how they were drawn; None for 2D networks."""
    generator, rng = evidence.g_s, settings.rng('cameras')
    if not generator.is_3d:
        return None, 'none (2D network)'
    if evidence.world is not None:
        return evidence.world.training_cameras(count, rng)
    labels = None if settings.data is None else labels_of(settings.data)
    if labels is not None:
        return labels[torch.randint(len(labels), (count,), generator=rng)], f'drawn from the {len(labels)} labels of --data'
    angles = torch.randn(count, 2, generator=rng) * torch.tensor([YAW_SD, PITCH_SD])
    labels = torch.cat([generator.camera(yaw, pitch).cpu() for yaw, pitch in angles.tolist()])
    return labels, f'normal about the frontal one, yaw {YAW_SD} and pitch {PITCH_SD} rad (no labels: --data gives them)'


def load_features(evidence: Evidence, settings: Settings) -> Features:
    """The network of ``--features``; a missing or foreign file is an error before anything slow begins."""
    name = settings.features or ('inception' if evidence.world is None else evidence.world.name)
    device = evidence.device
    if name != 'inception' and settings.inception_weights is not None:
        raise InputError(f'--inception-weights names a file, but the features are those of {name}. Leave it out, or add --features=inception.')
    if name in REGISTERED:
        world = world_named(name)
        if evidence.world is not world:
            raise InputError(f'--features={name} knows {world.title} only. Use --features=inception, or a TorchScript file.')
        judge = world.features().to(device)
        return Features(name, sha256_of(judge.source), lambda pictures: judge.features(to_floats(pictures)), device)
    if name == 'inception':
        untrained = evidence.config.random_metric_weights and settings.inception_weights is None
        return inception(settings.inception_weights, untrained, device)
    return torchscript(name, device, evidence.config.trust_file)


def features_of(generator: Generator, people: RandomPeople, features: Features, settings: Settings, half: bool, title: str,
                on_disk: bool) -> Tensor:             # [N, D]
    """Features of what a network makes of random codes; pictures go by, only features are kept."""
    def make() -> Tensor:
        seen = render(generator, people.z, people.cameras, half, settings.batch, settings.bar(title))
        return torch.cat([features(to_bytes(images[:, 0])) for images, _ in seen])
    return settings.cache.get({'what': 'features', **people.key(generator, half), **features.key()}, make, on_disk)


def both(evidence: Evidence, name: Name, settings: Settings) -> tuple[Tensor, Tensor, dict]:
    """Features of G_u and G_s from the same latents and cameras, and the protocol."""
    features, people = load_features(evidence, settings), as_trained(evidence, settings, name.count)
    s = features_of(evidence.g_s, people, features, settings, name.half, f'{name}: before', on_disk=True)
    u = features_of(evidence.g_u, people, features, settings, name.half, f'{name}: after', on_disk=False)
    protocol = {'pictures': name.count, 'features': features.name, 'features_sha256': features.sha256, 'dimensions': u.shape[1],
                'cameras': people.cameras_are, 'latents': 'z ~ N(0, I), no truncation, the same on both sides, mapped under the frontal camera',
                'noise': 'constant, fixed depths', 'interval': JACKKNIFE}
    return u, s, protocol


def real_pictures(
    evidence: Evidence,
    settings: Settings,
    count: int,
    size: int,                       # pictures at once
) -> tuple[list[Callable[[], Tensor]], dict, str]:   # makers of batches [n, 3, H, W] uint8; what fixes them; in words
    """Real pictures by batches: of ``--data``, in a world of its renderer."""
    resolution = evidence.g_s.img_resolution
    if settings.data is not None:
        data = data_set(settings.data)
        names = data.chosen(count, settings.rng('real'))
        about = f'{count} of the {len(data.names)} pictures of --data, at {resolution} px'
        status = data.path.stat()
        key = {'path': str(data.path.absolute()), 'changed': status.st_mtime_ns, 'names': names, 'resolution': resolution}
        return [lambda part=names[i:i + size]: torch.stack([data.picture(name, resolution) for name in part])
                for i in range(0, count, size)], key, about
    if evidence.made_up_world is None:
        raise InputError('dfid_real holds generated pictures against real ones: give them with --data=DIR or --data=FILE.zip, cropped as '
                         "the network's training pictures were.")

    def batches(total: int, at_once: int, title: str) -> Iterator[slice]:
        return in_batches(total, at_once, settings.bar(title))
    pictures, key = evidence.made_up_world.real_pictures(evidence.g_s.family, resolution, batches)
    key = {**key, 'family': evidence.g_s.family, 'resolution': resolution, 'count': count}
    return [lambda rows=range(i, min(i + size, count)): pictures(rows, count) for i in range(0, count, size)], key, (
        f'{count} pictures of the {evidence.made_up_world.name} renderer, people and cameras as in training, at {resolution} px')


def check_features(evidence: Evidence, name: Name, settings: Settings) -> None:
    distances.check_library()
    load_features(evidence, settings)
    training_cameras(evidence, settings, 1)


def check_real(evidence: Evidence, name: Name, settings: Settings) -> None:
    check_features(evidence, name, settings)
    real_pictures(evidence, settings, name.count, 1)


@metric('fid_pre', title='Fréchet distance between pictures before and after', heading='FID_pre', better='low', **SAMPLES, check=check_features)
def fid_pre(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """FID between what G_u and G_s make of the same latents, cameras and noise (the paper's FID_pre)."""
    u, s, protocol = both(evidence, name, settings)
    return {'value': distances.fid_pre(u, s, settings.seed), 'protocol': {**protocol, 'note': SMALL_N}}


@metric('kid_pre', title='kernel distance between pictures before and after', heading='KID_pre', better='low', **SAMPLES, check=check_features)
def kid_pre(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """KID (squared MMD, cubic kernel) between what G_u and G_s make of the same latents, cameras and noise."""
    u, s, protocol = both(evidence, name, settings)
    return {'value': distances.kid_pre(u, s, settings.seed),
            'protocol': {**protocol, 'note': 'pairs from one latent are left out, so that two equal networks have 0'}}


@metric('pr_pre', title='precision: share of pictures after that lie among those before', heading='precision', better='high',
        columns={'recall': 'recall'}, **SAMPLES, check=check_features)
def pr_pre(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """Precision (the value: G_u's pictures that G_s could make) and recall (G_s's pictures that G_u could make)."""
    u, s, protocol = both(evidence, name, settings)
    precision, recall = distances.precision_recall(u, s)
    protocol = {**protocol, 'neighbours': distances.NEIGHBOURS, 'interval': "95 %, Wilson's, for the manifolds as found"}
    return {'value': precision, 'recall': recall, 'protocol': protocol}


@metric('dfid_real', title='Fréchet distance to real pictures, after less before', heading='ΔFID_real', better='low', needs_real=True,
        **SAMPLES, check=check_real)
def dfid_real(evidence: Evidence, name: Name, settings: Settings) -> dict:
    """FID(G_u, real pictures) - FID(G_s, real pictures) (the paper's ΔFID_real); above 0: G_u is the worse one."""
    features = load_features(evidence, settings)
    makers, key, about = real_pictures(evidence, settings, name.count, batch_size(evidence.g_s, settings.batch))

    def make() -> Tensor:
        batches = in_batches(len(makers), 1, settings.bar(f'{name}: real, batches'))
        return torch.cat([features(makers[rows.start]()) for rows in batches])
    u, s, protocol = both(evidence, name, settings)
    # Features of a user's photos stay in memory; those of rendered people may be kept.
    real = settings.cache.get({'what': 'real', **key, **features.key()}, make, on_disk=settings.data is None)
    return {'value': distances.fid_difference(u, s, real, settings.seed), 'before': distances.fid(s, real), 'after': distances.fid(u, real),
            'protocol': {**protocol, 'real': about, 'note': SMALL_N}}
