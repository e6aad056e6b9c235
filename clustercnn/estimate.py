# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""ClusterEstimate: what is known of each source, as posterior draws. Needs numpy, scipy and astropy alone."""

import numpy as np
from astropy import units as u
from astropy.table import QTable

from .densities import find_peaks, information, resample, shortest_interval, smoothed_histogram
from .estimate_file import read_estimate, write_estimate
from .flags import FLAGS
from .parameters import ParameterSpace, as_quantity, in_short

__all__ = ["FLAGS", "ClusterEstimate"]

_CELLS = 64


class ClusterEstimate:
    """
    Posteriors of n sources, each as k draws of its parameters.

    The parameters are conditional on the source being a cluster; ``p_cluster`` says how likely that is.

    Parameters
    ----------
    draws : array_like
        Posterior draws in the coordinates of ``space`` (such as log10 of the age), shape (n, k, d).
    space : `~clustercnn.parameters.ParameterSpace`
        The parameters and the box of their flat prior.
    p_cluster : array_like, optional
        Probability of a genuine cluster at equal prior odds, shape (n,).
    visibility : array_like, optional
        Draws of the signal-to-noise ratio that belong to the posterior draws, shape (n, k); NaN where unknown.
    flags : array_like of int, optional
        Bits of `FLAGS`, shape (n,). Default 0.
    meta : dict, optional
        Provenance, JSON-able.
    typicality : array_like, optional
        Share of mocks that look at least as strange to the network as the source, shape (n,); NaN where unknown. It is spread evenly over
        0..1 for mocks; near 0 the posterior is not to be believed.
    effective_sample_size : array_like, optional
        Number of independent draws, or of mocks, that each posterior rests on, shape (n,). Default k.

    Attributes
    ----------
    draws, visibility_draws, p_cluster, flags, typicality, effective_sample_size : `~numpy.ndarray`
        As given; ``visibility_draws``, ``p_cluster`` and ``typicality`` may be None.
    space, meta
        As given.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        For arrays of other shapes, with masked values, or with values that cannot be.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.estimate import ClusterEstimate
    >>> from clustercnn.parameters import ParameterSpace
    >>> space = ParameterSpace.paper()
    >>> draws = space.from_unit(np.random.default_rng(1).normal(0.5, 0.02, (3, 200, 4)))
    >>> estimate = ClusterEstimate(draws, space, p_cluster=[0.9, 0.5, 0.1])
    >>> estimate
    <ClusterEstimate of 3 sources, 200 draws of age, a_v, mass, half_light_radius>
    >>> estimate.a_v.round(1)
    <Quantity [1.5, 1.5, 1.5] mag>
    >>> lower, upper = estimate.interval("a_v", 0.68)
    >>> bool(np.all((lower < estimate.a_v) & (estimate.a_v < upper)))
    True
    """

    def __init__(
        self, draws, space, p_cluster=None, visibility=None, flags=None, meta=None, typicality=None, effective_sample_size=None
    ):
        draws = _plain(draws, "draws").astype(np.float32, copy=False)
        if draws.ndim != 3 or draws.shape[1] < 1 or draws.shape[2] != len(space):
            raise ValueError(f"draws must have shape (n, k, {len(space)}), not {draws.shape}")
        if (lost := ~np.isfinite(draws).all(axis=(1, 2))).any():
            raise ValueError(f"draws must be finite, but those of source {np.flatnonzero(lost)[0]} are not: leave it out")
        unit = space.to_unit(draws)
        if (beyond := (unit < -1) | (unit > 2)).any():
            i, _, j = np.argwhere(beyond)[0]
            raise ValueError(f"draws must be coordinates of the space, such as log10 of the age, but of source {i} {space.names[j]} is "
                             f"{draws[i, :, j][beyond[i, :, j]][0]:g}, more than a range beyond {space.bounds[j][0]:.4g} to {space.bounds[j][1]:.4g}")
        n, k = draws.shape[:2]
        self.draws = draws
        self.space = space
        self.p_cluster = _array(p_cluster, (n,), float, "p_cluster", most=1)
        self.visibility_draws = _array(visibility, (n, k), np.float32, "visibility", unknown=True)
        self.flags = _array(np.zeros(n, dtype=int) if flags is None else flags, (n,), int, "flags")
        self.typicality = _array(typicality, (n,), float, "typicality", most=1, unknown=True)
        size = np.full(n, k) if effective_sample_size is None else effective_sample_size
        self.effective_sample_size = _array(size, (n,), float, "effective_sample_size")
        self.meta = dict(meta or {})

    def __len__(self):
        return len(self.draws)

    def __repr__(self):
        n, k, _ = self.draws.shape
        return f"<ClusterEstimate of {n} source{'s' * (n != 1)}, {k} draws of {', '.join(self.space.names)}>"

    def __getitem__(self, item):
        """The sources that an integer, slice, mask or index array selects."""
        if isinstance(item, (int, np.integer)):
            if not -len(self) <= item < len(self):
                raise IndexError(f"source {item} of {len(self)}")
            item = [item]
        if np.any(getattr(item, "mask", False)):
            raise IndexError("a selection of sources must not be masked: fill it with False")
        chosen = {name: None if values is None else values[item] for name, values in self._per_source().items()}
        return ClusterEstimate(self.draws[item], self.space, meta=self.meta, **chosen)

    @classmethod
    def concatenate(cls, estimates):
        """
        The sources of several estimates, one after the other.

        Parameters
        ----------
        estimates : sequence of `ClusterEstimate`
            With the same space and number of draws; with `p_cluster`, visibility and typicality all of them or none.

        Returns
        -------
        estimate : `ClusterEstimate`
            With the provenance of the first.

        Raises
        ------
        ValueError
            If there are none, or they differ.
        """
        estimates = list(estimates)
        if not estimates:
            raise ValueError("estimates must hold at least one ClusterEstimate")
        first = estimates[0]
        for other in estimates[1:]:
            for what, mine, its in (
                ("space", first.space, other.space),
                ("number of draws", first.draws.shape[1], other.draws.shape[1]),
                *((name, values is None, other._per_source()[name] is None) for name, values in first._per_source().items()),
            ):
                if mine != its:
                    raise ValueError(f"estimates must agree in their {what}")
        joined = {}
        for name, values in first._per_source().items():
            joined[name] = None if values is None else np.concatenate([estimate._per_source()[name] for estimate in estimates])
        draws = np.concatenate([estimate.draws for estimate in estimates])
        return cls(draws, first.space, meta=first.meta, **joined)

    @property
    def age(self):
        """Posterior median of the age, Quantity (n,)."""
        return self.quantile("age", 0.5)

    @property
    def mass(self):
        """Posterior median of the initial stellar mass, Quantity (n,)."""
        return self.quantile("mass", 0.5)

    @property
    def half_light_radius(self):
        """Posterior median of the half-light radius (an angle), Quantity (n,)."""
        return self.quantile("half_light_radius", 0.5)

    @property
    def a_v(self):
        """Posterior median of the V-band extinction, Quantity (n,)."""
        return self.quantile("a_v", 0.5)

    @property
    def visibility(self):
        """Median of the signal-to-noise ratio, dimensionless Quantity (n,), or None."""
        return None if self.visibility_draws is None else self.quantile("visibility", 0.5)

    def quantile(self, name, q):
        """
        A quantile of the marginal posterior.

        Parameters
        ----------
        name : str
            A parameter, or ``"visibility"``.
        q : float or array_like
            Between 0 and 1.

        Returns
        -------
        value : `~astropy.units.Quantity`
            Shape (n,), of several q (q, n).

        Notes
        -----
        Of k draws in order the j-th is the quantile j / (k + 1) ("weibull" of `numpy.quantile`), so that the truth lies below a quantile
        as often as it says, whatever the number of draws. Beyond the first and the last draw nothing is known.
        """
        if not np.all((np.asarray(q) >= 0) & (np.asarray(q) <= 1)):
            raise ValueError(f"q must lie between 0 and 1, not {q}")
        if name == "visibility" and self.visibility_draws is not None:
            return u.Quantity(np.quantile(self.visibility_draws, q, axis=1, method="weibull").astype(float))
        return self._parameter(name).from_coordinate(np.quantile(self._draws(name), q, axis=1, method="weibull"))

    def mean(self, name):
        """
        Mean of the marginal posterior along its coordinate: of a logarithmic parameter the geometric mean.

        Parameters
        ----------
        name : str
            A parameter.

        Returns
        -------
        value : `~astropy.units.Quantity`
            Shape (n,).
        """
        return self._parameter(name).from_coordinate(self._draws(name).mean(axis=1, dtype=float))

    def interval(self, name, level=0.68, kind="equal-tailed"):
        """
        Credible interval.

        Parameters
        ----------
        name : str
            A parameter, or ``"visibility"``.
        level : float
            Probability inside, between 0 and 1.
        kind : {'equal-tailed', 'highest-density'}
            With as much probability below as above; or the shortest one along the coordinate (of the visibility: of its logarithm), which
            the draws choose that it is to hold: that of 0.68 of 200 draws of a normal distribution holds the truth 0.65 of the time.

        Returns
        -------
        lower, upper : `~astropy.units.Quantity`
            Shape (n,) each.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {level}")
        if kind == "equal-tailed":
            return self.quantile(name, 0.5 - level / 2), self.quantile(name, 0.5 + level / 2)
        if kind != "highest-density":
            raise ValueError(f"kind must be 'equal-tailed' or 'highest-density', not {kind!r}")
        if name == "visibility" and self.visibility_draws is not None:
            return tuple(u.Quantity(np.exp(end)) for end in shortest_interval(np.log(self.visibility_draws.astype(float)), level))
        return tuple(self._parameter(name).from_coordinate(end) for end in shortest_interval(self._draws(name), level))

    def p_cluster_at(self, prior_odds):
        """
        Probability of a genuine cluster at other prior odds.

        Parameters
        ----------
        prior_odds : float or array_like
            Clusters per non-cluster among the candidates, positive and finite. `p_cluster` itself is at 1.

        Returns
        -------
        p_cluster : `~numpy.ndarray`
            Shape (n,).
        """
        if self.p_cluster is None:
            raise ValueError("this estimate has no p_cluster")
        if not np.all(np.isfinite(prior_odds) & (np.asarray(prior_odds) > 0)):
            raise ValueError(f"prior_odds must be positive and finite, not {prior_odds}")
        yes = self.p_cluster * prior_odds
        return yes / (yes + 1 - self.p_cluster)

    def sample(self, n, rng=None):
        """
        Resample the stored draws, with replacement.

        Parameters
        ----------
        n : int
            Samples per source.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        table : `~astropy.table.QTable`
            One row per source, one column of shape (sources, n) per parameter, and ``visibility`` if known.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        picked = np.random.default_rng(rng).integers(self.draws.shape[1], size=(len(self), n))
        draws = np.take_along_axis(self.draws, picked[:, :, None], axis=1)
        table = QTable(self.space.from_coordinates(draws))
        if self.visibility_draws is not None:
            table["visibility"] = u.Quantity(np.take_along_axis(self.visibility_draws, picked, axis=1))
        return table

    def marginal(self, name, bins=None):
        """
        Histogram of the marginal posterior.

        Parameters
        ----------
        name : str
            A parameter.
        bins : int, optional
            Number of equal bins over the prior range. Default: the parameter's.

        Returns
        -------
        edges : `~astropy.units.Quantity`
            Shape (bins + 1,).
        density : `~numpy.ndarray`
            Per unit of coordinate (dex for logarithmic parameters), shape (n, bins).
        """
        cell, width, edges = self._cells(name, bins)
        density = np.zeros((len(self), len(edges) - 1))
        np.add.at(density, (np.arange(len(self))[:, None], cell), 1 / (width * self.draws.shape[1]))
        return edges, density

    def joint(self, a, b, bins=None):
        """
        Histogram of the joint posterior of two parameters.

        Parameters
        ----------
        a, b : str
            The parameters.
        bins : int or tuple of int, optional
            Number of bins, of both or of each. Default: the parameters'.

        Returns
        -------
        edges_a, edges_b : `~astropy.units.Quantity`
            Edges of the bins.
        density : `~numpy.ndarray`
            Per unit of both coordinates, shape (n, bins_a, bins_b).
        """
        if np.ndim(bins) and len(bins) != 2:
            raise ValueError(f"bins must be one number, or one for each of the two parameters, not {bins}")
        bins_a, bins_b = bins if np.ndim(bins) else (bins, bins)
        (cell_a, width_a, edges_a), (cell_b, width_b, edges_b) = self._cells(a, bins_a), self._cells(b, bins_b)
        density = np.zeros((len(self), len(edges_a) - 1, len(edges_b) - 1))
        np.add.at(density, (np.arange(len(self))[:, None], cell_a, cell_b), 1 / (width_a * width_b * self.draws.shape[1]))
        return edges_a, edges_b, density

    def modes(self, name, return_weights=False):
        """
        Peaks of the marginal posterior, the one with most probability first.

        Parameters
        ----------
        name : str
            A parameter.
        return_weights : bool
            Whether to return the probability of each peak as well.

        Returns
        -------
        modes : list of `~astropy.units.Quantity`
            One array of at least one mode per source.
        weights : list of `~numpy.ndarray`
            With ``return_weights``: what each peak holds, up to the valleys beside it; their sum is 1.

        Notes
        -----
        The draws are counted in 64 cells over the prior range and smoothed by a Gaussian of Silverman's width (0.9 times
        half the central 68 % interval divided by the fifth root of the number of draws), reflected at the bounds. A second peak counts if
        the density falls to half of the lower peak between the two and if its side of the valley holds at least 10 % of
        the probability.
        """
        parameter = self._parameter(name)
        centers = np.linspace(*parameter.bounds, 2 * _CELLS + 1)[1::2]
        found = self._peaks(name)
        modes = [parameter.from_coordinate(centers[peaks]) for peaks, _ in found]
        return (modes, [np.array(weights) for _, weights in found]) if return_weights else modes

    def morphology(self, name):
        """
        The shape of the marginal posterior in one word.

        Parameters
        ----------
        name : str
            A parameter.

        Returns
        -------
        morphology : `~numpy.ndarray` of str
            ``'multimodal'`` with more than one of `modes`; else ``'extended'`` where the 68 % interval is wider than a
            quarter of the prior range; else ``'unimodal'``. Shape (n,).
        """
        lower, upper = self._parameter(name).bounds
        low, high = np.quantile(self._draws(name), [0.16, 0.84], axis=1, method="weibull")
        several = np.array([len(peaks) > 1 for peaks, _ in self._peaks(name)], dtype=bool)
        return np.where(several, "multimodal", np.where(high - low > 0.25 * (upper - lower), "extended", "unimodal"))

    def at_bound(self, name):
        """
        Whether the marginal posterior piles up at an end of the prior range.

        Parameters
        ----------
        name : str
            A parameter.

        Returns
        -------
        at_bound : `~numpy.ndarray` of bool
            True where a fiftieth of the range, at either end, holds at least a fifth of the draws: ten times what the flat prior
            puts there. Shape (n,).
        """
        lower, upper = self._parameter(name).bounds
        place = (self._draws(name) - lower) / (upper - lower)
        return np.maximum((place < 0.02).mean(axis=1), (place > 0.98).mean(axis=1)) >= 0.2

    def correlation(self, a, b):
        """
        Linear correlation of the draws of two parameters along their coordinates.

        Parameters
        ----------
        a, b : str
            The parameters.

        Returns
        -------
        correlation : `~numpy.ndarray`
            Between -1 and 1, shape (n,); NaN where all draws of one are the same.
        """
        first, second = (self._draws(name) - self._draws(name).mean(axis=1, keepdims=True, dtype=float) for name in (a, b))
        product, power = (first * second).sum(axis=1), (first**2).sum(axis=1) * (second**2).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return product / np.sqrt(power)

    def information_gain(self, names=None):
        """
        What the posterior has learned over the flat prior of the space, in bits.

        Parameters
        ----------
        names : str or sequence of str, optional
            Parameters whose joint posterior is meant. Default: all.

        Returns
        -------
        bits : `~numpy.ndarray`
            Kullback-Leibler divergence of the posterior from the prior, by nearest neighbours among the draws (Kraskov et al. 2004,
            Phys. Rev. E 69, 066138), to about 0.1 bits with 200 draws. NaN where there are fewer than 8 different draws, and too small
            where few are left after `reweight`. Shape (n,).
        """
        names = self.space.names if names is None else (names,) if isinstance(names, str) else tuple(names)
        columns = [self.space.names.index(self._parameter(name).name) for name in names]
        unit = np.clip(self.space.to_unit(self.draws)[:, :, columns], 0, 1)
        return np.array([information(draws) for draws in unit], dtype=float)

    def reweight(self, prior, rng=0):
        """
        The same posteriors under another prior of the parameters, by resampling the draws.

        Several priors are best multiplied and applied at once: of draws that were resampled before, copies count as independent ones.
        `p_cluster` stays: what it says of clusters against non-clusters is averaged over the flat prior.

        Parameters
        ----------
        prior : callable or `~clustercnn.parameters.ParameterSpace`
            ``prior(values)`` gets a mapping from name to Quantity of shape (n, k) and returns the new prior's density
            relative to the flat one of `space` (flat in each coordinate: for dN/dM ~ M^-2 and a logarithmic mass it is M^-1), up to a factor,
            shape (n, k). A space with the same
            scales stands for the flat prior in its box, of which nothing beyond that of `space` is known.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        estimate : `ClusterEstimate`
            With the `effective_sample_size` of the weights; where it is below 20 the flag says so, and where no draw has any
            weight it is 0 and the draws are left as they were.

        Raises
        ------
        TypeError, ValueError
            If the prior is neither a function nor a space, its scales are others, or its densities are negative, not finite or of another shape.

        Examples
        --------
        >>> import numpy as np
        >>> from astropy import units as u
        >>> from clustercnn.estimate import ClusterEstimate
        >>> from clustercnn.parameters import ParameterSpace
        >>> space = ParameterSpace.paper()
        >>> flat = ClusterEstimate(space.from_unit(np.random.default_rng(1).random((1, 4000, 4))), space)
        >>> dusty = flat.reweight(lambda values: values["a_v"] > 2 * u.mag)
        >>> dusty.a_v.round(1)
        <Quantity [2.5] mag>
        """
        values = self.space.from_coordinates(self.draws)
        if isinstance(prior, ParameterSpace):
            if {p.name: p.scale for p in prior.parameters} != {p.name: p.scale for p in self.space.parameters}:
                raise ValueError(f"prior must have the parameters and scales of {self.space}, not {prior}")
            weights = prior.contains(values).astype(float)
        elif callable(prior):
            density = prior(values)
            if np.any(getattr(density, "mask", False)):
                raise ValueError("prior must give densities that are not masked")
            density = np.asarray(density, dtype=float)  # of any unit, since a factor does not matter
            try:
                weights = np.broadcast_to(density, self.draws.shape[:2])
            except ValueError:
                raise ValueError(f"prior must give densities of shape {self.draws.shape[:2]}, not {density.shape}") from None
        else:
            raise TypeError(f"prior must be a ParameterSpace or a function, such as lambda values: values['a_v'] > 2 * u.mag, not {in_short(prior)}")
        if not np.all(np.isfinite(weights)) or np.any(weights < 0):
            raise ValueError("prior must give finite densities that are not negative")
        lost = weights.max(axis=1) == 0
        weights = np.where(lost[:, None], 1.0, weights)
        weights = weights / weights.max(axis=1, keepdims=True)  # lest the sum of densities of any scale overflows
        weights /= weights.sum(axis=1, keepdims=True)
        picked = resample(weights, np.random.default_rng(rng))
        size = np.where(lost, 0.0, 1 / (weights**2).sum(axis=1)) * self.effective_sample_size / weights.shape[1]
        changed = {"effective_sample_size": size, "flags": self.flags | np.where(size < 20, FLAGS["few effective draws"], 0)}
        if self.visibility_draws is not None:
            changed["visibility"] = np.take_along_axis(self.visibility_draws, picked, axis=1)
        draws = np.take_along_axis(self.draws, picked[:, :, None], axis=1)
        return ClusterEstimate(draws, self.space, meta=self.meta, **(self._per_source() | changed))

    def to_table(self, level=0.68):
        """
        Medians and intervals as a table.

        Parameters
        ----------
        level : float
            Probability between the columns ``*_lo`` and ``*_hi``.

        Returns
        -------
        table : `~astropy.table.QTable`
            One row per source: each parameter and ``visibility`` with its ``_lo`` and ``_hi``, ``p_cluster``, ``typicality`` (what
            is known of them) and ``flags``; provenance in `meta`.
        """
        table = QTable()
        for name in (*self.space.names, *(["visibility"] if self.visibility_draws is not None else [])):
            table[name] = self.quantile(name, 0.5)
            table[f"{name}_lo"], table[f"{name}_hi"] = self.interval(name, level)
        for name in ("p_cluster", "typicality", "flags"):
            if getattr(self, name) is not None:
                table[name] = getattr(self, name)
        table.meta = self.meta | {"level": level}
        return table

    def plot(self, i, **keywords):
        """A figure of the posterior of source ``i``; see `~clustercnn.plotting.plot_posterior`."""
        from clustercnn.plotting import plot_posterior

        return plot_posterior(self, i, **keywords)

    def write(self, path, overwrite=False):
        """
        Write to a file; it appears only when it is complete.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            ``.fits`` holds everything, draws included; ``.ecsv`` the summary of `to_table`.
        overwrite : bool
            Replace a file that is there.
        """
        write_estimate(path, {"draws": self.draws, **self._per_source()}, self.space, self.meta, self.to_table, overwrite)

    @classmethod
    def read(cls, path):
        """
        Read the FITS file that `write` wrote.

        Raises
        ------
        ValueError
            If the file is something else; an ECSV file holds the summary alone and is read by ``QTable.read``.
        """
        try:
            return cls(**read_estimate(path))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not an estimate in FITS: {error}") from None

    def _per_source(self):
        """What there is of each source beside the draws, by the names of the constructor."""
        return {
            "p_cluster": self.p_cluster,
            "visibility": self.visibility_draws,
            "flags": self.flags,
            "typicality": self.typicality,
            "effective_sample_size": self.effective_sample_size,
        }

    def _parameter(self, name):
        if name not in self.space.names:
            further = ": this estimate has none" if name == "visibility" and self.visibility_draws is None else ""
            raise ValueError(f"name must be one of {self.space.names}, not {name!r}{further}")
        return self.space[name]

    def _draws(self, name):
        self._parameter(name)
        return self.draws[:, :, self.space.names.index(name)]

    def _cells(self, name, bins):
        """Bin of each draw (n, k), width of a bin in the coordinate, and the edges of the bins as a Quantity."""
        parameter = self._parameter(name)
        bins = parameter.bins if bins is None else bins
        if not bins >= 1 or bins % 1:
            raise ValueError(f"bins must be a whole number of 1 or more, not {bins}")
        bins = int(bins)
        lower, upper = parameter.bounds
        cell = np.clip(((self._draws(name) - lower) / (upper - lower) * bins).astype(int), 0, bins - 1)
        return cell, (upper - lower) / bins, parameter.from_coordinate(np.linspace(lower, upper, bins + 1))

    def _peaks(self, name):
        """Cells and weights of the modes of each source; see `modes`."""
        lower, upper = self._parameter(name).bounds
        return [find_peaks(density) for density in smoothed_histogram((self._draws(name) - lower) / (upper - lower), _CELLS)]


def _plain(values, name):
    """An array without mask or unit."""
    if np.any(getattr(values, "mask", False)):
        raise ValueError(f"{name} must not be masked: leave those sources out, or fill them")
    return np.asarray(as_quantity(values, u.one, name).value if isinstance(values, u.Quantity) else values)


def _array(values, shape, dtype, name, most=np.inf, unknown=False):
    """An array of a shape, with finite values from 0 to the most there may be, or NaN where they may be unknown."""
    if values is None:
        return None
    values = _plain(values, name)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {values.shape}")
    if dtype is int and values.size and values.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, not {values.dtype}")
    if (lost := ~np.isfinite(values) & ~(unknown & np.isnan(values))).any():
        raise ValueError(f"{name} must be finite{', or NaN where unknown' * unknown}, not {values[lost][0]}")
    if (beyond := (values < 0) | (values > most)).any():
        raise ValueError(f"{name} must lie between 0 and {most:g}, not {values[beyond][0]}")
    return values.astype(dtype, copy=False)
