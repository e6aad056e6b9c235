# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Tables from which the bright stars of populations of any age are drawn fast, the rest as their mean light."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import cumulative_trapezoid
from torch.nn.functional import embedding

from clustercnn.simulation.random_numbers import RandomTensors
from clustercnn.stellar.imf import get_imf
from clustercnn.stellar.isochrones import IsochroneGrid, warn_of_missing_masses

__all__ = ["DrawnStars", "StarTables"]

ENTRIES = 8192
RAREST = 1e-7  # stars per Msun: rarer ones take the place of the most evolved star of the table


@dataclass
class DrawnStars:
    """Bright stars of some populations, and the light of their other stars."""

    luminosity: torch.Tensor  # (n_stars, n_bands), 1 for an absolute Vega magnitude of 0
    population: torch.Tensor  # (n_stars,), index of the population of each star, ascending
    other: np.ndarray  # (n_populations, n_bands), light of the other stars with its scatter


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
    device : str or `~torch.device`
        Where stars are drawn.
    midpoints : bool
        Whether to tabulate the ages halfway between the isochrones too, at twice the memory. With the ages of the shipped grid alone the
        light of clusters of any age would change in steps of 0.05 dex, which a network can tell.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.simulation.population import StarTables
    >>> tables = StarTables(["F438W", "F814W"])
    >>> age = tables.nearest_age(8.0)
    >>> stars = tables.draw([age], mass=[2e4], n_bright=500, rng=np.random.default_rng(1))
    >>> light = stars.luminosity.numpy().sum(axis=0) + stars.other[0]
    >>> print((-2.5 * np.log10([light, 2e4 * tables.mean_luminosity(age)])).round(1))
    [[-7.7 -8.3]
     [-7.8 -8.6]]
    """

    def __init__(self, passbands, metallicity=0.0, isochrones=None, imf="kroupa", device="cpu", midpoints=False):
        grid = IsochroneGrid.default() if isochrones is None else isochrones
        imf = get_imf(imf)
        nodes = np.asarray(grid.log_ages)
        self.log_ages = np.sort(np.concatenate([nodes, (nodes[1:] + nodes[:-1]) / 2])) if midpoints else nodes
        # log10 of the ages in yr that clusters may have: half a step beyond the isochrones the nearest is near enough
        self.reach = tuple(1.5 * end - 0.5 * inner for end, inner in (nodes[[0, 1]], nodes[[-1, -2]]))
        n_ages, n_bands = len(self.log_ages), len(passbands)
        self.number = np.empty((n_ages, ENTRIES))  # stars per Msun above the entry
        self.mass = np.empty((n_ages, ENTRIES))
        self.luminosity = np.empty((n_ages, ENTRIES, n_bands))
        self.bright_mass = np.empty((n_ages, ENTRIES))  # Msun in stars above the entry, per Msun
        self.other_square = np.empty((n_ages, ENTRIES))  # Msun^2 of the others, dead stars included, per Msun
        self.other_mean = np.empty((n_ages, ENTRIES, n_bands))  # light of stars below the entry, per Msun
        self.other_covariance = np.empty((n_ages, ENTRIES, n_bands, n_bands))
        for i, log_age in enumerate(self.log_ages):
            with warnings.catch_warnings():
                # of a population some ages are bound to lie where isochrones interpolate roughly
                warnings.filterwarnings("ignore", message="between log age .* phase")
                knots, magnitudes = grid.magnitudes(log_age, metallicity, passbands)
            dead = (1.0 - imf.cdf(knots[-1])) / imf.mean_mass
            lowest = max(knots[0], imf.lower)
            alive = (1.0 - imf.cdf(lowest)) / imf.mean_mass - dead
            number = np.geomspace(RAREST, alive, ENTRIES)
            mass = np.clip(imf.ppf(1.0 - (number + dead) * imf.mean_mass), lowest, knots[-1])
            luminosity = np.stack([10 ** (-0.4 * np.interp(mass, knots, m)) for m in np.transpose(magnitudes)], axis=-1)
            product = luminosity[:, :, None] * luminosity[:, None, :]
            self.number[i], self.mass[i], self.luminosity[i] = number, mass, luminosity
            self.bright_mass[i] = cumulative_trapezoid(mass, number, axis=0, initial=0)
            buried = imf.ppf(1.0 - dead * imf.mean_mass * np.linspace(0.0, 1.0, 1001))
            self.other_square[i] = dead * np.trapezoid(buried**2, dx=1e-3) + _integral_to_end(mass**2, number)
            self.other_mean[i] = _integral_to_end(luminosity, number)
            self.other_covariance[i] = _integral_to_end(product, number)
        warn_of_missing_masses(imf, lowest, luminosity[-1], self.mean_luminosity(-1) * imf.mean_mass)
        self.step = np.log(self.number[:, -1] / RAREST) / (ENTRIES - 1)
        # One row per entry, all ages in one table: a star is one look-up.
        stars = np.concatenate([self.mass[..., None], self.luminosity], axis=-1).reshape(-1, 1 + n_bands)
        self._stars = torch.from_numpy(stars).to(device, torch.float32)

    def check_ages(self, age):
        """ValueError if there are no isochrones for the range of the `~clustercnn.parameters.Parameter` ``age``."""
        youngest, oldest = (10**end for end in self.reach)
        lower, upper = age.lower.to_value("yr"), age.upper.to_value("yr")
        if lower < youngest * (1 - 1e-6) or upper > oldest * (1 + 1e-6):
            raise ValueError(
                f"space must keep to the ages of the isochrones, {youngest / 1e6:.4g} to {oldest / 1e6:.5g} Myr, "
                f"but has {lower / 1e6:.4g} to {upper / 1e6:.5g} Myr"
            )

    def nearest_age(self, log_age):
        """Index of the grid age (log10 yr) next to ``log_age``."""
        return np.abs(self.log_ages - np.asarray(log_age)[..., None]).argmin(axis=-1)

    def entry(self, age, number):
        """Index of the entry with ``number`` stars per Msun above it."""
        index = np.rint(np.log(np.maximum(number, RAREST) / RAREST) / self.step[age]).astype(np.int64)
        return np.minimum(index, ENTRIES - 1)

    def mean_luminosity(self, age):
        """Mean light per Msun of stars born, shape (n_bands,)."""
        return self.other_mean[age, 0] + RAREST * self.luminosity[age, 0]

    def draw(self, age, mass, n_bright, rng):
        """
        Draw the stars of clusters.

        Stars are born one after the other until their mass, dark and faint ones included, reaches ``mass``; the last one is kept if
        the sum is nearer with it, as in `~clustercnn.stellar.InitialMassFunction.sample_mass`. Of these only the bright ones are
        drawn one by one, about ``n_bright`` in each cluster. The mass born between two of them is the sum of a geometric number of
        masses, a few heavy ones of stars that are dead among them; a gamma distribution of the same mean and variance stands for
        it. The light of the others is normal, of their mean and covariance.

        Parameters
        ----------
        age : array_like of int
            Indices of the ages, shape (n_clusters,).
        mass : array_like
            Total mass of the stars born, Msun, shape (n_clusters,).
        n_bright : int
            Expected number of stars drawn one by one.
        rng : `~numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        stars : `DrawnStars`
        """
        age, mass = np.asarray(age), np.asarray(mass, dtype=float)
        cut = np.minimum(n_bright / mass, self.number[age, -1])
        last = self.entry(age, cut)
        expected = cut * mass
        between = np.maximum(1.0 - self.bright_mass[age, last], 1e-9) / cut
        shape = 1.0 / (1.0 + self.other_square[age, last] / cut / between**2)
        other = mass[:, None] * self.other_mean[age, last] + self._scatter(mass[:, None, None] * self.other_covariance[age, last], rng)

        device = self._stars.device
        # The number of stars varies by its own chance and by that of all the masses.
        n_max = int(np.max(expected + 6.0 * np.sqrt(expected * (1.0 + cut * self.other_square[age, 0])), initial=0.0) + 10)
        cut, shape, scale, mass, step, first = (
            torch.from_numpy(values).to(device, torch.float32)[:, None]
            for values in (cut, shape, between / shape, mass, self.step[age], age * ENTRIES)
        )
        random = RandomTensors(rng, device)
        number = random.uniform(len(age), n_max) * cut
        entry = (torch.log(number.clamp_min_(RAREST) / RAREST) / step).round_().clamp_(max=ENTRIES - 1)
        stars = embedding((entry + first).long(), self._stars)
        born = torch.cumsum(stars[..., 0] + scale * random.gamma(shape.expand(-1, n_max)), dim=1)
        population, place = torch.nonzero(born - stars[..., 0] / 2 < mass, as_tuple=True)
        return DrawnStars(stars[population, place, 1:], population, np.maximum(other, 0.0))

    def _scatter(self, covariance, rng):
        # The bands' light is all but proportional where one kind of star remains: rounding makes some variances negative.
        variance, direction = np.linalg.eigh(covariance)
        return np.einsum("nij,nj->ni", direction, np.sqrt(np.maximum(variance, 0.0)) * rng.standard_normal(variance.shape))


def _integral_to_end(values, number):
    """Integral of values over number from each entry to the last one."""
    total = cumulative_trapezoid(values, number, axis=0, initial=0)
    return total[-1] - total
