# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Tables from which the bright stars of a population of any age are drawn fast, the rest as their mean light."""

from dataclasses import dataclass

import numpy as np

from clustercnn.stellar.imf import get_imf
from clustercnn.stellar.isochrones import IsochroneGrid, warn_of_missing_masses

__all__ = ["DrawnStars", "StarTables"]

ENTRIES = 8192
RAREST = 1e-7  # stars per Msun: rarer ones take the place of the most evolved star of the table


@dataclass
class DrawnStars:
    """Bright stars of one population, and the light of its other stars."""

    luminosity: np.ndarray  # (n_stars, n_bands), 1 for an absolute Vega magnitude of 0
    other_mean: np.ndarray  # (n_bands,)
    other_covariance: np.ndarray  # (n_bands, n_bands)

    def other(self, rng):
        """The light of the other stars with its scatter, shape (n_bands,)."""
        # The bands' light is all but proportional where one kind of star remains: rounding makes some variances negative.
        variance, direction = np.linalg.eigh(self.other_covariance)
        scatter = direction @ (np.sqrt(np.maximum(variance, 0.0)) * rng.standard_normal(len(variance)))
        return np.maximum(self.other_mean + scatter, 0.0)


class StarTables:
    """
    Stars of every age of an isochrone grid, ordered from the most evolved one downwards.

    For each age the living stars are tabulated against their number per Msun of stars born, counted from the tip of the isochrone,
    on a logarithmic grid of ``ENTRIES`` steps; the brief bright phases lie next to the tip and are therefore well resolved. A
    uniform random number below a cut then is a star above the cut by one table look-up.

    Parameters
    ----------
    passbands : sequence of str
        Keys of `clustercnn.stellar.photometry`.
    metallicity : float
        [M/H].
    isochrones : `~clustercnn.stellar.IsochroneGrid`, optional
        Default: the shipped grid.
    imf : str or IMF
        Initial mass function.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.simulation.population import StarTables
    >>> tables = StarTables(["F438W", "F814W"])
    >>> age = tables.nearest_age(8.0)
    >>> stars = tables.draw(age, mass=2e4, n_bright=500, rng=np.random.default_rng(1))
    >>> light = stars.luminosity.sum(axis=0) + stars.other_mean
    >>> print((-2.5 * np.log10([light, 2e4 * tables.mean_luminosity(age)])).round(1))
    [[-7.8 -8.7]
     [-7.8 -8.6]]
    """

    def __init__(self, passbands, metallicity=0.0, isochrones=None, imf="kroupa"):
        grid = IsochroneGrid.default() if isochrones is None else isochrones
        imf = get_imf(imf)
        self.log_ages = np.asarray(grid.log_ages)
        n_ages, n_bands = len(self.log_ages), len(passbands)
        self.number = np.empty((n_ages, ENTRIES))  # stars per Msun above the entry
        self.mass = np.empty((n_ages, ENTRIES))
        self.luminosity = np.empty((n_ages, ENTRIES, n_bands))
        self.bright_mass = np.empty((n_ages, ENTRIES))  # Msun in stars above the entry, per Msun
        self.other_square = np.empty((n_ages, ENTRIES))  # Msun^2 of the others, dead stars included, per Msun
        self.other_mean = np.empty((n_ages, ENTRIES, n_bands))  # light of stars below the entry, per Msun
        self.other_covariance = np.empty((n_ages, ENTRIES, n_bands, n_bands))
        for i, log_age in enumerate(self.log_ages):
            knots, magnitudes = grid.magnitudes(log_age, metallicity, passbands)
            dead = (1.0 - imf.cdf(knots[-1])) / imf.mean_mass
            lowest = max(knots[0], imf.lower)
            alive = (1.0 - imf.cdf(lowest)) / imf.mean_mass - dead
            number = np.geomspace(RAREST, alive, ENTRIES)
            mass = np.clip(imf.ppf(1.0 - (number + dead) * imf.mean_mass), lowest, knots[-1])
            luminosity = np.stack([10 ** (-0.4 * np.interp(mass, knots, m)) for m in np.transpose(magnitudes)], axis=-1)
            product = luminosity[:, :, None] * luminosity[:, None, :]
            self.number[i], self.mass[i], self.luminosity[i] = number, mass, luminosity
            self.bright_mass[i] = _integral_from_start(mass, number)
            buried = imf.ppf(1.0 - dead * imf.mean_mass * np.linspace(0.0, 1.0, 1001))
            self.other_square[i] = dead * np.trapezoid(buried**2, dx=1e-3) + _integral_to_end(mass**2, number)
            self.other_mean[i] = _integral_to_end(luminosity, number)
            self.other_covariance[i] = _integral_to_end(product, number)
        warn_of_missing_masses(imf, lowest, luminosity[-1], self.mean_luminosity(-1) * imf.mean_mass)
        self.step = np.log(self.number[:, -1] / RAREST) / (ENTRIES - 1)

    def nearest_age(self, log_age):
        """Index of the grid age (log10 yr) next to ``log_age``."""
        return int(np.abs(self.log_ages - log_age).argmin())

    def entry(self, age, number):
        """Index of the entry with ``number`` stars per Msun above it."""
        index = np.rint(np.log(np.maximum(number, RAREST) / RAREST) / self.step[age]).astype(np.int64)
        return np.minimum(index, ENTRIES - 1)

    def mean_luminosity(self, age):
        """Mean light per Msun of stars born, shape (n_bands,)."""
        return self.other_mean[age, 0] + RAREST * self.luminosity[age, 0]

    def draw(self, age, mass, n_bright, rng):
        """
        Draw the stars of a cluster.

        Stars are born one after the other until their mass, dark and faint ones included, reaches ``mass``; of these only the
        bright ones are drawn one by one, about ``n_bright`` of them. The mass born between two of them is the sum of a geometric
        number of masses, a few heavy ones of stars that are dead among them; a gamma distribution of the same mean and variance
        stands for it.

        Parameters
        ----------
        age : int
            Index of the age.
        mass : float
            Total mass of the stars born, Msun.
        n_bright : int
            Expected number of stars drawn one by one.
        rng : `~numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        stars : `DrawnStars`
        """
        cut = min(n_bright / mass, self.number[age, -1])
        last = self.entry(age, cut)
        expected = cut * mass
        between = max(1.0 - self.bright_mass[age, last], 1e-9) / cut
        shape = 1.0 / (1.0 + self.other_square[age, last] / cut / between**2)
        n_max = int(expected + 6.0 * np.sqrt(expected / shape) + 10)
        entries = self.entry(age, rng.random(n_max) * cut)
        born = np.cumsum(self.mass[age, entries] + rng.gamma(shape, between / shape, n_max))
        entries = entries[: np.searchsorted(born, mass)]
        return DrawnStars(
            self.luminosity[age, entries],
            mass * self.other_mean[age, last],
            mass * self.other_covariance[age, last],
        )


def _integral_to_end(values, number):
    """Integral of values over number from each entry to the last one."""
    total = _integral_from_start(values, number)
    return total[-1] - total


def _integral_from_start(values, number):
    width = np.diff(number).reshape(-1, *[1] * (values.ndim - 1))
    return np.concatenate([np.zeros_like(values[:1]), np.cumsum((values[1:] + values[:-1]) / 2 * width, axis=0)])
