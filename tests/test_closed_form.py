"""The closed form: folding is exact, detectors detect, and nobody else is disturbed more than the formula says."""
import copy
import json

import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from small import SMALL, copied, poor_mans_recogniser, save_small, small_generator

from eg3d_unlearn.command import main
from eg3d_unlearn.config import Config
from eg3d_unlearn.delta import read_delta
from eg3d_unlearn.generators.build import build_network, wrap
from eg3d_unlearn.generators.cameras import look_at, mirrored
from eg3d_unlearn.person.given import each_person, photos_of
from eg3d_unlearn.unlearning import margin
from eg3d_unlearn.unlearning.closed_form import LatentEdit, Population, edit_of, erasure, fold, population, style_affines
from eg3d_unlearn.unlearning.margin import Photos, Strangers
from eg3d_unlearn.unlearning.polish import Watch
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle


def edit_to(photos, targets, generator, everybody, ridge=1e-3):
    """The edit that moves the mean of each person's photos to a target."""
    return edit_of([erasure(one, one.mean(0) - target, generator.w_avg, everybody, ridge) for one, target in zip(photos, targets, strict=True)],
                   generator.w_avg)


def random_edit(generator, people=2, photos=1, target=None):
    rng = torch.Generator().manual_seed(5)
    everybody = population(generator, 2048)
    ws = [generator.sample(photos, rng) for _ in range(people)]
    return ws, everybody, edit_to(ws, [generator.w_avg if target is None else target] * people, generator, everybody)


@pytest.mark.parametrize('family', SMALL)
@pytest.mark.parametrize('plus', [False, True], ids=['W', 'W+'])
def test_the_folded_network_shows_what_the_edited_latent_showed(family, plus):
    before = small_generator(family)
    with torch.no_grad():            # StyleGAN3's input begins at zero
        for _, layer, _ in style_affines(before):
            layer.weight += 0.1 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    after = copied(before)
    rng = torch.Generator().manual_seed(1)
    ws = [before.sample(1, rng) + plus * torch.randn(1, before.num_ws, before.w_dim, generator=rng) for _ in range(2)]
    edit = edit_to(ws, [before.w_avg + 0.1, before.w_avg - 0.2], before, population(before, 1024))
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
    photos, _, edit = random_edit(generator, people=3, photos=2, target=target)
    for one in photos:
        moved = edit(one)
        assert torch.allclose(moved.mean(0), target, atol=1e-5)
    assert torch.allclose(edit(generator.w_avg[None])[0], generator.w_avg, atol=1e-6)


def test_others_lose_what_the_formula_says():
    generator = small_generator('stylegan2')
    _, everybody, edit = random_edit(generator, people=1)
    ws = generator.sample(4096, torch.Generator().manual_seed(9))
    assert edit.says(ws)[:, :, 0].square().mean().item() == pytest.approx(edit.disturbance(everybody).mean().item(), rel=0.2)


def test_photos_of_other_people_are_spared_where_they_are_known():
    """Latents that lie outside the population, as inverted photos do: the detector of one of them says less of another."""
    generator = small_generator('stylegan2')
    rng = torch.Generator().manual_seed(4)
    aside = 3 * torch.randn(1, 1, generator.w_dim, generator=rng)        # what all photos share and no random person has
    photos = generator.sample(24, rng) + aside
    everybody = population(generator, 2048)

    def said(people):
        edit = edit_of([erasure(photos[:1], photos[0] - generator.w_avg, generator.w_avg, people)], generator.w_avg)
        return edit.says(photos[12:])[:, :, 0].square().mean().item(), edit.disturbance(people).mean().item()
    (before, _), (after, random_people) = said(everybody), said(everybody.with_photos(photos[1:12], generator.w_avg))
    assert after < 0.3 * before and random_people < 0.1
    assert everybody.with_photos(None, generator.w_avg) is everybody


def test_people_given_together_are_erased_in_any_order():
    generator = small_generator('stylegan2')
    rng = torch.Generator().manual_seed(2)
    everybody, people = population(generator, 1024), [generator.sample(1, rng) for _ in range(3)]
    edits = [edit_to([people[k] for k in order], [generator.w_avg] * 3, generator, everybody) for order in ((0, 1, 2), (2, 0, 1))]
    ws = generator.sample(4, rng)
    assert torch.allclose(edits[0](ws), edits[1](ws), atol=1e-5)
    assert torch.allclose(edits[0](torch.cat(people)), generator.w_avg.expand(3, -1, -1), atol=1e-5)


