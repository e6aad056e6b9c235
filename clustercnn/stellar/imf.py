# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Initial mass functions: any broken power law (Kroupa, Salpeter) and Chabrier's log-normal."""

import numbers

import numpy as np
from astropy import units as u
from scipy.special import erf, erfinv

__all__ = ["BrokenPowerLaw", "Chabrier", "InitialMassFunction", "get_imf"]


class InitialMassFunction:
    """
    A distribution of initial stellar masses between ``lower`` and ``upper`` (Msun), normalised to one star.

    Masses are plain numbers in Msun, or a `~astropy.units.Quantity`; what is returned is plain. A subclass provides ``lower``,
    ``upper``, ``pdf``, ``cdf``, ``ppf`` and ``cumulative_mass``; the rest follows.
    """

    @property
    def mean_mass(self):
        """Mean stellar mass in Msun."""
        return float(self.cumulative_mass(self.upper))

    def number_fraction(self, m1, m2):
        """
        Fraction of the stars that form with masses from ``m1`` to ``m2``.

        Parameters
        ----------
        m1, m2 : float or array-like
            Masses in Msun.

        Returns
        -------
        float or `~numpy.ndarray`
        """
        return self.cdf(m2) - self.cdf(m1)

    def mass_fraction(self, m1, m2):
        """
        Fraction of the formed mass in stars with masses from ``m1`` to ``m2``.

        Parameters
        ----------
        m1, m2 : float or array-like
            Masses in Msun.

        Returns
        -------
        float or `~numpy.ndarray`
        """
        return (self.cumulative_mass(m2) - self.cumulative_mass(m1)) / self.mean_mass

    def sample_number(self, n, rng=None):
        """
        Draw ``n`` stars.

        Parameters
        ----------
        n : int
            Number of stars.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`, optional
            Source of randomness.

        Returns
        -------
        `~numpy.ndarray`, shape (n,)
            Masses in Msun, in the order drawn.
        """
        return self.ppf(np.random.default_rng(rng).random(n))

    def sample_mass(self, total, rng=None, stop="nearest"):
        """
        Draw stars until they weigh ``total``.

        Parameters
        ----------
        total : float or `~astropy.units.Quantity`
            Mass, in Msun.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`, optional
            Source of randomness.
        stop : {"nearest", "before", "after", "sorted"}, optional
            What becomes of the star that crosses ``total``: kept if the sum is nearer with it, never, or always (the
            stop_nearest, stop_before and stop_after of SLUG). ``"sorted"`` is the sorted sampling of Weidner & Kroupa
            (2006, MNRAS, 365, 1333), see Notes.

        Returns
        -------
        `~numpy.ndarray`
            Masses in Msun, in the order drawn (``"sorted"``: ascending); at least one star, unless ``stop="before"``.

        Raises
        ------
        ValueError
            If ``total`` is not positive, or ``stop`` unknown.

        Notes
        -----
        Sorted sampling draws as many stars as ``total`` holds on average, and again for the mass that is missing, until
        ``total`` is passed; then the heaviest star of all is dropped if the sum is nearer without it. Poor clusters thus
        have lighter heaviest stars. Where the first draw alone passes ``total`` by more than its heaviest star, so does
        the result; the other three ways meet ``total`` to within one star.

        Examples
        --------
        >>> from clustercnn.stellar import get_imf
        >>> masses = get_imf("kroupa").sample_mass(1000.0, rng=1)
        >>> print(masses.sum().round(1))
        999.9
        """
        return self.sample_systems(total, rng, stop)[0]

    def sample_systems(self, total, rng=None, stop="nearest", binary_fraction=0.0, mass_ratio=0.0):
        """
        Draw single and binary stars until they weigh ``total``, companions included.

        Parameters
        ----------
        total, rng, stop
            As in `sample_mass`; a system is kept or dropped as a whole, and is as heavy as both its stars.
        binary_fraction : float, optional
            Probability that a star drawn from this function has a companion: binaries / (singles + binaries).
        mass_ratio : float or scipy.stats distribution, optional
            How the companion's mass over that of its primary is distributed: flat from this number to 1, or a frozen
            distribution within 0 to 1. No companion is lighter than
            ``lower``.

        Returns
        -------
        primary, companion : `~numpy.ndarray`, shape (system,)
            Masses in Msun; the companion's is 0 for single stars.

        Raises
        ------
        ValueError
            If ``total`` is not positive, ``stop`` unknown, or ``binary_fraction`` or a mass ratio not within 0 to 1.
        TypeError
            If ``mass_ratio`` is neither a number nor a distribution.

        Examples
        --------
        >>> from clustercnn.stellar import get_imf
        >>> primary, companion = get_imf("kroupa").sample_systems(1000.0, rng=1, binary_fraction=0.5)
        >>> print((primary.sum() + companion.sum()).round(1), (companion > 0).mean().round(1))
        1000.0 0.5
        """
        total = _in_msun(total)
        if np.ndim(total) or not (np.isfinite(total) and total > 0):
            raise ValueError(f"total is {total} Msun, but must be one number, positive and finite")
        if stop not in ("nearest", "before", "after", "sorted"):
            raise ValueError(f"stop is {stop!r}, but must be 'nearest', 'before', 'after' or 'sorted'")
        if not 0 <= binary_fraction <= 1:
            raise ValueError(f"binary_fraction must lie in 0 to 1, not {binary_fraction}")
        flat = isinstance(mass_ratio, numbers.Real)
        if flat and not 0 <= mass_ratio <= 1:
            raise ValueError(f"mass_ratio must lie in 0 to 1, not {mass_ratio}")
        if not (flat or hasattr(mass_ratio, "rvs")):
            raise TypeError(f"mass_ratio must be a number or a scipy.stats distribution, not {type(mass_ratio).__name__}")
        rng = np.random.default_rng(rng)

        def draw(number):
            primary = self.ppf(rng.random(number))
            if not binary_fraction:
                return np.array([primary, np.zeros(number)])
            ratio = rng.uniform(mass_ratio, 1, number) if flat else mass_ratio.rvs(size=number, random_state=rng)
            if not ((ratio >= 0) & (ratio <= 1)).all():
                raise ValueError("mass_ratio must be a distribution within 0 to 1, but has drawn values outside")
            companion = np.clip(primary * ratio, self.lower, primary)
            return np.array([primary, np.where(rng.random(number) < binary_fraction, companion, 0.0)])

        if stop == "sorted":
            mean_ratio = (1 + mass_ratio) / 2 if flat else mass_ratio.mean()
            return _sorted_sampling(draw, total, self.mean_mass * (1 + binary_fraction * mean_ratio))
        expected = total / self.mean_mass
        chunk = int(expected + 4 * np.sqrt(expected) + 10)
        systems = draw(chunk)
        while systems.sum() <= total:
            systems = np.concatenate([systems, draw(chunk)], axis=1)
        masses = systems.sum(axis=0)
        sums = np.cumsum(masses)
        last = int(np.searchsorted(sums, total))  # the system that crosses
        before = sums[last] - masses[last]
        keep = stop == "after" or (stop == "nearest" and (last == 0 or sums[last] - total <= total - before))
        return systems[:, : last + keep]


