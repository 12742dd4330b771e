"""A run's files and pictures as pages are written from, made up: no network, no render; and a reader of pages."""
from __future__ import annotations

import random
from html.parser import HTMLParser

import PIL.Image

from eg3d_unlearn.evaluation.pictures import BeforeAfter, Picture, Pictures, jpeg
from eg3d_unlearn.report.files import RunFiles
from eg3d_unlearn.report.page import page

WRITTEN = '2026-01-02 10:00 UTC'
VOID = ('br', 'hr', 'img', 'input', 'link', 'meta')   # elements without an end tag
YAWS = [-15.0, -12.0, -9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0, 12.0, 15.0]


def picture(colour: str = 'gray', size: int = 16) -> Picture:
    return jpeg(PIL.Image.new('RGB', (size, size), colour), size)


def figure(values: list[float], samples: int | None = None, spread: float = 0.02) -> dict:
    mean = sum(values) / len(values)
    samples = samples or len(values)
    half = spread * (samples > 1)
    return {'value': round(mean, 5), 'low': round(mean - half, 5), 'high': round(mean + half, 5), 'samples': samples, 'seed': 0}


def group(values: list[float], threshold: float, samples: int | None = None) -> dict:
    return {**figure(values, samples), 'lowest': min(values), 'highest': max(values), 'recognised': sum(value >= threshold for value in values),
            'of': len(values), 'values': values}


def likeness(
    rng: random.Random,
    erased: float = -0.02,           # likeness of this photo
    others: float = 0.23,            # of other photos
    kept: float = 0.95,              # of other people
    threshold: float = 0.42,
) -> dict:
    def around(mean: float, count: int, spread: float) -> list[float]:
        return [round(min(mean + rng.gauss(0, spread), 0.999), 5) for _ in range(count)]

    found = {'different_people': {'mean': -0.0123, 'low': -0.31, 'high': 0.33, 'pairs': 780, 'people': 40, 'threshold': threshold},
             'same_photo': group(around(erased, 11, 0.03), threshold, samples=1), 'other_photos': group(around(others, 3, 0.04), threshold),
             'neighbours': group(around(0.35, 9, 0.2), threshold, samples=3), 'strangers': group(around(0.93, 2, 0.02), threshold),
             'other_people': group(around(kept, 40, 0.03), threshold), 'photo': {'before': 0.958, 'after': round(erased + 0.011, 5)}}
    recognised = found['other_people']['recognised']
    found['other_people']['share_recognised'] = {'value': recognised / 40, 'low': round(recognised / 40 - 0.088, 5), 'high': recognised / 40,
                                                 'samples': 40, 'seed': 0}
    return found


def evidence(**options) -> dict:
    """What `comparison.figures_of` gives."""
    rng = random.Random(0)
    measured = {'demo-measuring': likeness(rng, **options), 'demo-loss': likeness(rng, **options)}
    distance = {'same_photo': [0.0] * 11, 'other_photos': [4.1, 5.2, 3.3], 'neighbours': [2.5, 5.0, 7.5] * 3, 'strangers': [31.0, 28.5],
                'other_people': [round(rng.uniform(18, 40), 3) for _ in range(40)]}
    reach = {name: list(zip(far, measured['demo-measuring'][name]['values'], strict=True)) for name, far in distance.items()}
    return {
        'measured_by': 'demo-measuring', 'trained_with': 'demo-loss', 'likeness': measured, 'reach': reach,
        'lpips': {name: figure([0.3, 0.32]) for name in distance},
        'agreement': [{'recognisers': ['demo-measuring', 'demo-loss'], 'pictures': 65, 'same_verdict': 62, 'correlation': 0.9312}],
        'protocol': {'views_deg': YAWS, 'people': 40, 'neighbours': 9, 'seed': 0, 'interval_from': 5, 'false_accept_rate': 0.01,
                     'other_photos': 3, 'strangers': 2},
    }


def report(**changes) -> dict:
    """report.json of a run."""
    return {
        'summary': {'erased_same_photo': -0.0184, 'erased_other_photos': 0.2271, 'other_people': 0.9523, 'different_people_mean': -0.0094,
                    'measured_by': 'demo-measuring', 'other_photos': 3, 'others': 8, 'seconds': 160.2},
        'figures': {'unlearned_against_source': {'lpips': 0.3121, 'identity_cosine': 0.02}, 'others': 8},
        'loss': {'first_step': {'loss': 1.2}, 'last_step': {'loss': 0.4}},
        'person': {'given_as': 'demo', 'inversion': 'encoder', 'lpips': 0.113, 'psnr_db': 24.1, 'identity': 0.96},
        'config': {'network': 'demo-eg3d', 'method': 'guide', 'target': 'ufo', 'target_d': 11.5, 'alpha_max': 7.5, 'iters': 80, 'image':
                   '(given, not recorded)', 'keep_source': False, 'seed': 0},
        'trained': ['backbone.synthesis'],
        'networks': {'in': {'file': 'demo-eg3d-cbb05110b91f.pkl', 'sha256': 'a' * 64},
                     'out': {'file': 'network-unlearned.pkl', 'sha256': 'b' * 64}},
        'versions': {'eg3d_unlearn': '0.1.0', 'torch': '2.15.0'}, 'hardware': {'processor': 'a processor', 'cores': 2},
        'peak_memory': {'host_gib': 2.31}, 'seconds': 160.2, **changes,
    }