@pytest.mark.parametrize('family', SMALL)
def test_who_was_erased_first_stays_erased_when_the_unlearned_network_is_unlearned_again(family):
    source = small_generator(family)
    first, second = source.map_seed(11), source.map_seed(12)
    once = copied(source)
    went_to = margin.erase(once, [Photos(first, exact=True)], None).edit(first)
    twice = copied(once)
    margin.erase(twice, [Photos(second, exact=True)], None)
    with torch.no_grad():
        shown, before, target = (g.synthesize(ws).image for g, ws in ((twice, first), (source, first), (source, went_to)))
    # Nearly where the first erasure put them, and that is far from where they were.
    assert (shown - target).square().mean() < 0.1 * (before - target).square().mean()


def test_the_mirror_image_of_a_camera_is_a_camera():
    left, right = (look_at(yaw, -0.1, [0, 0, 0.2]) for yaw in (0.3, -0.3))
    assert torch.allclose(mirrored(left), right, atol=1e-6) and torch.equal(mirrored(mirrored(left)), left)


def test_strength_is_the_least_at_which_nobody_is_recognised(monkeypatch):
    generator = small_generator('stylegan2')
    everybody, person = population(generator, 1024), Photos(generator.map_seed(3))

    def strength(others):
        return margin.choose(generator, person, everybody, poor_mans_recogniser, others).strength
    # Where everybody below 2 is nobody the least is enough; where nothing is little enough it is the most.
    assert strength(Strangers(2.0, 2.5)) < margin.STRENGTHS[-1] and strength(Strangers(-2.0, 2.5)) == margin.STRENGTHS[-1]
    assert strength(Strangers(2.0, -2.0)) == margin.STRENGTHS[-1]
    # What is free goes to where the detector of a usual photo says that nothing is left; without it the least has to be enough.
    for budget, least in ((0.0, margin.STRENGTHS[0]), (1.0, round(1 / margin.ONE_PHOTO.usual, 2))):
        monkeypatch.setattr(margin, 'FREE', budget)
        assert strength(Strangers(2.0, 2.5)) == least
    default = margin.choose(generator, person, everybody, None, None)
    assert default.strength == margin.DEFAULT_STRENGTH and 'no recogniser' in default.because


def test_the_choice_is_what_the_network_then_does():
    """Where the detector says all, the edited network shows what was looked at when the strength was chosen."""
    generator = small_generator('stylegan2')
    ws, after = generator.map_seed(3), copied(generator)
    erased = margin.erase(after, [Photos(ws, exact=True)], poor_mans_recogniser)
    move = erased.people[0].move
    expected = generator.synthesize((ws.double() - move).float()).image
    assert (after.synthesize(ws).image - expected).abs().max() < 1e-3 * expected.std()
    assert torch.allclose(move, margin.choose(generator, Photos(ws, exact=True), population(generator), poor_mans_recogniser,
                                              margin.strangers(generator, poor_mans_recogniser)).move.double(), atol=1e-5)


def test_what_is_known_of_photos_that_were_not_given():
    generator = small_generator('stylegan2')
    everybody, ws, other = population(generator, 1024), generator.map_seed(3), generator.map_seed(4)

    def shares(photos):
        return margin.shares_of(photos, generator.w_avg, everybody)
    assert shares(Photos(ws)) == margin.ONE_PHOTO and shares(Photos(ws, ws)) == margin.WITH_MIRRORED
    assert shares(Photos(ws, exact=True)) == margin.EXACT
    # Of several photos each is asked of the others' detector: photos of two people say little of each other, twins say all.
    alike, strangers = shares(Photos(torch.cat([ws, 1.01 * ws]))), shares(Photos(torch.cat([ws, other])))
    assert alike.low > 0.9 and strangers == margin.ONE_PHOTO


def test_two_people_go_to_two_faces_and_one_to_the_same_again():
    generator = small_generator('stylegan2')
    faces = [margin.face_for(generator.map_seed(seed), generator) for seed in (1, 2, 1)]
    assert torch.equal(faces[0], faces[2]) and not torch.allclose(faces[0], faces[1], atol=0.1)


def test_people_by_number_and_by_folder(tmp_path):
    options = dict(network='demo-stylegan2', outdir='out')
    assert [one.image for one in each_person(Config(people='demo:4-6,12,5', **options))] == [(f'demo:{n}',) for n in (4, 5, 6, 12)]
    for name in ('b', 'a', '.hidden'):
        (tmp_path / name).mkdir()
        for photo in range(1 + (name == 'b')):
            PIL.Image.new('RGB', (8, 8)).save(tmp_path / name / f'{photo}.png')
    each = each_person(Config(people=str(tmp_path), **options))
    assert [(photos_of(one)[0].parent.name, one.forget_from) for one in each] == [('a', 'first'), ('b', 'all')]
    with pytest.raises(InputError, match='holds no folders'):
        each_person(Config(people=str(tmp_path / 'a'), **options))
    with pytest.raises(InputError, match='is no folder'):
        each_person(Config(people='nobody', **options))


