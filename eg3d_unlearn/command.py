"""The command `python unlearn.py`: its options, and what becomes of errors."""
from __future__ import annotations

import dataclasses
import json

import click

from eg3d_unlearn.config import CLOSED_FORM, OPTIMISERS, Config
from eg3d_unlearn.console import PATH, command
from eg3d_unlearn.generators.precision import PRECISIONS
from eg3d_unlearn.unlearning.presets import GUIDE, OF_TRAINING, PRESETS
from eg3d_unlearn.unlearning.target import DRAWN

PRESET_DEFAULTS = '  [default: by --method; guide {}]'
BY_NETWORK = {'target_d': 'by the network; 30 for EG3D FFHQ-512', 'alpha_max': 'by the network; 15 for EG3D FFHQ-512'}


def option(*names: str, **settings):
    """`click.option` whose help calls numbers INT and FLOAT."""
    kind = settings.get('type')
    name = 'INT' if isinstance(kind, click.IntRange) else 'FLOAT' if kind is float or isinstance(kind, click.FloatRange) else None
    return click.option(*names, **({'metavar': name} if name else {}), **settings)


def preset_option(name: str, kind, text: str):
    """An option whose default is the preset's."""
    key = name.lstrip('-').replace('-', '_')
    default = f'  [default: {BY_NETWORK[key]}]' if key in BY_NETWORK else PRESET_DEFAULTS.format(GUIDE[key])
    return option(name, key, type=kind, default=None, help=text + default)


WEIGHT = click.FloatRange(min=0)


