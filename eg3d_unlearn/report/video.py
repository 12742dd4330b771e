"""A film of the person before and after: once around for 3D networks, a walk to the target for 2D ones."""
from __future__ import annotations

import importlib.util
import math
import tempfile
from pathlib import Path
from typing import Iterator

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch
from torch import Tensor

from eg3d_unlearn.evaluation.comparison import target_of
from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.generators.cameras import MAX_YAW
from eg3d_unlearn.generators.precision import arithmetic
from eg3d_unlearn.person.photo import to_image
from eg3d_unlearn.run_folder import write_whole
from torch_utils_ext.errors import InputError
from torch_utils_ext.progress import tqdm

FRAMES, PER_SECOND = 72, 24
SMALLEST = 256                       # pixels along each side of a picture; smaller ones are enlarged
TITLE = 32                           # height of the line with the titles [pixels]


def check_video() -> None:
    """Refuse before anything slow what would fail at the end."""
    missing = [package for package in ('imageio', 'imageio_ffmpeg') if importlib.util.find_spec(package) is None]
    if missing:
        raise InputError(f'--video needs {" and ".join(missing)}, which {"are" if len(missing) > 1 else "is"} not installed. '
                         "Install with: pip install imageio imageio-ffmpeg, or leave --video out.")


def write_video(
    path: Path,
    evidence: Evidence,
    settings: dict,                  # 'config' of report.json: which target, how far
    frames: int = FRAMES,            # 24 a second
) -> None:
    """Before on the left, after on the right, as mp4; the film ends where it begins.

    Raises:
        InputError: imageio or its ffmpeg is not installed, the file cannot be written.
    """
    check_video()
    import imageio.v2 as imageio
    with tempfile.TemporaryDirectory() as folder:
        # ffmpeg writes by name and returns to the file's beginning: it gets a place of its own.
        film = Path(folder) / path.name
        with imageio.get_writer(film, fps=PER_SECOND, codec='libx264', quality=8, macro_block_size=2) as writer:
            for before, after in tqdm(steps(evidence, settings, frames), total=frames, desc='filming', unit='frame', dynamic_ncols=True):
                writer.append_data(frame(before, after))
        write_whole(path, lambda file: file.write(film.read_bytes()))


@torch.no_grad()
def steps(evidence: Evidence, settings: dict, frames: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures [3, H, W] by both networks."""
    source, generators = evidence.person.ws[:1].to(evidence.device), (evidence.g_s, evidence.g_u)
    target = target_of(evidence, settings)
    with arithmetic(evidence.config.precision, evidence.device):
        if evidence.g_s.is_3d:
            backbones = [generator.backbone(source) for generator in generators]
            for index in range(frames):
                camera = evidence.g_s.camera(MAX_YAW * math.sin(2 * math.pi * index / frames))
                yield tuple(generator.render(backbone, camera).image[0] for generator, backbone in zip(generators, backbones, strict=True))
        else:
            end = evidence.g_s.w_avg[None] if target is None else target
            for index in range(frames):
                ws = source.lerp(end.to(source), (1 - math.cos(2 * math.pi * index / frames)) / 2)
                yield tuple(generator.synthesize(ws).image[0] for generator in generators)


def frame(before: Tensor, after: Tensor) -> np.ndarray:   # [3, H, W] each -> [TITLE + side, 2 side, 3] uint8
    """Two pictures under their titles."""
    side = max(SMALLEST, before.shape[-1] // 2 * 2)
    paper = PIL.Image.new('RGB', (2 * side, TITLE + side), 'white')
    draw, font = PIL.ImageDraw.Draw(paper), PIL.ImageFont.load_default(18)
    for column, (title, image) in enumerate((('before', before), ('after', after))):
        draw.text((column * side + 10, TITLE / 2), title, fill='black', font=font, anchor='lm')
        paper.paste(to_image(image).resize((side, side), PIL.Image.Resampling.LANCZOS), (column * side, TITLE))
    return np.asarray(paper)
