# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Passbands, bolometric corrections and the Vega, AB and ST systems."""

import json
import warnings
from functools import lru_cache
from importlib import resources

import numpy as np
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    "absolute_magnitudes",
    "bolometric_correction",
    "passbands",
    "pivot_wavelength",
    "resolve_passband",
    "vega_to_ab",
    "vega_to_st",
    "zero_point",
]

SOLAR_BOLOMETRIC = 4.74  # IAU 2015 B2
# What Roman's filters are called now, and the names of the throughputs.
RENAMED = {f"ROMAN_F{name[1:]}": f"ROMAN_{name}" for name in ("R062", "Z087", "Y106", "J129", "H158")}
PREFERRED = ("WFC3_UVIS", "WFC3_IR", "ACS_WFC", "NIRCAM", "ROMAN", "BESSELL")


@lru_cache(maxsize=2)
def _table(name="bolometric_corrections"):
    path = resources.files("clustercnn.stellar") / "data" / f"{name}.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        table = {name: data[name] for name in data.files}
    table["provenance"] = json.loads(str(table["provenance"]))
    table["index"] = {str(name): i for i, name in enumerate(table["bands"])}
    return table


def passbands():
    """
    Names of all passbands that the package knows.

    Returns
    -------
    tuple of str
        Full names such as ``"WFC3_UVIS_F438W"``.

    Examples
    --------
    >>> from clustercnn.stellar import passbands
    >>> "NIRCAM_F115W" in passbands()
    True
    """
    return tuple(_table()["index"])


def resolve_passband(name):
    """
    Full name of a passband.

    Parameters
    ----------
    name : str
        A full name, or a bare filter name, which means the first of WFC3/UVIS, WFC3/IR, ACS/WFC, NIRCam, Roman
        and Bessell that has it. Roman's filters have their old and their new names: ``"H158"``, ``"F158"``.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If no passband has this name.

    Examples
    --------
    >>> from clustercnn.stellar import resolve_passband
    >>> resolve_passband("F814W")
    'WFC3_UVIS_F814W'
    """
    known = _table()["index"]
    for key in (name, *(f"{instrument}_{name}" for instrument in PREFERRED)):
        key = RENAMED.get(key, key)
        if key in known:
            return key
    raise ValueError(f"unknown passband {name!r}; the known ones are {', '.join(known)}")


def resolve_passbands(names):
    """Full names of passbands, a list; of one that stands alone, too. A warning where bare names alone would be of several cameras."""
    names = [names] if isinstance(names, str) else list(names)
    known, found = _table()["index"], [resolve_passband(name) for name in names]
    bare = [name for name in names if sum(f"{camera}_{name}" in known for camera in PREFERRED) > 1]
    if bare and not set(names) & set(known) and len({full.rpartition("_")[0] for full in found}) > 1:
        told = ", ".join(f"{name} for {full}" for name, full in zip(names, found, strict=True))
        warnings.warn(f"bands of several cameras: {told} are taken; give the full names of others (passbands= of an Instrument)",
                      AstropyUserWarning, stacklevel=3)
    return found


def _column(name, passband):
    table = _table()
    return float(table[name][table["index"][resolve_passband(passband)]])


def pivot_wavelength(passband):
    """
    Pivot wavelength of the total throughput.

    Parameters
    ----------
    passband : str
        Name, see `resolve_passband`.

    Returns
    -------
    `~astropy.units.Quantity`
        In Angstrom.

    Examples
    --------
    >>> from clustercnn.stellar import pivot_wavelength
    >>> print(f"{pivot_wavelength('F438W'):.1f}")
    4326.5 Angstrom
    """
    return _column("pivot", passband) * u.AA


def vega_to_ab(passband):
    """
    What to add to a Vega magnitude to have an AB magnitude: the AB magnitude of Vega.

    Parameters
    ----------
    passband : str
        Name, see `resolve_passband`.

    Returns
    -------
    float
        In mag.

    Examples
    --------
    >>> from clustercnn.stellar import vega_to_ab
    >>> round(vega_to_ab("F336W"), 2)
    1.16
    """
    return _column("vega_ab", passband)


def vega_to_st(passband):
    """
    What to add to a Vega magnitude to have an ST magnitude: the ST magnitude of Vega.

    Parameters
    ----------
    passband : str
        Name, see `resolve_passband`.

    Returns
    -------
    float
        In mag.

    Examples
    --------
    >>> from clustercnn.stellar import vega_to_st
    >>> round(vega_to_st("F814W"), 2)
    1.26
    """
    return _column("vega_st", passband)


