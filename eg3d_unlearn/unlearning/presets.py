"""Methods: which terms, which target, which settings.  A paper's variant that only re-weights is a preset here.

Settings come in two parts.  A method's preset says what the loss is made of; it is the paper's.  How many steps it takes,
how large they are depends on the network (`World.settings`), and so does how far the target lies (`target`).
"""
from __future__ import annotations

import dataclasses

from eg3d_unlearn.config import CLOSED, CLOSED_FORM, OPTIONS, POLISHED, Config, parts_of
from eg3d_unlearn.options import about
from eg3d_unlearn.person.given import photos_of
from eg3d_unlearn.worlds.registry import World

# GUIDE as published (arXiv 2405.09879 and its code): EG3D FFHQ-512, 15 minutes on one RTX 3090.
GUIDE = {name: about(field).published for name, field in OPTIONS.items() if about(field).published is not None}

PRESETS = {
    'guide': GUIDE,
    # Table 1, first row: the mean latent as target, local loss only.
    'baseline': {**GUIDE, 'target': 'mean', 'lambda_adj': 0.0, 'lambda_global': 0.0},
    # ... its second and third row.
    'extrapolated': {**GUIDE, 'lambda_adj': 0.0, 'lambda_global': 0.0},
    'adjacency': {**GUIDE, 'lambda_global': 0.0},
    # Other people's methods, carried over: what is forgotten is the person's latent neighbourhood, what is kept random people.
    # Fine-tuning on what is kept; with the source network as its own teacher it has no gradient, and so forgets nothing.
    'ft': {**GUIDE, 'lambda_local': 0.0, 'lambda_adj': 0.0},
    # Gradient ascent. Feature distances have no bound to climb to, so only the bounded terms take part.
    'ga': {**GUIDE, 'target': 'self', 'lambda_l2': 0.0, 'lambda_global': 0.0},
    'ga-descent': {**GUIDE, 'target': 'self', 'lambda_l2': 0.0},
    # Negative label smoothing: towards everybody, and away from the person.
    'soft': {**GUIDE, 'target': 'soft', 'lambda_l2': 0.0},
    'l1-sparse': {**GUIDE, 'lambda_local': 0.0, 'lambda_adj': 0.0, 'lambda_l1': 1e-4},
    'prune': {**GUIDE, 'target': 'mean', 'prune': 0.3},
    # Random relabelling of the most salient weights, with retention.
    'salun': {**GUIDE, 'target': 'random', 'saliency': 0.5},
    # No loss at all: the style affines are changed by a formula (`closed_form`); and a short run of GUIDE's loss from there (`polish`).
    CLOSED_FORM: {**GUIDE, 'target': 'mean', 'iters': 0, 'lambda_adj': 0.0, 'lambda_global': 0.0},
    # Its neighbours went along with the person already, so that only the person and everybody else are held.
    POLISHED: {**GUIDE, 'target': 'mean', 'iters': 60, 'lambda_adj': 0.0},
    'sugar': {**GUIDE, 'target': 'surrogate', 'lambda_global': 0.0, 'lambda_ewc': 1.0},
}

# Inversion from the mean latent, and from where an encoder says, whence the way is short.
FROM_MEAN = dict(inversion_steps=300, inversion_lr=0.1)
FROM_ENCODER = dict(inversion_steps=100, inversion_lr=0.05)


def resolve(
    config: Config,
    world: World | None = None,      # that the network belongs to; None: none of ours
    family: str | None = None,       # of a network of a world
) -> Config:
    """``config`` with every setting that was left open filled in."""
    # What makes a method another than GUIDE stays, whatever the network.
    method = {name: value for name, value in PRESETS[config.method].items() if value != GUIDE[name]}
    # The closed form erases all photos at once; a training takes turns, at the price of each.
    several = config.method in CLOSED and len(photos_of(config)) > 1
    usual = {} if world is None else world.settings(family, config.method)
    judges = {'lpips_net': 'vgg', 'id_network': 'arcface'} if world is None else {'lpips_net': world.name, 'id_network': world.name}
    settings = {**GUIDE, **usual, **method, 'forget_from': 'all' if several else 'first', **judges}
    if world is not None and config.method == POLISHED:
        settings['lr'] = usual['lr']
    encoder, space = parts_of(config.inversion or settings['inversion'])
    settings.update(FROM_ENCODER if encoder else FROM_MEAN)
    if world is not None:
        settings['inversion_steps'] = world.inversion_steps(family, 'encoder' if encoder else 'mean') or settings['inversion_steps']
    if space is None:
        settings.update(inversion_steps=None, inversion_lr=None, inversion_lambda_id=None)
    return dataclasses.replace(config, **{name: value for name, value in settings.items() if getattr(config, name) is None})
