"""EG3D: rays, depths, volume rendering by hand, planes, batches, generators, super-resolution modules, upstream."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkouts import checkout_of

from eg3d_unlearn.generators.build import build_network as build
from eg3d_unlearn.generators.networks import rendering, superresolution
from torch_utils_ext.errors import InputError

CLASS_NAME = 'training.triplane.TriPlaneGenerator'
RENDERING = {
    'superresolution_module': 'training.superresolution.SuperresolutionHybrid2X', 'superresolution_noise_mode': 'none',
    'c_gen_conditioning_zero': True, 'c_scale': 0, 'sr_antialias': True, 'clamp_mode': 'softplus', 'decoder_lr_mul': 1.0,
    'ray_start': 2.25, 'ray_end': 3.3, 'box_warp': 1, 'disparity_space_sampling': False, 'depth_resolution': 6,
    'depth_resolution_importance': 6,
}
TINY = {
    'z_dim': 16, 'c_dim': 25, 'w_dim': 512, 'img_resolution': 128, 'img_channels': 3, 'mapping_kwargs': {'num_layers': 2},
    'channel_base': 512, 'channel_max': 8, 'num_fp16_res': 0, 'conv_clamp': None, 'sr_num_fp16_res': 0,
}
OPTIONS = {'depth_resolution': 5, 'ray_start': 1.0, 'ray_end': 3.0, 'disparity_space_sampling': False, 'box_warp': 1}


def tiny(seed=0, size=128, **changes):
    torch.manual_seed(seed)
    return build(CLASS_NAME, {**TINY, 'img_resolution': size, 'rendering_kwargs': {**RENDERING, **changes}})


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def camera(x=0.0, y=0.0, z=2.7):
    """[1, 25] that looks at the origin."""
    place = torch.tensor([x, y, z])
    forward = -place / place.norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0]))
    right = right / right.norm()
    pose = torch.eye(4)
    pose[:3] = torch.stack([right, torch.linalg.cross(forward, right), forward, place], dim=1)
    return torch.cat([pose.flatten(), torch.tensor([4.26, 0, 0.5, 0, 4.26, 0.5, 0, 0, 1])])[None]


# ---- rays and depths ----

def test_rays_of_a_straight_camera():
    c = camera()
    origins, directions = rendering.camera_rays(c[:, :16].view(-1, 4, 4), c[:, 16:].view(-1, 3, 3), 4)
    assert origins.flatten().tolist() == pytest.approx([0, 0, 2.7])
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(1, 16))
    first = torch.tensor([-0.375 / 4.26, 0.375 / 4.26, -1])  # the top left pixel: left and up, ahead is -z
    torch.testing.assert_close(directions[0, 0], first / first.norm(), rtol=1e-5, atol=1e-6)


def test_stratified_depths_stay_in_their_strata():
    directions = torch.zeros(1, 3, 3)
    fixed = rendering.stratified_depths(directions, directions, OPTIONS, rendering.Draws('fixed'))
    assert fixed[0, 0].tolist() == pytest.approx([1.25, 1.75, 2.25, 2.75, 3.25])
    drawn = rendering.stratified_depths(directions, directions, OPTIONS, rendering.Draws())
    assert ((drawn - fixed).abs() <= 0.25 + 1e-6).all() and (drawn.diff(dim=-1) > 0).all()
    disparity = {**OPTIONS, 'disparity_space_sampling': True}
    even = 1 / rendering.stratified_depths(directions, directions, disparity, rendering.Draws('fixed'))
    assert even.diff(dim=-1).std() < 1e-6


def test_box_limits():
    origins = torch.tensor([[[0.0, 0, 3]]])
    directions = torch.tensor([[[0.0, 0, -1], [0.6, 0, -0.8], [0.0, 1, 0]]])  # straight in, past it, away from it
    start, end = rendering.box_limits(origins, directions, side=2)
    assert start.flatten().tolist() == pytest.approx([2, 2, 2]) and end.flatten().tolist() == pytest.approx([4, 2, 2])
    start, end = rendering.box_limits(origins, directions[:, 1:], side=2)
    assert start.flatten().tolist() == [-1, -1] and end.flatten().tolist() == [-2, -2]


def test_importance_depths_follow_the_weights():
    depths = torch.linspace(0, 10, 11).expand(1, 4, 11)
    weights = torch.zeros(1, 4, 10)
    weights[..., 6] = 1000.0
    fine = rendering.importance_depths(depths, weights, 64, rendering.Draws('fixed'))
    assert fine.shape == (1, 4, 64)
    # The interval 6 to 7 and, half as much, its neighbours; between the middles of intervals.
    assert ((fine >= 4.5 - 1e-3) & (fine <= 7.5 + 1e-3))[..., 1:-1].all()
    assert (fine.diff(dim=-1) >= 0).all() and fine.min() >= 0.5 and fine.max() <= 9.5
    assert rendering.importance_depths(depths, weights, 7, rendering.Draws()).shape == (1, 4, 7)


# ---- volume rendering ----

def softplus_inverse(density):
    """What a network gives for this density: softplus(x - 1) = density."""
    return 1 + math.log(math.expm1(density))


def test_slab_of_constant_density():
    """Opacity 1 - exp(-density * length), whatever the steps; colour and depth by hand."""
    density, depths = 0.7, torch.tensor([0.0, 0.3, 0.4, 1.1, 2.0]).view(1, 1, 5)
    color = torch.full([1, 1, 5, 2], 0.25)
    result = rendering.composite(depths, torch.full([1, 1, 5], softplus_inverse(density)), [color], {})
    opacity = 1 - math.exp(-density * 2)
    assert result.opacity.item() == pytest.approx(opacity, rel=1e-5)
    expected = 2 * (0.25 * 1.002 - 0.001) * opacity - 1
    assert result.features.flatten().tolist() == pytest.approx([expected] * 2, rel=1e-5)
    steps = [(0, 0.3), (0.3, 0.4), (0.4, 1.1), (1.1, 2)]
    shares = [math.exp(-density * a) - math.exp(-density * b) for a, b in steps]
    depth = sum(w * (a + b) / 2 for w, (a, b) in zip(shares, steps, strict=True)) / opacity
    assert result.depth.item() == pytest.approx(depth, rel=1e-5)


def test_order_of_samples_does_not_matter():
    rng = torch.Generator().manual_seed(0)
    depths = torch.rand([2, 3, 8], generator=rng)
    densities, colors = 5 * torch.randn([2, 3, 8], generator=rng), torch.rand([2, 3, 8, 4], generator=rng)
    parts = [colors[:, :, :5].clone().requires_grad_(), colors[:, :, 5:]]
    mixed = rendering.composite(depths, densities, parts, {})
    order = depths.argsort(-1)
    depths, densities = depths.gather(-1, order), densities.gather(-1, order)
    colors = colors.gather(2, order[..., None].expand(-1, -1, -1, 4))
    # NeRF equation 3 term by term, with a product instead of the exponential of a sum
    alpha = 1 - torch.exp(-torch.nn.functional.softplus((densities[..., 1:] + densities[..., :-1]) / 2 - 1) * depths.diff())
    before = torch.cumprod(torch.cat([torch.ones(2, 3, 1), 1 - alpha], -1), -1)[..., :-1]
    middle = (colors[:, :, 1:] + colors[:, :, :-1]) / 2 * 1.002 - 0.001
    expected = ((alpha * before)[..., None] * middle).sum(2) * 2 - 1
    torch.testing.assert_close(mixed.features, expected, rtol=1e-4, atol=1e-5)
    mixed.features.sum().backward()
    assert parts[0].grad.abs().sum() > 0


def test_empty_space():
    depths, empty = torch.linspace(1, 2, 4).view(1, 1, 4), torch.full([1, 1, 4], -200.0)
    colors = [torch.rand(1, 1, 4, 3)]
    black = rendering.composite(depths, empty, colors, {})
    white = rendering.composite(depths, empty, colors, {'white_back': True})
    assert black.features.tolist() == [[[-1, -1, -1]]] and white.features.tolist() == [[[1, 1, 1]]]
    assert black.opacity.item() == 0 and black.depth.item() == 2


def test_planes_are_xy_xz_zx():
    planes = torch.zeros(1, 3, 32, 8, 8)
    across = torch.linspace(-1 + 1 / 8, 1 - 1 / 8, 8)  # pixel centres
    planes[:, 0, 0] = across[None, :]  # value = coordinate along the width
    planes[:, 1, 1] = across[:, None]  # value = coordinate along the height
    planes[:, 2, 2], planes[:, 2, 3] = across[None, :], across[:, None]
    point = torch.tensor([[[0.1, -0.2, 0.3]]])
    x, y, z = (2 * point).flatten().tolist()
    features = rendering.PlaneSampler(planes.flatten(1, 2), box_warp=1)(point)
    assert features.shape == (1, 32)
    assert (3 * features[0, :4]).tolist() == pytest.approx([x, z, z, x], abs=1e-6)
    assert rendering.PlaneSampler(planes.flatten(1, 2), 1)(torch.full([1, 1, 3], 9.0)).abs().max() == 0


# Width and height of a plane are the first two columns of the inverse of its axes.
CORRECTED = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 0, 1], [0, 1, 0], [1, 0, 0]]])
SLANTED = torch.tensor([[[0.0, 2, 0], [1, 0, 0], [0, 0, 1]], [[1, 1, 0], [0, 0, 1], [0, 1, 0]], [[0, 0, -1], [0, 1, 0], [1, 0, 0]]])


@pytest.mark.parametrize('axes, expected', [
    (rendering.PLANE_AXES, lambda x, y, z: (x, y, x, z, z, x)), (CORRECTED, lambda x, y, z: (x, y, x, z, z, y)),
    (SLANTED, lambda x, y, z: (y / 2, x, x, z, -z, y)),
])
def test_planes_have_the_axes_that_the_file_says(axes, expected):
    points = 0.5 * numbers(2, 5, 3).clamp(-1, 1)
    sampler = rendering.PlaneSampler(numbers(2, 96, 8, 8), box_warp=1, axes=axes)
    places = torch.stack(sampler._places(points), dim=-1).flatten(2).unbind(-1)
    for found, by_hand in zip(places, expected(*points.unbind(-1)), strict=True):
        torch.testing.assert_close(found, by_hand)
    torch.testing.assert_close(sampler(points), sampler._by_grid(2 * points), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('change, sentence', [
    ({'clamp_mode': 'relu'}, "clamp_mode 'relu'"),
    ({'ray_start': 'auto'}, "both 'auto'"),
    ({'superresolution_module': 'training.superresolution.My'}, "'training.superresolution.My'; known are"),
])
def test_rendering_options(change, sentence):
    with pytest.raises(InputError, match=sentence):
        tiny(**change)
    missing = {name: value for name, value in RENDERING.items() if name != 'box_warp'}
    with pytest.raises(InputError, match='lacks box_warp'):
        build(CLASS_NAME, {**TINY, 'rendering_kwargs': missing})


# ---- the generator ----

@pytest.fixture(scope='module')
def net():
    return tiny()


def test_shapes_and_split(net):
    ws = net.mapping(numbers(1, 16), camera())
    assert ws.shape == (1, net.num_ws, 512)
    planes = net.planes(ws, noise_mode='const')
    assert planes.shape == (1, 96, 256, 256)
    split = net.render(planes, ws, camera(), 16, jitter='fixed')
    whole = net.synthesis(ws, camera(), 16, noise_mode='const', jitter='fixed')
    assert {name: tuple(value.shape) for name, value in whole.items()} == {
        'image': (1, 3, 128, 128), 'image_raw': (1, 3, 16, 16), 'image_depth': (1, 1, 16, 16)}
    for name, value in whole.items():
        assert torch.equal(value, split[name]) and value.dtype == torch.float32
    raw = net.render(planes, ws, camera(), 16, jitter='fixed', superresolve=False)
    assert raw['image'] is None and torch.equal(raw['image_raw'], whole['image_raw'])
    assert net.neural_rendering_resolution == 16


def test_samples_do_not_see_each_other(net):
    cameras = torch.cat([camera(0.3), camera(0, 0.2), camera(-0.4)])
    planes, ws = numbers(3, 96, 64, 64), numbers(3, net.num_ws, 512)
    for options in ({}, {'ray_start': 'auto', 'ray_end': 'auto', 'box_warp': 0.4, 'white_back': True}):
        net.rendering_kwargs = {**RENDERING, **options}
        together = net.render(planes, ws, cameras, 12, jitter='fixed')
        for i in range(3):
            alone = net.render(planes[i : i + 1], ws[i : i + 1], cameras[i : i + 1], 12, jitter='fixed')
            for name in alone:
                torch.testing.assert_close(together[name][i : i + 1], alone[name], rtol=1e-3, atol=1e-3)
    net.rendering_kwargs = dict(RENDERING)


def test_depths_come_from_the_generator(net):
    planes, ws = numbers(1, 96, 64, 64), numbers(1, net.num_ws, 512)

    def draw(seed):
        return net.render(planes, ws, camera(), 8, False, torch.Generator().manual_seed(seed))['image_raw']

    state = torch.get_rng_state()
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(InputError, match="jitter is 'some'"):
        net.render(planes, ws, camera(), 8, jitter='some')


def test_raw_image_survives_the_super_resolution(net):
    """At the module's own input resolution upstream adds into the raw image, and its backward pass fails."""
    planes, ws = numbers(1, 96, 64, 64).requires_grad_(), numbers(1, net.num_ws, 512)
    full = net.render(planes, ws, camera(), 64, jitter='fixed')
    raw = net.render(planes, ws, camera(), 64, jitter='fixed', superresolve=False)
    assert torch.equal(full['image_raw'], raw['image_raw'])
    (full['image'].mean() + full['image_raw'].square().mean()).backward()
    assert planes.grad.isfinite().all() and planes.grad.abs().sum() > 0


