"""Train an encoder for any network from the network's own samples.

    python -m eg3d_unlearn.inversion.train --network=NETWORK.pkl --outdir=runs/encoder

Random latents, random cameras, the pictures that the network makes of them: the truth is known, no photo is needed.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eg3d_unlearn.config import Config
from eg3d_unlearn.demo.shipped import encoder_path, is_demo
from eg3d_unlearn.demo.training import TrainingRun, averaged, cosine, follow
from eg3d_unlearn.generator import Generator
from eg3d_unlearn.inversion.encoder import EncoderNetwork, network_for, save_encoder, shrink_to
from eg3d_unlearn.inversion.optimise import reconstruction
from eg3d_unlearn.judging import Judges, load_judges
from eg3d_unlearn.loss import identity_distance
from eg3d_unlearn.presets import resolve
from eg3d_unlearn.run import choose_device, demo_family, load_generator
from eg3d_unlearn.run_folder import write_whole
from torch_utils_ext.errors import InputError

MAX_YAW, MAX_PITCH = 0.5, 0.25       # of the cameras of 3D networks [radians]
HELD_OUT_SEED = 1_000_003            # of the samples that figures are about; chunks of the pool count up from 0


@dataclass
class Schedule:
    steps: int = 3000
    batch: int = 32
    lr: float = 1e-3                 # peak learning rate of Adam
    width: int = 32                  # channels of the encoder's first block
    size: int = 128                  # pixels a side of what it sees, a power of two, at most the network's
    chunk: int = 128                 # samples made together
    first_chunks: int = 4
    reuse: float = 12.0              # how often a sample is seen, on average
    image_share: float = 0.3         # of the steps, at the end, that also look at what the latents show
    image_every: int = 8             # of these steps, one in so many
    image_batch: int = 4
    lambda_lpips: float = 0.3
    lambda_id: float = 0.1
    held_out: int = 32               # samples that figures are about


class Samples:
    """The network's own people in chunks on disk, each made once; chunk i depends on i alone."""

    def __init__(self, generator: Generator, folder: Path, chunk: int, size: int):
        self.generator, self.folder, self.chunk = generator, folder, chunk
        self.size = min(generator.img_resolution, size)
        folder.mkdir(parents=True, exist_ok=True)
        self.chunks: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def latents(self, index: int) -> tuple[Tensor, Tensor | None]:
        """w [chunk, w_dim] and cameras [chunk, 25] of a chunk."""
        rng = torch.Generator().manual_seed(index)
        w = self.generator.sample(self.chunk, rng)[:, 0]
        if not self.generator.is_3d:
            return w, None
        angles = torch.rand(self.chunk, 2, generator=rng) * 2 - 1
        return w, torch.cat([self.generator.camera(yaw * MAX_YAW, pitch * MAX_PITCH) for yaw, pitch in angles.tolist()])

    @torch.no_grad()
    def pictures(self, w: Tensor, cameras: Tensor | None, size: int | None) -> Tensor:  # [N, 3, size, size]
        """What the network shows, a few at a time; ``size`` None = as it comes."""
        shown = []
        for start in range(0, len(w), 4):
            ws = w[start:start + 4, None].expand(-1, self.generator.num_ws, -1)
            image = self.generator.synthesize(ws, None if cameras is None else cameras[start:start + 4]).image.clamp(-1, 1)
            shown.append(image if size is None else shrink_to(image, size))
        return torch.cat(shown)

    def grow(self, count: int) -> None:
        """Have ``count`` chunks."""
        while len(self.chunks) < count:
            index = len(self.chunks)
            w, cameras = self.latents(index)
            path = self.folder / f'samples-{index:04d}.npy'
            if not path.exists():
                pixels = ((self.pictures(w, cameras, self.size) + 1) * 127.5).round().byte().cpu().numpy()
                write_whole(path, lambda file, pixels=pixels: np.save(file, pixels))
            self.chunks.append((w, torch.from_numpy(np.load(path)), cameras))

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """w [count, w_dim], pictures [count, 3, size, size], cameras [count, 25] from all chunks."""
        which = [divmod(place, self.chunk) for place in torch.randint(len(self.chunks) * self.chunk, (count,)).tolist()]
        w = torch.stack([self.chunks[index][0][within] for index, within in which])
        images = torch.stack([self.chunks[index][1][within] for index, within in which]).to(w.device).float() / 127.5 - 1
        return w, images, torch.stack([self.chunks[index][2][within] for index, within in which]) if self.generator.is_3d else None


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


