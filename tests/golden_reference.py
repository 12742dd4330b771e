"""Networks held against stored outputs of the upstream code: the files, the weights by rule, the comparison.

The folder's own README describes the format.  No weights are stored: every tensor follows from its name.
``python tests/golden_reference.py`` makes the small subset in tests/data from the whole folder, see `make_subset`.
"""
from __future__ import annotations

import json
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
SUBSET_DIR = ROOT / 'tests' / 'data'
SMALL_PARAMETERS = 5e6               # larger networks accumulate more rounding
TOLERANCE_SMALL, TOLERANCE_LARGE = 1e-4, 1e-3        # of an output's standard deviation
NORMS = 'grad_l2_of_mean_image_times_linspace'
SUBSET_STRIDE = 4                    # the subset keeps every 4th row and column of what the folder has
SUBSET_GRADIENT_SIZE = 1000          # ... and the gradients of up to so many numbers

# Entries that keep what the constructor made, unless the file stores them.
CONSTRUCTED = {'resample_filter', 'up_filter', 'down_filter', 'transform', 'freqs', 'phases', 'magnitude_ema'}
CONSTRUCTED_RECOGNISER = {'num_batches_tracked', 'relative_position_index', 'attn_mask', 'relative_coords_table'}
GENERATOR_RULES = [                  # (pattern of the name, scale, offset), the first that fits
    (r'.*mapping\.fc\d+\.weight', 100, 0),
    (r'.*mapping\.fc\d+\.bias', 10, 0),
    (r'.*affine\.bias', 0.1, 1),
    (r'backbone\.synthesis.*torgb\.weight', 4, 0),
    (r'decoder\.net\.2\.weight', 4, 0),
    (r'(.*\.)?(bias|noise_strength|w_avg)', 0.1, 0),
    (r'.*', 1, 0),
]


@dataclass
class Golden:
    """One stored network: ``meta`` is its json, ``arrays`` its npz as float32 arrays."""

    name: str
    meta: dict
    arrays: dict[str, np.ndarray]

    def tensor(self, key: str) -> Tensor | None:
        return torch.from_numpy(self.arrays[key]) if key in self.arrays else None

    @property
    def tolerance(self) -> float:
        """The agreement to expect of float32, as a fraction of an output's standard deviation."""
        size = sum(int(np.prod(shape)) for _, shape, _ in self.meta['state_dict'])
        return TOLERANCE_SMALL if size < SMALL_PARAMETERS else TOLERANCE_LARGE


@dataclass
class Measured:
    """What one network gave, or what is stored of it."""

    outputs: dict[str, Tensor]       # strided as stored; gradients under 'grad:<parameter>'
    norms: dict[str, float]          # parameter -> L2 norm of its gradient, 0 where the graph does not reach it


@dataclass
class Row:
    """One line of the comparison's table."""

    output: str
    error: float                     # largest difference over the output's standard deviation; for norms: relative
    tolerance: float
    remark: str = ''

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def golden_dir() -> Path:
    """``GOLDEN_DIR``, else ``shared/golden`` beside the repository."""
    return Path(os.environ.get('GOLDEN_DIR') or ROOT.parent / 'shared' / 'golden')


def network_names(folder: Path) -> list[str]:
    """The stems of all json files in ``folder`` that describe a generator."""
    return [path.stem for path in sorted(folder.glob('*.json')) if 'class_name' in json.loads(path.read_text(encoding='utf-8'))]


def load_golden(folder: Path, name: str) -> Golden:
    meta = json.loads((folder / f'{name}.json').read_text(encoding='utf-8'))
    with np.load(folder / f'{name}.npz') as stored:
        return Golden(name, meta, {key: stored[key] for key in stored.files})


# ---- weights by rule ----

def name_noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 numbers that follow from a tensor's name."""
    draws = np.random.RandomState(zlib.crc32(name.encode())).randn(*shape)
    return torch.from_numpy(np.asarray(draws, dtype=np.float32))


def generator_value(name: str, shape: tuple[int, ...]) -> Tensor:
    scale, offset = next((m, b) for pattern, m, b in GENERATOR_RULES if re.fullmatch(pattern, name))
    return name_noise(name, shape) * np.float32(scale) + np.float32(offset)


def recogniser_value(name: str, shape: tuple[int, ...]) -> Tensor:
    noise = name_noise(name, shape)
    last = name.split('.')[-1]
    if last == 'weight' and len(shape) >= 2:
        return noise / np.float32(np.sqrt(np.prod(shape[1:])))
    if last == 'weight':
        return 1 + 0.1 * noise
    if last == 'running_var':
        return 1 + 0.1 * noise.abs()
    return 0.1 * noise


