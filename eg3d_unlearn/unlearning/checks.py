"""What can be refused of the options before anything is loaded."""
from __future__ import annotations

import math
import os
from pathlib import Path

from eg3d_unlearn.config import CLOSED, CLOSED_FORM, OF_TRAINING, OPTIONS, POLISHED, WHO, Config, needing, refuse_unused
from eg3d_unlearn.console import refuse_existing
from eg3d_unlearn.options import flag_of
from eg3d_unlearn.person.checks import check_photos
from eg3d_unlearn.person.given import each_person, kept_people
from eg3d_unlearn.unlearning.loss import TERMS
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown


def check_inputs(config: Config) -> None:
    """What can be refused before anything is loaded."""
    given = [name for name in WHO if getattr(config, name) not in (None, ())]
    if len(given) != 1:
        options = ', '.join(flag_of(OPTIONS[name]) for name in given) or 'none'
        several = ' --people,' if config.method in CLOSED else ''
        raise InputError(f'Say who is to be forgotten with exactly one of --image,{several} --latent and --latent-seed (got {options}).')
    for name, field in OPTIONS.items():
        value = getattr(config, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f'{flag_of(field)}={value} is no usable number.')
    if config.people is not None and config.report == 'full':
        raise InputError('--report=full looks at one person closely, and --people names several. Leave it out.')
    if config.method == POLISHED and config.id_network == 'none':
        raise InputError(f'--method={POLISHED} stops by what a recogniser says, and --id-network=none. Use --method={CLOSED_FORM}.')
    for one in [*each_person(config), *filter(None, [kept_people(config)])]:
        check_photos(one)
    if config.latent is not None and not os.path.exists(config.latent):
        raise InputError(f'The latent file {shown(config.latent, 300)} is not there; --latent takes an .npy, .npz or .pt file.')
    forgets = config.lambda_local or (config.lambda_adj and config.n_adj)
    if not (forgets or (config.lambda_global and config.n_global)):
        raise InputError('All losses are switched off, so there is nothing to learn. Set one of --lambda-local, --lambda-adj and '
                         '--lambda-global above 0.')
    if not (forgets or config.lambda_l1 or config.method == 'ft'):
        raise InputError('Both --lambda-local and --lambda-adj are off: the network would only be told to stay as it is.')
    if config.n_near > config.n_global:
        raise InputError(f'--n-near={config.n_near} is more than --n-global={config.n_global}, of which it is a part.')
    usable = [term for term in TERMS if (term.judge, config.id_network) != ('recogniser', 'none')]
    if not any(getattr(config, term.option) for term in usable):
        *most, last = (flag_of(OPTIONS[term.option]) for term in usable)
        raise InputError(f'{", ".join(most)} and {last} are all 0, so the local loss has no term. Set one above 0.')
    if config.trust_pickle and not config.upstream:
        raise InputError("--trust-pickle hands the file to the loader of an NVIDIA checkout, which runs the file's code: name the checkout "
                         'with --upstream=DIR.')


def check_used(
    given: Config,                   # as the user wrote it
    config: Config,                  # with every setting that was left open filled in
) -> None:
    """Refuse options that have no effect, by what the other options say."""
    method = f'--method={config.method}'
    if config.method == CLOSED_FORM:
        refuse_unused(given, (*OF_TRAINING, *needing('training')), f'is about training, and {method} trains nothing. Leave it out.')
    else:
        refuse_unused(given, ['delta'], f'holds what the closed form changes, and {method} trains all weights. Leave it out, or use '
                                        f'--method={CLOSED_FORM}.')
    if config.method not in CLOSED:
        refuse_unused(given, ['people'], f'erases several people at once, which --method={CLOSED_FORM} can; {method} knows one. Leave '
                                         '--method out, or give one person with --image.')
        refuse_unused(given, ['keep'], f'is for --method={CLOSED_FORM}; {method} holds on to random people. Leave it out.')
    if config.target not in ('ufo', 'surrogate'):
        refuse_unused(given, needing('distance'), f'has no effect, since --target={config.target} has no distance. Leave it out.')
    for name, field in OPTIONS.items():
        value, named = getattr(config, name), flag_of(field)
        if value is None:
            refuse_unused(given, needing(name), f'has no effect without {named}. Leave it out.')
        elif value == 'none' or (isinstance(value, float) and value == 0):
            idle = [other for other in needing(name) if getattr(given, other)]       # --n-adj=0 says the same once more
            refuse_unused(given, idle, f'has no effect with {named}={value}. Leave it out.')
    if config.delta is not None:
        refuse_existing(Path(config.delta), '--delta')
