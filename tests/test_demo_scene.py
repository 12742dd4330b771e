"""Pictures of demo people: the distance field, tracing, cameras, and what a picture may depend on."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eg3d_unlearn.worlds.demo import heads, scene
from eg3d_unlearn.worlds.demo.people import ATTRIBUTES, IDENTITY, RANGES, People, nuisances, people

BOX = 0.36                            # heads stay within this of the origin [world units]
SIZE = 48                             # of the pictures here [pixels]


@functools.cache
def crowd(kind: str, count: int = 60) -> tuple[People, heads.Params]:
    everybody = people(kind, count)
    return everybody, heads.parameters(everybody)


def distances(p: heads.Params, points: Tensor) -> Tensor:  # [..., M, 3] -> [L, M]
    x, y, z = points.expand(len(p['eye_x']), -1, 3).movedim(-1, 0).contiguous()
    return heads.distance(p, x, y, z)


def rays(camera: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Origin [3] and directions [side^2, 3] through the pixels' centres, by hand from the label [25]."""
    pose, focal = camera[:16].view(4, 4), camera[16]
    v, u = torch.meshgrid(*[(torch.arange(side) + 0.5) / side - 0.5] * 2, indexing='ij')
    local = torch.stack([u / focal, v / focal, torch.ones_like(u)], dim=-1).view(-1, 3)
    return pose[:3, 3], F.normalize(local @ pose[:3, :3].T, dim=1)


def pixel(camera: Tensor, point: Tensor, side: int) -> tuple[int, int, float]:
    """Row and column in which a point [3] of the world appears, and how far it is from the camera; by hand from the label [25]."""
    pose, focal = camera[:16].view(4, 4), camera[16]
    x, y, z = (pose[:3, :3].T @ (point - pose[:3, 3])).tolist()
    return math.floor((focal * y / z + 0.5) * side), math.floor((focal * x / z + 0.5) * side), math.dist((x, y, z), (0, 0, 0))


def someone(oddities: dict | None = None, **attributes: float) -> People:
    """A person of average attributes but for these."""
    person = People(torch.zeros(1, len(ATTRIBUTES)))
    for name, value in attributes.items():
        person.attributes[:, ATTRIBUTES.index(name)] = value
    if oddities:
        person.oddities = torch.tensor([[oddities.get(name, 0.0) for name in heads.ODDITIES]])
    return person


# Somebody without anything that tells left from right: bald, hair is combed; light from the camera's direction.
SYMMETRIC = dict(hair_volume=-1.0, glasses=-1.0, light=-0.35 / 0.65)


def surface(person: People, x: float, y: float) -> Tensor:
    """The first point [3] of the person that somebody meets who comes from the front along z."""
    z = torch.arange(0.4, -0.4, -0.0005)
    points = torch.stack([torch.full_like(z, x), torch.full_like(z, y), z], dim=1)
    return points[(distances(heads.parameters(person), points)[0] < 0).nonzero()[0, 0]]


# The distance field.


@pytest.mark.parametrize('kind', RANGES)
def test_people_are_in_the_middle_and_nowhere_else(kind):
    _, p = crowd(kind)
    assert (distances(p, torch.tensor([[0.0, 0, 0], [0, 0.05, 0.1], [0, -0.12, 0.08]])) < -0.02).all()
    # The faces of the box, but for the lower one, through which the neck goes out of the picture.
    side = torch.linspace(-BOX, BOX, 25)
    a, b = (grid.flatten() for grid in torch.meshgrid(side, side, indexing='ij'))
    walls = [torch.stack(wall, dim=1) for wall in (
        (a, b, torch.full_like(a, BOX)), (a, b, torch.full_like(a, -BOX)), (a, torch.full_like(a, BOX), b),
        (torch.full_like(a, BOX), a, b), (torch.full_like(a, -BOX), a, b))]
    assert (distances(p, torch.cat(walls)) > 0).all()
    # And nothing of what hangs about beyond it.
    far = F.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=1) * 0.65
    assert (distances(p, far) > 0.1).all()


