"""What `tests.fuzz` mutates: for each kind of input valid examples, and the product's own way of reading it."""
from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import page_stand_ins
import PIL.Image
import torch
from click.testing import CliRunner
from pickle_stand_ins import dump, network_contents
from small import SMALL, save_small, small_generator

from eg3d_unlearn.generators.build import build
from torch_utils_ext.network_pickle import read_network_pickle, save_network_pickle, write_unlearned_pickle


@dataclass(frozen=True)
class Target:
    """One kind of input."""
    name: str
    seeds: Callable[[], list]        # valid examples: bytes of files, or plain Python values whose parts are replaced
    run: Callable[[object, Path], object]  # reads a case; the folder is the child's own. Raises InputError for a refusal
    as_json: bool = False            # values are given as the bytes of their json
    memory: int = 0                  # bytes that a good case may take besides what every case may


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """A reader of files as a reader of bytes."""
    def run(case: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(case)
        return read(path)
    return run


def saved(content: object) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


# ---- networks ----

def network_files() -> list[bytes]:
    files = []
    for family in ('stylegan2', 'stylegan3', 'eg3d'):
        files.append(save_small(Path(_scratch().name) / f'{family}.pkl', family).read_bytes())
    return [*files, *(dump(network_contents(kind)) for kind in ('stylegan2', 'eg3d'))]


def whole_way(path: Path) -> None:
    """Read, build, write."""
    source = read_network_pickle(path)
    network = build(source.records['G_ema'])
    write_unlearned_pickle(source, path.with_name('out.pkl'), network.state_dict())


def claims() -> list:
    """Init arguments and attributes of each family."""
    return [[family, SMALL[family][1], {'neural_rendering_resolution': 16} if family == 'eg3d' else {}] for family in SMALL]


def read_claims(case: object, folder: Path) -> None:
    """A network whose file says of itself what the case says; its tensors are good ones."""
    if not (isinstance(case, list) and len(case) == 3 and case[0] in list(SMALL) and isinstance(case[1], dict) and isinstance(case[2], dict)):
        return                       # no longer the form in which this target keeps a case
    family, arguments, attributes = case
    state = _STATES.setdefault(family, small_generator(family).network.state_dict())
    save_network_pickle(folder / 'claims.pkl', SMALL[family][0], arguments, state, attributes)
    whole_way(folder / 'claims.pkl')


_STATES: dict[str, dict] = {}


# ---- latents, encoders, weights ----

class _Network:
    """As much of a generator as reading latents needs."""
    num_ws, w_dim, device = 10, 24, 'cpu'


def latents() -> list[bytes]:
    w = np.linspace(-1, 1, 240, dtype=np.float32).reshape(1, 10, 24)
    files = []
    for save in (lambda f: np.save(f, w), lambda f: np.savez(f, w=w), lambda f: np.savez_compressed(f, w=w)):
        file = io.BytesIO()
        save(file)
        files.append(file.getvalue())
    return files


def read_latent(path: Path) -> object:
    from eg3d_unlearn.person.latents import read_latent
    return read_latent(path, _Network)


def encoders() -> list[bytes]:
    from eg3d_unlearn.bench.train_encoder import save_encoder
    from eg3d_unlearn.person.inversion.encoder import EncoderNetwork
    path = Path(_scratch().name) / 'encoder.pt'
    save_encoder(EncoderNetwork(32, 24, 0, width=8, hidden=8), path, 'a' * 64)
    return [path.read_bytes()]


def read_encoder(path: Path) -> object:
    from eg3d_unlearn.person.inversion.encoder import load_encoder
    return load_encoder(path, small_generator('stylegan2'))


def weight_files() -> list[bytes]:
    state = {'a.weight': torch.ones(4, 3), 'a.bias': torch.zeros(4, dtype=torch.float16), 'n': torch.tensor(3)}
    legacy = io.BytesIO()
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    return [saved(state), legacy.getvalue()]


def read_weights(path: Path) -> object:
    from eg3d_unlearn.judges.weights import load_state
    return load_state(path)


def deltas() -> list[bytes]:
    from eg3d_unlearn.delta import Delta, to_bytes
    from eg3d_unlearn.unlearning.closed_form import Erasure
    rng = torch.Generator().manual_seed(0)
    plain, plus = (torch.randn(2, layers, 24, generator=rng, dtype=torch.float64).expand(-1, 10, -1) for layers in (1, 10))
    return [to_bytes(Delta('a' * 64, plus[0], (Erasure(ws, ws, ws[0]), Erasure(ws.flip(2), ws.flip(2), ws[1])))) for ws in (plain, plus)]


def read_delta(path: Path) -> object:
    from eg3d_unlearn.delta import read_delta
    return read_delta(path).edit()


# ---- photos, data sets, labels ----

def pictures() -> list[bytes]:
    ramp = np.arange(64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    files = []
    for mode in ('RGB', 'L', 'P', 'RGBA'):
        image = PIL.Image.fromarray(ramp).convert(mode)
        formats = {'RGB': ('PNG', 'JPEG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'AVIF', 'MPO', 'PPM'), 'L': ('PNG', 'TIFF')}.get(mode, ('PNG', 'GIF'))
        for kind in formats:
            file = io.BytesIO()
            try:
                image.save(file, kind)
            except (OSError, KeyError, ValueError):  # a Pillow without this format
                continue
            files.append(file.getvalue())
    return files


def read_photo(path: Path) -> object:
    from eg3d_unlearn.person.photo import read_image
    return read_image(path)


def data_sets() -> list[bytes]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('00000/a.png', pictures()[0])
        archive.writestr('b.jpg', pictures()[1])
        archive.writestr('dataset.json', json.dumps({'labels': [['00000/a.png', LABEL], ['b.jpg', LABEL]]}))
    return [file.getvalue()]


def read_data(path: Path) -> None:
    from eg3d_unlearn.person.photo.dataset import DataSet
    data = DataSet(path)
    data.labels()
    for name in data.names:
        data.picture(name, 32)


LABEL = [1.0, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]


def labels() -> list:
    return [{'labels': [['one.png', LABEL], ['sub/two.jpg', LABEL]]}, {'labels': {'one.png': LABEL}}, LABEL, {'labels': None}]


def read_labels(path: Path) -> object:
    from eg3d_unlearn.person.photo.camera_labels import find_camera
    return find_camera(None, path.with_name('one.png'))


# ---- what is left in folders, and options ----

def run_folders() -> list:
    return [{'report': page_stand_ins.report(evidence=page_stand_ins.evidence()), 'audit': page_stand_ins.audit(),
             'metric': page_stand_ins.metric(), 'stats': page_stand_ins.stats(3)}]


def read_run_folder(case: object, folder: Path) -> None:
    """The page of a folder whose files say what the case says."""
    from eg3d_unlearn.report import write_report
    case = case if isinstance(case, dict) else {'report': case}
    files = {'report.json': case.get('report'), 'audit.json': case.get('audit'), 'metric-id.jsonl': case.get('metric'), 'stats.jsonl': None}
    for name, content in files.items():
        (folder / name).write_bytes(json.dumps(content, default=str).encode('utf-8', 'surrogatepass'))
    lines = case.get('stats')
    text = '\n'.join(json.dumps(line, default=str) for line in lines) if isinstance(lines, list) else json.dumps(lines, default=str)
    (folder / 'stats.jsonl').write_bytes(text.encode('utf-8', 'surrogatepass'))
    said: list[str] = []
    write_report(folder, None, log=said.append)
    text = (folder / 'report.html').read_text(encoding='utf-8')
    assert '<script>alert' not in text and not set('\x1b\u202e\x00') & set(text), 'what a file says reached the page as it is'
    assert ''.join(said).isprintable(), 'what a file says reached the console as it is'


def command_lines() -> list:
    """Options of the main command on a small network; ``~`` stands for the folder with the files."""
    usual = {'network': '~/n.pkl', 'outdir': '~/out', 'device': 'cpu', 'lpips-net': 'squeeze', 'id-network': 'none',
             'random-metric-weights': None}
    return [{**usual, 'latent-seed': '3', 'iters': '2', 'lr': '0.01', 'batch': '2', 'snap': '5', 'seed': '1', 'trunc': '0.7'},
            {**usual, 'image': '~/p.png', 'aligned': None, 'inversion': 'w', 'inversion-steps': '2', 'report': 'brief',
             'trainable': 'synthesis.b8', 'method': 'guide'},
            {**usual, 'latent': '~/w.npy', 'target-d': '3', 'alpha-max': '2', 'loss-resolution': 'full', 'fov-deg': '18',
             'precision': 'fp32', 'face-crop': 'full', 'lpips-resolution': '64'}]


def read_command_line(case: object, folder: Path) -> None:
    """The command's own checks, nothing written."""
    from eg3d_unlearn.command import main
    if not isinstance(case, dict):
        return
    if not (folder / 'n.pkl').is_file():
        save_small(folder / 'n.pkl', 'stylegan2')
        PIL.Image.new('RGB', (32, 32), (90, 60, 30)).save(folder / 'p.png')
        np.save(folder / 'w.npy', np.zeros((1, 24), np.float32))
    words = ['--dry-run']
    for name, value in case.items():
        text = f'--{name}' if value is None else f'--{name}={value}'
        words.append(text.replace('~/', f'{folder}/').encode('utf-8', 'replace').decode())
    result = CliRunner().invoke(main, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert 'Traceback' not in result.output and 'report' not in result.output.split('unexpected', 1)[-1:], result.output[-500:]


@lru_cache
def _scratch() -> tempfile.TemporaryDirectory:
    """A folder for making examples in, for as long as this process lives."""
    return tempfile.TemporaryDirectory()


TARGETS = [
    Target('pickle', network_files, in_file('net.pkl', whole_way)),
    Target('claims', claims, read_claims),
    Target('latent', latents, in_file('w.npy', read_latent)),
    Target('latent-pt', lambda: [saved({'w': torch.ones(1, 10, 24)}), saved(torch.ones(24))], in_file('w.pt', read_latent)),
    Target('encoder', encoders, in_file('encoder.pt', read_encoder)),
    Target('delta', deltas, in_file('person.safetensors', read_delta)),
    Target('weights', weight_files, in_file('weights.pth', read_weights)),
    Target('photo', pictures, in_file('photo.png', read_photo), memory=1 << 30),
    Target('data', data_sets, in_file('data.zip', read_data), memory=1 << 30),
    Target('labels', labels, in_file('dataset.json', read_labels), as_json=True),
    Target('folder', run_folders, read_run_folder),
    Target('options', command_lines, read_command_line, memory=1 << 30),
]
