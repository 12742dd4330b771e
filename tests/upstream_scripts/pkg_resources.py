"""Stand-in for the one function that StyleGAN3 takes from setuptools' former pkg_resources."""

import re


def parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r'\d+', text.split('+')[0])[:3])
