# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Light of ionised gas: what an HII region shines in every passband, for its luminosity in H alpha."""

from functools import lru_cache
from importlib import resources

import numpy as np
from astropy import units as u
from astropy.table import QTable

from ..parameters import positive_quantity
from .photometry import resolve_passbands

__all__ = ["H_ALPHA_PER_STAR_FORMATION", "nebular_magnitude"]

#: Luminosity in H alpha for a rate of star formation: Kennicutt & Evans (2012, ARA&A 50, 531), Kroupa's initial mass function.
H_ALPHA_PER_STAR_FORMATION = 10**41.27 * u.erg / u.s / (u.Msun / u.yr)


@lru_cache
def _table():
    with resources.as_file(resources.files("clustercnn.stellar") / "data" / "nebular.ecsv") as path:
        table = QTable.read(path)
    return dict(zip(map(str, table["passband"]), table["magnitude"].to_value(u.mag), strict=True))


def nebular_magnitude(passbands, h_alpha=1e40 * u.erg / u.s):
    """
    Absolute magnitudes of ionised gas without dust.

    Parameters
    ----------
    passbands : sequence of str
        Names of bands, as in `~clustercnn.stellar.resolve_passband`.
    h_alpha : `~astropy.units.Quantity`
        Luminosity in H alpha, one power.

    Returns
    -------
    magnitudes : `~numpy.ndarray`
        Absolute Vega magnitudes, shape (n_bands,).

    Notes
    -----
    Recombination lines of hydrogen and the continuum at 10,000 K and 100 / cm3 (case B), and the strong forbidden lines at ratios typical
    of solar metallicity; ``tools/build_nebular.py``.

    References
    ----------
    Luridiana, Morisset & Shaw 2015, A&A 573, A42 (PyNeb).

    Examples
    --------
    >>> from clustercnn.stellar import nebular_magnitude
    >>> print(nebular_magnitude(["F336W", "F438W", "F814W"]).round(1))  # the Balmer continuum makes it blue
    [-14.2 -12.3 -13. ]
    """
    table = _table()
    at_reference = np.array([table[name] for name in resolve_passbands(passbands)])
    return at_reference - 2.5 * np.log10(positive_quantity(h_alpha, u.erg / u.s, "h_alpha").value / 1e40)