def test_conditioning():
    c, z = torch.cat([camera(0.5), camera(-0.5)]), numbers(1, 16).expand(2, -1)
    off = tiny().mapping(z, c)
    assert torch.equal(off[0], off[1])
    on = tiny(c_gen_conditioning_zero=False, c_scale=1.0).mapping(z, c)
    assert not torch.allclose(on[0], on[1])


@pytest.mark.parametrize('name', list(superresolution.MODULES))
def test_super_resolution_modules(name):
    kind = superresolution.MODULES[name]
    with pytest.raises(InputError, match='makes pictures of .* img_resolution is 64'):
        kind(32, 64, 0)
    torch.manual_seed(0)
    module = kind(32, kind.output_resolution, 4, channel_base=1, fused_modconv_default='inference_only')
    x, ws = numbers(1, 32, 16, 16), numbers(1, 14, 512)
    with torch.no_grad():
        y = module(x[:, :3], x, ws, noise_mode='none')
    assert y.shape == (1, 3, kind.output_resolution, kind.output_resolution)


def test_bfloat16_autocast(net):
    planes, ws = numbers(1, 96, 64, 64), numbers(1, net.num_ws, 512)
    exact = net.render(planes, ws, camera(), 16, jitter='fixed')
    with torch.autocast('cpu', torch.bfloat16):
        rough = net.render(planes, ws, camera(), 16, jitter='fixed')
        made = net.planes(ws, noise_mode='const')
    assert made.dtype == torch.float32
    for name, value in rough.items():
        assert value.dtype == torch.float32 and (value - exact[name]).abs().mean() < 0.1 * exact[name].std() + 0.01