def test_polish_keeps_the_best_weights_and_stops():
    source, learning = small_generator('stylegan2'), copied(small_generator('stylegan2'))
    ws, said = source.map_seed(3), []
    edit = margin.erase(learning, [Photos(ws, exact=True)], None).edit
    watch = Watch(learning, source, ws, edit, poor_mans_recogniser, said.append)
    parameters = dict(learning.network.synthesis.named_parameters())
    untouched = {name: p.detach().clone() for name, p in parameters.items()}
    assert not watch.enough(5, parameters)                    # between two looks
    with torch.no_grad():                                     # worse: a network that shows something else
        for parameter in parameters.values():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    assert [watch.enough(step, parameters) for step in (10, 20)] == [False, True]
    watch.finish(parameters, untouched)
    assert all(torch.equal(parameters[name], untouched[name]) for name in untouched) and 'nothing became better' in said[0]
    # Better: the network as it was, for people; the person it must not bring back.
    watch = Watch(learning, source, ws, edit, poor_mans_recogniser, said.append)
    watch.allowed, watch.best['others'] = 2.0, -1.0
    assert not watch.enough(10, parameters) and watch.best['step'] == 10
    watch.allowed = -2.0
    watch.best['others'] = -1.0
    assert watch.enough(20, parameters) is False and watch.best['step'] == 10 and watch.enough(30, parameters)


@pytest.mark.parametrize('family', SMALL)
def test_the_command_erases_without_training(family, tmp_path):
    before = save_small(tmp_path / 'before.pkl', family)
    words = [f'--network={before}', '--latent-seed=3', f'--outdir={tmp_path / "out"}', '--method=closed-form', '--device=cpu', '--report=brief',
             '--random-metric-weights', '--lpips-net=squeeze', '--id-network=none']
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert 'style affines changed' in result.output and f'strength {margin.DEFAULT_STRENGTH:g}: by default' in result.output
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert 'loss' not in report and all(name.endswith('affine') for name in report['trained'])
    old, new = (read_network_pickle(path).records['G_ema'].state_dict() for path in (before, tmp_path / 'out' / 'network-unlearned.pkl'))
    assert {name for name in old if not torch.equal(old[name], new[name])} <= {
        f'{name}.{part}' for name in report['trained'] for part in ('weight', 'bias')}
    refused = CliRunner().invoke(main, [*words[:2], f'--outdir={tmp_path / "b"}', *words[3:], '--iters=3'])
    assert refused.exit_code == 1 and '--iters is about training' in refused.output


@pytest.mark.slow
def test_several_people_by_the_command(tmp_path):
    words = ['--network=demo-stylegan2', '--device=cpu', '--report=brief', '--inversion=encoder']      # exact latents take half a minute
    result = CliRunner().invoke(main, [*words, '--people=demo:4-6', f'--outdir={tmp_path / "out"}', f'--delta={tmp_path / "d.safetensors"}'])
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / 'out' / 'report.json').read_text())['summary']
    assert summary['people'] == 3 and summary['erased_same_photo'] <= summary['erased_worst'] < 0.5 and summary['other_people'] > 0.9
    assert '3 erased people, their photos' in result.output
    assert not list((tmp_path / 'out').glob('*.safetensors')) and len(read_delta(tmp_path / 'd.safetensors').people) == 3
    for refused, why in (([*words, '--people=demo:4-6', '--method=guide'], 'knows one'),
                         ([*words, '--people=demo:4', '--image=demo'], 'exactly one'),
                         ([*words, '--image=demo', '--method=guide', f'--delta={tmp_path / "e"}'], '--delta holds what the closed form changes'),
                         ([*words, '--image=demo', f'--delta={tmp_path / "d.safetensors"}'], 'exists and is not overwritten')):
        result = CliRunner().invoke(main, [*refused, f'--outdir={tmp_path / "no"}'])
        assert result.exit_code == 1 and why in result.output and not (tmp_path / 'no').exists()


def test_an_option_of_the_training_chooses_guide():
    result = CliRunner().invoke(main, ['--network=demo-stylegan2', '--latent-seed=1', '--outdir=never', '--iters=7', '--dry-run'])
    assert '"method": "guide"' in result.output
    result = CliRunner().invoke(main, ['--network=demo-stylegan2', '--latent-seed=1', '--outdir=never', '--dry-run'])
    assert '"method": "closed-form"' in result.output


# ---- numbers that were worked out on paper, in every affine of every family ----

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
