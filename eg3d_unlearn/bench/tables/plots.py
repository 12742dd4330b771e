"""Pictures of results: how far the target lies (the paper's Figure 9), and where a person's photos lie (supplement, Figure 2)."""
from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import Tensor

from eg3d_unlearn.bench.tables.jobs import Experiment
from eg3d_unlearn.evaluation.likeness import embeddings
from eg3d_unlearn.evaluation.metrics import METRICS
from eg3d_unlearn.evaluation.rendering import rendered
from eg3d_unlearn.run_folder import write_whole
from torch_utils_ext.errors import InputError

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')


def pyplot():
    """Matplotlib, which only plots need."""
    try:
        import matplotlib
    except ImportError:
        raise InputError("Plots need matplotlib: pip install 'eg3d_unlearn[evaluate]'.") from None
    matplotlib.use('Agg')
    matplotlib.rcParams['svg.hashsalt'] = 'eg3d_unlearn'    # the same figures give the same file
    from matplotlib import pyplot as plt
    return plt


def sweep(
    experiment: Experiment,
    lines: dict[str, list],          # network -> `build.rows_of`
    path: Path,
) -> None:
    """Each metric against the sweep's setting, a line for each network."""
    plt = pyplot()
    figure, axes = plt.subplots(1, len(experiment.metrics), figsize=(3.6 * len(experiment.metrics), 3.2), layout='constrained')
    for axis, metric in zip(axes, experiment.metrics, strict=True):
        for colour, (network, rows) in zip(itertools.cycle(COLOURS), lines.items(), strict=False):
            known = [(row.title, cells[metric]) for row, cells in rows if cells[metric]]
            axis.errorbar([title for title, _ in known], [cell.mean for _, cell in known], [cell.std or 0 for _, cell in known],
                          color=colour, marker='o', capsize=3, label=Path(network).stem)
        axis.set_title(METRICS[metric].heading)
        axis.set_xlabel('d, as a multiple of the default')
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    save(figure, path)


def neighbours(
    embeddings: Tensor,              # [N, D] unit norm
    people: list[str],               # whose each is
    states: list[str],               # 'photo', 'before' or 'after'
    path: Path,
) -> None:
    """t-SNE of a recogniser's embeddings; a colour for each person, a mark for each state."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise InputError("t-SNE needs scikit-learn: pip install 'eg3d_unlearn[evaluate]'.") from None
    plt = pyplot()
    flat = TSNE(metric='cosine', perplexity=min(10, (len(embeddings) - 1) / 3), init='random', random_state=0).fit_transform(
        embeddings.double().cpu().numpy())
    figure, axis = plt.subplots(figsize=(6, 5), layout='constrained')
    for colour, person in zip(itertools.cycle(COLOURS), dict.fromkeys(people), strict=False):
        for state, marker in (('photo', '*'), ('before', 'o'), ('after', 'x')):
            chosen = [i for i in range(len(people)) if people[i] == person and states[i] == state]
            if chosen:
                axis.scatter(flat[chosen, 0], flat[chosen, 1], color=colour, marker=marker, label=f'{person}, {state}')
    axis.legend(frameon=False, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
    save(figure, path)


def save(figure, path: Path) -> None:
    write_whole(path, lambda file: figure.savefig(file, format='svg', metadata={'Date': None}))
    pyplot().close(figure)


def embeddings_of(evidence) -> tuple[Tensor, list[str]]:
    """Embeddings [N, D] of the person's photos and of both networks' pictures of their latents, and which is which."""
    _, embed = evidence.measuring
    photos, cameras = evidence.photos_mine
    own = None if cameras is None else cameras[:, None]
    shown = [photos, *(rendered(generator, evidence.ws_mine, own, batch=1).images[:, 0] for generator in (evidence.g_s, evidence.g_u))]
    found = torch.cat([embeddings(embed, images, evidence.device) for images in shown])
    return found, [state for state in ('photo', 'before', 'after') for _ in photos]