def latent_loss(found: Tensor, w: Tensor, spread: Tensor) -> Tensor:  # [N, w_dim], [N, w_dim], [] -> [N]
    """Squared error in units of the latent spread: 1 is what the mean latent gets."""
    return ((found - w) / spread).square().mean(dim=1)


def image_loss(generator: Generator, judges: Judges, found: Tensor, w: Tensor, cameras: Tensor | None, schedule: Schedule) -> Tensor:
    """LPIPS and identity [N] between what two latents show."""
    def show(latents: Tensor) -> Tensor:
        return generator.synthesize(latents[:, None].expand(-1, generator.num_ws, -1), cameras).image
    with torch.no_grad():
        wanted = show(w)
        features, identity = judges.perceptual.features(wanted), judges.recogniser(wanted) if judges.recogniser else None
    shown = show(found)
    loss = schedule.lambda_lpips * judges.perceptual.compare(judges.perceptual.features(shown), features)
    return loss if identity is None else loss + schedule.lambda_id * identity_distance(judges.recogniser(shown), identity)


class HeldOut:
    """Samples that the encoder never sees in training, and how well it finds them."""

    def __init__(self, samples: Samples, count: int):
        self.generator = samples.generator
        w, cameras = samples.latents(HELD_OUT_SEED)
        self.w, self.cameras = w[:count], None if cameras is None else cameras[:count]
        self.images = samples.pictures(self.w, self.cameras, None)

    @torch.no_grad()
    def __call__(self, network: EncoderNetwork, judges: Judges) -> dict[str, float]:
        found = network(self.images, self.cameras)
        figures = {'latent_error': latent_loss(found, self.w, network.spread).mean().item()}
        lpips, psnr, cosine_ = [], [], []
        for start in range(0, len(found), 4):
            part = slice(start, start + 4)
            ws, camera = found[part, None].expand(-1, self.generator.num_ws, -1), None if self.cameras is None else self.cameras[part]
            one, two = reconstruction(self.generator, ws, self.images[part], camera, judges.perceptual)
            lpips.append(one)
            psnr.append(two)
            if judges.measuring:
                shown = self.generator.synthesize(ws, camera).image
                cosine_.append(1 - identity_distance(judges.measuring(shown), judges.measuring(self.images[part])))
        figures.update(lpips=torch.cat(lpips).mean().item(), psnr_db=torch.cat(psnr).mean().item())
        return {**figures, **({'identity': torch.cat(cosine_).mean().item()} if cosine_ else {})}


def train(generator: Generator, judges: Judges, outdir: str, schedule: Schedule, made_for: str, report_every: int = 250) -> dict:
    """Train or go on training; returns the report, and leaves ``encoder.pt`` in the folder."""
    with torch.device(generator.device):
        torch.manual_seed(0)
        network = network_for(generator, schedule.size, schedule.width)
        average = averaged(network)
        optimiser = torch.optim.Adam(network.parameters(), lr=schedule.lr, betas=(0.9, 0.99))
        options = {'network_sha256': made_for, **vars(schedule)}
        run = TrainingRun(outdir, options, schedule.steps, {'network': network, 'average': average, 'optimiser': optimiser})
        samples = Samples(generator, run.folder.path / 'samples', schedule.chunk, schedule.size)
        held_out = HeldOut(samples, schedule.held_out)
        sums: list[float] = []
        for step in run:
            samples.grow(schedule.first_chunks + int((step + 1) * schedule.batch / schedule.reuse / schedule.chunk))
            w, images, cameras = samples.draw(schedule.batch)
            found = network(photographed(images), cameras)
            loss = latent_loss(found, w, network.spread).mean()
            if step >= (1 - schedule.image_share) * schedule.steps and step % schedule.image_every == 0:
                few = slice(schedule.image_batch)
                loss = loss + image_loss(generator, judges, found[few], w[few], None if cameras is None else cameras[few], schedule).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.param_groups[0]['lr'] = schedule.lr * cosine(step, schedule.steps)
            optimiser.step()
            follow(average, network, step)
            sums.append(loss.item())
            if (step + 1) % report_every == 0 or step + 1 == schedule.steps:
                run.stats(loss=sum(sums) / len(sums), samples=len(samples.chunks) * schedule.chunk, **held_out(average, judges))
                sums = []
        save_encoder(average, run.folder / 'encoder.pt', made_for)
        return run.finish(**held_out(average, judges))