@pytest.mark.parametrize('kind', RANGES)
def test_people_fit_into_the_picture(kind):
    _, p = crowd(kind)
    camera = scene.camera_at(0.0, 0.0)[0]
    depth = torch.linspace(scene.NEAR, scene.FAR, 60)[:, None]
    along = torch.linspace(-0.5, 0.5, 60)

    def sheet_through(u: Tensor, v: Tensor) -> Tensor:
        """Points on the plane through the camera and a line of the picture; u right, v down, 0 in the middle."""
        return torch.stack([u / camera[16] * depth, -v / camera[16] * depth, (2.7 - depth).expand_as(u * depth)], dim=-1).view(-1, 3)

    for edge in (-0.5, 0.5):
        assert (distances(p, sheet_through(torch.full_like(along, edge), along)) > 0).all()
    # High hair is cut as on a tight portrait, by a twenty-fifth of the picture at most; with no hair, nothing is.
    assert (distances(p, sheet_through(along, torch.full_like(along, -0.54))) > 0).all()
    bald = heads.parameters(someone(hair_volume=-1.0, head_height=1.0))
    assert (distances(bald, sheet_through(along, torch.full_like(along, -0.5))) > 0).all()
    # The neck goes out at the bottom.
    assert (distances(p, sheet_through(torch.zeros(60), torch.full_like(along, 0.5))) < 0).any(dim=1).all()


@pytest.mark.parametrize('kind', RANGES)
def test_steps_along_a_ray_may_be_as_long_as_the_distance(kind):
    _, p = crowd(kind)
    generator = torch.Generator().manual_seed(1)
    points = (torch.rand(60, 1500, 3, generator=generator) * 2 - 1) * BOX
    step = F.normalize(torch.randn(60, 1500, 3, generator=generator), dim=-1) * 1e-3
    here, there = distances(p, points), distances(p, points + step)
    slope = (there - here).abs()[here > 0] / 1e-3
    # `trace` makes steps of 0.85 times the distance: up to a slope of 1.18 none can pass through a surface.
    assert (slope > 1 / 0.85).float().mean() < 0.01
    assert slope.mean() > 0.4             # half the length of a gradient of 1, on average; less would waste steps
    gradient = torch.stack([distances(p, points + e) - distances(p, points - e) for e in 5e-4 * torch.eye(3)], dim=-1).norm(dim=-1) / 1e-3
    near = here.abs() < 0.02
    assert 0.9 < gradient[near].median() < 1.05 and gradient[near].quantile(0.9) < 1.15


@pytest.mark.parametrize('kind', RANGES)
def test_tracing_finds_the_first_surface(kind):
    everybody, _ = crowd(kind)
    cameras = scene.cameras_at_random(4, seed=3)
    depths = torch.arange(scene.NEAR, scene.FAR, 0.003)
    for i in range(4):
        p = heads.parameters(everybody[i : i + 1])
        origin, directions = rays(cameras[i], 28)
        traced = scene.trace(p, origin, directions)
        inside = distances(p, (origin + depths[:, None] * directions[:, None]).view(-1, 3)).view(len(directions), -1) < 0
        first = torch.where(inside.any(1), depths[inside.float().argmax(1)], torch.tensor(scene.FAR))
        assert 0.2 < inside.any(1).float().mean() < 0.9
        # Never behind where marching in small steps meets it, and where that meets nothing, at the far end or at a grazed edge.
        assert (traced < first + 0.008).all()
        assert (traced[inside.any(1)] > first[inside.any(1)] - 0.05).float().mean() > 0.98
        assert (traced[~inside.any(1)] == scene.FAR).float().mean() > 0.9


# Pictures.


