"""Metrics by name.  A name fixes its protocol: `fid_pre5k` is 5000 pictures, `retain200-half` 200 people at half the rays."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import did_you_mean, shown

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence
    from eg3d_unlearn.evaluation.settings import Settings

HALF = '-half'                       # suffix: half as many rays along each side (EG3D)


@dataclass(frozen=True)
class Name:
    """A metric's name, taken apart."""
    base: str                        # key of `METRICS`
    count: int | None                # pictures or people, where the metric draws some
    half: bool = False               # half as many rays along each side

    def __str__(self) -> str:
        return self.base + counted(self.count) + HALF * self.half


@dataclass(frozen=True)
class Metric:
    """One registered metric."""
    base: str
    function: Callable[[Evidence, Name, Settings], dict]  # gives 'value', 'protocol' and details
    default_count: int | None        # None: the metric draws nothing, its name has no number
    least_count: int                 # fewer mean nothing
    needs_person: bool               # the erased person, not the networks alone
    needs_recogniser: bool
    better: str                      # 'low' or 'high'
    check: Callable[[Evidence, Name, Settings], object]  # raises InputError for what cannot work, before anything slow

    @property
    def example(self) -> str:
        return self.base + counted(self.default_count)

    @property
    def about(self) -> str:
        return (self.function.__doc__ or '').strip().splitlines()[0]


METRICS: dict[str, Metric] = {}


def metric(base: str, better: str, default_count: int | None = None, least_count: int = 2, needs_person: bool = False,
           needs_recogniser: bool = False, check: Callable[[Evidence, Name, Settings], object] = lambda evidence, name, settings: None):
    """Decorator: register a metric under the name ``base``, with a number behind it where ``default_count`` is one."""
    def register(function):
        METRICS[base] = Metric(base, function, default_count, least_count, needs_person, needs_recogniser, better, check)
        return function
    return register


def counted(count: int | None) -> str:
    """A number as names have it: 500, 5k."""
    if count is None:
        return ''
    return f'{count // 1000}k' if count % 1000 == 0 else str(count)


def parse(text: str) -> Name:
    """What a name asks for.

    Raises:
        InputError: no such metric; a number where none belongs, or one that is too small.
    """
    found = re.fullmatch(r'(?P<base>[a-z_]+?)(?P<count>\d{1,7}k?)?(?P<half>-half)?', text.strip())
    examples = [metric.example for metric in METRICS.values()]
    known = ', '.join(examples)
    if found is None or found['base'] not in METRICS:
        raise InputError(f'There is no metric {shown(text.strip())!r}. Known: {known}; the number is that of pictures or people (500, 5k), and '
                         f'{HALF} behind a name takes half the rays along each side (EG3D).{did_you_mean(text.strip(), examples)}')
    entry = METRICS[found['base']]
    if found['count'] is None:
        return Name(entry.base, entry.default_count, found['half'] is not None)
    if entry.default_count is None:
        raise InputError(f'{entry.base} draws no samples, so that {text.strip()!r} has a number too many. Ask for {entry.base}.')
    count = int(found['count'].removesuffix('k')) * (1000 if found['count'].endswith('k') else 1)
    if count < entry.least_count:
        raise InputError(f'{text.strip()} asks for {count} samples; {entry.base} needs at least {entry.least_count}, for instance '
                         f'{entry.example}.')
    return Name(entry.base, count, found['half'] is not None)


def parse_all(text: str) -> list[Name]:
    """The names of a list separated by commas, each once."""
    names = [parse(part) for part in text.split(',') if part.strip()]
    if not names:
        raise InputError(f'--metrics={text} names no metric. Known: {", ".join(metric.example for metric in METRICS.values())}.')
    return list(dict.fromkeys(names))


def check(name: Name, evidence: Evidence, settings: Settings) -> None:
    """Refuse what cannot be measured, before anything slow.

    Raises:
        InputError: what this metric needs is not there; says what, and what to do.
    """
    entry = METRICS[name.base]
    if name.half and not evidence.g_s.is_3d:
        raise InputError(f'{name} asks for half the rays, but a {evidence.g_s.family} network has none. Ask for {str(name).removesuffix(HALF)}.')
    if entry.needs_person and evidence.person is None:
        raise InputError(f'{name} is about the erased person: say who with --image, --latent or --latent-seed.')
    if entry.needs_recogniser and not evidence.recognisers:
        raise InputError(f'{name} needs a recogniser, and there is none (--id-network=none). Give one with --recogniser or --id-network.')
    if entry.needs_recogniser:
        settings.check_rate()
    entry.check(evidence, name, settings)
