# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The spectrum of a population as a specutils Spectrum: here its broad-band energy distribution."""

import numpy as np
from astropy import units as u

from ..parameters import as_quantity
from .photometry import pivot_wavelength, resolve_passband, vega_to_st

__all__ = ["sed"]


def sed(magnitudes, passbands):
    """
    Broad-band spectral energy distribution from Vega magnitudes.

    Parameters
    ----------
    magnitudes : `~astropy.units.Quantity`, shape (band,)
        Vega magnitudes; apparent ones give the flux at the observer, absolute ones at 10 pc.
    passbands : sequence of str
        Names, see `resolve_passband`; each pivot wavelength once.

    Returns
    -------
    `specutils.Spectrum`
        Mean flux densities in erg / (s cm2 Angstrom) at the pivot wavelengths, ascending.

    Raises
    ------
    TypeError
        If ``magnitudes`` is no `~astropy.units.Quantity`.
    ValueError
        If there are not as many magnitudes as passbands, a passband is unknown, or one occurs twice.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.stellar import sed
    >>> spectrum = sed([20.0, 20.5, 19.5] * u.mag, ["F336W", "F438W", "F814W"])
    >>> print(spectrum.flux[1].round(19))
    4.26e-17 erg / (Angstrom s cm2)
    """
    from specutils import Spectrum

    magnitudes = np.atleast_1d(as_quantity(magnitudes, u.mag, "magnitudes").value)
    names = [resolve_passband(name) for name in passbands]
    if magnitudes.shape != (len(names),):
        raise ValueError(f"magnitudes has shape {magnitudes.shape}, but there are {len(names)} passbands")
    if len(set(names)) < len(names):
        raise ValueError(f"passbands must differ from one another, not {', '.join(names)}")
    wavelength = u.Quantity([pivot_wavelength(name) for name in names])
    st = magnitudes + [vega_to_st(name) for name in names]
    flux = 10 ** (-0.4 * (st + 21.10)) * u.erg / u.s / u.cm**2 / u.AA
    order = np.argsort(wavelength)
    return Spectrum(flux=flux[order], spectral_axis=wavelength[order], meta={"passbands": [names[i] for i in order]})