@command(stopped='Run the same command again to go on from the last saved state.')
# What goes in and out.
@option('--network', help='Network pickle: a path, a URL, a published name (ffhqrebalanced512-128.pkl), or demo-eg3d or demo-stylegan2, which come with the package.', type=PATH, metavar='PATH|URL|NAME', required=True)
@option('--image', help='Photo of the person: any photo, the face is found and cut out; or demo, a person of the demo world (demo:7 is another one). May be given more than once, or be a folder of photos.', type=PATH, metavar='FILE|DIR', multiple=True)
@option('--people', help='Several people at once instead of one (closed-form): a folder with one folder of photos for each, or demo:4-8,12, people of the demo world.', type=PATH, metavar='DIR')
@option('--forget-from', help='What of several photos, or latents in one file, is erased: the first photo, the mean of their latents, or all of them (a training takes turns). The other photos are evidence in the report.  [default: first; closed-form: all]', type=click.Choice(['first', 'mean', 'all']), default=None)
@option('--face', help='Which face of the photo, counted from the left from 1.  [default: the largest]', type=click.IntRange(min=1), default=None)
@option('--aligned', help="Take the photo as it is: it is the network's crop already, or shows no human face (cats, the demo world).", is_flag=True)
@option('--latent', help='Latent of the person instead of a photo: .npy, .npz or .pt, W or W+.', type=PATH, metavar='FILE')
@option('--latent-seed', help="A random person instead of a photo: seed as in NVIDIA's tools.", type=click.IntRange(0, 2**32 - 1))
@option('--keep', help='Photos of other people who are to stay, a few dozen: latents that photos are inverted to lie elsewhere than random people do, and an edit that knows only those changes them (closed-form).  [default: the demo networks bring some; else none]', type=PATH, metavar='DIR')
@option('--outdir', help='Folder of the run. The same command on the same folder resumes.', type=PATH, metavar='DIR', required=True)
@option('--camera', help="EG3D camera label of the photo: 25 numbers, or a .json, .npy or .npz file.  [default: dataset.json beside the photo, else from the face's landmarks]", type=PATH, metavar='25 NUMBERS|FILE')
@option('--class', 'class_label', help='Class of the person, for class-conditional networks.', type=click.IntRange(min=0))
@option('--trunc', help='Truncation psi for --latent-seed.', type=click.FloatRange(0, 1), default=1.0, show_default=True)
@option('--inversion', help='How the photo becomes a latent: w (one for all layers) or w+ (one for each) by optimisation, encoder (trained for this network), goae, e4e, psp (published); joined with +, one begins where the other ends: encoder+w+, goae+w+, mean+encoder+w+.  [default: w+; encoder on demo-eg3d, encoder+w+ on demo-stylegan2]', metavar='NAME', default=None)
@option('--encoder', help="File of the inversion's encoder: encoder.pt of python -m eg3d_unlearn.bench.train_encoder, or the published one.  [default: the demo network's own; the published one in the cache]", type=PATH, metavar='FILE')
@option('--encoder-mean', help='Mean latent that a published encoder adds to, if another than its own: .npy, .npz or .pt.', type=PATH, metavar='FILE')
@option('--inversion-steps', help='Steps of the inversion.  [default: 300; 100 after an encoder; fewer on the demo networks]', type=click.IntRange(min=1), default=None)
@option('--inversion-lr', help="Learning rate of the inversion (of lbfgs: length of the first step), in units of the network's latent spread.  [default: 0.1; 0.05 from an encoder's start]", type=click.FloatRange(min=0, min_open=True), default=None)
@option('--inversion-optimiser', help='How latents are refined: adam, as published; lbfgs, which on the demo networks comes as far in a tenth of the steps (not with --refine-camera).', type=click.Choice(OPTIMISERS), default='adam', show_default=True)
@option('--inversion-lambda-id', help='Weight of an identity term in the inversion.', type=WEIGHT, default=0.0, show_default=True)
@option('--inversion-early-stop', help='End the inversion when nothing is gained any more.', is_flag=True)
@option('--refine-camera', help='Turn the camera along with the latent (EG3D): for photos whose label is rough.', is_flag=True)
@option('--keep-source', help='Keep the photo and the latent in the folder, and who it was in the options.', is_flag=True)
@option('--delta', help='Also write the edit as a delta: a safetensors file of kilobytes that gives the same network again, alone or merged with others (see python -m eg3d_unlearn.delta --help). IT HOLDS THE LATENTS OF THE PEOPLE and shows who they were to whoever has the source network; readable by you only.  [default: none is written]', type=PATH, metavar='FILE')
@option('--report', help="report.html: full looks at both networks once more (views, other photos, neighbours, everybody else; about 150 pictures); brief is written from the run's own figures; auto is full on a GPU and for the demo networks.", type=click.Choice(['auto', 'full', 'brief']), default='auto', show_default=True)
# The method.
@option('--method', help='closed-form: the person is taken out of the style layers by a formula, in seconds, without training; closed-form+guide: a short training after it, where that makes it better; guide as published; baseline (mean target, local loss only), extrapolated and adjacency, the rows of its Table 1; ft, ga, ga-descent, soft, l1-sparse, prune, salun, sugar: other methods, to compare with.  [default: closed-form; guide where an option of the training is given]', type=click.Choice(list(PRESETS)), default=None)
@preset_option('--target', click.Choice(['ufo', 'mean', 'surrogate', *DRAWN]), 'Where the person is moved: ufo, beyond the mean latent (Eq. 3); mean, to it; surrogate, learned (SUGAR); random, to a random person; self, away from the own neighbourhood; soft, both in turns.')
@preset_option('--target-d', float, 'd, how far beyond the mean latent [units of W+].')
@preset_option('--iters', click.IntRange(min=1), 'Steps.')
@preset_option('--lr', click.FloatRange(min=0, min_open=True), "Adam's learning rate.")
@preset_option('--lr-decay', click.FloatRange(0, 1), 'Share of the steps, at the end, over which the learning rate falls to 0.')
@preset_option('--n-adj', click.IntRange(0, 64), 'N_a, neighbours of the person in each step.')
@preset_option('--n-global', click.IntRange(0, 64), 'N_g, random people in each step.')
@preset_option('--n-near', click.IntRange(0, 64), 'Of the N_g, how many are the nearest to the person of 24 drawn: look-alikes are kept better.')
@preset_option('--alpha-max', click.FloatRange(min=0), 'α_max, largest distance of a neighbour [units of W+].')
@preset_option('--lambda-local', WEIGHT, 'Weight of the local loss; 0 switches it off.')
@preset_option('--lambda-adj', WEIGHT, 'Weight of the adjacency loss, a sum over N_a; 0 switches it off.')
@preset_option('--lambda-global', WEIGHT, 'Weight of the global loss, a sum over N_g; 0 switches it off.')
@preset_option('--lambda-l2', WEIGHT, 'Weight of the feature term (tri-planes) in local and adjacency losses.')
@preset_option('--lambda-lpips', WEIGHT, 'Weight of LPIPS in local and adjacency losses.')
@preset_option('--lambda-id', WEIGHT, 'Weight of the identity term in local and adjacency losses.')
@preset_option('--lambda-l1', WEIGHT, 'Weight of an L1 penalty on the weights.')
@preset_option('--lambda-ewc', WEIGHT, 'Weight of elastic weight consolidation (Fisher information scaled to a mean of 1).')
@preset_option('--prune', click.FloatRange(0, 1, max_open=True), "Share of each layer's weights set to zero first.")
@preset_option('--saliency', click.FloatRange(0, 1, min_open=True), 'Share of the weights that learn, the most salient ones.')
@option('--trainable', help='Parameters that learn, as prefixes: backbone.synthesis,decoder or all.  [default: the synthesis network]', metavar='LIST', default='auto')
@option('--seed', help='Seed of every random draw.', type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
# The judges.
@option('--lpips-net', help='Trunk of LPIPS; none: nothing is measured by it (closed-form only).  [default: vgg; demo on the demo networks; closed-form: none where its weights are not here]', type=click.Choice(['vgg', 'alex', 'squeeze', 'demo', 'none']), default=None)
@option('--lpips-weights', help="File with the trunk's weights.  [default: cache, else download]", type=PATH, metavar='FILE')
@option('--lpips-resolution', help='Resolution at which LPIPS sees the pictures [pixels]; 256 is 4 times cheaper than 512.  [default: as they are]', type=click.IntRange(32, 2048))
@option('--id-network', help='Recogniser of the identity term: facenet, arcface, curricularface, demo, none, or a TorchScript file ([N, 3, 112, 112] in [-1, 1] -> [N, D]; a program: --trust-file).  [default: arcface; demo on the demo networks; closed-form: none where its weights are not here]', type=PATH, metavar='NAME|FILE', default=None)
@option('--id-weights', help="File with the recogniser's weights.  [default: cache, else download]", type=PATH, metavar='FILE')
@option('--face-crop', help='Where the face is in a picture, for the recogniser.  [default: eg3d for EG3D, ffhq for 2D, full for networks that were not trained on aligned faces]', type=click.Choice(['auto', 'eg3d', 'ffhq', 'full']), default='auto')
@option('--random-metric-weights', help='Untrained LPIPS and recogniser, for timings and tests: THE RESULT MEANS NOTHING.', is_flag=True)
# How it runs.
@preset_option('--loss-resolution', click.Choice(['full', 'half', 'raw', 'mixed']), 'What the losses see: the full picture; a picture from half the rays along each side (EG3D, half the work); the raw neural rendering (EG3D, a third); mixed (raw, every fourth step full).')
@option('--fov-deg', help='Field of view of the rendered cameras, along the diagonal [degrees].  [default: by the network: 18.837, ShapeNet 45]', type=click.FloatRange(1, 120))
@option('--device', help='auto, cpu, cuda, cuda:N or mps.', default='auto', show_default=True)
@option('--precision', help="Arithmetic: fp32; bf16 (on a CPU: products only, a third faster where the processor can); tf32 and fp16 (the network's own half-precision blocks) on a GPU.  [default: fp32; bf16 for the demo networks on a CPU]", type=click.Choice(PRECISIONS), default=None)
@option('--batch', help='Latents that go through at once.  [default: by device]', type=click.IntRange(min=1), default=None)
@option('--snap', help='Steps between saved states.', type=click.IntRange(min=1), default=100, show_default=True)
@option('--upstream', help='NVIDIA checkout whose CUDA kernels are used (or the environment variable EG3D_DIR).', type=PATH, metavar='DIR')
@option('--trust-pickle', help="Load a network of an unknown class with the checkout's own loader, WHICH RUNS CODE FROM THE FILE.", is_flag=True)
@option('--trust-file', help="Load the TorchScript file that --id-network names, WHICH RUNS CODE OF ITS AUTHOR.", is_flag=True)
@option('-n', '--dry-run', help='Read and check everything that a run would (network, photo, latents, judges), print all options as they would be used and how long it would take, as JSON, and exit. Nothing is written; a network named by URL or published name is fetched into the cache.', is_flag=True)
def main(dry_run: bool, batch: int | None, **options) -> None:
    """Make a pretrained face generator unable to generate a given person.

    Reads an EG3D, StyleGAN2 or StyleGAN3 network pickle without running code from it, and writes one that NVIDIA's
    unmodified tools open. The folder gets network-unlearned.pkl, before-after.png, report.html, report.json,
    training_options.json and log.txt; where a method trains, stats.jsonl, too.

    \b
    Examples:
      # A minute, nothing to fetch: a person of the demo world.
      python unlearn.py --network=demo-eg3d --image=demo --outdir=out
      # A photo of a person, the published EG3D network.
      python unlearn.py --network=ffhqrebalanced512-128.pkl --image=face.png --outdir=out
      # A random person (seed 7), StyleGAN2, 200 steps.
      python unlearn.py --network=stylegan2-ffhq-256x256.pkl --latent-seed=7 --iters=200 --outdir=out
    """
    if options['method'] is None:
        trains = any(options[name] is not None for name in OF_TRAINING) or options['trainable'] != 'auto'
        options['method'] = 'guide' if trains else CLOSED_FORM
    config = Config(batch=batch or 0, **options)
    # Heavy imports only when there is work to do.
    from eg3d_unlearn.run import check, how_long, unlearn
    if dry_run:
        run = check(config, fetch=False)
        click.echo(json.dumps({**dataclasses.asdict(run.config), 'dry_run': [*run.about, *how_long(run)]}, indent=2, ensure_ascii=False))
        return
    unlearn(config)
