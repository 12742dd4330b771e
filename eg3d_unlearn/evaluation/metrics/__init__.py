"""Metrics of an erasure: one registered function each, whose name fixes its protocol.

    from eg3d_unlearn.evaluation.metrics import Cache, compute
    cache = Cache()                                   # many unlearned networks against one
    for evidence in ...:
        compute('id', evidence, cache=cache)
        compute('fid_pre500', evidence, cache=cache)
"""
from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eg3d_unlearn.evaluation.cache import Cache
from eg3d_unlearn.evaluation.estimate import Estimate
from eg3d_unlearn.evaluation.metrics import distributions, identity, pairwise_identity, retain  # noqa: F401  a new one's name goes here
from eg3d_unlearn.evaluation.metrics.registry import METRICS, Name, check, parse, parse_all
from eg3d_unlearn.evaluation.settings import Settings
from eg3d_unlearn.evaluation.summary import MEANINGLESS
from eg3d_unlearn.generators.precision import arithmetic

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence
    from torch_utils_ext.network_pickle import NetworkPickle

__all__ = ['METRICS', 'Cache', 'Name', 'Settings', 'check', 'compute', 'parse', 'parse_all']


@torch.no_grad()
def compute(
    name: str | Name,                # 'id', 'fid_pre5k', 'retain200-half' ...
    evidence: Evidence,              # its pickles may be None: two generators in memory
    settings: Settings | None = None,
    **options,                       # of `Settings`, instead of or above it
) -> dict:
    """One metric, as plain values: name, value with its interval, protocol, details, checksums of the networks, seconds.

    Raises:
        InputError: no such metric, or something that it needs is not there.
    """
    begun = time.perf_counter()
    name = parse(name) if isinstance(name, str) else name
    settings = dataclasses.replace(settings or Settings(), **options)
    check(name, evidence, settings)
    with arithmetic(evidence.config.precision, evidence.device):
        found = METRICS[name.base].function(evidence, name, settings)
    value, protocol = found.pop('value'), found.pop('protocol')
    if METRICS[name.base].needs_recogniser:
        protocol.update(recogniser=evidence.measuring[0], recogniser_of_the_loss=evidence.trained_with)
    protocol.update(rays='half' if name.half else 'full', pixels='8 bit', seed=settings.seed, precision=evidence.config.precision)
    meaning = {'MEANING': MEANINGLESS} if evidence.config.random_metric_weights else {}
    return plain({'name': str(name), 'value': value, 'better': METRICS[name.base].better, **meaning, 'protocol': protocol, **found,
                  'networks': {'before': sha256_of(evidence.before), 'after': sha256_of(evidence.after)},
                  'seconds': round(time.perf_counter() - begun, 1)})


def sha256_of(pickle: NetworkPickle | None) -> str | None:
    return None if pickle is None else pickle.sha256()


def plain(value: Any) -> Any:
    """What json can hold: figures as dicts, numbers with six digits."""
    if isinstance(value, Estimate):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, Tensor):
        return plain(value.tolist())
    return float(f'{value:.6g}') if isinstance(value, float) else value
