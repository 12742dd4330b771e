"""What a run did: figures before and after, and a picture that shows them."""
from __future__ import annotations

import importlib.metadata
import math
import platform
import sys
from typing import Callable

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch
from torch import Tensor

import eg3d_unlearn
from eg3d_unlearn.generator import Generator
from eg3d_unlearn.loss import Perceptual
from eg3d_unlearn.photo import to_image

YAWS = (-math.pi / 12, 0.0, math.pi / 12)  # the three views of the picture and of the report [radians]
OTHER_SEEDS = (1001, 1002, 1003, 1004, 1005, 1006)  # random people that nobody asked to forget (NVIDIA's seeds)
MEANINGLESS = 'THE JUDGES (LPIPS, RECOGNISER) HAVE RANDOM WEIGHTS: THIS RESULT MEANS NOTHING.'


@torch.no_grad()
def views(generator: Generator, ws: Tensor, yaws: tuple[float, ...] = YAWS) -> list[Tensor]:
    """Pictures [1, 3, H, W] of one latent: one for each yaw for EG3D, one for 2D networks; fixed depths, constant noise."""
    backbone = generator.backbone(ws)
    if not generator.is_3d:
        return [generator.render(backbone).image]
    return [generator.render(backbone, generator.camera(yaw)).image for yaw in yaws]


@torch.no_grad()
def measure(
    before: dict[str, list[Tensor]],  # name -> views of G_s
    after: dict[str, list[Tensor]],   # the same names -> views of G_u
    perceptual: Perceptual,
    recogniser: Callable[[Tensor], Tensor] | None,
) -> dict:
    """How far the person moved, and how little the others did: LPIPS and identity cosine, means over views and people."""
    def compare(a: list[Tensor], b: list[Tensor]) -> dict[str, float]:
        a, b = torch.cat(a), torch.cat(b)
        figures = {'lpips': perceptual.compare(perceptual.features(a), perceptual.features(b)).mean().item()}
        if recogniser is not None:
            figures['identity_cosine'] = (recogniser(a) * recogniser(b)).sum(dim=1).mean().item()
        return {name: round(value, 4) for name, value in figures.items()}

    others = [compare(before[name], after[name]) for name in before if name.startswith('seed')]
    return {
        'unlearned_against_source': compare(after['source'], before['source']),
        'unlearned_against_target': compare(after['source'], before['target']),
        'source_against_target_before': compare(before['source'], before['target']),
        'others_before_against_after': {name: round(sum(other[name] for other in others) / len(others), 4) for name in others[0]},
        'others': len(others),
    }


def picture(before: dict[str, list[Tensor]], after: dict[str, list[Tensor]]) -> PIL.Image.Image:
    """Rows: the person, the target, the person after unlearning; then other people before and after."""
    others = [name for name in before if name.startswith('seed')]
    person = [('the person, before', before['source']), ('the target', before['target']), ('the person, after', after['source'])]
    if len(before['source']) == 1:
        # A 2D network has one view: the three fit in a row.
        rows = [('the person, the target, the person after', [row[1][0] for row in person])]
    else:
        rows = person
    rows += [('other people, before', [before[name][0] for name in others]),
             ('other people, after', [after[name][0] for name in others])]
    size = max(96, min(256, before['source'][0].shape[-1]))
    columns = max(len(images) for _, images in rows)
    columns, label = max(columns, 3), 22
    sheet = PIL.Image.new('RGB', (columns * size, len(rows) * (size + label)), 'white')
    draw, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default(14)
    for row, (title, images) in enumerate(rows):
        top = row * (size + label)
        draw.text((6, top + 3), title, fill='black', font=font)
        for column, image in enumerate(images):
            tile = to_image(image[0]).resize((size, size), PIL.Image.Resampling.LANCZOS)
            sheet.paste(tile, (column * size, top + label))
    return sheet


def versions() -> dict[str, str]:
    """Versions of what took part."""
    found = {'eg3d_unlearn': eg3d_unlearn.__version__, 'python': platform.python_version(), 'torch': torch.__version__,
             'numpy': np.__version__}
    for package in ('torchvision', 'lpips', 'facenet-pytorch'):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device) -> dict:
    """The machine: processor, threads, memory, and the GPU if one was used."""
    import psutil
    found = {'system': platform.platform(), 'processor': processor_name(), 'cores': psutil.cpu_count(),
             'torch_threads': torch.get_num_threads(), 'memory_gib': round(psutil.virtual_memory().total / 2**30, 1),
             'device': str(device)}
    if device.type == 'cuda':
        found['gpu'] = torch.cuda.get_device_name(device)
        found['gpu_memory_gib'] = round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)
    return found


def processor_name() -> str:
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            return next(line.split(':')[1].strip() for line in file if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or 'unknown'


def peak_memory(device: torch.device) -> dict[str, float]:
    """Highest memory of this process so far, GiB: the host's, and the GPU's if one was used."""
    peak = {}
    try:
        import resource
        scale = 2**30 if sys.platform == 'darwin' else 2**20  # macOS counts bytes, Linux KiB
        peak['host_gib'] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 3)
    except ImportError:              # Windows
        import psutil
        peak['host_gib'] = round(psutil.Process().memory_info().peak_wset / 2**30, 3)
    if device.type == 'cuda':
        peak['gpu_gib'] = round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
    return peak