@functools.cache
def taken(kind: str = 'held-out', count: int = 4) -> tuple[People, Tensor, scene.Picture]:
    """People, cameras and pictures, one ray a pixel."""
    everybody, cameras = people(kind, count), scene.cameras_at_random(count, seed=8)
    return everybody, cameras, scene.render(everybody, cameras, SIZE, samples=1)


def test_shapes_and_ranges():
    _, _, picture = taken()
    assert picture.image.shape == (4, 3, SIZE, SIZE) and picture.depth.shape == picture.mask.shape == (4, 1, SIZE, SIZE)
    assert picture.image.abs().max() <= 1 and set(picture.mask.unique().tolist()) == {0.0, 1.0}
    behind = picture.mask == 0
    assert (picture.image[behind.expand(-1, 3, -1, -1)] == 1).all() and (picture.depth[behind] == torch.tensor(scene.FAR)).all()
    assert picture.image[~behind.expand(-1, 3, -1, -1)].std() > 0.2


@pytest.mark.parametrize('kind', ['held-out', 'out-of-domain'])
def test_depth_is_where_the_surface_is(kind):
    everybody, cameras, picture = taken(kind)
    for i in range(len(everybody)):
        origin, directions = rays(cameras[i], SIZE)
        seen = picture.mask[i].flatten() > 0
        assert 0.2 < seen.float().mean() < 0.9
        depth, directions = picture.depth[i].flatten()[seen, None], directions[seen]
        p = heads.parameters(everybody[i : i + 1])
        there, before, behind = (distances(p, origin + (depth + offset) * directions)[0] for offset in (0, -0.02, 0.004))
        assert there.abs().max() < 0.004 and there.abs().quantile(0.98) < 3e-4
        # Outside before it, inside behind it, but for rays that graze an edge.
        assert (before > 0).float().mean() > 0.97 and (behind < 0).float().mean() > 0.97