def set_weights(network: nn.Module, value_of, constructed: set[str], stored: dict[str, Tensor]) -> None:
    """Fill a network by rule; ``stored`` goes first, entries in ``constructed`` stay as they are."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name in stored:
                tensor.copy_(stored[name])
            elif name.split('.')[-1] not in constructed:
                tensor.copy_(value_of(name, tuple(tensor.shape)))


def pattern(seed: int, size: int) -> Tensor:
    """The recognisers' input [1, 3, size, size] float32 in [-1, 1]: blocks of 8x8 pixels."""
    blocks = np.tanh(np.random.RandomState(2000 + seed).randn(1, 3, size // 8, size // 8)).astype(np.float32)
    return torch.from_numpy(blocks).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)


def described_pattern(text: str) -> Tensor:
    """The input that a json describes, such as 'pattern(0, 112): [1,3,112,112]'."""
    return pattern(*map(int, re.match(r'pattern\((\d+), *(\d+)\)', text).groups()))


def state_dict_list(network: nn.Module) -> list[list]:
    return [[name, list(tensor.shape), str(tensor.dtype).removeprefix('torch.')] for name, tensor in network.state_dict().items()]


# ---- what a network gives ----

def stored(golden: Golden) -> Measured:
    outputs = {key: golden.tensor(key) for key in golden.arrays
               if key not in ('z', 'c', 'c_map', 'c_render') and not key.startswith('state:')}
    norms = {name: 0.0 if norm is None else float(np.ravel(norm)[0]) for name, norm in golden.meta.get(NORMS, {}).items()}
    return Measured(outputs, norms)


def measure(golden: Golden, network: nn.Module) -> Measured:
    """The same from ``network``; gradients are of mean(image * linspace(-1, 1)), through the synthesis only."""
    wanted = [key.removeprefix('grad:') for key in golden.arrays if key.startswith('grad:')]
    norms = golden.meta.get(NORMS, {})
    network.zero_grad()
    with torch.set_grad_enabled(bool(wanted or norms)):
        outputs, image = (_eg3d_outputs if 'c_map' in golden.arrays else _stylegan_outputs)(golden, network)
    outputs['image'] = strided(image, golden.meta.get('image_stride', 1))
    if not wanted and not norms:
        return Measured(outputs, {})
    (image * torch.linspace(-1, 1, image.numel()).reshape(image.shape)).mean().backward()
    gradients = {name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
                 for name, parameter in network.named_parameters()}
    outputs.update({f'grad:{name}': gradients[name] for name in wanted})
    return Measured(outputs, {name: gradient.double().norm().item() for name, gradient in gradients.items()} if norms else {})


def strided(x: Tensor, stride: int) -> Tensor:
    return x[:, :, ::stride, ::stride]


def _stylegan_outputs(golden: Golden, network: nn.Module) -> tuple[dict[str, Tensor], Tensor]:
    z, c = golden.tensor('z'), golden.tensor('c')
    with torch.no_grad():
        ws = network.mapping(z, c)
        truncated = network.mapping(z, c, truncation_psi=0.7, truncation_cutoff=4)
    return {'ws': ws, 'ws_trunc': truncated}, network.synthesis(ws, noise_mode='const', force_fp32=True)


def _eg3d_outputs(golden: Golden, network: nn.Module) -> tuple[dict[str, Tensor], Tensor]:
    z, camera = golden.tensor('z'), golden.tensor('c_map')
    points = torch.linspace(-0.4, 0.4, 81).reshape(1, 27, 3)
    with torch.no_grad():
        ws = network.mapping(z, camera)
        truncated = network.mapping(z, camera, truncation_psi=0.7, truncation_cutoff=7)
        planes = network.planes(ws, noise_mode='const')
        samples = network.renderer.run_model(planes, network.decoder, points, network.rendering_kwargs)
    rendered = network.synthesis(ws, golden.tensor('c_render'), golden.meta.get('neural_rendering_resolution'),
                                 noise_mode='const', jitter='fixed')
    stride = golden.meta.get('image_raw_stride', 1)
    outputs = {'ws': ws, 'ws_trunc': truncated, 'planes_8th': strided(planes, golden.meta.get('planes_stride', 8)),
               'image_raw': strided(rendered['image_raw'], stride), 'image_depth': strided(rendered['image_depth'], stride),
               'sigma': samples['sigma'], 'rgb': samples['rgb']}
    return outputs, rendered['image']


# ---- comparison ----

def compare_network(golden: Golden, network: nn.Module) -> list[Row]:
    """The table of one generator, its weights set by rule: all stored outputs, gradients and gradient norms.

    Float32 does not always reach the README's tolerance: unmodified upstream code, run on another machine than the
    references come from, missed it on eg3d-heads128-tiny (depth 1.2e-4, a gradient 1.5e-4; 1.6e-4 and 3.6e-4 with its
    other way of modulating), because importance sampling and leaky ReLUs enlarge rounding.  So a row that misses it is
    measured against what one rounding of every weight changes: three times that is allowed, up to ten tolerances.
    """
    given = {key.removeprefix('state:'): golden.tensor(key) for key in golden.arrays if key.startswith('state:')}
    set_weights(network, generator_value, CONSTRUCTED, given)
    ours = measure(golden, network)
    rows = compare_measured(ours, stored(golden), golden.tolerance)
    if all(row.ok for row in rows):
        return rows
    changes = [compare_measured(ours, measure(golden, network), golden.tolerance) for _ in shaken(network, times=2)]
    for row, *changed in zip(rows, *changes, strict=True):
        change = max(other.error for other in changed)
        if not row.ok:
            row.tolerance = max(row.tolerance, min(3 * change, 10 * row.tolerance))
            row.remark += f' (rounding the weights changes it by {change:.1e})'
    return rows


def shaken(network: nn.Module, times: int):
    """``times`` rounds in which the parameters differ from the given ones by about one rounding, 2**-24 of each."""
    given = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for _ in range(times):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1 + 2 ** -24 * torch.randn(parameter.shape, generator=generator))
        yield
        network.load_state_dict(given)


