"""What a run says of itself: figures over many people."""
import pytest
import torch
from small import small_generator

from eg3d_unlearn.evaluation import likeness, summary
from eg3d_unlearn.evaluation.summary import Views

SIZE = 96


def views(seed: int, others: int = 11) -> Views:
    """Random pictures: one of the person, one target, two other photos, ``others`` people."""
    noise = iter(torch.randn(4 + others, 1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1))
    return Views([next(noise)], [next(noise)], [next(noise), next(noise)], [], list(noise))


def embed(images: torch.Tensor) -> torch.Tensor:
    """Unit vectors of each picture's corner."""
    return torch.nn.functional.normalize(images[:, :, :8, :8].flatten(1), dim=1)


@pytest.mark.parametrize('others', [1, 8, 11])
def test_figures_do_not_depend_on_how_many_are_looked_at_together(others, monkeypatch):
    before, after = views(0, others), views(1, others)
    monkeypatch.setattr(likeness, 'EMBEDDED_AT_ONCE', 100)
    together = summary.summary(before, after, embed, 'corner')
    monkeypatch.setattr(likeness, 'EMBEDDED_AT_ONCE', 3)
    assert summary.summary(before, after, embed, 'corner') == together
    by_hand = [(embed(a) * embed(b)).sum() for a, b in zip(before.others, after.others, strict=True)]
    assert together['other_people'] == pytest.approx(torch.stack(by_hand).mean().item(), abs=1e-4)
    assert together['others'] == others


def test_of_several_people_only_the_first_brings_strangers():
    """What a saved state holds of further people: their latents and photos, nobody else's."""
    generator = small_generator('stylegan2')
    latents = [generator.map_seed(seed) for seed in range(6)]
    first = {'ws_source': latents[0], 'ws_others': None, 'ws_strangers': torch.cat(latents[1:3]), 'cameras': None}
    more = {'ws_source': latents[3], 'ws_others': torch.cat(latents[4:6]), 'cameras': None}
    found = summary.show_all(generator, [first, more], [7, 8])
    assert (len(found.source), len(found.other_photos), len(found.strangers), len(found.random_people), found.people) == (2, 1, 2, 2, 2)
    assert torch.equal(found.other_photos[0], generator.synthesize(latents[4]).image)
