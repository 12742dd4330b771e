"""`evaluate.py metrics`: metrics by name, a JSON line each beside the unlearned network."""
from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click

from eg3d_unlearn.config import WHO
from eg3d_unlearn.console import PATH, command
from eg3d_unlearn.evaluation import metrics as measured
from eg3d_unlearn.evaluation.options import evidence_from, evidence_options, names_somebody
from eg3d_unlearn.run_folder import write_whole
from eg3d_unlearn.worlds.registry import person_in
from torch_utils_ext.atomic_file import cannot_write
from torch_utils_ext.download import default_cache
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import is_file, shown

DEFAULT = 'id,retain200,fid_pre500'
LIST = '\n'.join(f'      {metric.example:14}  {metric.title}' for metric in measured.METRICS.values())
HELP = f"""Measure an erasure: is the person gone, and what became of everybody else?

    \b
    Metrics:
{LIST}

    A number is that of pictures or people; -half behind a name takes half the rays along each side (EG3D).

    \b
    Examples:
      python evaluate.py metrics --before=demo-eg3d --after=out/network-unlearned.pkl --image=demo
      python evaluate.py metrics --before=ffhqrebalanced512-128.pkl --after=out/network-unlearned.pkl \\
          --image=face.png --image=other.png --recogniser=facenet --metrics=id,id_others,fid_pre5k,dfid_real5k --data=ffhq.zip
    """


@command('metrics', help=HELP, stopped='What was finished is written; ask for the other metrics again.')
@evidence_options
@click.option('--metrics', help='Names of metrics, separated by commas.', metavar='NAME,...', default=DEFAULT, show_default=True)
@click.option('--outdir', help='Folder for the results, metric-NAME.jsonl.  [default: that of --after]', type=PATH, metavar='DIR')
@click.option('--features', help='Feature network of FID, KID, precision and recall: inception, demo, or a TorchScript file ([N, 3, H, W] uint8 -> [N, D]; a program: --trust-file).  [default: inception; demo in the demo world]', type=PATH, metavar='NAME|FILE')
@click.option('--inception-weights', help="File with Inception's weights.  [default: cache, else download]", type=PATH, metavar='FILE')
@click.option('--data', help="Real pictures for dfid_real and, by its dataset.json, the cameras of EG3D's samples: folder or zip as NVIDIA's tools take it.  [default: in the demo world its renderer]", type=PATH, metavar='DIR|ZIP')
@click.option('--held-out', help='Held-out real people whom retain looks at beside the sampled ones, by photos of --data or of the demo world.  [default: 20 in the demo world, else 0]', type=click.IntRange(min=0), metavar='INT')
@click.option('--apart', help='For targets_apart, another erased person: the network after it, and who (a photo, a latent file, demo:N, seed:N). May be given more than once.', nargs=2, type=(PATH, PATH), metavar='FILE PERSON', multiple=True)
@click.option('--batch', help='Pictures that go through at once; no figure depends on it.  [default: by device]', type=click.IntRange(min=1), metavar='INT')
def main(metrics: str, outdir: str | None, features: str | None, inception_weights: str | None, data: str | None,
         held_out: int | None, apart: tuple[tuple[str, str], ...], batch: int | None, **options) -> None:
    names = measured.parse_all(metrics)
    folder = folder_for(outdir, options['after'])
    further = [further_person(options, after, person) for after, person in apart]
    evidence = evidence_from(options, needs_person=names_somebody(options))
    settings = measured.Settings(seed=options['seed'], batch=batch or 0, features=features, inception_weights=inception_weights, data=data,
                                 held_out=held_out, others=tuple(evidence_from(one) for one in further),
                                 cache=measured.Cache(default_cache() / 'metrics'))
    for name in names:
        measured.check(name, evidence, settings)
    for name in names:
        result = measured.compute(name, evidence, settings)
        path = append(folder, result)
        click.echo(line(result))
        click.echo(f'  {path}')


def further_person(options: dict, after: str, person: str) -> dict:
    """The options of another erased person, as --apart names it."""
    kind, value = 'image', (person,)
    if person.startswith('seed:'):
        if not re.fullmatch('[0-9]{1,10}', person[5:]) or int(person[5:]) >= 2**32:
            raise InputError(f'--apart {shown(after, 300)} {shown(person)}: expected seed:N with a whole number N below 2**32.')
        kind, value = 'latent_seed', int(person[5:])
    elif Path(person).suffix.lower() in ('.npy', '.npz', '.pt', '.pth'):
        kind, value = 'latent', person
    # What is said of the first person's photo; --aligned holds for files of the other one as well.
    aligned = options['aligned'] and kind == 'image' and person_in(person) is None
    nobody = {**dict.fromkeys(WHO), 'image': (), 'camera': None, 'face': None, 'forget_from': 'first', 'aligned': aligned}
    return {**options, **nobody, 'after': after, kind: value}


def folder_for(outdir: str | None, after: str) -> Path:
    """Where the results go: ``--outdir``, else beside the unlearned network; one that cannot be written is refused."""
    if outdir is None and not is_file(after):
        raise InputError(f'--after={after} is no file beside which the results could lie. Name a folder with --outdir.')
    folder = Path(outdir) if outdir is not None else Path(after).parent
    parent = next(parent for parent in [folder, *folder.absolute().parents] if os.path.exists(parent))
    if not parent.is_dir():
        raise InputError(f'--outdir={folder} cannot be made: {parent} is a file. Name a folder.')
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f'The results cannot be written to {folder}: no permission in {parent}. Name a folder with --outdir.')
    return folder


def append(folder: Path, result: dict) -> Path:
    """Add a line to the metric's file, which stays whole whatever happens."""
    path = folder / f'metric-{result["name"]}.jsonl'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = path.read_bytes() if path.exists() else b''
    except OSError as error:
        raise cannot_write(path, error) from None
    if lines and not lines.endswith(b'\n'):
        lines += b'\n'
    added = json.dumps(result, ensure_ascii=False).encode('utf-8', 'backslashreplace') + b'\n'
    write_whole(path, lambda file: file.write(lines + added))
    return path


def line(result: dict) -> str:
    """One metric in one line."""
    value = result['value']
    protocol = result['protocol']
    flatters = protocol.get('recogniser') is not None and protocol['recogniser'] == protocol.get('recogniser_of_the_loss')
    meaning = '  by the recogniser of the loss itself, which flatters: add --recogniser' if flatters else ''
    meaning += f'  {result["MEANING"]}' if 'MEANING' in result else ''
    bounds = '(a single sample has no interval)' if value['samples'] == 1 else f'[{value["low"]:.4g}, {value["high"]:.4g}]'
    return (f'{result["name"]:<16} {value["value"]:.4g}  {bounds}  n = {value["samples"]}, '
            f'{"lower" if result["better"] == "low" else "higher"} is better; {result["seconds"]:.0f} s{meaning}')
