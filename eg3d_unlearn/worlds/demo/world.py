"""The demo world as the registry knows it."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import torch
from torch import Tensor, nn

from eg3d_unlearn.config import POLISHED
from eg3d_unlearn.judges.weights import load_state
from eg3d_unlearn.worlds.demo import photo, scene, shipped
from eg3d_unlearn.worlds.demo.recipes import NETWORKS
from eg3d_unlearn.worlds.registry import Bars, Photos, World

# The demo networks are a thousandth of FFHQ-512 and the main run has three minutes on two cores: fewer and larger steps.
TRAINING = {
    'eg3d': dict(iters=110, lr=2.5e-3, lr_decay=0.8, n_adj=1, n_global=4, n_near=2, lambda_adj=0.4, lambda_global=6.5, lambda_id=0.5,
                 inversion='encoder', loss_resolution='half'),
    'stylegan2': dict(iters=320, lr=2e-3, lr_decay=0.8, n_adj=2, n_global=4, n_near=1, lambda_adj=1.4, lambda_global=6.0,
                      inversion='encoder+w+'),
}
# After the closed form little is left to be done, and large steps undo it.
POLISH = dict(lr=5e-4)
STEPS = {'eg3d': {'mean': 60, 'encoder': 20}, 'stylegan2': {'mean': 200, 'encoder': 30}}


class Demo(World):
    """Procedural people whose identity is a known vector, and networks that were trained on photos of them."""
    name, title, mark, people = 'demo', 'the demo world', shipped.WORLD, 'held-out people'
    networks = {name: recipe['family'] for name, recipe in NETWORKS.items()}
    default_person, other_photos, strangers = 4, 3, 2
    precision, is_made_up = 'bf16', True
    limits = ('a demo network knows the drawn people of the demo world only; nobody real can be shown by it. For a photo of a real person take '
              'a published network, for a demo person --image=demo:N.')
    # Between photos of held-out people (none of 25 people is warned about) and what is none: a real face, a cat, a cup, strongly
    # darkened, noisy, halved and blurred photos (all are), people out of domain, unless the network does show them.
    bars = {'eg3d': Bars(0.5, 0.22, 16.0), 'stylegan2': Bars(0.8, 0.06, 24.0)}

    def network_path(self, name: str) -> Path:
        return shipped.network_path(name)

    def encoder_path(self, family: str) -> Path:
        return shipped.encoder_path(f'demo-{family}')

    def reference_latents(self, family: str) -> Tensor | None:
        path = shipped.people_path(f'demo-{family}')
        return load_state(path)['w'].float() if path.is_file() else None

    def settings(self, family: str, method: str) -> dict[str, Any]:
        return {**TRAINING[family], **(POLISH if method == POLISHED else {})}

    def inversion_steps(self, family: str, start: str) -> int:
        return STEPS[family][start]

    def perceptual(self) -> nn.Module:
        from eg3d_unlearn.worlds.demo.judges import load_judge
        return load_judge('demo-perceptual')

    def recognisers(self) -> dict[str, nn.Module]:
        from eg3d_unlearn.worlds.demo.judges import load_judge
        return {name: load_judge(name) for name in ('demo-loss', 'demo-measuring')}

    def features(self) -> nn.Module:
        from eg3d_unlearn.worlds.demo.judges import load_judge
        return load_judge('demo-features')

    def photos_of(self, person: int, count: int, resolution: int, first: int = 0, out_of_domain: bool = False) -> Photos:
        return photo.photos_of(person, count, resolution, first, 'out-of-domain' if out_of_domain else 'held-out')

    def photos_of_strangers(self, person: int, count: int, resolution: int) -> Photos:
        return photo.strangers(person, count, resolution)

    def training_cameras(self, count: int, rng: torch.Generator) -> tuple[Tensor, str]:
        drawn = torch.rand(count, 2, generator=rng) * 2 - 1
        angles = drawn * torch.tensor([scene.MAX_YAW, scene.MAX_PITCH])
        labels = torch.cat([scene.camera_at(yaw, pitch) for yaw, pitch in angles.tolist()])
        return labels, f'of demo photos: yaw and pitch uniform up to {scene.MAX_YAW} and {scene.MAX_PITCH} rad'

    def real_pictures(self, family: str, resolution: int, batches: Callable) -> tuple[Callable[[range, int], Tensor], dict]:
        from eg3d_unlearn.worlds.demo.photos import look
        from eg3d_unlearn.worlds.demo.truth import Truth
        return Truth(family, resolution, batches).pictures, {'world': look()}


WORLD = Demo()
