"""What makes landmarks unsure although a face was found: darkness, blur, something over the face.  Five landmarks decide crop and camera.

Tried on two photos, darkened, blurred and with bars and masks over mouth, eyes or half of the face: whatever turned the camera by
more than 4 degrees is found, but for heavy noise; plain, shrunk, grey and strongly compressed copies are not.
"""
from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageFilter

from eg3d_unlearn.person.photo import align, detect
from eg3d_unlearn.person.photo.detect import Face
from eg3d_unlearn.person.photo.pose import Pose

SIDE = 256                           # pixels of the crop that is looked at
FACE = (slice(60, 215), slice(70, 186))  # rows and columns of it that show the face itself
DARK = 55.0                          # mean brightness of 255; plain faces had 142 and 170, at 41 and 50 the camera was off by 5 degrees
FLAT = 0.05                          # share of fine detail (below `FINE` pixels) in the contrast; 0.2 to 0.4; blurred 0.04: off by 5 degrees
FINE = 2.0                           # radius of a blur [pixels of the crop]
UNSURE = 0.005                       # spread of many looks [crop sides]; plain 0.0029 and 0.0045, masks 0.008 to 0.018, off by 8 to 18 degrees
TURNED_DEG = 45.0                    # yaw from which on looks disagree anyway, and the photo is said to be turned


def doubts(image: PIL.Image.Image, face: Face, pose: Pose, what: str) -> list[str]:
    """A warning where landmarks are unsure; ``what`` hangs on them: 'crop and camera'."""
    grey = align.cut(image, detect.straightened(face.landmarks), SIDE).convert('L')
    pixels, smooth = (np.asarray(one, float)[FACE] for one in (grey, grey.filter(PIL.ImageFilter.GaussianBlur(FINE))))
    brightness, detail = pixels.mean(), (pixels - smooth).std() / max(pixels.std(), 1e-9)
    if brightness < DARK:
        why, mend = f'the face is dark (mean brightness {brightness:.0f} of 255)', 'Give a brighter photo'
    elif detail < FLAT:
        why, mend = f'the face is blurred (fine detail {100 * detail:.0f} % of the contrast)', 'Give a sharper photo'
    elif face.spread > UNSURE and abs(pose.yaw_deg) < TURNED_DEG:
        why, mend = ('eyes, nose and mouth are not seen clearly (a mask, a hand, dark glasses, hair, glare or noise?)',
                     'Give a photo that shows the whole face')
    else:
        return []
    camera = ', or the camera with --camera or a dataset.json' if 'camera' in what else ''
    return [f'WARNING: {why}, so that {what} may be off by 5 degrees and more, and somebody else may be found and erased. '
            f'{mend}{camera}']