def test_deepcopy_and_state(net):
    twin = copy.deepcopy(net)
    assert list(twin.state_dict()) == list(net.state_dict())
    assert 'superresolution.resample_filter' in net.state_dict()
    assert 'plane_axes' not in ' '.join(net.state_dict())


# ---- upstream's code beside ours ----

UPSTREAM_RUN = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from torch_utils_ext.upstream import importing
kwargs, state, z, c, points, resolution, path = torch.load(sys.argv[3])
with importing(Path(sys.argv[2])):
    from training.triplane import TriPlaneGenerator
    from training.volumetric_rendering.math_utils import get_ray_limits_box
    net = TriPlaneGenerator(**kwargs).eval()
    net.load_state_dict(state)
    ws = net.mapping(z, c, truncation_psi=0.7, truncation_cutoff=7).detach()
    torch.manual_seed(5)
    out = net.synthesis(ws, c, neural_rendering_resolution=resolution, noise_mode="random")
    sampled = net.sample_mixed(points, points, ws, noise_mode="const")
    sum(v.square().mean() for v in out.values()).backward()
    grads = {n: p.grad for n, p in net.named_parameters()}
    limits = get_ray_limits_box(points, torch.nn.functional.normalize(points.flip(1) - points, dim=-1), 0.8)
    torch.save(([(n, v.shape) for n, v in net.state_dict().items()], {"ws": ws, **out, **sampled}, grads, limits), path)
