"""Measure, attack and report an erasure; remake the tables.

    python evaluate.py metrics --before=demo-eg3d --after=out/network-unlearned.pkl --image=demo
    python evaluate.py audit --before=demo-eg3d --after=out/network-unlearned.pkl --image=demo --outdir=audit
    python evaluate.py tables --world=demo --outdir=tables
"""
from eg3d_unlearn.evaluate_command import main

if __name__ == '__main__':
    main()
