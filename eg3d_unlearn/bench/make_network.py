"""Networks with random weights, small ones or of the published size, saved as NVIDIA pickles: for trying the tools, not for making faces.

    python -m eg3d_unlearn.bench.make_network --setting=eg3d --outfile=tiny.pkl
"""
from __future__ import annotations

from pathlib import Path

import click
import PIL.Image
import torch
from torch import nn

from eg3d_unlearn.bench.sizes import FULL, TRIAL
from eg3d_unlearn.console import PATH, command, refuse_existing
from eg3d_unlearn.generators.build import build_network
from eg3d_unlearn.run_folder import write_whole
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import save_network_pickle

# Freshly initialised networks paint grey on grey, or in pure colours only. These factors give their pictures a usual contrast.
CONTRAST = {'backbone.synthesis': {'torgb.weight': 4.0}, 'decoder': {'net.2.weight': 4.0},
            # A trained super-resolution sharpens; a random one would paint by the latent, past what the planes show.
            'superresolution': {'affine.weight': 0.1}, 'synthesis': {'torgb.weight': 0.25}}
SETTINGS = {**TRIAL, **FULL}         # the latter of the published networks' size


def random_network(recipe: dict, seed: int = 0) -> nn.Module:
    """A network by a recipe of `bench.sizes`, with random weights whose pictures one can see."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(recipe['upstream_class'], recipe['init_kwargs']).requires_grad_(False)
        for name, parameter in network.named_parameters():
            for part, factors in CONTRAST.items():
                for ending, factor in factors.items():
                    if name.startswith(part) and name.endswith(ending):
                        parameter.mul_(factor)
            if name.endswith('noise_strength'):
                parameter.fill_(0.05)
        mapping = network.backbone.mapping if recipe['family'] == 'eg3d' else network.mapping
        c = torch.zeros([1000, network.c_dim])
        mapping.w_avg.copy_(mapping(torch.randn([1000, network.z_dim]), c)[:, 0].mean(0))
    if recipe['raw'] is not None:
        network.neural_rendering_resolution = recipe['raw']
    return network


def save_random_network(path: Path, setting: str, seed: int = 0) -> None:
    """Write `random_network` as a network pickle that upstream's tools open."""
    recipe = SETTINGS[setting]
    network = random_network(recipe, seed)
    attributes = {}
    if recipe['raw'] is not None:
        attributes = {'neural_rendering_resolution': recipe['raw'], 'rendering_kwargs': network.rendering_kwargs}
    save_network_pickle(path, recipe['upstream_class'], recipe['init_kwargs'], network.state_dict(), attributes)


@command()
@click.option('--setting', help='Family of a small network; or the size of a published one: ffhq512 is EG3D FFHQ-512 (120 MiB).',
              type=click.Choice(list(SETTINGS)), default='eg3d', show_default=True)
@click.option('--seed', help='Seed of the weights.', type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option('--outfile', help='The pickle; an existing file is not overwritten.', type=PATH, metavar='FILE', required=True)
@click.option('--photo', help="Also write a photo to try it with: scikit-image's astronaut, public domain.", type=PATH, metavar='FILE')
def main(setting: str, seed: int, outfile: str, photo: str | None) -> None:
    """Make a network with random weights: its pictures are coloured blobs, not faces."""
    refuse_existing(outfile)
    refuse_existing(photo, '--photo')
    if photo is not None:
        save_photo(Path(photo))
    save_random_network(Path(outfile), setting, seed)
    click.echo(f'Wrote {outfile} ({Path(outfile).stat().st_size / 2**20:.1f} MiB).')


def save_photo(path: Path) -> None:
    """The astronaut's portrait, cropped to her face."""
    try:
        import skimage.data
    except ImportError:
        raise InputError("--photo needs scikit-image: pip install -e '.[test]'.") from None
    portrait = PIL.Image.fromarray(skimage.data.astronaut()).crop((96, 0, 352, 256)).resize((512, 512), PIL.Image.Resampling.LANCZOS)
    write_whole(path, lambda file: portrait.save(file, format='png'))


if __name__ == '__main__':
    main()