def test_more_rays_a_pixel_blend_the_same_picture():
    everybody, cameras, _ = taken()
    fine = scene.render(everybody[:1], cameras[:1], SIZE, samples=2)
    single = scene.render(everybody[:1], cameras[:1], 2 * SIZE, samples=1)
    torch.testing.assert_close(fine.image, F.avg_pool2d(single.image, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(fine.mask, F.avg_pool2d(single.mask, 2))
    torch.testing.assert_close(fine.depth, -F.max_pool2d(-single.depth, 2))


def test_a_picture_depends_on_nothing_but_its_person_and_camera():
    everybody, cameras, picture = taken()
    again = scene.render(people('held-out', 4)[2:3], scene.cameras_at_random(4, seed=8)[2:3], SIZE, samples=1)
    for one, other in zip(again, picture, strict=True):
        torch.testing.assert_close(one, other[2:3], atol=1e-5, rtol=0)
    others = scene.render(people('held-out', 4, seed=1)[2:3], cameras[2:3], SIZE, samples=1)
    assert (others.image - picture.image[2:3]).abs().mean() > 0.1


def test_symmetric_people():
    side = (torch.rand(4000, 3, generator=torch.Generator().manual_seed(2)) * 2 - 1) * BOX
    mirrored = side * torch.tensor([-1.0, 1, 1])
    for attributes in (SYMMETRIC, dict(SYMMETRIC, hair_volume=0.6, hair_length=0.8, curl=-1, bun=1, glasses=1, head_width=0.7, beard=1)):
        p = heads.parameters(someone(**attributes))
        torch.testing.assert_close(distances(p, side), distances(p, mirrored), atol=1e-6, rtol=0)
    colors, others = (heads.albedo(heads.parameters(someone(**SYMMETRIC, smile=1.0, beard=1.0)), *points.T[:, None].contiguous())
                      for points in (side, mirrored))
    torch.testing.assert_close(colors, others, atol=1e-5, rtol=0)
    for attributes in (dict(parting=1.0), dict(curl=1.0, hair_volume=0.8), dict(oddities={'eye_patch': 1.0})):
        p = heads.parameters(someone(**{'hair_volume': 0.6, **attributes}))
        assert (distances(p, side) - distances(p, mirrored)).abs().max() > 5e-4


@pytest.mark.parametrize('yaw', [0.0, 0.4])
def test_pictures_of_symmetric_people_from_both_sides(yaw):
    cameras = torch.cat([scene.camera_at(yaw, 0.1), scene.camera_at(-yaw, 0.1)])
    person = someone(**SYMMETRIC, mouth_open=1.0, smile=1.0)
    left, right = scene.render(person[torch.tensor([0, 0])], cameras, SIZE, samples=1).image
    error = (left - right.flip(-1)).abs()
    # Normals come from differences towards four corners of a cube, which are not symmetric: small errors where it is strongly
    # curved.  Single rays at the edge may fall to one side or the other.
    assert error.mean() < 0.012 and (error > 0.1).float().mean() < 0.02
    if yaw:
        assert (left - right).abs().mean() > 0.05
    lit = scene.render(someone(**{**SYMMETRIC, 'light': 1.0}), cameras[:1], SIZE, samples=1).image[0]
    assert (lit - lit.flip(-1)).abs().mean() > 0.03
    # With the attribute at 1 the light comes from the person's left.
    if not yaw:
        assert lit[..., SIZE // 2 :].mean() > lit[..., : SIZE // 2].mean() + 0.03


# Cameras.


@pytest.mark.parametrize(('yaw', 'pitch'), [(0.0, 0.0), (0.35, 0.1), (-0.35, -0.2), (0.1, 0.2)])
def test_points_appear_where_the_camera_label_says(yaw, pitch):
    side = 64
    person = someone(hair_volume=-1.0, glasses=-1.0, skin_tone=1.0, makeup=-1.0, mouth_open=-1.0, parting=0.8)
    camera = scene.camera_at(yaw, pitch)
    picture = scene.render(person, camera, side, samples=1)
    p = {name: value[0, 0].item() for name, value in heads.parameters(person).items() if value.ndim == 2}
    # The person's left eye, right eye, the nose, the chin; drawn in the coordinates of `heads.framed`.
    for x, y in ((p['eye_x'], p['eye_y']), (-p['eye_x'], p['eye_y']), (0.0, -0.055), (0.0, -0.2)):
        point = surface(person, heads.SIZE * x, heads.SIZE * y - heads.DOWN)
        row, column, depth = pixel(camera[0], point, side)
        assert picture.depth[0, 0, row, column].item() == pytest.approx(depth, abs=0.006)
        around = picture.image[0, :, row - 1 : row + 2, column - 1 : column + 2]
        # The pupils are the only black on this bald person without glasses.
        assert (around.amax(0).amin() < -0.7) == (x != 0), (x, y)


def test_left_is_the_persons_left_and_up_is_up():
    person = someone(hair_volume=-1.0, skin_tone=1.0, oddities={'eye_patch': 1.0})
    plain = People(person.attributes)
    camera = scene.camera_at(0.0, 0.0)
    picture, without = (scene.render(one, camera, SIZE, samples=1).image[0] for one in (person, plain))
    changed = (picture - without).abs().amax(0) > 0.3
    right_half, upper = changed[:, SIZE // 2 :].sum() / changed.sum(), changed[: SIZE * 2 // 3].sum() / changed.sum()
    assert changed.sum() > 40 and right_half > 0.65 and upper > 0.99
    # The ear on the person's left is seen from a camera with a positive yaw and hidden from the other side.
    ear = torch.tensor([heads.SIZE * 0.21, heads.SIZE * -0.008 - heads.DOWN, heads.SIZE * -0.02])
    for yaw, seen in ((0.6, True), (-0.6, False)):
        side = scene.camera_at(yaw, 0.0)
        row, column, depth = pixel(side[0], ear, SIZE)
        there = scene.render(plain, side, SIZE, samples=1).depth[0, 0, row, column].item()
        assert (abs(there - depth) < 0.04) == seen and there < depth


def test_random_cameras_are_uniform_and_look_at_the_head():
    cameras = scene.cameras_at_random(1000, seed=4)
    assert torch.equal(cameras, scene.cameras_at_random(1000, seed=4)) and not torch.equal(cameras, scene.cameras_at_random(1000, seed=5))
    poses = cameras[:, :16].view(-1, 4, 4)
    origin, forward = poses[:, :3, 3], poses[:, :3, 2]
    torch.testing.assert_close(origin.norm(dim=1), torch.full((1000,), 2.7))
    torch.testing.assert_close(forward, F.normalize(torch.tensor(scene.PIVOT) - origin, dim=1), atol=1e-5, rtol=0)
    yaw = torch.atan2(origin[:, 0], origin[:, 2])
    pitch = -origin[:, 1] / 2.7 * math.pi / 2
    for angle, largest in ((yaw, scene.MAX_YAW), (pitch, scene.MAX_PITCH)):
        steps = torch.linspace(-1, 1, 1000)
        assert angle.abs().max() <= largest and ((angle / largest).sort().values - steps).abs().max() / 2 < 0.06
    assert abs(torch.corrcoef(torch.stack([yaw, pitch]))[0, 1]) < 0.1
    assert (cameras[:, 16:] == scene.camera_at(0, 0)[:, 16:]).all()


# What light and expression may change.


def posed(person: People, **faces: float) -> People:
    changed = person.attributes.clone()
    for name, value in faces.items():
        assert name not in IDENTITY
        changed[:, ATTRIBUTES.index(name)] = value
    return People(changed, person.oddities)


@pytest.mark.parametrize('kind', RANGES)
def test_light_changes_colours_only(kind):
    person, camera = people(kind, 3)[2:], scene.camera_at(0.2, 0.0)
    one, other = (scene.render(posed(person, light=light), camera, SIZE, samples=1) for light in (-1.0, 1.0))
    assert torch.equal(one.depth, other.depth) and torch.equal(one.mask, other.mask)
    assert (one.image - other.image).abs().mean() > 0.02
    assert torch.equal(one.image[:, :, 0, 0], other.image[:, :, 0, 0])


@pytest.mark.parametrize('kind', RANGES)
def test_expressions_change_the_mouth_and_not_the_silhouette(kind):
    person, camera = people(kind, 4)[1:2], scene.camera_at(0.0, 0.0)
    one, other = (scene.render(posed(person, mouth_open=face, smile=face, light=0.0), camera, SIZE, samples=1) for face in (-1.0, 1.0))
    changed = (one.image - other.image).abs().amax(1)[0] > 0.02
    middle = surface(person, 0.0, heads.SIZE * -0.128 - heads.DOWN)
    row, column, _ = pixel(camera[0], middle, SIZE)
    assert changed[row - 2 : row + 3, column - 4 : column + 5].float().mean() > 0.5
    away = changed.clone()
    away[row - 9 : row + 10, column - 13 : column + 14] = False
    assert away.float().mean() < 0.002
    assert (one.mask != other.mask).float().mean() < 0.005


def test_expressions_of_people_stay_nearer_than_other_people():
    # Telling people apart by their silhouettes must not hang on the expression.
    everybody = people('held-out', 5)
    camera = scene.camera_at(0.0, 0.0).expand(5, -1)
    masks = [scene.render(everybody.posing(nuisances(5, seed)), camera, 32, samples=1).mask for seed in (0, 1)]
    same = (masks[0] - masks[1]).abs().mean(dim=(1, 2, 3)).max()
    apart = torch.cdist(masks[0].flatten(1), masks[1].flatten(1), p=1) / 32**2 + torch.eye(5)
    assert same < 0.005 < 0.02 < apart.min()
