"""Everything that decides a run, in one place; written to ``training_options.json``."""
from __future__ import annotations

from dataclasses import asdict, dataclass

from torch_utils_ext.download import without_secrets

CLOSED_FORM, POLISHED = CLOSED = ('closed-form', 'closed-form+guide')   # methods that need no training, or little

OPTIMISERS = ('adam', 'lbfgs')       # of the inversion


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of one run, as `unlearn.py` offers them; its help texts say more."""
    # What goes in and where it comes out.
    network: str                     # path, URL or published name of the network pickle
    outdir: str                      # folder of the run
    image: tuple[str, ...] = ()      # photos of the person, folders of them, or 'demo', 'demo:N'; one of image, latent, latent_seed, people
    people: str | None = None        # several people: a folder with one for each, or 'demo:4-8,12'
    face: int | None = None          # which face of the photo, counted from the left from 1; None = the largest
    aligned: bool = False            # the photo is the network's crop already
    latent: str | None = None        # .npy/.npz/.pt with W or W+
    latent_seed: int | None = None   # NVIDIA's seed convention: the Random scenario
    camera: str | None = None        # the photo's camera label: 25 numbers, or a .json, .npy or .npz file
    keep: str | None = None          # folder with photos of other people, whom the closed form keeps as well; None = demo networks: their own
    class_label: int | None = None   # class of the person, class-conditional networks only
    trunc: float = 1.0               # truncation psi of latent_seed, 0..1
    forget_from: str | None = None   # what of several photos is erased: 'first', 'mean' (of their latents), 'all'; None = by the method
    inversion: str | None = None     # as `inversion.plan` reads it; None = by the network (presets.resolve)
    encoder: str | None = None       # file of its encoder; None = the demo network's, or the published one in the cache
    encoder_mean: str | None = None  # published encoders: file of another mean latent
    inversion_steps: int | None = None  # optimisation steps
    inversion_lr: float | None = None  # units of the network's latent spread
    inversion_optimiser: str = 'adam'  # of `OPTIMISERS`
    inversion_lambda_id: float = 0.0  # weight of the identity term
    inversion_early_stop: bool = False  # end when nothing is gained any more
    refine_camera: bool = False      # 3D networks: turn the camera along with the latent
    # The method; None = by the preset and the network (presets.resolve, presets.distances).
    method: str = 'guide'
    target: str | None = None        # 'ufo' (Eq. 3), 'mean', 'surrogate' (learned); drawn in each step: 'random', 'self', 'soft'
    target_d: float | None = None    # d, units of W+
    iters: int | None = None         # steps
    lr: float | None = None          # Adam's learning rate
    lr_decay: float | None = None    # share of the steps, at the end, over which lr falls to 0; 0 = constant, as published
    n_adj: int | None = None         # N_a, neighbours a step
    n_global: int | None = None      # N_g, random people a step
    n_near: int | None = None        # of N_g, how many are chosen for their nearness to the person
    alpha_max: float | None = None   # α_max, units of W+
    lambda_local: float | None = None
    lambda_adj: float | None = None
    lambda_global: float | None = None
    lambda_l2: float | None = None
    lambda_lpips: float | None = None
    lambda_id: float | None = None
    lambda_l1: float | None = None   # γ of an L1 penalty on the weights
    lambda_ewc: float | None = None  # λ of elastic weight consolidation
    prune: float | None = None       # share of each layer's weights set to zero before anything is learned
    saliency: float | None = None    # share of the weights that learn, the most salient ones; 1 = all
    trainable: str = 'auto'          # comma-separated parameter prefixes; 'auto' = the family's synthesis network
    seed: int = 0
    # The judges.
    lpips_net: str | None = None     # 'vgg', 'alex', 'squeeze' or 'demo'; None = vgg, on the demo networks demo
    lpips_weights: str | None = None  # file with the trunk's weights; None = cache or download
    lpips_resolution: int | None = None  # pixels; None = the picture as it is
    id_network: str | None = None    # 'facenet', 'arcface', 'curricularface', 'demo', 'none' or a TorchScript file; None likewise
    id_weights: str | None = None    # file with the recogniser's weights; None = cache or download
    face_crop: str = 'auto'          # 'auto', 'eg3d', 'ffhq', 'full': where in the picture the face is
    random_metric_weights: bool = False  # untrained judges: timings and tests only
    # How it runs.
    loss_resolution: str | None = None  # 'full', 'half' (half the rays along each side), 'raw' (before super-resolution), 'mixed'
    fov_deg: float | None = None     # degrees; None = FFHQ's 18.837
    device: str = 'auto'             # 'auto', 'cpu', 'cuda', 'cuda:N', 'mps'
    precision: str | None = None     # 'fp32', 'tf32', 'bf16', 'fp16'; None = fp32, bf16 for a demo network on a CPU
    batch: int = 0                   # latents that go through at once; 0 = by device
    snap: int = 100                  # steps between saved states
    upstream: str | None = None      # NVIDIA checkout, for its CUDA kernels
    trust_pickle: bool = False       # load an unknown class through the checkout's own loader
    trust_file: bool = False         # load the user's own TorchScript networks, which run code of their author
    keep_source: bool = False        # leave the photo and the latent in the folder
    delta: str | None = None         # file that the edit of the closed form is written to; it holds the person's latent
    report: str = 'auto'             # report.html: 'full' = both networks are looked at once more, 'brief' = by the run's own figures

    @property
    def person_kind(self) -> str:
        """Which of image, people, latent and latent_seed was given."""
        return next((name for name in ('image', 'people', 'latent') if getattr(self, name) not in (None, ())), 'latent_seed')

    def to_json(self) -> dict:
        """The options as they are recorded: who the person is stays out unless ``keep_source`` asks for it."""
        options = {**asdict(self), 'network': without_secrets(self.network)}
        if not self.keep_source:
            for name in ('image', 'people', 'latent', 'latent_seed', 'camera', 'keep', 'delta'):
                options[name] = '(given, not recorded)' if options[name] not in (None, ()) else None
        return options


def begins_with_encoder(inversion: str) -> bool:
    """Whether an inversion's name begins with an encoder's."""
    return inversion.split('+')[0] not in ('w', 'mean')


def refines(inversion: str) -> bool:
    """Whether an inversion's name ends with a space in which latents are refined: w or w+."""
    return inversion.removesuffix('+').split('+')[-1] == 'w'
