from pathlib import Path

from setuptools import find_packages, setup

setup(
    name='eg3d_unlearn',
    version='0.1.0',
    description='Make a pretrained face generator (EG3D, StyleGAN2, StyleGAN3) unable to generate a given person',
    long_description=Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    # Nothing but these two names goes to site-packages: `unlearn.py` and `evaluate.py` stay in the checkout, and `patches` is
    # installed as eg3d_unlearn.patches, since other packages use such names, too.
    packages=[*find_packages(include=['eg3d_unlearn*', 'torch_utils_ext*']), 'eg3d_unlearn.patches'],
    package_dir={'eg3d_unlearn.patches': 'patches'},
    package_data={'eg3d_unlearn.worlds.demo': ['networks/*.pt', 'networks/*.json'], 'eg3d_unlearn.bench.tables': ['experiments/*.json'],
                  'eg3d_unlearn.report': ['templates/*']},
    install_requires=[
        'torch>=2.4',
        'torchvision>=0.19',
        'numpy>=1.24',
        'scipy>=1.10',
        'pillow>=10.1',
        'safetensors>=0.4.3',
        'click>=8.1',
        'jinja2>=3.1',
        'ninja',
        # torch needs it, too.
        'filelock>=3.12',
        'lpips>=0.1.4',
        # 2.6.0 pins torch below 2.3 and numpy below 2.
        'facenet-pytorch==2.5.3',
        'psutil',
        'tqdm',
    ],
    # cryptography: the scheduler of `-j` has keys of its own. bokeh: dask's dashboard.
    extras_require={'cluster': ['distributed>=2024.1', 'cryptography', 'bokeh>=3.1'],
                    'evaluate': ['torch-fidelity>=0.4'],
                    'test': ['pytest>=8', 'pytest-xdist>=3.5', 'scikit-image', 'imageio', 'imageio-ffmpeg', 'torch-fidelity>=0.4',
                             'distributed>=2024.1', 'cryptography']},
    entry_points={'console_scripts': ['eg3d-unlearn=eg3d_unlearn.command:main', 'eg3d-unlearn-evaluate=eg3d_unlearn.evaluate_command:main']},
)