"""


@pytest.mark.upstream
@pytest.mark.parametrize('module, size, resolution, options', [
    ('2X', 128, 16, {'white_back': True, 'box_warp': 1.6, 'ray_start': 0.1, 'ray_end': 2.6}),
    ('2X', 128, 80, {'disparity_space_sampling': True, 'density_noise': 0.5, 'superresolution_noise_mode': 'random'}),
    ('4X', 256, 16, {'c_gen_conditioning_zero': False, 'c_scale': 1.0}),
    ('8X', 512, 16, {'depth_resolution_importance': 0, 'decoder_lr_mul': 0.5}),
    ('8XDC', 512, 16, {'sr_antialias': False}),
])
def test_equals_upstream(module, size, resolution, options, tmp_path):
    net = tiny(size=size, superresolution_module=f'training.superresolution.SuperresolutionHybrid{module}', **options)
    for name, value in net.state_dict().items():
        if name.split('.')[-1] in ('noise_strength', 'bias', 'w_avg'):
            value.add_(0.2 * torch.randn(value.shape))
    z, c, points = numbers(1, 16), camera(0.3, 0.1), numbers(1, 50, 3) / 2
    out = tmp_path / 'out.pt'
    torch.save((net.init_kwargs, net.state_dict(), z, c, points, resolution, str(out)), tmp_path / 'in.pt')
    folder = checkout_of('eg3d')
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, '-c', UPSTREAM_RUN, str(root), str(folder), str(tmp_path / 'in.pt')]
    subprocess.run(command, check=True, capture_output=True)
    names, theirs, grads, limits = torch.load(out)
    assert names == [(n, v.shape) for n, v in net.state_dict().items()]
    ours = {'ws': net.mapping(z, c, truncation_psi=0.7, truncation_cutoff=7).detach()}
    torch.manual_seed(5)  # ours draws the same numbers in the same order
    ours.update(net.synthesis(ours['ws'], c, neural_rendering_resolution=resolution, noise_mode='random'))
    loss = sum(ours[name].square().mean() for name in ('image', 'image_raw', 'image_depth'))
    planes = net.planes(ours['ws'], noise_mode='const')
    ours.update(net.renderer.run_model(planes, net.decoder, points, net.rendering_kwargs))
    for name, value in ours.items():
        if not (name == 'sigma' and options.get('density_noise')):
            assert (value - theirs[name]).abs().max() < 3e-4 * theirs[name].std() + 1e-6, name
    loss.backward()
    for name, parameter in net.named_parameters():
        if grads[name] is not None and grads[name].numel() > 1:  # a single noise strength is a difference of large sums
            assert (parameter.grad - grads[name]).norm() <= 5e-3 * grads[name].norm() + 1e-7, name
    directions = torch.nn.functional.normalize(points.flip(1) - points, dim=-1)
    hit = (limits[1] > limits[0])
    for mine, upstreams in zip(rendering.box_limits(points, directions, 0.8), limits, strict=True):
        torch.testing.assert_close(mine[hit], upstreams[hit], rtol=1e-5, atol=1e-5)
    assert hit.any() and not hit.all()


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_rows_of_a_table_are_bilinear_look_ups(layout):
    """The CPU's way of reading planes, against `grid_sample`: inside, on the rim and outside, values and gradients."""
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(2, 96, 8, 16, generator=generator).contiguous(memory_format=layout).requires_grad_()
    points = torch.randn(2, 500, 3, generator=generator)
    points[0, :4] = torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [0.999, 1.001, -1.07], [50.0, -50.0, 0.3]])
    upstream_grad = torch.randn(1000, 32, generator=generator)
    sampler = rendering.PlaneSampler(planes, box_warp=2)
    rows = sampler(points)
    rows.backward(upstream_grad)
    by_rows, planes.grad = planes.grad, None
    grid = sampler._by_grid(points)
    grid.backward(upstream_grad)
    assert torch.allclose(rows, grid, atol=2e-6) and rows.abs().max() > 1
    assert torch.allclose(by_rows, planes.grad, atol=2e-5) and by_rows.abs().max() > 1