def stats(count: int = 80) -> list[dict]:
    rng = random.Random(1)
    return [{'step': i + 1, **{name: top * (0.2 + 0.8 * 0.97 ** i) * rng.uniform(0.8, 1.2) for name, top in
                               (('loss', 2.1), ('local', 0.6), ('adj', 0.5), ('global', 0.3), ('l2', 0.04), ('lpips', 0.4), ('id', 1.1))},
             'seconds': 1.5} for i in range(count)]


def metric(name: str = 'id', value: float = 0.02, **more) -> dict:
    return {'name': name, 'value': {'value': value, 'low': value - 0.05, 'high': value + 0.05, 'samples': 11, 'seed': 0}, 'better': 'low',
            'protocol': {'recogniser': 'demo-measuring', 'yaws': 11}, 'networks': {'before': 'a' * 64, 'after': 'b' * 64}, 'seconds': 12.0,
            **more}


def tier(key: str, after: float, curve: bool = False) -> dict:
    share = min(1.0, max(0.0, 2 * after - 0.4))   # of comparisons in which the person is recognised
    steps = list(range(0, 44, 4))
    return {'tier': key, 'title': f'Attack {key}', 'attacker': 'holds the weights and one photo', 'figures': {
        'before': figure([0.9, 0.92]), 'after': figure([after, after + 0.03]), 'controls_before': figure([0.9, 0.88, 0.91]),
        'controls': figure([0.88, 0.9, 0.91]), 'excess': figure([after - 0.9, after - 0.85])},
        'curve': {'steps': steps, 'person': [min(0.9, after * i / 40 + 0.1) for i in steps], 'controls': [0.85] * len(steps)} if curve else None,
        'verdict': f'The verdict of {key} in one sentence.', 'seconds': 61.5, 'details': {'verification': {
            'after': {'value': share, 'low': max(0.0, share - 0.2), 'high': min(1.0, share + 0.2), 'samples': 3, 'seed': 0}}}}


def who(change: int = 5, **ranks: int) -> dict:
    """The entry of T7, which looks for anybody."""
    found = tier('T7', 0.3)
    found['details'].update(candidates=52, ranks={name: {'person': rank, 'controls': 20} for name, rank in {'change': change, **ranks}.items()})
    return found


def audit(**changes) -> dict:
    tiers = [tier(f'T{i}', after, curve=i == 4) for i, after in enumerate([0.02, 0.2, 0.45, 0.85, 0.87, 0.1, 0.12, 0.3, 0.25])]
    tiers[4]['details']['erased_latent'] = {'curve': {'steps': [0, 4], 'person': [0.5, 0.9], 'controls': [0.9, 0.9]}}
    return {'budget': 'quick', 'seed': 0, 'networks': {'before': 'a' * 64, 'after': 'b' * 64}, 'person': {'photos': 4}, 'controls': 3,
            'threshold': {'cosine': 0.42, 'false_accept_rate': 0.01}, 'tiers': tiers, 'ruin': {'verdict': 'Others were kept.'},
            'verdict': ['Others were kept.', *(f'{one["tier"]}: {one["verdict"]}' for one in tiers)],
            'config': {}, 'versions': {}, 'hardware': {}, 'seconds': 540.0, **changes}


def found(**changes) -> RunFiles:
    """All of it together."""
    whole = dict(report={**report(), 'evidence': evidence()}, stats=stats(), metrics=[metric(), metric('fid_pre5k', 8.13)], audit=audit())
    return RunFiles(**{**whole, **changes})


def shown(likenesses: list[float], **more) -> list[BeforeAfter]:
    return [BeforeAfter(picture('peru'), picture('olive'), likeness=likeness, **more) for likeness in likenesses]


def pictures(flat: bool = False) -> Pictures:
    """Of a 3D network; ``flat``: of a 2D one.  Likenesses are those of `evidence`."""
    measured = {name: found['values'] for name, found in evidence()['likeness']['demo-measuring'].items() if 'values' in found}
    views = [BeforeAfter(picture('peru', 32), picture('olive', 32), picture('tan', 32), yaw=yaw, likeness=likeness)
             for yaw, likeness in zip([None] if flat else YAWS, measured['same_photo'], strict=False)]
    people = measured['other_people']
    return Pictures(views, None, shown(measured['other_photos']), shown(measured['neighbours'], title='33% of α_max'),
                    shown(measured['strangers']), shown(sorted(people)[:6]), shown(people[:6]))


class Reader(HTMLParser):
    """Takes a page apart and notes elements that are not closed as they were opened."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.wrong, self.tags, self.text, self.data, self.ids = [], [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        attributes = dict(attributes)
        self.tags.append((name, attributes))
        if 'id' in attributes:
            self.ids.append(attributes['id'])
        if name == 'data':
            self.data.append(float(attributes['value']))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        if not self.open or self.open.pop() != name:
            self.wrong.append(name)
        self.text.append(' ' * (name in ('p', 'li', 'h1', 'h2', 'h3', 'td', 'th', 'title', 'figcaption')))

    def handle_data(self, text):
        if not {'script', 'style'} & set(self.open):
            self.text.append(text)

    @property
    def words(self) -> str:
        return ' '.join(''.join(self.text).split())

    def all(self, name: str) -> list[dict]:
        return [attributes for found, attributes in self.tags if found == name]


def read(run: RunFiles | None = None, shows: Pictures | None = None) -> Reader:
    """The page of a run."""
    return Reader(page(run or found(), shows or pictures(), WRITTEN))


def bare(**changes) -> RunFiles:
    """A run of which there is nothing but its report."""
    return found(**{**dict(report=report(), stats=[], metrics=[], audit=None), **changes})


def numbers_in(value) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers_in(part)]
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in numbers_in(part)]
    return [float(value)] if isinstance(value, (int, float)) and not isinstance(value, bool) else []
