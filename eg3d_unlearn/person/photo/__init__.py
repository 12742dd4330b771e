"""From any photo to what inversion works on: file -> upright RGB -> face -> crop and camera label.

`folders` tells photos from other files, `files` reads pictures and `colours` their profiles, `detect` finds faces, `align` cuts
them out, `pose` finds the camera, `doubts` says where these are unsure, `prepare` tells the whole story in order.
"""
from eg3d_unlearn.person.photo.files import read_image, to_image, to_tensor, write_sheet

__all__ = ['read_image', 'to_image', 'to_tensor', 'write_sheet']
