"""A head as a signed distance field with colours.

Units are EG3D's: the camera stands 2.7 from the origin and a picture is 0.63 wide where the face is.  x runs to the
person's left (the picture's right), y up, z out of the face.  Distances are in these units, colours 0 to 1.

L people, M points: coordinates are [L, M], parameters [L, 1], colours of a person [L, 1, 3].
"""

from __future__ import annotations

import torch
from torch import Tensor

from eg3d_unlearn.worlds.demo.people import ATTRIBUTES, ODDITIES, People

SKIN = ((0.24, 0.13, 0.09), (0.46, 0.27, 0.17), (0.71, 0.47, 0.33), (0.88, 0.66, 0.52), (0.98, 0.82, 0.72))
HAIR = ((0.05, 0.04, 0.05), (0.20, 0.11, 0.07), (0.42, 0.22, 0.10), (0.72, 0.29, 0.09), (0.93, 0.74, 0.38), (0.72, 0.72, 0.75))
IRIS = ((0.20, 0.10, 0.04), (0.48, 0.31, 0.10), (0.22, 0.50, 0.24), (0.20, 0.47, 0.80))
DYE = (0.10, 0.55, 0.85)
PAINT = (0.15, 0.62, 0.35)
HAT = (0.75, 0.10, 0.30)
SHIRT = (0.30, 0.36, 0.45)
FRAME = (0.08, 0.08, 0.14)
LIPS = (0.78, 0.14, 0.20)
EDGE = 0.005                          # width over which painted colours blend into each other
BOTTOM = -0.34                        # where the neck ends, below the picture
SIZE, DOWN = 1.08, 0.012              # of the head in the picture

Params = dict[str, Tensor]


