"""Make a pretrained face generator unable to generate a given person."""

__version__ = '0.1.0'