def compare_measured(ours: Measured, reference: Measured, tolerance: float) -> list[Row]:
    """One row for each output of ``reference``, in its order, and one for all gradient norms."""
    rows = [compare(key, ours.outputs[key], reference.outputs[key], tolerance)
            for key in ours.outputs if key in reference.outputs]
    missing = set(reference.outputs) - set(ours.outputs)
    if missing:
        rows.append(Row(', '.join(sorted(missing)), float('inf'), tolerance, 'stored, but not measured'))
    return rows + [worst_norm(ours, reference, tolerance)] if ours.norms else rows


def compare(output: str, ours: Tensor, reference: Tensor, tolerance: float) -> Row:
    """The largest difference in standard deviations of the reference (in its own size, where it is one number)."""
    if ours.shape != reference.shape:
        return Row(output, float('inf'), tolerance, f'shape {list(ours.shape)}, stored {list(reference.shape)}')
    scale = reference.double().std() if reference.numel() > 1 else reference.double().abs().max()
    difference = (ours.detach().double() - reference.detach().double()).abs().max().item()
    error = 0.0 if difference == 0 else difference / scale.item() if scale else float('inf')
    return Row(output, float('inf') if np.isnan(error) else error, tolerance)


def worst_norm(ours: Measured, reference: Measured, tolerance: float) -> Row:
    """The largest error among the gradient norms, over the norm; where upstream has no gradient, ours is zero.

    The gradient of one number (noise_strength) is a sum over all pixels that may nearly cancel: in EG3D a change of the
    latent by 1e-6 moved one by 2e-3 of itself.  These are measured by their root mean square over the network.
    """
    if set(ours.norms) != set(reference.norms):
        only = sorted(set(ours.norms) ^ set(reference.norms))
        return Row('gradient norms', float('inf'), tolerance, f'only on one side: {only}')
    single = [name for name, norm in reference.norms.items() if name.endswith('noise_strength') and norm]
    typical = float(np.sqrt(np.mean([reference.norms[name] ** 2 for name in single]))) if single else 0.0
    errors = {}
    for name, norm in reference.norms.items():
        scale = max(norm, typical) if name in single else norm
        difference = abs(ours.norms[name] - norm)
        error = difference / scale if scale else (float('inf') if difference else 0.0)
        errors[name] = float('inf') if np.isnan(error) else error
    worst = max(errors, key=errors.get)
    return Row('gradient norms', errors[worst], tolerance, f'worst of {len(errors)}: {worst}')


def table(name: str, rows: list[Row]) -> str:
    lines = [f'{name}: largest error / standard deviation']
    for row in rows:
        verdict = 'ok  ' if row.ok else 'FAIL'
        lines.append(f'  {verdict} {row.output:<50} {row.error:9.2e} of {row.tolerance:.1e}  {row.remark}'.rstrip())
    return '\n'.join(lines)


# ---- the subset ----

def make_subset(source: Path, target: Path) -> None:
    """Write the small networks of ``source`` in the same format, but with fewer pixels and gradients, into ``target``.

    Filters are left out: the constructor computes them, and the outputs depend on them.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in network_names(source):
        golden = load_golden(source, name)
        if golden.tolerance != TOLERANCE_SMALL:
            continue
        arrays, meta = {}, dict(golden.meta)
        for key, array in golden.arrays.items():
            large_gradient = key.startswith('grad:') and array.size > SUBSET_GRADIENT_SIZE
            if large_gradient or key.endswith('_filter'):
                continue
            pixels = key in ('image', 'image_raw', 'image_depth', 'planes_8th')
            arrays[key] = array[:, :, ::SUBSET_STRIDE, ::SUBSET_STRIDE] if pixels else array
        for key, default in (('image_stride', 1), ('image_raw_stride', 1), ('planes_stride', 8)):
            meta[key] = meta.get(key, default) * SUBSET_STRIDE
        np.savez_compressed(target / f'{name}.npz', **arrays)
        (target / f'{name}.json').write_text(json.dumps(meta, separators=(',', ':')) + '\n', encoding='utf-8')
        print(f'{name}: {sum((target / f"{name}{end}").stat().st_size for end in (".npz", ".json"))} bytes')


if __name__ == '__main__':
    make_subset(golden_dir(), SUBSET_DIR)
