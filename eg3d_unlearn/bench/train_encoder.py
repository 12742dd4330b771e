"""Train an encoder for any network from the network's own samples, and on photos where there are any.

    python -m eg3d_unlearn.bench.train_encoder --network=NETWORK.pkl --outdir=runs/encoder

Random latents, random cameras, the pictures that the network makes of them: the truth is known, no photo is needed.  Of
photos only the picture is known: there the loss is what the network makes of the latent that was found.

    python -m eg3d_unlearn.bench.train_encoder --network=NETWORK.pkl --outdir=runs/tuned --resume=runs/encoder/encoder.pt --data=photos.zip
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eg3d_unlearn.bench.encoder_samples import Photographs, Samples
from eg3d_unlearn.config import Config, borrow
from eg3d_unlearn.console import PATH, command
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.loading import choose_device, load_generator
from eg3d_unlearn.generators.precision import arithmetic, choose_precision
from eg3d_unlearn.judges.identity import identity_distance
from eg3d_unlearn.judges.judges import Judges, load_judges
from eg3d_unlearn.person.inversion.encoder import META, EncoderNetwork, load_encoder, shrink_to
from eg3d_unlearn.person.inversion.inverter import reconstruction, shrink
from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.unlearning.presets import resolve
from eg3d_unlearn.worlds.demo.training import TrainingRun, averaged, cosine, follow
from eg3d_unlearn.worlds.registry import world_by_network
from torch_utils_ext.download import sha256_of
from torch_utils_ext.errors import InputError

HELD_OUT_SEED = 1_000_003            # of the samples that figures are about; chunks of the pool count up from 0


@dataclass
class Schedule:
    steps: int = 3000
    batch: int = 32
    lr: float = 1e-3                 # peak learning rate of Adam
    width: int = 32                  # channels of the encoder's first block
    size: int = 128                  # pixels a side of what it sees, a power of two, at most the network's
    space: str = 'w'                 # 'w' = it finds one vector for all layers, 'w+' = one for each
    chunk: int = 128                 # samples made together
    first_chunks: int = 4
    reuse: float = 12.0              # how often a sample is seen, on average
    image_share: float = 0.3         # of the steps, at the end, that also look at what the latents show
    image_every: int = 8             # of these steps, one in so many
    image_batch: int = 4             # pictures that it looks at: photos where there are any, else samples
    lambda_lpips: float = 0.3
    lambda_l2: float = 0.0
    lambda_id: float = 0.1
    half: bool = False               # 3D networks: looks with half the rays along each side
    held_out: int = 32               # samples, and photos, that figures are about


# Where there are photos, what the latents show counts in every step.
ON_PHOTOS = dict(steps=2000, batch=16, lr=5e-4, space='w+', image_share=1.0, image_every=1, image_batch=8, lambda_lpips=5.0, lambda_l2=10.0,
                 lambda_id=0.5)


def photographed(images: Tensor) -> Tensor:           # [N, 3, H, H] -> the same
    """What photos have and samples have not: blur, noise, another light and another contrast, each in some of the pictures."""
    count = len(images)

    def some(share: float) -> Tensor:
        return (torch.rand(count, 1, 1, 1, device=images.device) < share).float()

    def between(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, channels, 1, 1, device=images.device)

    coarse = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode='bilinear')
    images = images.lerp(coarse, some(0.4) * between(0, 1))
    images = (images * between(0.9, 1.1) + between(-0.06, 0.06, 3)).clamp(-1, 1)
    return images + some(0.4) * between(0, 0.06) * torch.randn_like(images)


def network_for(generator: Generator, size: int = 128, width: int = 32, space: str = 'w') -> EncoderNetwork:
    """An untrained encoder for ``generator``, which knows where its latents lie."""
    network = EncoderNetwork(min(generator.img_resolution, size), generator.w_dim, 25 if generator.is_3d else 0, width,
                             num_ws=generator.num_ws if space == 'w+' else 1)
    ws = generator.sample(512, torch.Generator().manual_seed(0))[:, 0]
    network.w_avg.copy_(generator.w_avg[0])
    network.spread.copy_((ws - generator.w_avg[0]).square().mean().sqrt())
    return network.to(generator.device)


def save_encoder(network: EncoderNetwork, path: Path, made_for: str) -> None:
    """Write the encoder in half precision; ``made_for`` is the sha256 of the generator's pickle."""
    about = json.dumps({**network.options, 'network_sha256': made_for}).encode()
    state = {name: tensor.detach().cpu().half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()}
    write_whole(path, lambda file: torch.save({**state, META: torch.frombuffer(bytearray(about), dtype=torch.uint8)}, file))


