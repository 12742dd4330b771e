"""How near the reconstruction of a photo comes to it, and whether it still is the person of the photo."""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.person.inversion.inverter import Inversion
from eg3d_unlearn.worlds.registry import REGISTERED, Bars, world_named

# By what is known of the judges, not by trials: ArcFace calls two photos one person from about 0.3 to 0.4 on, and two different
# FFHQ faces lie at 0.5 to 0.6 in LPIPS (VGG).
BARS = Bars(0.4, 0.5, 10.0)
# Fine detail of the photo over that of the reconstruction: below, the photo is blurred, and many faces would fit.
BLURRED = 0.6
COARSE = 32                          # pixels along each side: what they cannot show is fine detail


@torch.no_grad()
def quality(found: Inversion, generator: Generator, judges: Judges, images: Tensor, camera: Tensor | None) -> list[dict]:
    """How near the reconstruction of each photo comes to it: LPIPS, PSNR [dB], identity cosine; how sharp the photo is beside it."""
    figures = []
    for index in range(len(images)):
        label = None if camera is None else camera[index if len(camera) > 1 else 0][None]
        photo, shown = images[index:index + 1], generator.synthesize(found.ws[index:index + 1], label).image.clamp(-1, 1)
        lpips = {} if found.lpips is None else {'lpips': round(found.lpips[index].item(), 4)}
        figures.append({**lpips, 'psnr_db': round(found.psnr[index].item(), 2),
                        'detail': round(fine_detail(photo) / max(fine_detail(shown), 1e-6), 4)})
        if judges.measuring is not None:
            cosine = (judges.measuring(shown) * judges.measuring(photo)).sum()
            figures[-1]['identity'] = round(cosine.item(), 4)
    return figures


def fine_detail(image: Tensor) -> float:              # [1, 3, H, W] in -1 to 1
    """The standard deviation of what a small picture of it does not show."""
    small = functional.interpolate(image.float(), size=min(COARSE, image.shape[-1] // 4), mode='area')
    return (image - functional.interpolate(small, size=image.shape[-2:], mode='bilinear', align_corners=False)).std().item()


def too_poor(figures: dict, judges: Judges, family: str) -> str | None:
    """A warning where the reconstruction is not the person of the photo, by whichever figure says so; figures of `quality`."""
    name = judges.names['perceptual']
    world = world_named(name) if name in REGISTERED and family in world_named(name).bars else None
    bars, faults = BARS if world is None else world.bars[family], []
    if 'identity' in figures and figures['identity'] < bars.identity:
        faults.append(f'identity cosine {figures["identity"]:.2f} by {judges.names["measuring"]}, below {bars.identity}')
    if 'lpips' in figures and figures['lpips'] > bars.lpips:
        faults.append(f'LPIPS {figures["lpips"]:.2f}, above {bars.lpips}')
    if figures['psnr_db'] < bars.psnr_db:
        faults.append(f'PSNR {figures["psnr_db"]:.1f} dB, below {bars.psnr_db:g}')
    if figures['detail'] < BLURRED:
        faults.append(f'the photo is blurred or empty, with {100 * figures["detail"]:.0f} % of the fine detail of a picture by the network')
    if not faults:
        return None
    advice = (f'A network of {world.title} can show its people only (--image={world.name}:N).' if world else
              'Give a sharper, frontal photo, more --inversion-steps, or an encoder (--inversion=encoder+w+).')
    return f'the reconstruction is not the person of the photo: {"; ".join(faults)}. Erasing this latent erases another face. {advice}'
