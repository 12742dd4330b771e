"""Make a pretrained face generator unable to generate a given person.

    python unlearn.py --network=demo-eg3d --image=demo --outdir=out
    python unlearn.py --network=ffhqrebalanced512-128.pkl --image=face.png --outdir=out
"""
from eg3d_unlearn.command import main

if __name__ == '__main__':
    main()