def ramp(u: Tensor, low: float, high: float) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = ((u - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def palette(u: Tensor, colors) -> Tensor:
    """Colours [L, 1, 3] at places ``u`` [L, 1] in -1 to 1 along a list of colours."""
    colors = torch.tensor(colors, dtype=u.dtype, device=u.device)
    place = (u + 1) / 2 * (len(colors) - 1)
    share = (1 - (place[..., None] - torch.arange(len(colors), device=u.device)).abs()).clamp_min(0)
    return share @ colors


def parameters(people: People) -> Params:
    """What the field is made of, from attributes."""
    a = {name: people.attributes[:, i : i + 1] for i, name in enumerate(ATTRIBUTES)}
    oddities = people.oddities if people.oddities is not None else people.attributes.new_zeros(len(people), len(ODDITIES))
    odd = {name: oddities[:, i : i + 1] for i, name in enumerate(ODDITIES)}
    zero = torch.zeros_like(a['smile'])

    def blend(color: Tensor, other, share: Tensor) -> Tensor:
        return color + (color.new_tensor(other) - color) * share[..., None]

    # Dark skin goes with dark hair and eyes.
    fair = ramp(a['skin_tone'], -0.9, 0.1)
    p: Params = {}
    p['head_w'] = 0.190 * (1 + 0.11 * a['head_width'])
    p['head_h'] = 0.192 * (1 + 0.09 * a['head_height'])
    p['jaw_w'] = 0.138 * (1 + 0.20 * a['jaw_width'])
    p['jaw_h'] = 0.168 * (1 + 0.13 * a['chin_length'])
    p['cheek'] = 0.052 * (1 + 0.35 * a['cheek_fullness'])
    p['nose_w'] = 0.034 * (1 + 0.38 * a['nose_width'])
    p['nose_l'] = 0.034 * (1 + 0.45 * a['nose_length'])
    p['ear'] = 1 + 0.30 * a['ear_size']
    # Long hair lies over the ears.
    p['ear_x'] = 0.004 - 0.035 * ramp(a['hair_length'], -0.2, 0.9) * ramp(a['hair_volume'], -0.75, -0.3)
    p['eye_x'] = 0.080 * (1 + 0.13 * a['eye_spacing'])
    p['eye_y'] = zero + 0.018
    p['eye_r'] = 0.043 * (1 + 0.20 * a['eye_size'])
    p['eye_tilt'] = 0.28 * a['eye_tilt']
    p['iris'] = palette((a['eye_color'] + 1) * (0.40 + 0.60 * fair) - 1, IRIS)
    p['brow_t'] = 0.0125 * (1 + 0.55 * a['brow_thickness'])
    p['brow_tilt'] = 0.26 * a['brow_tilt']
    p['mouth_w'] = 0.062 * (1 + 0.28 * a['mouth_width'])
    p['lip_t'] = 0.0155 * (1 + 0.45 * a['lip_fullness'])
    p['lash'] = ramp(a['makeup'], -0.1, 0.7)
    p['skin'] = blend(palette(a['skin_tone'], SKIN), PAINT, 0.75 * odd['face_paint'])
    p['hair'] = blend(palette((a['hair_color'] + 1) * (0.45 + 0.55 * fair) - 1, HAIR), DYE, odd['hair_dye'])
    p['lip'] = blend(p['skin'], LIPS, 0.30 + 0.55 * p['lash'])
    p['blush'] = 0.35 + 0.45 * p['lash']
    # One in ten is bald; the hair of the others begins with a short crop.
    grown = ramp(a['hair_volume'], -0.85, -0.70)
    p['hair_v'] = -0.020 + 0.032 * grown + 0.034 * ramp(a['hair_volume'], -0.6, 1.0)
    p['hair_l'] = ramp(a['hair_length'], -0.2, 0.9) * ramp(a['hair_volume'], -0.75, -0.3)
    p['bald'] = 0.05 * (1 - grown)
    p['hairline'] = 0.228 + 0.034 * a['hairline']
    p['parting'] = 0.050 * a['parting']
    p['curl'] = 0.0075 * ramp(a['curl'], -0.1, 0.8) * ramp(a['hair_volume'], -0.7, 0.2)
    p['bun'] = 0.058 * ramp(a['bun'], 0.25, 0.7) * ramp(a['hair_volume'], -0.75, -0.4)
    p['beard'] = ramp(a['beard'], 0.2, 0.45)
    p['moustache'] = ramp(a['moustache'], 0.2, 0.6)
    p['glasses'] = ramp(a['glasses'], 0.15, 0.4)
    p['open'] = 0.024 * a['mouth_open'].clamp_min(0)
    p['smile'] = 0.35 + 0.65 * a['smile']
    p['light'] = 0.35 + 0.65 * a['light']
    p['hat'] = odd['hat']
    p['patch'] = odd['eye_patch']
    p['mouth_y'] = zero - 0.128
    return p


def ellipsoid(x, y, z, cx, cy, cz, rx, ry, rz) -> Tensor:
    """Distance to an ellipsoid to first order, exact on its surface."""
    x, y, z = (x - cx) / rx, (y - cy) / ry, (z - cz) / rz
    k = torch.sqrt(x * x + y * y + z * z + 1e-12)
    x, y, z = x / rx, y / ry, z / rz
    return k * (k - 1) / torch.sqrt(x * x + y * y + z * z + 1e-12)


def union(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Smaller of two distances, rounded over ``width`` where they meet."""
    h = (width - (a - b).abs()).clamp_min(0)
    return torch.minimum(a, b) - h * h * (0.25 / width)


def intersection(a: Tensor, b: Tensor, width: float) -> Tensor:
    return -union(-a, -b, width)


def parts(p: Params, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances [L, M] to skin (with the shirt), hair (with a hat) and glasses (with an eye patch)."""
    ax = torch.sqrt(x * x + 1e-6)                  # both sides of the face at once, round at the middle
    head_w, head_h = p['head_w'], p['head_h']
    skull = ellipsoid(x, y, z, 0.0, 0.060, -0.025, head_w, head_h, 0.210)
    face = union(skull, ellipsoid(x, y, z, 0.0, -0.075, 0.030, p['jaw_w'], p['jaw_h'], 0.148), 0.09)
    face = union(face, ellipsoid(ax, y, z, 0.085, -0.065, 0.105, p['cheek'], p['cheek'], p['cheek']), 0.07)
    # Brow ridge and sockets, then the eyeballs in them.
    face = intersection(face, -ellipsoid(ax, y, z, p['eye_x'], p['eye_y'], 0.205, 0.062, 0.040, 0.036), 0.05)
    skin = union(face, ellipsoid(ax, y, z, p['eye_x'], p['eye_y'], 0.118, 0.058, 0.046, 0.056), 0.008)
    # Bridge, tip and wings of the nose.
    skin = union(skin, ellipsoid(x, y, z, 0.0, -0.010, 0.165, 0.020, 0.070, 0.022 + 0.35 * p['nose_l']), 0.025)
    skin = union(skin, ellipsoid(x, y, z, 0.0, -0.055, 0.180, 0.62 * p['nose_w'], 0.026, 0.020 + p['nose_l']), 0.02)
    skin = union(skin, ellipsoid(ax, y, z, 0.62 * p['nose_w'], -0.060, 0.175, 0.46 * p['nose_w'], 0.018, 0.022), 0.015)
    lips = p['lip_t'] + 0.5 * p['open']
    skin = union(skin, ellipsoid(x, y, z, 0.0, p['mouth_y'], 0.148, p['mouth_w'], 0.9 * lips + 0.010, 0.030), 0.03)
    ear = p['ear']
    skin = union(skin, ellipsoid(ax, y, z, head_w + p['ear_x'], -0.008, -0.020, 0.024 * ear, 0.056 * ear, 0.034 * ear), 0.015)
    neck = torch.maximum(torch.sqrt(x * x + (z + 0.035) ** 2 + 1e-12) - 0.088 - 0.16 * (-0.26 - y).clamp_min(0), y + 0.12)
    skin = union(skin, torch.maximum(neck, BOTTOM - y), 0.045)
    hair = hair_distance(p, x, y, z, skull)
    slope = y + 0.25 * (z + 0.02)
    hat = torch.maximum(skull - 0.048, 0.152 - slope)
    brim = torch.maximum((skull - 0.020).abs() - 0.040, (slope - 0.145).abs() - 0.020)
    # No hair above the brim.
    hair = torch.maximum(hair, slope - 0.145 - (1 - p['hat']))
    hair = torch.minimum(hair, union(hat, brim, 0.01) + 0.5 * (1 - p['hat']))
    return skin, hair, eyewear_distance(p, x, ax, y, z, face)


def hair_distance(p: Params, x: Tensor, y: Tensor, z: Tensor, skull: Tensor) -> Tensor:
    """A cap around the skull and a mane down to the shoulders, less an opening for the face."""
    length, head_w = p['hair_l'], p['head_w']
    mane = ellipsoid(x, y, z, 0.0, -0.02 - 0.12 * length, -0.075, 0.98 * head_w, 0.10 + 0.18 * length, 0.140)
    body = union(skull, mane, 0.06) - p['hair_v']
    body = body - p['curl'] * (1 + torch.sin(62 * x + 1.5) * torch.sin(55 * y) + torch.sin(58 * z + 50 * y))
    # The opening: an upright ellipse in the picture plane, pushed aside by the parting, soft at its rim.
    rx, ry = 0.150 + 0.45 * (head_w - 0.19), p['hairline']
    opening = 0.15 * (1 - torch.sqrt(((x - p['parting'] * ramp(y, 0.02, 0.12)) / rx) ** 2 + ((y + 0.105) / ry) ** 2 + 1e-12))
    hair = intersection(body, torch.minimum(opening, z - 0.015), 0.02)
    hair = intersection(hair, -(y + 0.035 + 0.29 * length), 0.03)
    hair = hair + p['bald']
    bun = ellipsoid(x, y, z, 0.0, 0.225, -0.115, p['bun'] + 1e-3, p['bun'] + 1e-3, p['bun'] + 1e-3)
    return union(hair, bun + 0.4 * (p['bun'] < 0.012).to(x.dtype), 0.015)


def eyewear_distance(p: Params, x: Tensor, ax: Tensor, y: Tensor, z: Tensor, face: Tensor) -> Tensor:
    """Round frames, bridge and temples at a fixed distance from the face."""
    dx, dy = ax - p['eye_x'], y - p['eye_y'] + 0.004
    thick = 0.0075 * p['glasses']
    rim = (torch.sqrt(dx * dx + dy * dy + 1e-12) - 0.060).abs() - thick
    bar = torch.maximum((dy - 0.010).abs() - 0.85 * thick, 0.058 - dx.abs())
    frames = torch.maximum(torch.minimum(rim, bar), face - 0.022 * p['glasses'])
    frames = torch.maximum(frames, -0.005 - z) + 0.05 * (1 - p['glasses'])
    patch = torch.sqrt((x - p['eye_x']) ** 2 + (1.1 * dy) ** 2 + 1e-12) - 0.056
    strap = (dy - 0.10 - 0.45 * (x - p['eye_x'])).abs() - 0.009
    patch, strap = torch.maximum(patch, face - 0.024), torch.maximum(torch.maximum(strap, -0.12 - z), face - 0.010)
    return torch.minimum(frames, torch.minimum(patch, strap) + 0.5 * (1 - p['patch']))


def distance(p: Params, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Signed distance [L, M] to the person, negative inside."""
    skin, hair, eyewear = parts(p, *framed(x, y, z))
    return SIZE * torch.minimum(torch.minimum(skin, hair), eyewear)


def framed(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """World coordinates to those that the parts are drawn in: heads fill the picture."""
    return x / SIZE, (y + DOWN) / SIZE, z / SIZE


def inside(d: Tensor, width: float | Tensor = EDGE) -> Tensor:
    """1 where ``d`` is negative, 0 where positive, linear over ``width``."""
    return (0.5 - d * (0.5 / width)).clamp(0, 1)


def over(color: Tensor, paint: Tensor, share: Tensor) -> Tensor:
    """``paint`` laid over ``color`` [L, M, 3] with opacity ``share`` [L, M]."""
    return color + (paint - color) * share[..., None]


def albedo(p: Params, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Colours [L, M, 3] without light."""
    x, y, z = framed(x, y, z)
    skin_d, hair_d, eyewear_d = parts(p, x, y, z)
    constant = lambda *rgb: x.new_tensor(rgb)  # noqa: E731
    ax = torch.sqrt(x * x + 1e-6)
    skin, hair = p['skin'], p['hair']
    front = inside(0.045 - z, 0.03)
    dark_hair = hair * 0.72

    color = skin.expand(*x.shape, 3)
    rosy = torch.exp(-((ax - 0.100) ** 2 + (y + 0.072) ** 2) / 0.0019)
    color = over(color, skin * constant(1.0, 0.72, 0.70), front * p['blush'] * rosy)
    # Nostrils and the fold beside them, ears' inside, shade under the lower lip.
    nostril = torch.exp(-(((ax - 0.5 * p['nose_w']) / 0.010) ** 2 + ((y + 0.072) / 0.006) ** 2))
    color = over(color, skin * 0.45, 0.75 * front * nostril)
    tip = torch.exp(-((x / (0.8 * p['nose_w'])) ** 2 + ((y + 0.052) / 0.024) ** 2))
    color = over(color, skin * constant(1.04, 0.84, 0.80), 0.5 * front * tip)
    ear = torch.exp(-((y + 0.006) ** 2 / (0.0010 * p['ear'] ** 2) + (z + 0.014) ** 2 / (0.0003 * p['ear'] ** 2)))
    color = over(color, skin * constant(0.85, 0.62, 0.58), 0.8 * ear * inside(p['head_w'] + 0.004 - ax, 0.02))

    color = beard(p, color, x, ax, y, z, dark_hair)
    color = mouth(p, color, x, y, front)
    color = eyes(p, color, ax, y, front)
    dx = ax - p['eye_x']
    arch = y - p['eye_y'] - 0.066 - p['brow_tilt'] * dx + 4.0 * (dx - 0.012) ** 2
    color = over(color, dark_hair * 0.75, front * inside(arch.abs() - p['brow_t'], 0.007) * inside(dx.abs() - 0.050, 0.014))
    color = over(color, constant(*SHIRT), inside(y + 0.268 - 0.35 * (z + 0.035).clamp(-0.1, 0.1), 0.012))

    # Hair: strands that fan out from the crown, a soft sheen below it, darker at the tips.
    turn = torch.atan2(x, z + 0.03)
    strands = 1 + 0.07 * torch.sin(17 * turn + 25 * y) + 0.10 * torch.exp(-((y - 0.17) / 0.045) ** 2) - 0.12 * ramp(-y, 0.0, 0.25)
    worn = over(hair * strands[..., None], constant(*HAT), p['hat'] * inside(0.127 - 0.25 * (z + 0.02) - y))
    color = over(color, worn, inside(hair_d - skin_d))
    near = torch.minimum(skin_d, hair_d)
    return over(color, constant(*FRAME), inside(eyewear_d - near - 0.003) * ((p['glasses'] > 0.02) | (p['patch'] > 0.5)).to(x.dtype))


def beard(p: Params, color: Tensor, x, ax, y, z, dark_hair: Tensor) -> Tensor:
    """Beard along jaw and chin, moustache above the mouth."""
    up = y - p['mouth_y']
    around = inside(up - 0.028 - 1.15 * (ax - 0.055).clamp_min(0), 0.022) * inside(0.030 - z, 0.04) * inside(-0.225 - y, 0.025)
    color = over(color, dark_hair, 0.92 * p['beard'] * around)
    curve = up - 0.026 + 5.5 * (ax - 0.02) ** 2
    return over(color, dark_hair, 0.95 * p['moustache'] * inside(curve.abs() - 0.013, 0.010) * inside(ax - 0.062, 0.02) * inside(0.05 - z, 0.03))


def mouth(p: Params, color: Tensor, x, y, front) -> Tensor:
    """Lips, the dark between them and the upper teeth; corners rise with the smile."""
    across = (x.abs() / p['mouth_w']).clamp_max(1)
    lens = torch.sqrt(1 - across * across + 1e-6)
    line = y - p['mouth_y'] - p['smile'] * 4.2 * (x * x - 0.0016)
    within = inside(x.abs() - p['mouth_w'], 0.008) * front
    color = over(color, p['lip'], within * inside(line.abs() - (p['lip_t'] + p['open']) * lens, 0.006))
    color = over(color, p['lip'] * 0.30, within * inside(line.abs() - (p['open'] + 0.0028) * lens, 0.006))
    teeth = within * inside((line - 0.45 * p['open']).abs() - 0.38 * p['open'] * lens) * (p['open'] / 0.010).clamp_max(1)
    return over(color, x.new_tensor((0.95, 0.94, 0.91)), teeth)


def eyes(p: Params, color: Tensor, ax, y, front) -> Tensor:
    """Almond openings with lid line, iris, pupil and a small highlight."""
    dx = ax - p['eye_x']
    dy = y - p['eye_y'] - p['eye_tilt'] * dx
    across = (dx / (1.22 * p['eye_r'])).clamp(-1, 1)
    lens = 1 - across * across
    # Upper lid arched, lower lid flatter.
    almond = torch.maximum(dy - 0.66 * p['eye_r'] * lens, -dy - 0.50 * p['eye_r'] * lens)
    almond = almond + (dx.abs() - 1.2 * p['eye_r']).clamp_min(0)
    white = ax.new_tensor((0.97, 0.96, 0.95))
    r = torch.sqrt(dx * dx + dy * dy + 1e-12)
    under_lid = 0.80 + 0.20 * inside(dy - 0.25 * p['eye_r'], 0.02)
    ball = over(white.expand(*ax.shape, 3) * under_lid[..., None], p['iris'], inside(r - 0.60 * p['eye_r'], 0.006))
    ball = over(ball, p['iris'] * 0.5, inside((r - 0.57 * p['eye_r']).abs() - 0.0015, 0.005))
    ball = over(ball, white * 0.04, inside(r - 0.28 * p['eye_r'], 0.006))
    ball = over(ball, white, inside(torch.sqrt((dx - 0.006) ** 2 + (dy - 0.010) ** 2 + 1e-12) - 0.0062, 0.005))
    lid = p['skin'] * 0.55 * (1 - 0.85 * p['lash'][..., None])
    thick = 0.0035 + 0.0045 * p['lash']
    color = over(color, lid, front * inside(almond - thick * inside(-dy, 0.02), 0.006))
    return over(color, ball, front * inside(almond, 0.006))


def shading(p: Params, x: Tensor, y: Tensor, z: Tensor, step: float = 0.006, distance=distance) -> Tensor:
    """Light [L, M, 3] on the surface near each point: sky, key light, and what corners keep away.

    The key light turns with the nuisance attribute `light`, from nearly frontal to far on the person's left.
    """
    normal = 0.0
    for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        d = distance(p, x + step * corner[0], y + step * corner[1], z + step * corner[2])
        normal = normal + d[..., None] * x.new_tensor(corner)
    normal = normal / (normal.norm(dim=-1, keepdim=True) + 1e-9)
    nx, ny, nz = normal.unbind(-1)
    key = torch.stack([torch.sin(p['light']) * 0.85, torch.full_like(p['light'], 0.45), torch.cos(p['light']) * 0.85 + 0.15], -1)
    key = key / key.norm(dim=-1, keepdim=True)
    lit = ((nx * key[..., 0] + ny * key[..., 1] + nz * key[..., 2]) * 0.85 + 0.15).clamp_min(0)
    here = distance(p, x, y, z)
    reach = 0.035
    free = distance(p, x + reach * nx, y + reach * ny, z + reach * nz) - here
    open_ = (0.35 + 0.65 * (free / reach).clamp(0, 1))
    sky = 0.46 + 0.12 * ny
    warm = x.new_tensor((1.0, 0.975, 0.95))
    cool = x.new_tensor((0.96, 0.98, 1.04))
    return (sky * open_)[..., None] * cool + (0.62 * lit * (0.5 + 0.5 * open_))[..., None] * warm
