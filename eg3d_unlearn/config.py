"""The table of options: each stands here once, and everything else is made from it.

A group is what one room needs; `Config` has all of them, and decides a run. A field carries its default, help, unit, range
and more (`options.About`). The command lines of `unlearn.py` and `evaluate.py`, ``training_options.json``, GUIDE's settings and
the check whether an option is used follow from the fields: a new option is one line here, and its use.
"""
from __future__ import annotations

import dataclasses
from dataclasses import MISSING, asdict, dataclass
from typing import Any, Callable, Iterable

import click
from click import Choice, FloatRange, IntRange

from eg3d_unlearn.console import PATH
from eg3d_unlearn.options import about, click_option, flag, flag_of, option, own_fields
from torch_utils_ext.download import without_secrets
from torch_utils_ext.errors import InputError

CLOSED_FORM, POLISHED = CLOSED = ('closed-form', 'closed-form+guide')   # methods that need no training, or little
METHODS = ('guide', 'baseline', 'extrapolated', 'adjacency', 'ft', 'ga', 'ga-descent', 'soft', 'l1-sparse', 'prune', 'salun', *CLOSED, 'sugar')
# Targets that are drawn anew in each step: a random person; the person's own neighbourhood, away from which it goes; both in turns.
RANDOM, SELF, SOFT = DRAWN = ('random', 'self', 'soft')
ENCODERS, SPACES = ('encoder', 'goae', 'e4e'), ('w', 'w+')
# Optimisation in a space, an encoder alone, optimisation from where an encoder says.
INVERSIONS = (*SPACES, *(encoder + space for encoder in ENCODERS for space in ('', '+w', '+w+')))
PRECISIONS = ('fp32', 'tf32', 'bf16', 'fp16')
WHO = ('image', 'people', 'latent', 'latent_seed')   # one of them says who the person is

