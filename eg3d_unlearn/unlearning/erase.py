"""One method or another: a generator that shows the people becomes one that does not."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from eg3d_unlearn.config import CLOSED, CLOSED_FORM, DRAWN, POLISHED, Config, MethodOptions, TrainingOptions
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.memory import batch_size
from eg3d_unlearn.generators.precision import arithmetic
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.person.saved import KEPT
from eg3d_unlearn.run_folder import RunFolder
from eg3d_unlearn.unlearning import margin
from eg3d_unlearn.unlearning.closed_form import LatentEdit, affine_names
from eg3d_unlearn.unlearning.loss import UnlearningLoss
from eg3d_unlearn.unlearning.methods import make_rule
from eg3d_unlearn.unlearning.polish import Watch
from eg3d_unlearn.unlearning.surrogate import surrogate_target
from eg3d_unlearn.unlearning.target import mean_target, ufo_target
from eg3d_unlearn.unlearning.training_loop import training_loop


def target_of(options: TrainingOptions, seed: int, generator: Generator, judges: Judges, ws_source: Tensor) -> Tensor:  # [K, num_ws, w_dim]
    """w_t by ``--target``, of each latent that is erased; where it is drawn in each step, the mean of what is drawn."""
    if options.target == 'surrogate':
        return surrogate_target(ws_source, generator, judges, options.target_d, seed)
    if options.target == 'mean' or options.target in DRAWN:
        return mean_target(ws_source, generator.w_avg)
    return ufo_target(ws_source, generator.w_avg, options.target_d)


def moves_to(options: TrainingOptions) -> bool:
    """Whether the person is moved to one face: some methods draw another one in each step, some only hold on to the others."""
    return options.target not in DRAWN and bool(options.lambda_local or (options.lambda_adj and options.n_adj))


def prefixes_of(options: MethodOptions, generator: Generator) -> list[str]:
    """``--trainable`` as a list of parameter prefixes."""
    if options.method == CLOSED_FORM:
        return affine_names(generator)
    listed = generator.trainable if options.trainable == 'auto' else options.trainable
    prefixes = [prefix.strip() for prefix in listed.split(',')]
    return prefixes + (affine_names(generator) if options.method == POLISHED else [])


def photos_for(person: dict, device: torch.device) -> margin.Photos:
    """A person of a saved state, as the closed form takes people."""
    ws, turned = (None if person[name] is None else person[name].to(device) for name in ('ws_source', 'ws_mirrored'))
    return margin.Photos(ws, turned, exact=person['notes'].get('given_as') == 'seed')


def kept_latents(state: dict, generator: Generator) -> Tensor | None:   # [N, num_ws or 1, w_dim]
    """Latents of photos of other people: those that were given, else what comes with the network's world."""
    world = generator.trained_on.world
    if state['ws_kept'] is None and world is not None:
        return world.reference_latents(generator.family)
    return state['ws_kept']


class Outcome(NamedTuple):
    """What erasing gave."""
    g_u: Generator                   # the network that forgot
    g_s: Generator                   # its frozen source
    erased: margin.Erased | None     # by the closed form
    targets: list[Tensor]            # [K, num_ws, w_dim] where each person went
    steps: list[dict]                # the first and the last step's figures; none where nothing was trained


def erase(folder: RunFolder, config: Config, g_u: Generator, judges: Judges, state: dict) -> Outcome:
    """The people of ``state`` are erased from G_u, by the method of ``config``."""
    # The network that learns, beside its frozen source.
    parameters = g_u.freeze_except(prefixes_of(config, g_u))
    g_s = g_u.twin()
    g_s.network.requires_grad_(False)  # only the twin's own copies are touched: what is frozen is shared
    device, keep = g_u.device, {name: state[name] for name in KEPT}
    if config.method not in CLOSED:
        ws_source = state['ws_source'].to(device)
        with arithmetic(config.precision, device):
            ws_target = target_of(config, config.seed, g_u, judges, ws_source)
        return Outcome(g_u, g_s, None, [ws_target], forget(folder, config, g_u, g_s, parameters, judges, ws_source, ws_target, state, keep))
    people = [state, *state['more']]
    photos = [photos_for(one, device) for one in people]
    with arithmetic('fp32', device):
        erased = margin.erase(g_u, photos, judges.recogniser, folder.log, ws_kept=kept_latents(state, g_u))
        targets = [erased.edit(one['ws_source'].to(device)) for one in people]
    steps = [] if config.method == CLOSED_FORM else polish(
        folder, config, g_u, g_s, parameters, judges, [one.all for one in photos], erased.edit, state, keep)
    return Outcome(g_u, g_s, erased, targets, steps)


def forget(folder: RunFolder, config: Config, g_u: Generator, g_s: Generator, parameters: dict[str, nn.Parameter], judges: Judges,
           ws_source: Tensor, ws_target: Tensor, state: dict | None, keep: dict, **loop) -> list[dict]:
    """Let ``parameters`` of G_u forget ``ws_source``, from ``state`` on; the first and the last step's figures."""
    loss = UnlearningLoss(g_u, g_s, ws_source, ws_target, judges, config, batch_size(g_u, config.batch), config.seed,
                          config.target if config.target in DRAWN else None)
    folder.log(f'Forgetting: {config.method}, {config.iters} steps, {sum(p.numel() for p in parameters.values()) / 1e6:.1f} M '
               f'parameters in {", ".join(prefixes_of(config, g_u))}.')
    with arithmetic(config.precision, g_u.device):
        return training_loop(folder, loss, parameters, config.iters, config.lr, config.snap, state, keep=keep,
                             lr_decay=config.lr_decay, rule=make_rule(config, loss, parameters, folder.log), **loop)


def polish(folder: RunFolder, config: Config, g_u: Generator, g_s: Generator, parameters: dict[str, nn.Parameter], judges: Judges,
           photos: list[Tensor], edit: LatentEdit, state: dict | None, keep: dict) -> list[dict]:
    """Go on from the closed form with a few steps of GUIDE's objective, as long as they make it better."""
    ws_source = torch.cat(photos)
    watch = Watch(g_u, g_s, ws_source, edit, judges.recogniser, folder.log)
    watch.best.update((state or {}).get('polish', {}))
    if not watch.needed:
        folder.log(f'Nothing to polish: others keep {watch.before:.3f} of their likeness, those whom the edit moves most included.')
        return []
    untouched = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    steps = forget(folder, config, g_u, g_s, parameters, judges, ws_source, edit(ws_source), state, {**keep, 'polish': watch.best},
                   enough=lambda step: watch.enough(step, parameters))
    watch.finish(parameters, untouched)
    return steps
