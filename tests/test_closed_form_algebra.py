"""The closed form by hand: numbers that were worked out on paper, in every affine of every family."""
import copy

import pytest
import torch
from small import SMALL, small_generator

from eg3d_unlearn.generators.build import build_network, wrap
from eg3d_unlearn.unlearning.closed_form import LatentEdit, Population, edit_of, erasure, fold, style_affines
from torch_utils_ext.errors import InputError

# Variances 4, 1, 1 about the mean (1, 1, 1); a person at (2, 1, 0) from there goes to the mean.
#   u = C^-1 a / (a . C^-1 a) = (1/2, 1, 0) / 2;  M = 1 - a u^T
PEOPLE = Population(torch.ones(3).double(), torch.diag(torch.tensor([4.0, 1.0, 1.0]).double()))
MEAN = torch.ones(1, 3)
A = torch.tensor([2.0, 1.0, 0.0])
M = torch.tensor([[0.5, -1.0, 0.0], [-0.25, 0.5, 0.0], [0.0, 0.0, 1.0]]).double()


def generator_with(family, w_dim):
    """A small network of ``family`` with latents of ``w_dim`` numbers (EG3D's have 512) and affines that are not zero."""
    kind, options = SMALL[family]
    if family == 'eg3d':
        generator = small_generator(family)
    else:
        torch.manual_seed(0)
        generator = wrap(build_network(kind, {**options, 'w_dim': w_dim}).requires_grad_(False), family)
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():            # StyleGAN3's input begins at zero
        for _, layer, _ in style_affines(generator):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng))
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=rng))
    return generator


def affines(generator):
    """Each affine with the number of its latent, in double precision: its own forward pass then rounds nothing away."""
    return {name: (copy.deepcopy(layer).double(), number) for name, layer, number in style_affines(generator)}


def assert_folded(generator, edit, maps, mean):
    """After folding, ``W' w + b'`` is ``A (M (w - mean) + mean) + b`` for each affine, with the M of its layer [num_ws, d, d]."""
    before = affines(generator)
    assert set(fold(generator, edit)) == set(before)
    ws = torch.randn(20, maps.shape[-1], generator=torch.Generator().manual_seed(4)).double()
    for name, (after, number) in affines(generator).items():
        wanted = before[name][0]((ws - mean[number]) @ maps[number].T + mean[number])
        assert (after(ws) - wanted).abs().max() < 1e-6, name
        assert (before[name][0](ws) - wanted).abs().max() > 1e-3, name
    return before


def test_three_dimensions_by_hand():
    edit = edit_of([erasure(MEAN + A.view(1, 1, 3), A[None], MEAN, PEOPLE, ridge=0)], MEAN)
    assert torch.allclose(edit.detectors[0, 0], torch.tensor([0.25, 0.5, 0.0]).double())
    assert torch.allclose(torch.eye(3) - edit.moves[0].T @ edit.detectors[0], M)
    assert edit.disturbance(PEOPLE).item() == pytest.approx(0.5)                         # 1 / (a . C^-1 a)
    assert torch.allclose(edit(torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 1.0, 7.0]], [[2.0, 3.0, 4.0]]])),
                          torch.tensor([[[1.0, 1.0, 1.0]], [[1.0, 1.0, 7.0]], [[-0.5, 1.75, 4.0]]]))


@pytest.mark.parametrize('family', ['stylegan2', 'stylegan3'])
def test_the_map_by_hand_in_every_affine(family):
    generator = generator_with(family, 3)
    mean = MEAN.expand(generator.num_ws, -1)
    one = erasure((mean + A)[None], A.expand(generator.num_ws, -1), mean, PEOPLE, ridge=0)
    assert_folded(generator, edit_of([one], mean), M.expand(generator.num_ws, -1, -1), mean.double())