COUNT, ABOVE_0, WEIGHT, SHARE = IntRange(min=1), FloatRange(min=0, min_open=True), FloatRange(min=0), FloatRange(0, 1)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Network: which one, and how its file is read."""
    network: str = option(PATH, MISSING, metavar='PATH|URL|NAME', common=True, help='Network pickle: a path, a URL, a published name (ffhqrebalanced512-128.pkl), or demo-eg3d or demo-stylegan2, which come with the package, or faces (python -m eg3d_unlearn.worlds.faces setup).')
    class_label: int | None = option(IntRange(min=0), flag='--class', evaluate=True, of_run=True, help='Class of the person, for class-conditional networks.')
    fov_deg: float | None = option(FloatRange(1, 120), unit='degrees', default_is='by the network: 18.837, ShapeNet 45', evaluate=True, of_run=True, needs=('cameras',), help='Field of view of the rendered cameras, along the diagonal.')
    upstream: str | None = option(PATH, metavar='DIR', help='NVIDIA checkout whose CUDA kernels are used (or the environment variable EG3D_DIR).', evaluate='NVIDIA checkout, for --trust-pickle.')
    trust_pickle: bool = flag(evaluate=True, help="Load a network of an unknown class with the checkout's own loader, WHICH RUNS CODE FROM THE FILE.")


@dataclass(frozen=True, kw_only=True)
class PersonOptions:
    """Person: who is to be forgotten."""
    image: tuple[str, ...] = option(PATH, (), metavar='FILE|DIR', common=True, private=True, help='Photo of the person: any photo, the face is found and cut out; or demo, a person of the demo world (demo:7 is another one). May be given more than once, or be a folder of photos.', evaluate='Photo of the erased person, the one that was erased first; further ones, or a folder, are other photos of the same person; or demo, demo:N, a person of the demo world.')
    people: str | None = option(PATH, metavar='DIR', common=True, private=True, help='Several people at once instead of one (closed-form): a folder with one folder of photos for each, or demo:4-8,12, people of the demo world.')
    latent: str | None = option(PATH, metavar='FILE', common=True, private=True, evaluate=True, help='Latent of the person instead of a photo: .npy, .npz or .pt, W or W+.')
    latent_seed: int | None = option(IntRange(0, 2**32 - 1), common=True, private=True, evaluate=True, help="A random person instead of a photo: seed as in NVIDIA's tools.")
    trunc: float = option(SHARE, 1.0, evaluate=True, of_run=True, needs=('latent_seed',), help='Truncation psi for --latent-seed.')
    aligned: bool = flag(common=True, evaluate=True, of_run=True, needs=('photos',), help="Take the photo as it is: it is the network's crop already, or shows no human face (cats, the demo world).")
    face: int | None = option(COUNT, default_is='the largest', evaluate=True, of_run=True, needs=('photos',), help='Which face of the photo, counted from the left from 1.')
    camera: str | None = option(PATH, metavar='25 NUMBERS|FILE', default_is="dataset.json beside the photo, else from the face's landmarks", private=True, evaluate=True, needs=('cameras',), help='EG3D camera label of the photo: 25 numbers, or a .json, .npy or .npz file.')
    forget_from: str | None = option(Choice(['first', 'mean', 'all']), default_is='first; closed-form: all', of_run=True, help='What of several photos, or latents in one file, is erased: the first photo, the mean of their latents, or all of them (a training takes turns). The other photos are evidence in the report.', evaluate=('What of several photos was erased, as in unlearn.py.', 'first'))
    keep: str | None = option(PATH, metavar='DIR', default_is='the demo networks bring some; else none', common=True, private=True, help='Photos of other people who are to stay, a few dozen: latents that photos are inverted to lie elsewhere than random people do, and an edit that knows only those changes them (closed-form).')

    @property
    def person_kind(self) -> str:
        """Which of image, people, latent and latent_seed was given."""
        return next((name for name in WHO if getattr(self, name) not in (None, ())), 'latent_seed')


@dataclass(frozen=True, kw_only=True)
class InversionOptions:
    """Inversion: how a photo becomes a latent."""
    inversion: str | None = option(Choice(INVERSIONS), metavar='NAME', published='w+', default_is='w+; encoder on demo-eg3d, encoder+w+ on demo-stylegan2', evaluate=True, of_run=True, help='How the photo becomes a latent: w (one for all layers) or w+ (one for each) by optimisation, encoder (trained for this network), goae, e4e (published); joined with +, optimisation begins where the encoder ends: encoder+w+, goae+w+.')
    encoder: str | None = option(PATH, metavar='FILE', default_is="the demo network's own; the published one in the cache", evaluate=True, help="File of the inversion's encoder: encoder.pt of python -m eg3d_unlearn.bench.train_encoder, or the published one.")
    encoder_mean: str | None = option(PATH, metavar='FILE', evaluate=True, of_run=True, help='Mean latent that a published encoder adds to, if another than its own: .npy, .npz or .pt.')
    inversion_steps: int | None = option(COUNT, default_is='300; 100 after an encoder; fewer on the demo networks', evaluate=True, of_run=True, needs=('refining',), help='Steps of the inversion.')
    inversion_lr: float | None = option(ABOVE_0, unit='units of the latent spread', default_is="0.1; 0.05 from an encoder's start", evaluate=True, of_run=True, needs=('refining',), help='Learning rate of the inversion.')
    inversion_lambda_id: float | None = option(WEIGHT, published=0.0, default_is='0; 0.5 for faces', evaluate=True, of_run=True, needs=('refining',), help='Weight of an identity term in the inversion.')


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Loss: what a training minimises; open ones are the method's and the network's (`presets.resolve`, `target.distances`)."""
    lambda_local: float | None = option(WEIGHT, published=1.0, help='Weight of the local loss; 0 switches it off.')
    lambda_adj: float | None = option(WEIGHT, published=1.0, help='Weight of the adjacency loss, a sum over N_a; 0 switches it off.')
    lambda_global: float | None = option(WEIGHT, published=1.0, help='Weight of the global loss, a sum over N_g; 0 switches it off.')
    lambda_l2: float | None = option(WEIGHT, published=1e-2, help='Weight of the feature term (tri-planes) in local and adjacency losses.')
    lambda_lpips: float | None = option(WEIGHT, published=1.0, help='Weight of LPIPS in local and adjacency losses.')
    lambda_id: float | None = option(WEIGHT, published=0.1, help='Weight of the identity term in local and adjacency losses.')
    lambda_l1: float | None = option(WEIGHT, published=0.0, help='Weight of an L1 penalty on the weights.')
    lambda_ewc: float | None = option(WEIGHT, published=0.0, help='Weight of elastic weight consolidation (Fisher information scaled to a mean of 1).')
    n_adj: int | None = option(IntRange(0, 64), published=2, needs=('lambda_adj',), help='N_a, neighbours of the person in each step.')
    n_global: int | None = option(IntRange(0, 64), published=2, needs=('lambda_global',), help='N_g, random people in each step.')
    n_near: int | None = option(IntRange(0, 64), published=0, needs=('lambda_global',), help='Of the N_g, how many are the nearest to the person of 24 drawn: look-alikes are kept better.')
    alpha_max: float | None = option(WEIGHT, unit='units of W+', default_is='by the network; 15 for EG3D FFHQ-512', help='α_max, largest distance of a neighbour.')
    loss_resolution: str | None = option(Choice(['full', 'half', 'raw', 'mixed']), published='full', help='What the losses see: the full picture; a picture from half the rays along each side (EG3D, half the work), or the small one (faces, a fifth); the raw neural rendering (EG3D, a third); mixed (raw, every fourth step full).')


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(LossOptions):
    """Training: how the network learns, which the closed form does not."""
    target: str | None = option(Choice(['ufo', 'mean', 'surrogate', *DRAWN]), published='ufo', help='Where the person is moved: ufo, beyond the mean latent (Eq. 3); mean, to it; surrogate, learned (SUGAR); random, to a random person; self, away from the own neighbourhood; soft, both in turns.')
    target_d: float | None = option(click.FLOAT, unit='units of W+', default_is='by the network; 30 for EG3D FFHQ-512', needs=('distance',), help='d, how far beyond the mean latent.')
    iters: int | None = option(COUNT, published=1000, common=True, help='Steps of the training.')
    lr: float | None = option(ABOVE_0, published=1e-4, help="Adam's learning rate.")
    lr_decay: float | None = option(SHARE, published=0.0, help='Share of the steps, at the end, over which the learning rate falls to 0.')
    prune: float | None = option(FloatRange(0, 1, max_open=True), published=0.0, help="Share of each layer's weights set to zero first.")
    saliency: float | None = option(FloatRange(0, 1, min_open=True), published=1.0, help='Share of the weights that learn, the most salient ones.')
    trainable: str = option(click.STRING, 'auto', metavar='LIST', default_is='the synthesis network', help='Parameters that learn, as prefixes: backbone.synthesis,decoder or all.')


