"""The closed form: folding is exact, detectors detect, and nobody else is disturbed more than the formula says."""
import copy
import json

import pytest
import torch
from click.testing import CliRunner
from small import SMALL, poor_mans_recogniser, small_generator

from eg3d_unlearn.closed_form import (
    OTHER_PHOTO,
    UNSEEN,
    Population,
    choose_strength,
    find_edit,
    fold,
    population,
    share_of_others,
    style_affines,
)
from eg3d_unlearn.command import main
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle, save_network_pickle


def twin(generator):
    other = copy.copy(generator)
    other.network = copy.deepcopy(generator.network)
    return other


def random_edit(generator, people=2, photos=1, ridge=1e-3, target=None):
    rng = torch.Generator().manual_seed(5)
    everybody = population(generator, 2048)
    ws = [generator.sample(photos, rng) for _ in range(people)]
    targets = [generator.w_avg if target is None else target] * people
    return ws, everybody, *find_edit(ws, targets, generator.w_avg, everybody, ridge)


@pytest.mark.parametrize('family', SMALL)
@pytest.mark.parametrize('plus', [False, True], ids=['W', 'W+'])
def test_the_folded_network_shows_what_the_edited_latent_showed(family, plus):
    before = small_generator(family)
    with torch.no_grad():            # StyleGAN3's input begins at zero
        for _, layer, _ in style_affines(before):
            layer.weight += 0.1 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    after = twin(before)
    rng = torch.Generator().manual_seed(1)
    ws = [before.sample(1, rng) + plus * torch.randn(1, before.num_ws, before.w_dim, generator=rng) for _ in range(2)]
    edit, _ = find_edit(ws, [before.w_avg + 0.1, before.w_avg - 0.2], before.w_avg, population(before, 1024))
    names = fold(after, edit)
    assert all(name.endswith('affine') for name in names)
    some = torch.cat([*ws, before.sample(2, rng)])
    with torch.no_grad():
        wanted = before.synthesize(edit(some)).image
        assert (after.synthesize(some).image - wanted).abs().max() < 2e-4 * wanted.std()
        assert (before.synthesize(some).image - wanted).abs().max() > 1e-2 * wanted.std()
    changed = {name for name, value in before.network.state_dict().items() if not torch.equal(value, after.network.state_dict()[name])}
    assert changed == {f'{name}.{part}' for name in names for part in ('weight', 'bias')}


def test_eg3d_folds_into_the_super_resolution_too():
    names = {name.split('.')[0] for name, _, _ in style_affines(small_generator('eg3d'))}
    assert names == {'backbone', 'superresolution'}


@pytest.mark.parametrize('family', SMALL)
def test_layers_read_the_latents_that_the_networks_count_up(family):
    generator = small_generator(family)
    numbers = [number for name, _, number in style_affines(generator) if not name.startswith('superresolution')]
    assert sorted(set(numbers)) == list(range(generator.num_ws))
    if family == 'stylegan2':        # a block's colours read the latent of the next block's first convolution
        assert numbers == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7]


def test_each_photo_of_a_person_reaches_the_persons_target():
    generator = small_generator('stylegan2')
    target = generator.w_avg + 0.3
    photos, _, edit, _ = random_edit(generator, people=3, photos=2, target=target)
    for one in photos:
        moved = edit(one)
        assert torch.allclose(moved.mean(0), target, atol=1e-5)
    assert torch.allclose(edit(generator.w_avg[None])[0], generator.w_avg, atol=1e-6)


