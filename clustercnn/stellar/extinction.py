# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A_band/A_V of interstellar dust, from any curve of dust_extinction."""

from functools import lru_cache
from importlib import import_module

import numpy as np
from astropy import units as u

from .photometry import pivot_wavelength, resolve_passband

__all__ = ["band_extinction"]

LAWS = ("CCM89", "O94", "F99", "F04", "VCG04", "GCC09", "M14", "F19", "D22", "G23")


@lru_cache(maxsize=64)
def _ratios(passbands, r_v, law):
    model = getattr(import_module("dust_extinction.parameter_averages"), law)
    if not model.Rv_range[0] <= r_v <= model.Rv_range[1]:
        raise ValueError(f"r_v is {r_v}, but {law} is defined from {model.Rv_range[0]} to {model.Rv_range[1]}")
    wavelength = u.Quantity([pivot_wavelength(name) for name in passbands])
    shortest, longest = (1 / np.array(model.x_range[::-1])).round(4) * u.um
    for name, value in zip(passbands, wavelength):
        if not shortest <= value <= longest:
            raise ValueError(
                f"passband {name} lies outside {law}, which is defined from {shortest} to {longest}; G23 reaches 32 um"
            )
    return model(Rv=r_v)(wavelength)


def band_extinction(passbands, r_v=3.1, law="F99"):
    """
    Extinction in passbands per magnitude in V.

    Parameters
    ----------
    passbands : sequence of str
        Names, see `resolve_passband`.
    r_v : float, optional
        Total to selective extinction A_V / E(B-V); the range is the curve's own (2 to 6 for F99).
    law : str, optional
        Name of an R_V-dependent curve of ``dust_extinction.parameter_averages``.

    Returns
    -------
    `~numpy.ndarray`, shape (band,)
        A_band / A_V at the pivot wavelengths.

    Raises
    ------
    ValueError
        If a passband or the law is unknown, ``r_v`` outside the curve's range, or a band outside its wavelengths.

    Examples
    --------
    >>> from clustercnn.stellar import band_extinction
    >>> band_extinction(["F336W", "F438W", "F814W"]).round(2)
    array([1.63, 1.33, 0.55])
    """
    if law not in LAWS:
        raise ValueError(f"law is {law!r}, but must be one of {', '.join(LAWS)}")
    return np.array(_ratios(tuple(resolve_passband(name) for name in passbands), float(r_v), law))