def vega_to_system(passband, system):
    """What is added to a Vega magnitude for one of a system, ``"vega"``, ``"ab"`` or ``"st"``."""
    if system == "vega":
        return 0.0
    steps = {"ab": vega_to_ab, "st": vega_to_st}
    if system not in steps:
        raise ValueError(f"system must be one of {('vega', *steps)}, not {system!r}")
    return steps[system](passband)


def zero_point(passband):
    """
    Vega magnitude of a source that gives 1 electron/s in an infinite aperture.

    Parameters
    ----------
    passband : str
        Name, see `resolve_passband`.

    Returns
    -------
    float or None
        In mag; None for passbands without a telescope (Bessell).

    Examples
    --------
    >>> from clustercnn.stellar import zero_point
    >>> round(zero_point("F438W"), 2)
    24.99
    """
    value = _column("zero_point", passband)
    return value if np.isfinite(value) else None


def _locate(nodes, values):
    """Index of the node below each value, and the fraction of the way to the next; clamped to the table."""
    index = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, len(nodes) - 2)
    return index, np.clip((values - nodes[index]) / (nodes[index + 1] - nodes[index]), 0, 1)


def _interpolate(axes, values, points):
    """Linear along each axis, between the nodes of ``axes``; ``values`` may have more axes behind; clamped to the table."""
    located = [_locate(nodes, place) for nodes, place in zip(axes, points)]
    total = 0.0
    for corner in np.ndindex(*[2] * len(axes)):
        index = tuple(i + c for (i, _), c in zip(located, corner))
        weight = np.prod([f if c else 1 - f for (_, f), c in zip(located, corner)], axis=0)
        total = total + weight[..., None] * values[index]
    return total


def bolometric_correction(log_teff, log_g, metallicity, passbands):
    """
    Bolometric corrections, Vega system.

    Trilinear in (log Teff, log g, [M/H]); beyond the table the nearest edge holds.

    Parameters
    ----------
    log_teff, log_g : array-like, shape (n,)
        log10 of the effective temperature in K and of the surface gravity in cm/s2.
    metallicity : float
        [M/H] with solar metallicity 0.02; tabulated from -0.5 to 0.2.
    passbands : sequence of str
        Names, see `resolve_passband`.

    Returns
    -------
    `~numpy.ndarray`, shape (n, band)
        In mag: M_band = 4.74 - 2.5 log10(L/Lsun) - BC.

    Notes
    -----
    ATLAS9 (Castelli & Kurucz 2004); above 50 kK a blackbody difference is added to the correction at 50 kK, below
    3500 K the difference of cool-giant spectra (Lancon & Mouhcine 2002) to that at 3500 K. Dwarfs below 3500 K, and
    bands bluer than the cool spectra, take a blackbody difference there.

    Examples
    --------
    >>> from clustercnn.stellar import bolometric_correction
    >>> bolometric_correction([3.762], [4.44], 0.0, ["BESSELL_V"]).round(1)
    array([[-0.1]])
    """
    table = _table()
    columns = [table["index"][name] for name in resolve_passbands(passbands)]
    millimag = table["millimag"][..., columns]
    axes = (table["metallicity"], table["log_teff"], table["log_g"])
    log_teff, log_g = np.broadcast_arrays(np.asarray(log_teff, float), np.asarray(log_g, float))
    points = (np.full(log_teff.shape, float(metallicity)), log_teff, log_g)
    return _interpolate(axes, millimag, points) / 1000


def absolute_magnitudes(log_luminosity, log_teff, log_g, metallicity, passbands):
    """
    Absolute Vega magnitudes of stars.

    Parameters
    ----------
    log_luminosity : array-like, shape (n,)
        log10 of the bolometric luminosity in solar units.
    log_teff, log_g, metallicity, passbands
        As in `bolometric_correction`.

    Returns
    -------
    `~numpy.ndarray`, shape (n, band)
        In mag.

    Examples
    --------
    >>> from clustercnn.stellar import absolute_magnitudes
    >>> absolute_magnitudes([0.0], [3.762], [4.44], 0.0, ["BESSELL_V"]).round(1)
    array([[4.8]])
    """
    correction = bolometric_correction(log_teff, log_g, metallicity, passbands)
    return SOLAR_BOLOMETRIC - 2.5 * np.asarray(log_luminosity, float)[..., None] - correction