def _in_msun(mass):
    return mass.to_value(u.Msun) if isinstance(mass, u.Quantity) else mass


def _fraction(q):
    q = np.asarray(q, float)
    if not ((q >= 0) & (q <= 1)).all():
        raise ValueError("q must be a fraction of the stars, 0 to 1")
    return q


def _sorted_sampling(draw, total, mean_mass):
    systems = np.empty((2, 0))
    while systems.sum() <= total:
        systems = np.concatenate([systems, draw(max(1, round((total - systems.sum()) / mean_mass)))], axis=1)
    masses = systems.sum(axis=0)
    systems = systems[:, np.argsort(masses)]
    excess = masses.sum() - total
    keep = masses.size == 1 or excess <= masses.max() - excess
    return systems if keep else systems[:, :-1]


class BrokenPowerLaw(InitialMassFunction):
    """
    dN/dm proportional to m**-exponent in each segment, continuous at the breaks.

    Parameters
    ----------
    breaks : sequence of float or `~astropy.units.Quantity`, length n + 1
        Ascending masses, in Msun where they have no unit, from the lowest to the highest star.
    exponents : sequence of float, length n
        Exponents alpha of m**-alpha, one per segment. Salpeter is 2.35.

    Raises
    ------
    ValueError
        If the lengths do not fit, ``breaks`` are not positive and ascending, or the mean mass is not finite.

    Examples
    --------
    >>> from clustercnn.stellar import BrokenPowerLaw
    >>> kroupa = BrokenPowerLaw([0.08, 0.5, 120], [1.3, 2.3])
    >>> round(kroupa.mean_mass, 3)
    0.579
    """

    def __init__(self, breaks, exponents):
        self.breaks = np.array(_in_msun(breaks), float)
        self.exponents = np.array(exponents, float)
        if self.breaks.ndim != 1 or self.breaks.shape != (self.exponents.size + 1,):
            raise ValueError(
                f"breaks needs one value more than exponents, not {self.breaks.size} and {self.exponents.size}"
            )
        if self.breaks.size < 2 or not (self.breaks[0] > 0 and (np.diff(self.breaks) > 0).all()):
            raise ValueError(f"breaks are {breaks}, but must be positive and ascending")
        steps = self.breaks[1:-1] ** np.diff(self.exponents)
        self._scale = np.cumprod(np.concatenate([[1.0], steps]))
        self._scale /= self._segments(0).sum()
        self._numbers = np.concatenate([[0.0], np.cumsum(self._segments(0))])
        self._masses = np.concatenate([[0.0], np.cumsum(self._segments(1))])
        if not np.isfinite(self.mean_mass):
            raise ValueError(f"breaks {breaks} and exponents {exponents} make a mean mass of {self.mean_mass}, not a finite one")

    def __repr__(self):
        return f"BrokenPowerLaw({self.breaks.tolist()}, {self.exponents.tolist()})"

    @property
    def lower(self):
        """Lowest mass in Msun."""
        return float(self.breaks[0])

    @property
    def upper(self):
        """Highest mass in Msun."""
        return float(self.breaks[-1])

    def _primitive(self, a, b, index, moment):
        """Integral of m**(moment - exponent) from a to b, without the segment's scale."""
        power = 1 + moment - self.exponents[index]
        flat = np.abs(power) < 1e-12
        safe = np.where(flat, 1.0, power)
        return np.where(flat, np.log(b / a), (b**safe - a**safe) / safe)

    def _segments(self, moment):
        index = np.arange(self.exponents.size)
        return self._scale * self._primitive(self.breaks[:-1], self.breaks[1:], index, moment)

    def _index(self, mass):
        return np.clip(np.searchsorted(self.breaks, mass, side="right") - 1, 0, self.exponents.size - 1)

    def _cumulative(self, mass, moment, sums):
        mass = np.clip(np.asarray(_in_msun(mass), float), self.lower, self.upper)
        index = self._index(mass)
        return sums[index] + self._scale[index] * self._primitive(self.breaks[index], mass, index, moment)

    def pdf(self, mass):
        """Probability density per Msun at ``mass`` (Msun, any shape); zero outside the limits."""
        mass = np.asarray(_in_msun(mass), float)
        inside = (mass >= self.lower) & (mass <= self.upper)
        safe = np.where(inside, mass, self.lower)
        index = self._index(safe)
        return np.where(inside, self._scale[index] * safe ** -self.exponents[index], 0.0)

    def cdf(self, mass):
        """Fraction of the stars below ``mass`` (Msun, any shape)."""
        return self._cumulative(mass, 0, self._numbers)

    def cumulative_mass(self, mass):
        """Mass in stars below ``mass``, in Msun per star formed."""
        return self._cumulative(mass, 1, self._masses)

    def ppf(self, q):
        """Mass in Msun below which the fraction ``q`` (0 to 1, any shape) of the stars lies."""
        q = _fraction(q)
        index = np.clip(np.searchsorted(self._numbers, q, side="right") - 1, 0, self.exponents.size - 1)
        start = self.breaks[index]
        rest = (q - self._numbers[index]) / self._scale[index]
        power = 1 - self.exponents[index]
        flat = np.abs(power) < 1e-12
        safe = np.where(flat, 1.0, power)
        mass = np.where(flat, start * np.exp(np.where(flat, rest, 0.0)), (start**safe + safe * rest) ** (1 / safe))
        return np.clip(mass, self.lower, self.upper)


