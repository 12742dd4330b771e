"""The options that every command of `evaluate.py` shares: the two networks, the person, the judges; once for all of them.

    @click.command()
    @evidence_options
    @click.option('--outdir')
    def main(outdir, **options):
        evidence = evidence_from(options)
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import click

from eg3d_unlearn.config import OPTIMISERS
from eg3d_unlearn.console import PATH
from eg3d_unlearn.generators.precision import PRECISIONS
from torch_utils_ext.errors import InputError

if TYPE_CHECKING:
    from eg3d_unlearn.evaluation.evidence import Evidence

OPTIONS = (
    # What goes in.
    click.option('--before', help='The network before: a path, a URL, a published name, demo-eg3d or demo-stylegan2.', type=PATH, metavar='PATH|URL|NAME', required=True),
    click.option('--after', help='The network after: network-unlearned.pkl of the run.', type=PATH, metavar='FILE', required=True),
    click.option('--image', help='Photo of the erased person, the one that was erased first; further ones, or a folder, are other photos of the same person; or demo, demo:N, a person of the demo world.', type=PATH, metavar='FILE|DIR', multiple=True),
    click.option('--forget-from', help='What of several photos was erased, as in unlearn.py.', type=click.Choice(['first', 'mean', 'all']), default='first', show_default=True),
    click.option('--latent', help='Latent of the erased person instead of a photo: .npy, .npz or .pt, W or W+.', type=PATH, metavar='FILE'),
    click.option('--latent-seed', help="A random person instead of a photo: seed as in NVIDIA's tools.", type=click.IntRange(0, 2**32 - 1), metavar='INT'),
    click.option('--trunc', help='Truncation psi for --latent-seed.', type=click.FloatRange(0, 1), default=1.0, show_default=True, metavar='FLOAT'),
    click.option('--camera', help="EG3D camera label of the photo: 25 numbers, or a .json, .npy or .npz file.  [default: dataset.json beside the photo, else from the face's landmarks]", type=PATH, metavar='25 NUMBERS|FILE'),
    click.option('--class', 'class_label', help='Class of the person, for class-conditional networks.', type=click.IntRange(min=0), metavar='INT'),
    click.option('--face', help='Which face of the photo, counted from the left from 1.  [default: the largest]', type=click.IntRange(min=1), default=None, metavar='INT'),
    click.option('--aligned', help="Take photos as they are: they are the network's crop already, or show no human face.", is_flag=True),
    click.option('--inversion', help='How photos become latents, as in unlearn.py.  [default: w+; encoder on demo-eg3d, encoder+w+ on demo-stylegan2]', metavar='NAME', default=None),
    click.option('--inversion-steps', help='Steps of the inversion.  [default: 300; 100 after an encoder; fewer on the demo networks]', type=click.IntRange(min=1), default=None, metavar='INT'),
    click.option('--inversion-lr', help='Its learning rate, in units of the latent spread.  [default: 0.1; 0.05 from an encoder]', type=click.FloatRange(min=0, min_open=True), default=None, metavar='FLOAT'),
    click.option('--inversion-optimiser', help='How latents are refined: adam or lbfgs, as in unlearn.py.', type=click.Choice(OPTIMISERS), default='adam', show_default=True),
    click.option('--inversion-lambda-id', help='Weight of an identity term in it.', type=click.FloatRange(min=0), default=0.0, show_default=True, metavar='FLOAT'),
    click.option('--inversion-early-stop', help='End it when nothing is gained any more.', is_flag=True),
    click.option('--refine-camera', help='Turn the camera along with the latent (EG3D).', is_flag=True),
    click.option('--encoder', help="File of the inversion's encoder.  [default: the demo network's own; the published one in the cache]", type=PATH, metavar='FILE'),
    click.option('--encoder-mean', help='Mean latent that a published encoder adds to, if another than its own.', type=PATH, metavar='FILE'),
    # The judges.
    click.option('--recogniser', 'recognisers', help="A further recogniser that measures, which the loss did not use: facenet, arcface, curricularface, or a TorchScript file ([N, 3, 112, 112] in [-1, 1] -> [N, D]; a program: --trust-file). May be given more than once.", type=PATH, metavar='NAME|FILE', multiple=True),
    click.option('--id-network', help='The recogniser that the loss used, by name or as a TorchScript file (a program: --trust-file).  [default: arcface; demo on the demo networks]', type=PATH, metavar='NAME|FILE', default=None),
    click.option('--id-weights', help="File with its weights.  [default: cache, else download]", type=PATH, metavar='FILE'),
    click.option('--face-crop', help='Where the face is in a picture, for the recognisers.  [default: eg3d for EG3D, ffhq for 2D, full for networks that were not trained on aligned faces]', type=click.Choice(['auto', 'eg3d', 'ffhq', 'full']), default='auto'),
    click.option('--lpips-net', help='Trunk of LPIPS; none: not measured (report only).  [default: vgg; demo on the demo networks]', type=click.Choice(['vgg', 'alex', 'squeeze', 'demo', 'none']), default=None),
    click.option('--lpips-weights', help="File with the trunk's weights.  [default: cache, else download]", type=PATH, metavar='FILE'),
    click.option('--lpips-resolution', help='Resolution at which LPIPS sees the pictures [pixels].  [default: as they are]', type=click.IntRange(32, 2048), metavar='INT'),
    click.option('--random-metric-weights', help='Untrained LPIPS and recogniser, for timings and tests: THE RESULT MEANS NOTHING.', is_flag=True),
    # How it runs.
    click.option('--fov-deg', help='Field of view of the rendered cameras, along the diagonal [degrees].  [default: by the network: 18.837, ShapeNet 45]', type=click.FloatRange(1, 120), metavar='FLOAT'),
    click.option('--precision', help='Arithmetic: fp32, bf16, on a GPU also tf32 and fp16.  [default: fp32; bf16 for the demo networks on a CPU]', type=click.Choice(PRECISIONS), default=None),
    click.option('--device', help='auto, cpu, cuda, cuda:N or mps.', default='auto', show_default=True),
    click.option('--upstream', help="NVIDIA checkout, for --trust-pickle.", type=PATH, metavar='DIR'),
    click.option('--trust-pickle', help="Load networks of an unknown class with the checkout's own loader, WHICH RUNS CODE FROM THE FILE.", is_flag=True),
    click.option('--trust-file', help="Load the TorchScript files that --id-network, --recogniser or --features names, WHICH RUNS CODE OF THEIR AUTHOR.", is_flag=True),
    click.option('--seed', help='Seed of every random draw.', type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, metavar='INT'),
)
NAMES = ('before', 'after', 'image', 'forget_from', 'latent', 'latent_seed', 'trunc', 'camera', 'class_label', 'face', 'aligned', 'inversion',
         'inversion_steps', 'inversion_lr', 'inversion_optimiser', 'inversion_lambda_id', 'inversion_early_stop', 'refine_camera', 'encoder', 'encoder_mean', 'recognisers', 'id_network', 'id_weights', 'face_crop', 'lpips_net', 'lpips_weights', 'lpips_resolution',
         'random_metric_weights', 'fov_deg', 'precision', 'device', 'upstream', 'trust_pickle', 'trust_file', 'seed')
WHO = ('image', 'latent', 'latent_seed')  # one of them says who was erased


def evidence_options(command: Callable) -> Callable:
    """Decorator: the shared options, in the order of `OPTIONS`, as keyword arguments of the command."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def evidence_from(
    options: dict,                   # what click gave to the command; further options are left alone
    log: Callable[[str], None] = click.echo,
    needs_person: bool = True,       # False: the networks alone are looked at
    needs_lpips: bool = True,        # False: the command leaves out what LPIPS would say
) -> Evidence:
    """The evidence that the shared options name.

    Raises:
        InputError: as `evidence.gather` does; no LPIPS where it is needed.
    """
    if needs_lpips and options['lpips_net'] == 'none':
        raise InputError('--lpips-net=none goes with evaluate.py report only; here LPIPS is needed. Leave it out, or use --lpips-net=squeeze, '
                         'which is small.')
    from eg3d_unlearn.evaluation.evidence import gather  # heavy: only when there is work to do
    return gather(**{name: options[name] for name in NAMES}, log=log, needs_person=needs_person)


def names_somebody(options: dict) -> bool:
    """Whether the options say who was erased."""
    return any(options[name] not in (None, ()) for name in WHO)