def test_planes_are_read_where_they_lie(net):
    """On a CPU the backbone writes tri-planes pixel by pixel, so that the renderer's table is a view of them."""
    planes = net.planes(numbers(2, net.num_ws, 512), noise_mode='const')
    assert planes.is_contiguous(memory_format=torch.channels_last)
    assert rendering.PlaneSampler(planes, box_warp=1)._table().data_ptr() == planes.data_ptr()


@pytest.mark.parametrize('place, pixels, shares', [
    (-1.0, (0, 0), (0, 0.5)), (-0.75, (0, 1), (1, 0)), (0.0, (1, 2), (0.5, 0.5)), (0.875, (3, 3), (0.75, 0)),
    (7.0, (3, 3), (0, 0)), (-7.0, (0, 0), (0, 0)),
])
def test_neighbours_by_hand(place, pixels, shares):
    """Four pixels, the first one's centre at -0.75: place -1 lies half a pixel before it, where the other half is outside."""
    found = [part.item() for part in rendering.neighbours(torch.tensor(place), 4)]
    assert found == [*pixels, *shares]


def test_points_get_their_gradient():
    planes, points = torch.randn(1, 96, 8, 8), (torch.rand(1, 20, 3) - 0.5).requires_grad_()
    rendering.PlaneSampler(planes, box_warp=2)(points).sum().backward()
    assert points.grad.abs().sum() > 0
