"""The EG3D camera label of a face from five landmarks in its EG3D crop.

EG3D's own labels come from fitting a face model to a photo.  Five landmarks tell less: a long nose and a lowered head look
alike.  So the pose is the most probable one (maximum a posteriori): landmarks with a detector's noise, a mean face that
may deform in the ways in which people differ, a smile that moves the corners of the mouth, and heads that nod little.

World of the label: y up, z out of the face, camera at radius 2.7, focal length 4.2647 picture widths; camera axes as in
OpenCV.  Lengths are in its units: the picture is 0.63 wide where the face is.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eg3d_unlearn.generators.cameras import FOCAL, intrinsics

RADIUS = 2.7                         # of every EG3D camera [world units]
# The mean face: the standard face of the crop, brought into the labels' world by one scale and one shift that fit six
# published labels, its nose a tenth flatter: detectors mark the tip below the point that stands out most.
MEAN_FACE = np.array([
    [-0.0788, 0.0808, 0.1868], [0.0788, 0.0808, 0.1868], [0.0, -0.0047, 0.2800], [-0.0660, -0.0904, 0.2094], [0.0660, -0.0904, 0.2094]])
PIVOT = np.array([0.0, 0.007, 0.175])  # near the point that the crop is centred on
# Standard deviations of what is unknown.
NOISE = 2.5 / 512                    # of a landmark, in picture widths
NOD_MEAN, NOD = 2.0, 9.0             # pitch of people in photos [degrees]; FFHQ has 8.9
TURN = 60.0                          # yaw [degrees]: hardly a prior, profiles are well seen
SHIFT, DISTANCE = 0.03, 0.15         # of the camera from its place by the crop [world units]
STARTS = (-0.8, 0.0, 0.8)            # yaws at which the search begins [radians]


def _mode(eyes_x: float = 0, nose_y: float = 0, nose_z: float = 0, mouth_x: float = 0, mouth_y: float = 0, mouth_z: float = 0) -> np.ndarray:
    """One way to differ from the mean face [5, 3], one standard deviation; x apart, y up, z outwards [world units]."""
    return np.array([[-eyes_x, 0, 0], [eyes_x, 0, 0], [0, nose_y, nose_z], [-mouth_x, mouth_y, mouth_z], [mouth_x, mouth_y, mouth_z]])


MODES = np.stack([
    _mode(eyes_x=0.003),             # eyes near to each other or far apart
    _mode(nose_y=0.0045),            # a short or long nose
    _mode(nose_z=0.010),             # a flat or pointed nose
    _mode(mouth_x=0.004),            # a small or large mouth
    _mode(mouth_y=0.004),            # a mouth near the nose or near the chin
    _mode(mouth_x=0.010, mouth_y=0.003, mouth_z=-0.004),  # a smile: corners apart, up and back
])


@dataclass(frozen=True)
class Pose:
    """Where the camera stands about a head."""
    label: Tensor                    # [1, 25] float32, EG3D camera label
    yaw_deg: float                   # atan2(x, z) of the camera's position; positive: the camera stands at +x
    pitch_deg: float                 # asin(y / radius); positive: the camera looks down on the face
    roll_deg: float                  # of the picture, clockwise
    misfit: float                    # standard deviations of landmarks and priors together, per number; up to about 1 for a face

    def angles(self) -> str:
        """In words, in whole degrees."""
        return f'yaw {round(self.yaw_deg)}, pitch {round(self.pitch_deg)}, roll {round(self.roll_deg)} degrees'


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:  # radians -> [3, 3]
    """Columns: the camera's right, down and forward in the world.  At zero the camera stands at +z and looks to -z."""
    forward = -np.array([math.cos(pitch) * math.sin(yaw), math.sin(pitch), math.cos(pitch) * math.cos(yaw)])
    right = np.array([math.cos(yaw), 0.0, -math.sin(yaw)])
    down = np.cross(forward, right)
    c, s = math.cos(roll), math.sin(roll)
    return np.stack([c * right + s * down, c * down - s * right, forward], axis=1)


def camera_of(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [3, 3] and position [3] from yaw, pitch, roll, shift to the right, shift down, distance from the pivot."""
    turn = rotation(*parameters[:3])
    return turn, PIVOT + turn @ [parameters[3], parameters[4], -parameters[5]]


def project(
    points: np.ndarray,    # [N, 3] world
    turn: np.ndarray,      # [3, 3] camera axes as columns
    position: np.ndarray,  # [3]
) -> np.ndarray:           # [N, 2] fractions of the picture's side
    """Where a camera sees points."""
    seen = (points - position) @ turn
    return FOCAL * seen[:, :2] / seen[:, 2:] + 0.5


def residuals(
    parameters: np.ndarray,  # [6 + modes]
    landmarks: np.ndarray,   # [5, 2] fractions of the crop's side
) -> np.ndarray:             # [10 + 5 + modes] in standard deviations; half their squared sum is -log p
    face = MEAN_FACE + np.tensordot(parameters[6:], MODES, 1)
    off = (project(face, *camera_of(parameters)) - landmarks).ravel() / NOISE
    yaw, pitch, _, right, down, distance = parameters[:6]
    prior = [math.degrees(yaw) / TURN, (math.degrees(pitch) - NOD_MEAN) / NOD, right / SHIFT, down / SHIFT,
             (distance - RADIUS + PIVOT[2]) / DISTANCE]
    return np.concatenate([off, prior, parameters[6:]])


def pose_of(
    landmarks: np.ndarray,  # [5, 2] fractions of the EG3D crop's side, x to the right, y down
) -> Pose:
    """The most probable pose; the position is scaled to radius 2.7, as in EG3D's labels."""
    from scipy.optimize import least_squares
    landmarks = np.asarray(landmarks, float)
    eyes = landmarks[1] - landmarks[0]
    roll = math.atan2(eyes[1], eyes[0])
    rest = [0.0, -roll, 0.0, 0.0, RADIUS - PIVOT[2], *[0.0] * len(MODES)]
    found = min((least_squares(residuals, [yaw, *rest], method='lm', args=(landmarks,)) for yaw in STARTS), key=lambda found: found.cost)
    turn, position = camera_of(found.x)
    position *= RADIUS / np.linalg.norm(position)
    cam2world = np.eye(4)
    cam2world[:3, :3], cam2world[:3, 3] = turn, position
    label = torch.cat([torch.from_numpy(cam2world.flatten()), intrinsics().double().flatten()]).float().unsqueeze(0)
    return Pose(label, math.degrees(math.atan2(position[0], position[2])), math.degrees(math.asin(position[1] / RADIUS)),
                math.degrees(roll), float(np.sqrt(2 * found.cost / landmarks.size)))
