"""A small world of procedural people, with generators and judges that were trained on it.

On real faces nobody knows the truth about identity, and the published networks cannot be shipped.  Here both are
solved: a person is a known vector (`people`), a photo is rendered from it at any EG3D camera (`heads`, `scene`), and
the networks (`recipes`, `shipped`) have the true architecture at a small size.
"""
