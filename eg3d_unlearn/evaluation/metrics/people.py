"""One metric over several people: the mean with its interval, and the person who came off worst."""
from __future__ import annotations

import torch

from eg3d_unlearn.evaluation import estimate


def over_people(
    results: list[dict],             # of `compute`, one metric, one for each person
    seed: int = 0,                   # of the resampling, by people
) -> dict:
    """Mean over people, standard deviation, and the worst of them by their place in ``results``."""
    names = {result['name'] for result in results}
    if len(names) != 1:
        raise ValueError(f'results of one metric expected, got {", ".join(sorted(names)) or "none"}')
    values = torch.tensor([result['value']['value'] for result in results], dtype=torch.float64)
    worst = int(values.argmax() if results[0]['better'] == 'low' else values.argmin())
    deviation = values.std(correction=1).item() if len(values) > 1 else None
    return {'name': names.pop(), 'value': estimate.mean(values, seed).to_json(), 'std': deviation, 'people': len(values),
            'worst': {'person': worst, 'value': values[worst].item()}, 'values': values.tolist()}
