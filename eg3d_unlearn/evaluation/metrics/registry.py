"""Metrics by name.  A name fixes its protocol: `fid_pre5k` is 5000 pictures, `retain200-half` 200 people at half the rays."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable

from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import did_you_mean, shown

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence
    from eg3d_unlearn.evaluation.settings import Settings

HALF = '-half'                       # suffix: half as many rays along each side (EG3D), or small pictures (MobileStyleGAN)
NAME = re.compile(r'(?P<base>[a-z_]+?)(?P<count>\d{1,7}k?)?(?P<half>-half)?')


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
    """One registered metric, with all that help, tables and report.html need to know of it."""
    base: str
    function: Callable[[Evidence, Name, Settings], dict]  # gives 'value', 'protocol' and details
    title: str                       # what is measured, in a few words
    heading: str                     # of its column in a table
    better: str                      # 'low' or 'high'
    columns: dict[str, str] = field(default_factory=dict)  # details that a table can show, as 'retain:worst' -> heading
    counts: str = 'people'           # what the number in its name counts: 'people', or 'pictures' of anybody
    default_count: int | None = None  # None: the metric draws nothing, its name has no number
    least_count: int = 2             # fewer mean nothing
    needs_person: bool = False       # the erased person, not the networks alone
    needs_other_photos: bool = False  # of the person
    needs_recogniser: bool = False
    needs_real: bool = False         # real pictures, of --data or of a world
    check: Callable[[Evidence, Name, Settings], object] = lambda evidence, name, settings: None  # InputError for what cannot work

    @property
    def example(self) -> str:
        return self.base + counted(self.default_count)

    def heading_of(self, column: str = '') -> str:
        """The heading of one of ``columns``, or of the metric itself, with an arrow towards the better."""
        return f'{self.columns[column] if column else self.heading} {"↓" if self.better == "low" else "↑"}'


METRICS: dict[str, Metric] = {}


def metric(base: str, **about):      # fields of `Metric`
    """Decorator: register a metric under the name ``base``."""
    def register(function):
        METRICS[base] = Metric(base, function, **about)
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
    found = NAME.fullmatch(text.strip())
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


def find(text: str) -> Metric | None:
    """The metric that a result of this name is of; None where there is no such metric."""
    found = NAME.fullmatch(text)
    return METRICS.get(found['base']) if found else None


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
    if name.half and not evidence.g_s.has_half:
        raise InputError(f'{name} asks for cheaper pictures, and a {evidence.g_s.family} network makes none. Ask for '
                         f'{str(name).removesuffix(HALF)}.')
    if entry.needs_person and evidence.person is None:
        raise InputError(f'{name} is about the erased person: say who with --image, --latent or --latent-seed.')
    if entry.needs_other_photos and len(evidence.ws_mine) < 2:
        raise InputError(f'{name} is about other photos of the same person, and there is none: give --image more than once, a folder, or a '
                         'person of the demo world.')
    if entry.needs_recogniser and not evidence.recognisers:
        raise InputError(f'{name} needs a recogniser, and there is none (--id-network=none). Give one with --recogniser or --id-network.')
    entry.check(evidence, name, settings)