def resume_from(path: Path, generator: Generator, space: str) -> EncoderNetwork:
    """The encoder of a file, to be trained on in ``space``; one that found a vector for all layers may learn to part them."""
    before = load_encoder(path, generator)
    wanted = generator.num_ws if space == 'w+' else 1
    if before.options['num_ws'] not in (1, wanted):
        raise InputError(f'The encoder {path} finds a latent for each layer. Go on with --space=w+.')
    network = EncoderNetwork(**{**before.options, 'num_ws': wanted}).to(generator.device)
    network.load_state_dict(before.state_dict(), strict=before.options['num_ws'] == wanted)
    return network


def latent_loss(found: Tensor, w: Tensor, spread: Tensor) -> Tensor:  # [N, 1 or num_ws, w_dim], [N, w_dim], [] -> [N]
    """Squared error in units of the latent spread: 1 is what the mean latent gets."""
    return ((found - w[:, None]) / spread).square().mean(dim=[1, 2])


def show(generator: Generator, ws: Tensor, cameras: Tensor | None, half: bool = False) -> Tensor:
    """Pictures [N, 3, H, H] of latents [N, 1 or num_ws, w_dim]."""
    return generator.render(generator.backbone(ws.expand(-1, generator.num_ws, -1)), cameras, half=half).image


def image_loss(generator: Generator, judges: Judges, found: Tensor, wanted: Tensor, cameras: Tensor | None, schedule: Schedule) -> Tensor:
    """LPIPS, squared error and identity [N] between what latents show and the pictures ``wanted`` [N, 3, H, H]."""
    shown = show(generator, found, cameras, schedule.half)
    wanted = shrink_to(wanted, shown.shape[-1])
    small, wanted_small = shrink(shown), shrink(wanted)
    with torch.no_grad():
        features, identity = judges.perceptual.features(wanted_small), judges.recogniser(wanted) if judges.recogniser else None
    loss = schedule.lambda_lpips * judges.perceptual.compare(judges.perceptual.features(small), features)
    loss = loss + schedule.lambda_l2 * (small - wanted_small).square().flatten(1).mean(dim=1)
    return loss if identity is None else loss + schedule.lambda_id * identity_distance(judges.recogniser(shown), identity)


class HeldOut:
    """Pictures that the encoder never sees in training, and how well it finds them."""

    def __init__(self, generator: Generator, images: Tensor, cameras: Tensor | None, w: Tensor | None = None, prefix: str = ''):
        self.generator, self.images, self.cameras, self.w, self.prefix = generator, images, cameras, w, prefix

    @torch.no_grad()
    def __call__(self, network: EncoderNetwork, judges: Judges) -> dict[str, float]:
        with arithmetic('fp32', self.generator.device):
            found = network(self.images, self.cameras)
            figures = {} if self.w is None else {'latent_error': latent_loss(found, self.w, network.spread).mean().item()}
            lpips, psnr, likeness = [], [], []
            for start in range(0, len(found), 4):
                part = slice(start, start + 4)
                ws, camera = found[part].expand(-1, self.generator.num_ws, -1), None if self.cameras is None else self.cameras[part]
                one, two = reconstruction(self.generator, ws, self.images[part], camera, judges.perceptual)
                lpips.append(one)
                psnr.append(two)
                if judges.measuring:
                    likeness.append(1 - identity_distance(judges.measuring(show(self.generator, ws, camera)), judges.measuring(self.images[part])))
        figures.update(lpips=torch.cat(lpips).mean().item(), psnr_db=torch.cat(psnr).mean().item())
        figures.update({'identity': torch.cat(likeness).mean().item()} if likeness else {})
        return {self.prefix + name: value for name, value in figures.items()}


