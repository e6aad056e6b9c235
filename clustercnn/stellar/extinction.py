# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A_band/A_V of interstellar dust: from any curve of dust_extinction at the pivot, or integrated over stellar spectra."""

import numpy as np
from astropy import units as u

from .photometry import _interpolate, _table, pivot_wavelength, resolve_passbands

__all__ = ["band_extinction", "get_law", "integrated_extinction"]


def get_law(law="F99", r_v=None):
    """
    An extinction curve by name; curves pass through.

    Parameters
    ----------
    law : str or dust_extinction model, optional
        Name of a curve of ``dust_extinction.parameter_averages`` (``"F99"``, ``"CCM89"``, ``"G23"``, ...) or of
        ``dust_extinction.averages`` (``"G03_SMCBar"``, ...); or any curve of A / A_V made by the caller, such as
        ``WD01("MWRV31")`` or ``P92()``.
    r_v : float, optional
        Total to selective extinction A_V / E(B-V), within the range of the curve (2 to 6 for F99); 3.1 if not given. Only for
        names of curves that depend on it.

    Returns
    -------
    dust_extinction model

    Raises
    ------
    ValueError
        If the name is unknown, ``r_v`` is out of range or has no meaning, or the curve does not give A / A_V.
    TypeError
        If ``law`` is neither a name nor a curve.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.stellar import get_law
    >>> round(float(get_law("G03_SMCBar")(5500 * u.AA)), 2)
    1.0
    """
    from dust_extinction import averages, parameter_averages, shapes
    from dust_extinction.baseclasses import BaseExtModel

    if not isinstance(law, str):
        if not isinstance(law, BaseExtModel):
            raise TypeError(f"law must be the name of a curve or a model of dust_extinction, not {type(law).__name__}")
        if isinstance(law, (shapes.FM90, shapes.FM90_B3)):
            raise ValueError(f"law gives A / A_V, but {type(law).__name__} gives E(lambda-V) / E(B-V)")
        if r_v is not None:
            raise ValueError("r_v goes with the name of a law; a model has its own")
        return law
    dependent = [name for name in parameter_averages.__all__ if name != "G16"]  # G16 has a second parameter: bring the model
    if law in dependent:
        curve = getattr(parameter_averages, law)
        r_v = 3.1 if r_v is None else float(r_v)
        if not curve.Rv_range[0] <= r_v <= curve.Rv_range[1]:
            raise ValueError(f"r_v is {r_v}, but {law} is defined from {curve.Rv_range[0]} to {curve.Rv_range[1]}")
        return curve(Rv=r_v)
    if law not in averages.__all__:
        raise ValueError(f"law is {law!r}, but must be one of {', '.join([*dependent, *averages.__all__])}, or a model")
    if r_v is not None:
        raise ValueError(f"r_v has no meaning for {law}, an average with an R_V of its own")
    return getattr(averages, law)()


def covered_range(law):
    """Shortest and longest wavelength that a curve covers, as a Quantity in um."""
    shortest, longest = 1 / np.array(law.x_range[::-1])
    return shortest * u.um, longest * u.um


def band_extinction(passbands, r_v=None, law="F99"):
    """
    Extinction in passbands per magnitude in V, at the pivot wavelengths.

    Parameters
    ----------
    passbands : sequence of str
        Names, see `resolve_passband`.
    r_v, law
        As in `get_law`.

    Returns
    -------
    `~numpy.ndarray`, shape (band,)
        A_band / A_V.

    Raises
    ------
    ValueError
        If a passband or the law is unknown, ``r_v`` outside the curve's range, or a band outside its wavelengths.

    Examples
    --------
    >>> from clustercnn.stellar import band_extinction
    >>> band_extinction(["F336W", "F438W", "F814W"]).round(2)
    array([1.63, 1.33, 0.55])
    >>> band_extinction(["F336W", "F438W", "F814W"], law="G03_SMCBar").round(2)
    array([1.83, 1.4 , 0.58])
    """
    model = get_law(law, r_v)
    names = resolve_passbands(passbands)
    wavelength = u.Quantity([pivot_wavelength(name) for name in names])
    shortest, longest = covered_range(model)
    for name, value in zip(names, wavelength):
        if not shortest <= value <= longest:
            raise ValueError(
                f"passband {name} lies outside {type(model).__name__}, which is defined from {shortest:.4g} to {longest:.4g}; "
                "extinction_law='G23' reaches 32 um"
            )
    return np.array(model(wavelength))


def integrated_extinction(log_teff, log_g, a_v, passbands):
    """
    Extinction of stars in passbands per magnitude in V, integrated over their spectra.

    Trilinear in (log Teff, log g, A_V), for the law of Fitzpatrick (1999) with R_V = 3.1.

    Parameters
    ----------
    log_teff, log_g : array-like, shape (n,)
        log10 of the effective temperature in K and of the surface gravity in cm/s2; beyond the table (2500 to 50000 K, 0 to 5)
        the nearest edge holds.
    a_v : float or array-like, shape (n,)
        Extinction in V, 0 to 10 mag.
    passbands : sequence of str
        Names, see `resolve_passband`.

    Returns
    -------
    `~numpy.ndarray`, shape (n, band)
        A_band / A_V; at ``a_v = 0`` its limit.

    Raises
    ------
    ValueError
        If a passband is unknown or longer than the law, or ``a_v`` outside its range.

    Notes
    -----
    Dust reddens the light within a band too, so the ratio falls with A_V and depends on the star. ATLAS9 spectra (Castelli &
    Kurucz 2004, [M/H] = 0; giants below 3500 K after Lancon & Mouhcine 2002) through total system throughputs; built by
    ``tools/build_spectral_terms.py``.

    Examples
    --------
    >>> from clustercnn.stellar import integrated_extinction
    >>> integrated_extinction([3.6, 4.4], [1.5, 4.0], 1.0, ["F275W", "F438W"]).round(2)
    array([[1.2 , 1.3 ],
           [2.04, 1.33]])
    """
    table = _table("spectral_terms")
    names = resolve_passbands(passbands)
    missing = [name for name in names if name not in table["index"]]
    if missing:
        raise ValueError(f"passbands {missing} lie outside F99, which is defined from 0.1 to 3.333 um")
    log_teff, log_g, a_v = np.broadcast_arrays(*(np.asarray(x, float) for x in (log_teff, log_g, a_v)))
    highest = table["a_v"][-1]
    if not ((a_v >= 0) & (a_v <= highest)).all():
        raise ValueError(f"a_v must lie in 0 to {highest:g} mag where extinction is integrated over spectra")
    axes = (table["log_teff"], table["log_g"], table["a_v"])
    values = table["thousandths"][..., [table["index"][name] for name in names]]
    return _interpolate(axes, values, (log_teff, log_g, a_v)) / 1000