def test_the_map_by_hand_in_every_affine_of_eg3d():
    """Its latents have 512 numbers: the first three are those by hand, the others stay where they are."""
    generator = generator_with('eg3d', 512)
    mean = torch.ones(generator.num_ws, 512)
    a = torch.cat([A, torch.zeros(509)])
    everybody = Population(torch.ones(512).double(), torch.block_diag(PEOPLE.covariance, torch.eye(509).double()))
    one = erasure((mean + a)[None], a.expand(generator.num_ws, -1), mean, everybody, ridge=0)
    whole = torch.block_diag(M, torch.eye(509).double())
    assert_folded(generator, edit_of([one], mean), whole.expand(generator.num_ws, -1, -1), mean.double())


@pytest.mark.parametrize('family', SMALL)
@pytest.mark.parametrize('people', [1, 5])
@pytest.mark.parametrize('plus', [False, True], ids=['W', 'W+'])
def test_a_known_map_of_rank_k(family, people, plus):
    """M = 1 - sum of m u^T of any vectors, one for all layers or one each; the change of all weights has its rank."""
    generator = generator_with(family, 24)
    shape, rng = (generator.num_ws if plus else 1, people, generator.w_dim), torch.Generator().manual_seed(people)
    moves, detectors = (torch.randn(shape, generator=rng).double() / generator.w_dim ** 0.5 for _ in range(2))
    moves, detectors = (each.expand(generator.num_ws, -1, -1) for each in (moves, detectors))
    mean = torch.randn(generator.num_ws, generator.w_dim, generator=rng).double()
    maps = torch.eye(generator.w_dim).double() - torch.einsum('lki,lkj->lij', moves, detectors)
    before = assert_folded(generator, LatentEdit(moves, detectors, mean), maps, mean)
    changes = [(layer.weight - before[name][0].weight, number) for name, (layer, number) in affines(generator).items()]
    for number in range(generator.num_ws if plus else 1):
        stacked = torch.cat([change for change, of in changes if of == number or not plus])
        values = torch.linalg.svdvals(stacked)
        rank = min(people, len(stacked))
        assert (values[:rank] > 1e-3 * values[0]).all() and (values[rank:] < 1e-5 * values[0]).all()


@pytest.mark.parametrize('people', [1, 2, 3])
def test_photos_of_each_person_go_where_that_person_goes(people):
    """As many people as dimensions can be told apart, whatever the population."""
    seen = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, -1.0, 2.0]])[:people, None]
    moves = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, 0.0], [0.0, -1.0, 0.0]])[:people, None]
    edit = edit_of([erasure((MEAN + one)[None], move, MEAN, PEOPLE) for one, move in zip(seen, moves, strict=True)], MEAN)
    assert torch.allclose(edit(MEAN + seen), MEAN + seen - moves, atol=1e-6)
    assert torch.allclose(edit(MEAN[None]), MEAN[None])


def one_of(*rows):
    seen = torch.tensor(rows, dtype=torch.float64)[:, None]
    return erasure(MEAN + seen, seen.mean(0), MEAN, PEOPLE)


@pytest.mark.parametrize('everybody, words', [
    ([one_of([0, 0, 0])], 'one is the mean face'),
    ([one_of([1, 0, 0]), one_of([1e-7, 0, 0])], 'one is the mean face'),
    ([one_of([2, 1, 0]), one_of([2, 1, 0])], 'Two of the latents to be erased are the same'),
    ([one_of([2, 1, 0]), one_of([2, 1, 1e-6])], 'Two of the latents to be erased are the same'),
    ([one_of([2, 1, 0], [2, 1, 0])], 'Two of the latents to be erased are the same'),
    ([one_of([2, 1, 0]), one_of([0, 1, 0]), one_of([0, 0, 1]), one_of([1, 1, 1])], '4 photos are to be erased .* latents have 3 dimensions'),
    ([one_of([2, 1, 0], [0, 1, 0]), one_of([0, 0, 1], [1, 1, 1])], '4 photos are to be erased'),
], ids=['mean', 'almost the mean', 'twice', 'almost twice', 'photo twice', 'more people than dimensions', 'more photos than dimensions'])
def test_people_who_cannot_be_told_apart(everybody, words):
    with pytest.raises(InputError, match=words):
        edit_of(everybody, MEAN)