class Chabrier(InitialMassFunction):
    """
    The single-star function of Chabrier (2003, PASP 115, 763): log-normal below 1 Msun, power law above.

    Parameters
    ----------
    lower, upper : float or `~astropy.units.Quantity`, optional
        Limits, in Msun where they have no unit, ``lower`` below 1 Msun and ``upper`` above.

    Raises
    ------
    ValueError
        If the limits do not enclose 1 Msun.

    Examples
    --------
    >>> from clustercnn.stellar import Chabrier
    >>> round(Chabrier().mean_mass, 2)
    0.61
    """

    peak, sigma = 0.079, 0.69  # Msun, dex

    def __init__(self, lower=0.08, upper=120.0):
        lower, upper = _in_msun(lower), _in_msun(upper)
        if not 0 < lower < 1 < upper:
            raise ValueError(f"lower and upper are {lower} and {upper} Msun, but must enclose 1 Msun")
        self.lower, self.upper = float(lower), float(upper)
        self._width = self.sigma * np.log(10)
        self._tail = BrokenPowerLaw([1.0, upper], [2.3])
        shape = np.exp(-0.5 * (np.log(1 / self.peak) / self._width) ** 2)  # m dN/dm at 1 Msun
        below = self._normal(1.0) - self._normal(lower)
        above = shape / self._tail.pdf(1.0)
        self._below = below / (below + above)
        self._scale = 1 / (below + above)

    def __repr__(self):
        return f"Chabrier({self.lower}, {self.upper})"

    def _normal(self, mass, moment=0):
        """Integral over ln m of m**moment times the log-normal, from 0 to ``mass``."""
        shift = moment * self._width
        factor = self.peak**moment * np.exp(0.5 * shift**2)
        x = (np.log(mass / self.peak) / self._width - shift) / np.sqrt(2)
        return factor * self._width * np.sqrt(np.pi / 2) * (1 + erf(x))

    def pdf(self, mass):
        """Probability density per Msun at ``mass`` (Msun, any shape); zero outside the limits."""
        mass = np.asarray(_in_msun(mass), float)
        inside = (mass >= self.lower) & (mass < 1)
        safe = np.where(inside, mass, 0.5)
        low = self._scale / safe * np.exp(-0.5 * (np.log(safe / self.peak) / self._width) ** 2)
        return np.where(inside, low, (1 - self._below) * self._tail.pdf(mass))

    def cdf(self, mass):
        """Fraction of the stars below ``mass`` (Msun, any shape)."""
        low = np.clip(_in_msun(mass), self.lower, 1.0)
        return self._scale * (self._normal(low) - self._normal(self.lower)) + (1 - self._below) * self._tail.cdf(mass)

    def cumulative_mass(self, mass):
        """Mass in stars below ``mass``, in Msun per star formed."""
        low = np.clip(_in_msun(mass), self.lower, 1.0)
        bottom = self._scale * (self._normal(low, 1) - self._normal(self.lower, 1))
        return bottom + (1 - self._below) * self._tail.cumulative_mass(mass)

    def ppf(self, q):
        """Mass in Msun below which the fraction ``q`` (0 to 1, any shape) of the stars lies."""
        q = _fraction(q)
        area = np.minimum(q, self._below) / self._scale + self._normal(self.lower)
        x = np.sqrt(2) * erfinv(area / (self._width * np.sqrt(np.pi / 2)) - 1)
        low = np.clip(self.peak * np.exp(self._width * x), self.lower, 1.0)
        high = self._tail.ppf(np.clip((q - self._below) / (1 - self._below), 0, 1))
        return np.where(q < self._below, low, high)


KNOWN = {
    "kroupa": BrokenPowerLaw([0.08, 0.5, 120], [1.3, 2.3]),
    "salpeter": BrokenPowerLaw([0.08, 120], [2.35]),
    "chabrier": Chabrier(),
}


def get_imf(imf):
    """
    An initial mass function by name; objects pass through.

    Parameters
    ----------
    imf : {"kroupa", "salpeter", "chabrier"} or `InitialMassFunction`
        Names mean 0.08 to 120 Msun. Kroupa (2001): exponents 1.3 and 2.3, break at 0.5 Msun.

    Returns
    -------
    `InitialMassFunction`

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a name nor an initial mass function.

    Examples
    --------
    >>> from clustercnn.stellar import get_imf
    >>> get_imf("salpeter")
    BrokenPowerLaw([0.08, 120.0], [2.35])
    """
    if isinstance(imf, InitialMassFunction):
        return imf
    if not isinstance(imf, str):
        raise TypeError(f"imf must be one of {sorted(KNOWN)} or an InitialMassFunction, not {type(imf).__name__}")
    if imf not in KNOWN:
        raise ValueError(f"imf is {imf!r}, but must be one of {sorted(KNOWN)} or an InitialMassFunction")
    return KNOWN[imf]