@dataclass(frozen=True, kw_only=True)
class MethodOptions(TrainingOptions):
    """Method: how the person is forgotten."""
    method: str = option(Choice(METHODS), 'guide', metavar='NAME', default_is='closed-form; guide where an option of the training is given', common=True, help='closed-form: the person is taken out of the style layers by a formula, in seconds, without training; closed-form+guide: a short training after it, where that makes it better; guide as published; baseline (mean target, local loss only), extrapolated and adjacency, the rows of its Table 1; ft, ga, ga-descent, soft, l1-sparse, prune, salun, sugar: other methods, to compare with.')


@dataclass(frozen=True, kw_only=True)
class JudgesOptions:
    """Judges: what pictures are compared by."""
    lpips_net: str | None = option(click.STRING, metavar='NAME', default_is='vgg; demo and faces on theirs; closed-form: none where its weights are not here', of_run=True, help='Trunk of LPIPS: vgg, alex, squeeze, or the distance of a world (demo, faces); none: nothing is measured by it (closed-form only).', evaluate=('Trunk of LPIPS, or the distance of a world; none: not measured (report only).', 'vgg; demo and faces on theirs'))
    lpips_weights: str | None = option(PATH, metavar='FILE', default_is='cache, else download', evaluate=True, of_run=True, needs=('lpips_net',), help="File with the trunk's weights.")
    lpips_resolution: int | None = option(IntRange(32, 2048), unit='pixels', default_is='as they are', evaluate=True, of_run=True, needs=('lpips_net',), help='Resolution at which LPIPS sees the pictures; 256 is 4 times cheaper than 512.')
    id_network: str | None = option(PATH, metavar='NAME|FILE', default_is='arcface; demo and faces on theirs; closed-form: none where its weights are not here', of_run=True, help='Recogniser of the identity term: facenet, arcface, curricularface, demo, faces, none, or a TorchScript file ([N, 3, 112, 112] in [-1, 1] -> [N, D]; a program: --trust-file).', evaluate=('The recogniser that the loss used, by name or as a TorchScript file (a program: --trust-file).', 'arcface; demo and faces on theirs'))
    id_weights: str | None = option(PATH, metavar='FILE', default_is='cache, else download', evaluate=True, of_run=True, needs=('id_network',), help="File with the recogniser's weights.")
    face_crop: str = option(Choice(['auto', 'eg3d', 'ffhq', 'full']), 'auto', default_is='eg3d for EG3D, ffhq for 2D, full for networks that were not trained on aligned faces', evaluate=True, of_run=True, help='Where the face is in a picture, for the recogniser.')
    random_metric_weights: bool = flag(evaluate=True, of_run=True, help='Untrained LPIPS and recogniser, for timings and tests: THE RESULT MEANS NOTHING.')
    trust_file: bool = flag(help='Load the TorchScript file that --id-network names, WHICH RUNS CODE OF ITS AUTHOR.', evaluate='Load the TorchScript files that --id-network, --recogniser or --features names, WHICH RUNS CODE OF THEIR AUTHOR.')


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Output: what is written."""
    outdir: str = option(PATH, MISSING, metavar='DIR', common=True, help='Folder of the run. The same command on the same folder resumes.')
    report: str = option(Choice(['auto', 'full', 'brief']), 'auto', common=True, help="report.html: full looks at both networks once more (views, other photos, neighbours, everybody else; about 150 pictures); brief is written from the run's own figures; auto is full on a GPU and for the demo networks.")
    delta: str | None = option(PATH, metavar='FILE', default_is='none is written', common=True, private=True, help='Also write the edit as a delta: a safetensors file of kilobytes that gives the same network again, alone or merged with others (see python -m eg3d_unlearn.delta --help). IT HOLDS THE LATENTS OF THE PEOPLE and shows who they were to whoever has the source network; readable by you only.')
    keep_source: bool = flag(help='Keep the photo and the latent in the folder, and who it was in the options.')


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Run: the machine and its arithmetic."""
    device: str = option(click.STRING, 'auto', metavar='NAME', common=True, evaluate=True, help='auto, cpu, cuda, cuda:N or mps.')
    precision: str | None = option(Choice(PRECISIONS), default_is='fp32; bf16 for the demo networks on a CPU', evaluate=True, help="Arithmetic: fp32; bf16 (on a CPU: products only, a third faster where the processor can); tf32 and fp16 (the network's own half-precision blocks) on a GPU.")
    seed: int = option(IntRange(0, 2**31 - 1), 0, common=True, evaluate=True, of_run=True, help='Seed of every random draw.')
    batch: int = option(COUNT, 0, default_is='by device', needs=('training',), help='Latents that go through at once.')
    snap: int = option(COUNT, 100, needs=('training',), help='Steps between saved states.')


