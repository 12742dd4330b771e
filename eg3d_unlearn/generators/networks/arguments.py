"""What the arguments and attributes of upstream's generators may be: a file's claims are checked here before they cost anything.

A range holds every network that was ever published, with room; beyond it a file asks for hours or gigabytes that its
tensors would never fill.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eg3d_unlearn.generators.networks.stylegan2 import ARCHITECTURES, NOISE_MODES
from torch_utils_ext.errors import InputError
from torch_utils_ext.ops import activation_funcs
from torch_utils_ext.user_files import shown

MAX_RAY_SAMPLES = 256 ** 2 * 256     # of one picture; EG3D's largest have 128 x 128 rays of 96


@dataclass(frozen=True)
class Kind:
    """What a value must be: the words of the error, and the test."""
    expected: str
    holds: Callable[[Any], bool]

    def __or__(self, other: Kind) -> Kind:
        return Kind(f'{self.expected} or {other.expected}', lambda value: self.holds(value) or other.holds(value))


def whole(low: int, high: int) -> Kind:
    return Kind(f'a whole number from {low} to {high}', lambda value: type(value) is int and low <= value <= high)


def number(low: float, high: float) -> Kind:
    return Kind(f'a number from {low:g} to {high:g}', lambda value: type(value) in (int, float) and low <= value <= high)


def one_of(*values: Any) -> Kind:
    return Kind('one of ' + ', '.join(map(str, values)), lambda value: any(type(value) is type(known) and value == known for known in values))


def _is_filter(value: Any) -> bool:
    """One row of taps, or rows of one length."""
    rows = value if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)) else [value]
    if not all(isinstance(row, (list, tuple)) and 1 <= len(row) <= 64 and len(row) == len(rows[0]) and len(rows) <= 64 for row in rows):
        return False
    taps = [tap for row in rows for tap in row]
    return all(FACTOR.holds(tap) for tap in taps) and sum(taps) != 0


NONE = Kind('None', lambda value: value is None)
FLAG = Kind('True or False', lambda value: isinstance(value, bool) or (type(value) is int and value in (0, 1)))
FACTOR = number(-1e6, 1e6)
SHARE = number(0, 1)
POSITIVE = number(1e-6, 1e6)
SIZE = whole(1, 1 << 16)
POWER_OF_TWO = Kind('a power of two from 4 to 4096', lambda value: type(value) is int and 4 <= value <= 4096 and value & (value - 1) == 0)
ODD = Kind('an odd number from 1 to 15', lambda value: type(value) is int and 1 <= value <= 15 and value % 2 == 1)
FILTER = Kind('a list of 1 to 64 numbers, or rows of them, whose sum is not 0', _is_filter) | FACTOR | NONE
POINT = Kind('three numbers', lambda value: isinstance(value, (list, tuple)) and len(value) == 3 and all(map(FACTOR.holds, value)))
AUTO = one_of('auto')
CLAMP = POSITIVE | NONE


@dataclass(frozen=True)
class Table:
    """What a dictionary of arguments may hold."""
    entries: dict[str, Kind | Table]
    required: tuple[str, ...] = ()
    others: bool = False             # whether other names are let through, unread


SIZES: dict[str, Kind] = {
    'z_dim': SIZE,
    'c_dim': whole(0, 1 << 16),
    'w_dim': SIZE,
    'img_resolution': POWER_OF_TWO,
    'img_channels': whole(1, 4096),
}
MAPPING = Table({
    'num_layers': whole(1, 64),
    'embed_features': SIZE | NONE,
    'layer_features': SIZE | NONE,
    'activation': one_of(*activation_funcs),
    'lr_multiplier': POSITIVE,
    'w_avg_beta': SHARE | NONE,
})
BLOCK: dict[str, Kind] = {
    'architecture': one_of(*ARCHITECTURES),
    'resample_filter': FILTER,
    'conv_clamp': CLAMP,
    'fp16_channels_last': FLAG,
    'fused_modconv_default': FLAG | one_of('inference_only'),
    'kernel_size': ODD,
    'use_noise': FLAG,
    'activation': one_of(*activation_funcs),
}
SYNTHESIS: dict[str, Kind] = {
    **BLOCK,
    'channel_base': whole(1, 1 << 20),
    'channel_max': whole(1, 1 << 14),
    'num_fp16_res': whole(0, 16),
}
SUPERRESOLUTION = Table({
    **BLOCK,
    'channel_base': whole(1, 1 << 20) | NONE,
    'channel_max': whole(1, 1 << 14) | NONE,
    'num_fp16_res': whole(0, 16),
})
RENDERING = Table({                  # training's own options among them are not read, and may be anything
    'depth_resolution': whole(2, 1024),
    'depth_resolution_importance': whole(0, 1024),
    'ray_start': FACTOR | AUTO,
    'ray_end': FACTOR | AUTO,
    'box_warp': POSITIVE,
    'disparity_space_sampling': FLAG,
    'white_back': FLAG,
    'density_noise': number(0, 1e6),
    'avg_camera_radius': POSITIVE,
    'avg_camera_pivot': POINT,
    'c_gen_conditioning_zero': FLAG,
    'c_scale': FACTOR,
    'decoder_lr_mul': POSITIVE,
    'sr_antialias': FLAG,
    'superresolution_noise_mode': one_of(*NOISE_MODES),
}, others=True)
ALIAS_FREE: dict[str, Kind] = {
    'channel_base': whole(1, 1 << 20),
    'channel_max': whole(1, 1 << 14),
    'num_layers': whole(2, 64),
    'num_critical': whole(0, 63),
    'first_cutoff': number(0.1, 2048),
    'first_stopband': number(0.5, 4096),
    'last_stopband_rel': number(1, 16),
    'margin_size': whole(0, 64),
    'output_scale': FACTOR,
    'num_fp16_res': whole(0, 16),
    'conv_kernel': whole(1, 15),
    'filter_size': whole(1, 32),
    'lrelu_upsampling': whole(1, 8),
    'use_radial_filters': FLAG,
    'conv_clamp': CLAMP,
    'magnitude_ema_beta': SHARE,
}
ATTRIBUTES = Table({'neural_rendering_resolution': whole(4, 256), 'rendering_kwargs': RENDERING}, others=True)


def check(what: str, given: Any, table: Table) -> None:
    """Refuse arguments that ``table`` does not know, that are missing, or that are not what it says.

    Raises InputError: naming the argument, what was got and what was expected.
    """
    if not isinstance(given, dict):
        raise InputError(f'{what} is {got(given)}; expected a dictionary.')
    unknown = [name for name in given if name not in table.entries]
    if unknown and not table.others:
        listed = ', '.join(name_of(name) for name in unknown[:5]) + (', ...' if len(unknown) > 5 else '')
        raise InputError(f'{what} has unknown arguments: {listed}. Known: {", ".join(sorted(table.entries))}.')
    missing = [name for name in table.required if name not in given]
    if missing:
        raise InputError(f'{what} lacks the arguments {", ".join(missing)}.')
    for name, value in given.items():
        kind = table.entries.get(name)
        if isinstance(kind, Table):
            check(name, {} if value is None else value, kind)
        elif kind is not None and not kind.holds(value):
            raise InputError(f'{what}: {name} is {got(value)}; expected {kind.expected}.')


def check_rendering(options: dict, rays: int) -> None:
    """What the options of a volume renderer must be together, with ``rays`` along each side of the picture.

    Raises InputError: no room between start and end, too few depths, or far too many.
    """
    start, end = options['ray_start'], options['ray_end']
    if start != 'auto' and end != 'auto' and not (start < end and (start > 0 or not options['disparity_space_sampling'])):
        raise InputError(f'rendering_kwargs has ray_start={got(start)} and ray_end={got(end)}; expected a start before the end, and above 0 '
                         'with disparity_space_sampling.')
    coarse, fine = options['depth_resolution'], options['depth_resolution_importance']
    if fine and coarse < 4:
        raise InputError(f'rendering_kwargs has depth_resolution={coarse} beside depth_resolution_importance={fine}; expected at least 4.')
    if rays ** 2 * (coarse + fine) > MAX_RAY_SAMPLES:
        raise InputError(f'The network asks for {rays} x {rays} rays of {coarse + fine} samples each; expected at most {MAX_RAY_SAMPLES:,} '
                         'samples in all.')


def name_of(value: Any) -> str:
    """The name of an argument, which in a broken file may be anything."""
    return shown(value if isinstance(value, str) else repr(value), 60)


def got(value: Any) -> str:
    """A value out of a file, fit for a message."""
    kind = '' if value is None or isinstance(value, (bool, int, float, str)) else f'{type(value).__name__} '
    return shown(f'{kind}{value!r}', 60)
