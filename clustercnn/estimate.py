# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""ClusterEstimate: what is known of each source, as posterior draws. Needs numpy and astropy alone."""

import json
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from .files import whole_file

__all__ = ["FLAGS", "ClusterEstimate"]

#: Bits of the ``flags`` column.
FLAGS = {
    "masked pixels": 1,  # pixels of the stamp were missing
    "no answer": 2,  # too much of the stamp was missing: the posterior is the prior
    "few effective draws": 4,  # a reweighted posterior rests on fewer than 20 draws
    "missing bands": 8,  # of the stamp a whole band was missing, or several
    "depth unlike training": 16,  # the exposures lie beyond those that the network was trained for
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

    Attributes
    ----------
    draws, visibility_draws, p_cluster, flags : `~numpy.ndarray`
        As given; ``visibility_draws`` and ``p_cluster`` may be None.
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

    def __init__(self, draws, space, p_cluster=None, visibility=None, flags=None, meta=None):
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
        p_cluster, visibility = (None if a is None else a[item] for a in (self.p_cluster, self.visibility_draws))
        chosen = ClusterEstimate(self.draws[item], self.space, p_cluster, visibility, self.flags[item], self.meta)
        chosen.effective_sample_size = self.effective_sample_size[item]
        return chosen

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

    def interval(self, name, level=0.68):
        """
        Equal-tailed credible interval.

        Parameters
        ----------
        name : str
            A parameter, or ``"visibility"``.
        level : float
            Probability inside, between 0 and 1.

        Returns
        -------
        lower, upper : `~astropy.units.Quantity`
            Shape (n,) each.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {level}")
        return self.quantile(name, 0.5 - level / 2), self.quantile(name, 0.5 + level / 2)

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

    def modes(self, name):
        """
        Peaks of the marginal posterior, the one with most probability first.

        Parameters
        ----------
        name : str
            A parameter.

        Returns
        -------
        modes : list of `~astropy.units.Quantity`
            One array of at least one mode per source.

        Notes
        -----
        The draws are counted in 64 cells over the prior range and smoothed by a Gaussian of Silverman's width (0.9 times
        half the central 68 % interval divided by the fifth root of the number of draws), reflected at the bounds. A second peak counts if
        the density falls to half of the lower peak between the two and if its side of the valley holds at least 10 % of
        the probability.
        """
        parameter = self._parameter(name)
        centers = np.linspace(*parameter.bounds, 2 * _CELLS + 1)[1::2]
        return [parameter.from_coordinate(centers[peaks]) for peaks in self._peaks(name)]

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
        several = np.array([len(peaks) > 1 for peaks in self._peaks(name)], dtype=bool)
        return np.where(several, "multimodal", np.where(high - low > 0.25 * (upper - lower), "extended", "unimodal"))

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
        estimate = ClusterEstimate(draws, self.space, self.p_cluster, visibility, flags, self.meta)
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
            One row per source: each parameter and ``visibility`` with its ``_lo`` and ``_hi``, ``p_cluster`` and
            ``flags``; provenance in `meta`.
        """
        table = QTable()
        names = [*self.space.names, *(["visibility"] if self.visibility_draws is not None else [])]
        for name in names:
            table[name] = self.quantile(name, 0.5)
            table[f"{name}_lo"], table[f"{name}_hi"] = self.interval(name, level)
        if self.p_cluster is not None:
            table["p_cluster"] = self.p_cluster
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
            columns = [
                np.asarray(table[name]) if name in table.colnames else None for name in ("p_cluster", "visibility", "flags")
            ]
            estimate = cls(np.asarray(table["draws"]), space, *columns, json.loads(table.meta["META"]))
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
        """Cells of the modes of each source; see `modes`."""
        from scipy.ndimage import gaussian_filter1d

        _, density = self.marginal(name, _CELLS)
        low, high = np.quantile(self._draws(name), [0.16, 0.84], axis=1)
        lower, upper = self._parameter(name).bounds
        spread = 0.5 * (high - low) / (upper - lower) * _CELLS
        smoothing = np.maximum(0.9 * spread * self.draws.shape[1] ** -0.2, 0.7)
        return [_find_peaks(gaussian_filter1d(d, s, mode="reflect")) for d, s in zip(density, smoothing, strict=True)]


def _find_peaks(density):
    """
    Indices of the peaks of a density that are set apart, the heaviest first.

    Starts with every local maximum and takes away, again and again, the one that stands out least, until all that are
    left are divided by valleys of half their height and hold 10 % of the whole.
    """
    padded = np.concatenate(([-1.0], density, [-1.0]))
    peaks = list(np.flatnonzero((padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]) & (density > 0)))
    while True:
        # Each peak owns the cells up to the lowest point on the way to the next one.
        valleys = [a + int(np.argmin(density[a : b + 1])) for a, b in zip(peaks[:-1], peaks[1:], strict=True)]
        edges = [0, *valleys, len(density)]
        weight = [density[a:b].sum() / density.sum() for a, b in zip(edges[:-1], edges[1:], strict=True)]
        shallow = [
            max([density[v] for v in valleys[max(i - 1, 0) : i + 1]], default=0.0) / density[peak]
            for i, peak in enumerate(peaks)
        ]
        worst = [i for i in range(len(peaks)) if shallow[i] > 0.5 or weight[i] < 0.1]
        if len(peaks) == 1 or not worst:
            return [peak for _, peak in sorted(zip(weight, peaks, strict=True), reverse=True)]
        # The lowest of the offenders goes, so that the main peak stays.
        del peaks[min(worst, key=lambda i: density[peaks[i]])]


def _array(values, shape, dtype, name):
    values = np.asarray(values, dtype=dtype)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {values.shape}")
    return values
