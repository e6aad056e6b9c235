# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""ClusterEstimate: what is known of each source, as posterior draws. Needs numpy and astropy alone."""

import json
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from .densities import find_peaks, information, shortest_interval, smoothed_histogram
from .files import whole_file

__all__ = ["FLAGS", "ClusterEstimate"]

#: Bits of the ``flags`` column.
FLAGS = {
    "masked pixels": 1,  # pixels of the stamp were missing
    "no answer": 2,  # too much of the stamp was missing: the posterior is the prior
    "few effective draws": 4,  # a reweighted posterior rests on fewer than 20 draws
    "missing bands": 8,  # of the stamp a whole band was missing, or several
    "depth unlike training": 16,  # the exposures lie beyond those that the network was trained for
    "out of domain": 32,  # the stamp looks like no mock: of 100 mocks at most one is as strange
    "border": 64,  # the stamp reaches over the edge of the images
    "saturated": 128,  # a pixel of the source is saturated
    "at the bound": 256,  # the posterior of a parameter piles up at an end of its range
    "multimodal": 512,  # the posterior of the age has more than one peak
    "few mocks": 1024,  # fewer than 10 mocks of the classical peer agree with the photometry
}

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
        Draws of the signal-to-noise ratio that belong to the posterior draws, shape (n, k).
    flags : array_like of int, optional
        Bits of `FLAGS`, shape (n,). Default 0.
    meta : dict, optional
        Provenance, JSON-able.
    typicality : array_like, optional
        Share of mocks that look at least as strange to the network as the source, shape (n,); NaN where unknown. It is spread evenly over
        0..1 for mocks; near 0 the posterior is not to be believed.

    Attributes
    ----------
    draws, visibility_draws, p_cluster, flags, typicality : `~numpy.ndarray`
        As given; ``visibility_draws``, ``p_cluster`` and ``typicality`` may be None.
    effective_sample_size : `~numpy.ndarray`
        Number of independent draws that each posterior is worth, shape (n,); k unless reweighted.
    space, meta
        As given.

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

    def __init__(self, draws, space, p_cluster=None, visibility=None, flags=None, meta=None, typicality=None):
        draws = np.asarray(draws, dtype=np.float32)
        if draws.ndim != 3 or draws.shape[1] < 1 or draws.shape[2] != len(space):
            raise ValueError(f"draws must have shape (n, k, {len(space)}), not {draws.shape}")
        if not np.isfinite(draws).all():
            raise ValueError("draws must be finite")
        n, k = draws.shape[:2]
        self.draws = draws
        self.space = space
        self.p_cluster = None if p_cluster is None else _array(p_cluster, (n,), float, "p_cluster")
        if self.p_cluster is not None and not np.all((self.p_cluster >= 0) & (self.p_cluster <= 1)):
            raise ValueError("p_cluster must lie between 0 and 1")
        self.visibility_draws = None if visibility is None else _array(visibility, (n, k), np.float32, "visibility")
        self.flags = np.zeros(n, dtype=int) if flags is None else _array(flags, (n,), int, "flags")
        self.typicality = None if typicality is None else _array(typicality, (n,), float, "typicality")
        if self.typicality is not None and np.any((self.typicality < 0) | (self.typicality > 1)):
            raise ValueError("typicality must lie between 0 and 1")
        self.effective_sample_size = np.full(n, float(k))
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
        p_cluster, visibility, typicality = (
            None if a is None else a[item] for a in (self.p_cluster, self.visibility_draws, self.typicality)
        )
        chosen = ClusterEstimate(self.draws[item], self.space, p_cluster, visibility, self.flags[item], self.meta, typicality)
        chosen.effective_sample_size = self.effective_sample_size[item]
        return chosen

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
                ("p_cluster", first.p_cluster is None, other.p_cluster is None),
                ("visibility", first.visibility_draws is None, other.visibility_draws is None),
                ("typicality", first.typicality is None, other.typicality is None),
            ):
                if mine != its:
                    raise ValueError(f"estimates must agree in their {what}")

        def joined(name):
            parts = [getattr(estimate, name) for estimate in estimates]
            return None if parts[0] is None else np.concatenate(parts)

        parts = [joined(name) for name in ("p_cluster", "visibility_draws", "flags")]
        whole = cls(joined("draws"), first.space, *parts, first.meta, joined("typicality"))
        whole.effective_sample_size = joined("effective_sample_size")
        return whole

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
        q : float
            Between 0 and 1.

        Returns
        -------
        value : `~astropy.units.Quantity`
            Shape (n,).
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must lie between 0 and 1, not {q}")
        if name == "visibility" and self.visibility_draws is not None:
            return u.Quantity(np.quantile(self.visibility_draws, q, axis=1).astype(float))
        return self._parameter(name).from_coordinate(np.quantile(self._draws(name), q, axis=1))

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
            With as much probability below as above; or the shortest one along the coordinate (of the visibility: of its logarithm).

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
        parameter = self._parameter(name)
        cell, width, bins = self._cells(name, bins)
        density = np.zeros((len(self), bins))
        np.add.at(density, (np.arange(len(self))[:, None], cell), 1 / (width * self.draws.shape[1]))
        return parameter.from_coordinate(np.linspace(*parameter.bounds, bins + 1)), density

    def joint(self, a, b, bins=None):
        """
        Histogram of the joint posterior of two parameters.

        Parameters
        ----------
        a, b : str
            The parameters.
        bins : tuple of int, optional
            Number of bins for each. Default: the parameters'.

        Returns
        -------
        edges_a, edges_b : `~astropy.units.Quantity`
            Edges of the bins.
        density : `~numpy.ndarray`
            Per unit of both coordinates, shape (n, bins_a, bins_b).
        """
        parts = [self._cells(name, n) for name, n in zip((a, b), bins or (None, None), strict=True)]
        (cell_a, width_a, bins_a), (cell_b, width_b, bins_b) = parts
        density = np.zeros((len(self), bins_a, bins_b))
        np.add.at(density, (np.arange(len(self))[:, None], cell_a, cell_b), 1 / (width_a * width_b * self.draws.shape[1]))
        edges = [
            self._parameter(name).from_coordinate(np.linspace(*self._parameter(name).bounds, n + 1))
            for name, n in ((a, bins_a), (b, bins_b))
        ]
        return *edges, density

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
        low, high = np.quantile(self._draws(name), [0.16, 0.84], axis=1)
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
        names : sequence of str, optional
            Parameters whose joint posterior is meant. Default: all.

        Returns
        -------
        bits : `~numpy.ndarray`
            Kullback-Leibler divergence of the posterior from the prior, by nearest neighbours among the draws (Kraskov et al. 2004,
            Phys. Rev. E 69, 066138), to about 0.1 bits with 200 draws. Draws that are copies of one another, as after
            `reweight`, count once. NaN where there are less than 8 different ones. Shape (n,).
        """
        names = self.space.names if names is None else tuple(names)
        columns = [self.space.names.index(self._parameter(name).name) for name in names]
        bits = np.full(len(self), np.nan)
        for i, draws in enumerate(np.clip(self.space.to_unit(self.draws.astype(float))[:, :, columns], 0, 1)):
            different = np.unique(draws, axis=0)
            if len(different) >= 8:
                bits[i] = information(different)
        return bits

    def reweight(self, prior, rng=0):
        """
        The same posteriors under another prior of the parameters, by resampling the draws.

        `p_cluster` stays: what it says of clusters against non-clusters is averaged over the flat prior.

        Parameters
        ----------
        prior : callable or `~clustercnn.parameters.ParameterSpace`
            ``prior(values)`` gets a mapping from name to Quantity of shape (n, k) and returns the new prior's density
            relative to the flat one of `space` (flat in each coordinate), up to a factor, shape (n, k). A space stands
            for the flat prior in its (smaller) box.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        estimate : `ClusterEstimate`
            With the `effective_sample_size` of the weights; where it is below 20 the flag says so, and where no draw has any
            weight it is 0 and the draws are left as they were.

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
        if hasattr(prior, "log_prior"):
            if set(prior.names) != set(self.space.names):
                raise ValueError(f"prior must have the parameters {self.space.names}, not {prior.names}")
            values = self.space.from_coordinates(self.draws)
            weight = np.exp(prior.log_prior(prior.to_coordinates(values)))
        else:
            weight = np.asarray(prior(self.space.from_coordinates(self.draws)), dtype=float)
        n, k = self.draws.shape[:2]
        weight = np.broadcast_to(weight, (n, k))
        if not np.all(np.isfinite(weight)) or np.any(weight < 0):
            raise ValueError("prior must give finite densities that are not negative")
        total = weight.sum(axis=1, keepdims=True)
        dead = total[:, 0] == 0
        weight = np.where(dead[:, None], 1 / k, weight / np.where(total == 0, 1, total))
        # Systematic resampling: one random number per source, the least noise.
        ticks = (np.arange(k) + np.random.default_rng(rng).random((n, 1))) / k
        picked = np.array(
            [np.searchsorted(w.cumsum(), t * w.sum()) for w, t in zip(weight, ticks, strict=True)], dtype=int
        ).reshape(n, k)
        picked = np.minimum(picked, k - 1)
        size = np.where(dead, 0.0, 1 / (weight**2).sum(axis=1)) * self.effective_sample_size / k
        visibility = None if self.visibility_draws is None else np.take_along_axis(self.visibility_draws, picked, axis=1)
        flags = self.flags | np.where(size < 20, FLAGS["few effective draws"], 0)
        draws = np.take_along_axis(self.draws, picked[:, :, None], axis=1)
        estimate = ClusterEstimate(draws, self.space, self.p_cluster, visibility, flags, self.meta, self.typicality)
        estimate.effective_sample_size = size
        return estimate

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
        names = [*self.space.names, *(["visibility"] if self.visibility_draws is not None else [])]
        for name in names:
            table[name] = self.quantile(name, 0.5)
            table[f"{name}_lo"], table[f"{name}_hi"] = self.interval(name, level)
        if self.p_cluster is not None:
            table["p_cluster"] = self.p_cluster
        if self.typicality is not None:
            table["typicality"] = self.typicality
        table["flags"] = self.flags
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
        path = Path(path)
        kind = path.suffix.lower()
        if kind not in (".fits", ".ecsv"):
            raise ValueError(f"path must end in .fits or .ecsv, not {path.name!r}")
        if path.exists() and not overwrite:
            raise OSError(f"{path} exists; use overwrite=True to replace it")
        if kind == ".ecsv":
            table = self.to_table()
        else:
            table = QTable({"draws": self.draws, "flags": self.flags, "effective_sample_size": self.effective_sample_size})
            if self.p_cluster is not None:
                table["p_cluster"] = self.p_cluster
            if self.visibility_draws is not None:
                table["visibility"] = self.visibility_draws
            if self.typicality is not None:
                table["typicality"] = self.typicality
            table.meta = {"SPACE": json.dumps(self.space.to_dict()), "META": json.dumps(self.meta)}
        with whole_file(path) as partial:
            table.write(partial, format=f"ascii{kind}" if kind == ".ecsv" else "fits")

    @classmethod
    def read(cls, path):
        """
        Read the FITS file that `write` wrote.

        Raises
        ------
        ValueError
            If the file is something else; an ECSV file holds the summary alone and is read by ``QTable.read``.
        """
        from clustercnn.parameters import ParameterSpace

        path = Path(path)
        if path.suffix.lower() == ".ecsv":
            raise ValueError(
                f"{path} holds a summary without draws: read it with QTable.read, or write the estimate as .fits"
            )
        try:
            table = QTable.read(path, format="fits")
            space = ParameterSpace.from_dict(json.loads(table.meta["SPACE"]))
            *columns, typicality = (
                np.asarray(table[name]) if name in table.colnames else None
                for name in ("p_cluster", "visibility", "flags", "typicality")
            )
            estimate = cls(np.asarray(table["draws"]), space, *columns, json.loads(table.meta["META"]), typicality)
            estimate.effective_sample_size = np.asarray(table["effective_sample_size"], dtype=float)
        except FileNotFoundError:
            raise
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not an estimate written by ClusterEstimate.write: {error}") from None
        return estimate

    def _parameter(self, name):
        if name not in self.space.names:
            raise ValueError(f"name must be one of {self.space.names}, not {name!r}")
        return self.space[name]

    def _draws(self, name):
        self._parameter(name)
        return self.draws[:, :, self.space.names.index(name)]

    def _cells(self, name, bins):
        """Bin of each draw (n, k), width of a bin in the coordinate, number of bins."""
        parameter = self._parameter(name)
        bins = parameter.bins if bins is None else int(bins)
        lower, upper = parameter.bounds
        cell = np.clip(((self._draws(name) - lower) / (upper - lower) * bins).astype(int), 0, bins - 1)
        return cell, (upper - lower) / bins, bins

    def _peaks(self, name):
        """Cells and weights of the modes of each source; see `modes`."""
        unit = self.space.to_unit(self.draws)[:, :, self.space.names.index(name)]
        return [find_peaks(density) for density in smoothed_histogram(unit, _CELLS)]


def _array(values, shape, dtype, name):
    values = np.asarray(values, dtype=dtype)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {values.shape}")
    return values