def prepare(network: str, device: str, random_judges: bool) -> tuple[Generator, Judges, str]:
    """The network, what it is judged by, and the sha256 of its pickle."""
    config = Config(network=network, outdir='', device=device, random_metric_weights=random_judges)
    pickle, generator = load_generator(resolve(config, demo_family(network)), choose_device(device))
    family = generator.family if is_demo(pickle) else None
    judges = load_judges(resolve(config, family), generator.family, generator.device)
    return generator, judges, pickle.sha256()


@click.command(context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 120})
@click.option('--network', help='Network pickle: file, URL, published name, or demo-eg3d, demo-stylegan2.', metavar='PKL', required=True)
@click.option('--outdir', help='Folder of the run. The same command on the same folder resumes.', metavar='DIR', required=True)
@click.option('--steps', help='Training steps.', type=click.IntRange(min=1), default=Schedule.steps, show_default=True)
@click.option('--size', help='Pixels a side of the pictures that the encoder sees; at most what the network makes.', type=click.Choice(['32', '64', '128', '256']), callback=lambda c, p, v: int(v), default=str(Schedule.size), show_default=True)
@click.option('--batch', help='Pictures a step.', type=click.IntRange(min=1), default=Schedule.batch, show_default=True)
@click.option('--reuse', help='How often a sample is seen, on average; the higher, the fewer are made.', type=click.FloatRange(min=1), default=Schedule.reuse, show_default=True)
@click.option('--lambda-lpips', help='Weight of LPIPS between pictures, 0: off.', type=click.FloatRange(min=0), default=Schedule.lambda_lpips, show_default=True)
@click.option('--lambda-id', help='Weight of the identity term, 0: off.', type=click.FloatRange(min=0), default=Schedule.lambda_id, show_default=True)
@click.option('--device', help='auto, cpu, cuda, cuda:N or mps.', default='auto', show_default=True)
@click.option('--random-metric-weights', help='Untrained LPIPS and recogniser, for timings and tests.', is_flag=True)
@click.option('--ship', help='At the end, put the encoder into the package, in place of the one that the demo network came with.', is_flag=True)
def main(network: str, outdir: str, device: str, random_metric_weights: bool, ship: bool, **options) -> None:
    """Train an encoder (picture -> latent in W) for a network from its own samples.

    The folder gets encoder.pt, training_options.json, log.txt, stats.jsonl with the error on held-out samples, report.json.
    Then: unlearn.py --inversion=encoder --encoder=DIR/encoder.pt.
    """
    try:
        if ship and demo_family(network) is None:
            raise InputError(f'--ship is for the demo networks, whose encoders come with the package; got --network={network}.')
        generator, judges, made_for = prepare(network, device, random_metric_weights)
        report = train(generator, judges, outdir, Schedule(**options), made_for)
        if ship:
            for name, path in (('encoder.pt', encoder_path(network)), ('report.json', encoder_path(network).with_suffix('.json'))):
                write_whole(path, lambda file, name=name: file.write((Path(outdir) / name).read_bytes()))
    except InputError as error:
        raise click.ClickException(str(error)) from None
    click.echo('  '.join(f'{name} {value:.4g}' for name, value in report['figures'].items()))


if __name__ == '__main__':
    main()