def test_two_dimensions_by_hand():
    """Variances 4 and 1, a person at (2, 1) above the mean (1, 1): u = C^-1 a / (a C^-1 a) = (1/4, 1/2), and 1 / m^2 = 1/2."""
    everybody = Population(torch.tensor([1.0, 1.0]).double(), torch.diag(torch.tensor([4.0, 1.0]).double()))
    w_avg = torch.tensor([[1.0, 1.0]])
    edit, lost = find_edit([torch.tensor([[[3.0, 2.0]]])], [w_avg], w_avg, everybody, ridge=0)
    assert torch.allclose(edit.detectors[0, 0], torch.tensor([0.25, 0.5]).double())
    assert lost.item() == pytest.approx(0.5)
    assert torch.allclose(edit(torch.tensor([[[1.0, 3.0]]])), torch.tensor([[[-1.0, 2.0]]]))   # u . (0, 2) = 1: (1, 3) - (2, 1)


def test_others_lose_what_the_formula_says():
    generator = small_generator('stylegan2')
    _, everybody, edit, lost = random_edit(generator, people=1)
    ws = generator.sample(4096, torch.Generator().manual_seed(9)).double()
    said = torch.einsum('ld,nld->nl', edit.detectors[:, 0], ws - everybody.mean)
    assert said.square().mean().item() == pytest.approx(lost.mean().item(), rel=0.2)


def test_people_given_together_are_erased_in_any_order():
    generator = small_generator('stylegan2')
    rng = torch.Generator().manual_seed(2)
    everybody, people = population(generator, 1024), [generator.sample(1, rng) for _ in range(3)]
    edits = [find_edit([people[k] for k in order], [generator.w_avg] * 3, generator.w_avg, everybody)[0] for order in ((0, 1, 2), (2, 0, 1))]
    ws = generator.sample(4, rng)
    assert torch.allclose(edits[0](ws), edits[1](ws), atol=1e-5)
    assert torch.allclose(edits[0](torch.cat(people)), generator.w_avg.expand(3, -1, -1), atol=1e-5)


def test_latents_that_cannot_be_told_apart_are_refused():
    generator = small_generator('stylegan2')
    everybody, w = population(generator, 1024), generator.map_seed(1)
    for photos in ([w, w], [generator.w_avg[None]]):
        with pytest.raises(InputError, match='nothing tells them apart'):
            find_edit(photos, [generator.w_avg] * len(photos), generator.w_avg, everybody)


def test_strength_is_the_least_at_which_nobody_is_recognised():
    generator = small_generator('stylegan2')
    everybody, ws = population(generator, 1024), generator.map_seed(3)
    strength = choose_strength(generator, ws, everybody, poor_mans_recogniser)
    assert strength.value >= 1 and 'of another photo' in strength.because
    assert choose_strength(generator, ws, everybody, None).value == UNSEEN
    # By the first photo alone a detector says little of another one, by both it says 1 of each.
    both = torch.cat([ws, ws + 0.2 * (generator.map_seed(4) - ws)])
    assert OTHER_PHOTO <= share_of_others(both, generator.w_avg, everybody) <= 1
    assert share_of_others(ws, generator.w_avg, everybody) == OTHER_PHOTO


@pytest.mark.parametrize('family', SMALL)
def test_the_command_erases_without_training(family, tmp_path):
    before = tmp_path / 'before.pkl'
    save_network_pickle(before, *SMALL[family], small_generator(family).network.state_dict())
    words = [f'--network={before}', '--latent-seed=3', f'--outdir={tmp_path / "out"}', '--method=closed-form', '--device=cpu', '--report=brief',
             '--random-metric-weights', '--lpips-net=squeeze', '--id-network=none']
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert 'style affines changed. Strength 1.5' in result.output
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert 'loss' not in report and all(name.endswith('affine') for name in report['trained'])
    old, new = (read_network_pickle(path).records['G_ema'].state_dict() for path in (before, tmp_path / 'out' / 'network-unlearned.pkl'))
    assert {name for name in old if not torch.equal(old[name], new[name])} <= {
        f'{name}.{part}' for name in report['trained'] for part in ('weight', 'bias')}
    refused = CliRunner().invoke(main, [*words[:2], f'--outdir={tmp_path / "b"}', *words[3:], '--iters=3'])
    assert refused.exit_code == 1 and '--iters is about training' in refused.output
