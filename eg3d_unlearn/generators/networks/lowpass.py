"""Kaiser-windowed low-pass filters, designed without scipy.

Source: StyleGAN3 (arXiv 2106.12423), appendix C.1; the attenuation and beta formulas are Kaiser's (1974).
"""
from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def kaiser_beta(
    taps: int,                       # length of the filter
    width: float,                    # transition band from pass to stop, same unit as sampling_rate
    sampling_rate: float,
) -> float:
    """The Kaiser window's shape for the attenuation that ``taps`` and ``width`` allow."""
    attenuation = 2.285 * (taps - 1) * math.pi * 2 * width / sampling_rate + 7.95      # decibels
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    return 0.0


def design_lowpass(
    taps: int,                       # length of the filter; 1 = no filter
    cutoff: float,                   # where the response falls to one half
    width: float,                    # width of the transition band
    sampling_rate: float,            # all three in the same unit (cycles per picture width in StyleGAN3)
    radial: bool = False,            # True: a disc in the frequency plane, else a square, applied along each axis
) -> Tensor | None:                  # [taps], radial [taps, taps], float32, sum 1; None for one tap
    """A low-pass filter with linear phase and unit gain at frequency zero.

    The ideal response is a sinc in one dimension and a jinc (J1(r) / r) in two; a Kaiser window cuts it to length.
    """
    if taps == 1:
        return None
    if torch.empty(0).is_meta:       # of a network without numbers only the shape is asked
        return torch.empty([taps, taps] if radial else [taps])
    window = np.kaiser(taps, kaiser_beta(taps, width, sampling_rate))
    position = (np.arange(taps) - (taps - 1) / 2) / sampling_rate
    if radial:
        ideal = _jinc(2 * math.pi * cutoff * np.hypot(position[:, None], position[None, :]))
        window = np.outer(window, window)
    else:
        ideal = np.sinc(2 * cutoff * position)
    response = ideal * window
    return torch.from_numpy(response / response.sum()).float()


def _jinc(radius: np.ndarray) -> np.ndarray:
    """J1(r) / r, which is 1/2 at the origin.

    J1 by Bessel's integral, the mean of cos(t - r sin t) over a turn: equidistant points give it to the last digit as
    soon as they outnumber r.  (torch.special.bessel_j1 is off by 5e-7 near r = 5.)
    """
    turn = np.linspace(0, 2 * math.pi, 64 + 2 * math.ceil(radius.max()), endpoint=False)
    bessel = np.cos(turn - radius[..., None] * np.sin(turn)).mean(axis=-1)
    return np.where(radius > 0, bessel / np.where(radius > 0, radius, 1), 0.5)