def train(generator: Generator, judges: Judges, outdir: str, schedule: Schedule, made_for: str, report_every: int = 250,
          data: str | None = None, resume: str | None = None, precision: str = 'fp32') -> dict:
    """Train or go on training; returns the report, and leaves ``encoder.pt`` in the folder."""
    photos = None if data is None else Photographs(data, generator, schedule.held_out)
    with torch.device(generator.device):
        torch.manual_seed(0)
        if resume is None:
            network = network_for(generator, schedule.size, schedule.width, schedule.space)
        else:
            network = resume_from(Path(resume), generator, schedule.space)
        average = averaged(network)
        optimiser = torch.optim.Adam(network.parameters(), lr=schedule.lr, betas=(0.9, 0.99))
        options = {'network_sha256': made_for, **vars(schedule), 'data': data, 'resume': resume and sha256_of(Path(resume)), 'precision': precision}
        run = TrainingRun(outdir, options, schedule.steps, {'network': network, 'average': average, 'optimiser': optimiser},
                          defaults=vars(Schedule(**(ON_PHOTOS if data else {}))))
        samples = Samples(generator, run.folder.path / 'samples', schedule.chunk, network.options['size'])
        w, cameras = samples.latents(HELD_OUT_SEED)
        w, cameras = w[:schedule.held_out], None if cameras is None else cameras[:schedule.held_out]
        held_out = [HeldOut(generator, samples.pictures(w, cameras, None), cameras, w)]
        if photos:
            held_out.append(HeldOut(generator, *photos.read(photos.held_out), prefix='photo_'))
        sums: list[float] = []
        for step in run:
            samples.grow(schedule.first_chunks + int((step + 1) * schedule.batch / schedule.reuse / schedule.chunk))
            with arithmetic(precision, generator.device):
                loss = step_loss(step, schedule, network, generator, judges, samples, photos)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.param_groups[0]['lr'] = schedule.lr * cosine(step, schedule.steps)
            optimiser.step()
            follow(average, network, step)
            sums.append(loss.item())
            if (step + 1) % report_every == 0 or step + 1 == schedule.steps:
                run.stats(loss=sum(sums) / len(sums), samples=len(samples.chunks) * schedule.chunk, **measured(held_out, average, judges))
                sums = []
        save_encoder(average, run.folder / 'encoder.pt', made_for)
        return run.finish(**measured(held_out, average, judges))


def step_loss(step: int, schedule: Schedule, network: EncoderNetwork, generator: Generator, judges: Judges, samples: Samples,
              photos: Photographs | None) -> Tensor:
    """The loss of one step: latents of samples, and in some steps what the latents of photos, or of samples, show."""
    w, images, cameras = samples.draw(schedule.batch)
    found = network(photographed(images), cameras)
    loss = latent_loss(found, w, network.spread).mean()
    if step < (1 - schedule.image_share) * schedule.steps or step % schedule.image_every:
        return loss
    if photos is not None:
        wanted, cameras = photos.draw(schedule.image_batch)
        found = network(wanted, cameras)
    else:
        few = slice(schedule.image_batch)
        found, cameras = found[few], None if cameras is None else cameras[few]
        with torch.no_grad():
            wanted = show(generator, w[few, None], cameras)
    return loss + image_loss(generator, judges, found, wanted, cameras, schedule).mean()


def measured(held_out: list[HeldOut], network: EncoderNetwork, judges: Judges) -> dict[str, float]:
    return {name: value for part in held_out for name, value in part(network, judges).items()}


def prepare(network: str, device: str, random_judges: bool, precision: str | None) -> tuple[Generator, Judges, str]:
    """The network, what it is judged by, and the sha256 of its pickle."""
    config = Config(network=network, outdir='', device=device, random_metric_weights=random_judges)
    place = choose_device(device)
    pickle, generator = load_generator(resolve(config, *world_by_network(network)), place)
    generator.precision = choose_precision(precision, generator.trained_on.world, place)
    judges = load_judges(resolve(config, generator.trained_on.world, generator.family), generator, generator.device)
    return generator, judges, pickle.sha256()


