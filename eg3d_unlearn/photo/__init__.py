"""From any photo to what inversion works on: file -> upright RGB -> face -> crop and camera label.

`files` reads and writes pictures, `detect` finds faces, `align` cuts them out, `pose` finds the camera, `prepare` tells the
whole story in order.
"""
from eg3d_unlearn.photo.files import SMALLEST, read_image, to_image, to_rgb, to_tensor

__all__ = ['SMALLEST', 'read_image', 'to_image', 'to_rgb', 'to_tensor']