@dataclass(frozen=True, kw_only=True)
class Config(RunOptions, OutputOptions, JudgesOptions, MethodOptions, InversionOptions, PersonOptions, NetworkOptions):
    """The options of one run, from Python as from the command line; written to ``training_options.json``."""

    def to_json(self) -> dict:
        """The options as they are recorded: who the person is stays out unless ``keep_source`` asks for it."""
        options = {**asdict(self), 'network': without_secrets(self.network)}
        if not self.keep_source:
            for name, field in OPTIONS.items():
                if about(field).private:
                    options[name] = '(given, not recorded)' if options[name] not in (None, ()) else None
        return options


# In the order of the help.
GROUPS = (NetworkOptions, PersonOptions, InversionOptions, MethodOptions, TrainingOptions, LossOptions, JudgesOptions, OutputOptions, RunOptions)
OPTIONS: dict[str, dataclasses.Field] = {field.name: field for group in GROUPS for field in own_fields(group)}
TITLES = {field.name: (group.__doc__ or '').split(':')[0] for group in GROUPS for field in own_fields(group)}
OF_TRAINING = tuple(field.name for field in dataclasses.fields(TrainingOptions))   # what the closed form has no use for
OF_EVALUATION = tuple(name for name, field in OPTIONS.items() if about(field).evaluate)


def take(name: str, evaluate: bool = False, **changes) -> Callable:
    """Decorator: the option ``name`` for a click command, with ``changes`` where the command takes it in its own way."""
    return click_option(OPTIONS[name], evaluate=evaluate, **{'group': TITLES[name], **changes})


def borrow(name: str, evaluate: bool = False, **changes) -> Callable:
    """`take`, for a command with options of its own that shares a few: they stand among the others."""
    return take(name, evaluate, **{'group': 'Options', 'common': True, **changes})


def take_all(command: Callable) -> Callable:
    """Decorator: all options, as keyword arguments of the command; those that were not given are None or their default."""
    for name in reversed(OPTIONS):
        command = take(name)(command)
    return command


def from_command(options: dict[str, Any]) -> Config:
    """The configuration that the command line names; None is an option that was not given."""
    given = {name: value for name, value in options.items() if value is not None}
    usual = 'guide' if any(given.get(name, OPTIONS[name].default) != OPTIONS[name].default for name in OF_TRAINING) else CLOSED_FORM
    return Config(**{'method': usual, **given})


def needing(what: str) -> list[str]:
    """The options that have no effect without ``what``."""
    return [name for name, field in OPTIONS.items() if what in about(field).needs]


def refuse_unused(
    given: Config,                   # as the user wrote it, defaults open
    names: Iterable[str],            # of the options that have no effect here
    why: str,                        # the rest of the sentence, after the flag
) -> None:
    """Refuse an option that was given although it has no effect here.

    Raises:
        InputError: for the first one of ``names``.
    """
    for name in names:
        if getattr(given, name) != OPTIONS[name].default:
            raise InputError(f'{flag_of(OPTIONS[name])} {why}')


def parts_of(inversion: str) -> tuple[str | None, str | None]:
    """The encoder and the space of one of `INVERSIONS`: encoder+w+ has both, w+ no encoder, encoder no space."""
    if inversion in SPACES:
        return None, inversion
    encoder, _, space = inversion.partition('+')
    return encoder, space or None