def setting(flag: str, text: str, **options) -> Callable:
    """An option of `Schedule`, whose default depends on whether there are photos."""
    name = flag.removeprefix('--').replace('-', '_')
    usual, on_photos = (value if isinstance(value, str) else f'{value:g}' for value in (getattr(Schedule, name), ON_PHOTOS[name]))
    return click.option(flag, help=f'{text}  [default: {usual}; with --data {on_photos}]', **options)


@command(stopped='Run the same command again to go on from the last saved state.')
@borrow('network')
@borrow('outdir')
@setting('--steps', 'Training steps.', type=click.IntRange(min=1))
@click.option('--size', help='Pixels a side of the pictures that the encoder sees; at most what the network makes.', type=click.Choice(['32', '64', '128', '256']), callback=lambda c, p, v: int(v), default=str(Schedule.size), show_default=True)
@setting('--batch', 'Pictures a step.', type=click.IntRange(min=1))
@click.option('--reuse', help='How often a sample is seen, on average; the higher, the fewer are made.', type=click.FloatRange(min=1), default=Schedule.reuse, show_default=True)
@setting('--lr', 'Peak learning rate of Adam.', type=click.FloatRange(min=0, min_open=True))
@setting('--space', 'What it finds: one vector for all layers (w), or one for each (w+).', type=click.Choice(['w', 'w+']))
@click.option('--data', help="Photos to learn from as well: folder or zip as NVIDIA's tools take it, for 3D networks with their cameras in dataset.json.", type=PATH, metavar='DIR|ZIP')
@click.option('--resume', help='Encoder to begin with instead of an untrained one; it keeps its --size.', type=PATH, metavar='ENCODER.pt')
@setting('--image-share', 'Share of the steps, at the end, that also look at what the latents show.', type=click.FloatRange(0, 1))
@setting('--image-every', 'Of these steps, one in so many looks.', type=click.IntRange(min=1))
@setting('--image-batch', 'Pictures that it looks at: of --data, else samples.', type=click.IntRange(min=1))
@click.option('--half', help='3D networks: look with half the rays along each side, which is faster.', is_flag=True)
@setting('--lambda-lpips', 'Weight of LPIPS between pictures, 0: off.', type=click.FloatRange(min=0))
@setting('--lambda-l2', 'Weight of the squared error between pictures, 0: off.', type=click.FloatRange(min=0))
@setting('--lambda-id', 'Weight of the identity term, 0: off.', type=click.FloatRange(min=0))
@borrow('device')
@borrow('precision')
@borrow('random_metric_weights')
@click.option('--ship', help='At the end, put the encoder into the package, in place of the one that the demo network came with.', is_flag=True)
def main(network: str, outdir: str, device: str, data: str | None, resume: str | None, precision: str | None, random_metric_weights: bool,
         ship: bool, **options) -> None:
    """Train an encoder (picture -> latent) for a network from its own samples, and on photos where --data gives any.

    The folder gets encoder.pt, training_options.json, log.txt, stats.jsonl with the error on held-out samples, report.json.
    Then: unlearn.py --inversion=encoder --encoder=DIR/encoder.pt.
    """
    world, family = world_by_network(network)
    if ship and (world is None or world.encoder_path(family) is None):
        raise InputError(f'--ship is for the demo networks, whose encoders come with the package; got --network={network}.')
    generator, judges, made_for = prepare(network, device, random_metric_weights, precision)
    if options['half'] and not generator.is_3d:
        raise InputError('--half is about rays, which 2D networks have not. Leave it out.')
    given = {name: value for name, value in options.items() if value is not None}
    schedule = Schedule(**{**(ON_PHOTOS if data else {}), **given})
    report = train(generator, judges, outdir, schedule, made_for, data=data, resume=resume, precision=generator.precision)
    if ship:
        for name, path in (('encoder.pt', world.encoder_path(family)), ('report.json', world.encoder_path(family).with_suffix('.json'))):
            write_whole(path, lambda file, name=name: file.write((Path(outdir) / name).read_bytes()))
    click.echo('  '.join(f'{name} {value:.4g}' for name, value in report['figures'].items()))


if __name__ == '__main__':
    main()
