"""Known failures of NVIDIA's EG3D, StyleGAN2-ADA and StyleGAN3 code on today's packages, each mended by one module.

``python -m patches.run DIR/gen_videos.py -- --network=...`` runs an unmodified script of theirs with the patches;
nothing in their folder is changed.  `registry` says what a patch is.
"""
