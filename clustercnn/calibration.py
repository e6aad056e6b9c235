# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Is a posterior honest? Coverage and ranks of the truth, and the quality of a class probability."""

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy.stats import binom, rankdata

from .parameters import as_quantity

__all__ = ["auc", "calibration_error", "coverage", "pit", "rank_histogram", "reliability", "sbc_ranks", "tarp"]


def sbc_ranks(draws, truth):
    """
    Rank of the truth among the draws (simulation-based calibration).

    Parameters
    ----------
    draws : array_like
        Posterior draws, shape (n, k, ...).
    truth : array_like
        True values, shape (n, ...).

    Returns
    -------
    ranks : `~numpy.ndarray`
        Number of draws below the truth, 0 to k, shape (n, ...). Uniform for a calibrated posterior.

    References
    ----------
    Talts et al. 2018, https://arxiv.org/abs/1804.06788

    Examples
    --------
    >>> from clustercnn.calibration import sbc_ranks
    >>> sbc_ranks([[1.0, 2.0, 3.0]], [2.5])
    array([2])
    """
    _check_known(truth)
    _check_unmasked(draws, "draws")
    draws, truth = np.asarray(draws), np.asarray(truth)
    if np.isnan(draws).any():
        raise ValueError("draws must not be NaN")
    if draws.ndim < 2 or draws[:, 0].shape != truth.shape:
        raise ValueError(f"draws must have shape (n, k, ...) where truth has (n, ...), not {draws.shape} and {truth.shape}")
    return (draws < truth[:, None]).sum(axis=1)


def rank_histogram(draws, truth, bins=20, level=0.99):
    """
    Histogram of the ranks of `sbc_ranks`, with the band that a calibrated posterior keeps to.

    Parameters
    ----------
    draws, truth : array_like
        As in `sbc_ranks`, of one parameter: shapes (n, k) and (n,).
    bins : int
        Number of bins, at most k + 1.
    level : float
        Probability of the band, for each bin by itself.

    Returns
    -------
    table : `~astropy.table.QTable`
        One row per bin: ``rank`` (its middle as a share of k), ``count``, and ``low`` and ``high`` of the band.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.calibration import rank_histogram
    >>> rng = np.random.default_rng(1)
    >>> table = rank_histogram(rng.random((1000, 99)), rng.random(1000), bins=10)
    >>> bool(np.all((table["count"] >= table["low"]) & (table["count"] <= table["high"])))
    True
    """
    ranks = sbc_ranks(draws, truth)
    if ranks.ndim != 1:
        raise ValueError("draws and truth must be of one parameter")
    k, n = np.shape(draws)[1], len(ranks)
    _check_level(level)
    if not 1 <= bins <= k + 1:
        raise ValueError(f"bins must lie between 1 and the number of ranks, {k + 1}, not {bins}")
    edges = np.linspace(0, k + 1, bins + 1)
    count, _ = np.histogram(ranks + 0.5, edges)
    # A bin holds more or fewer whole ranks where bins do not divide them.
    share = np.diff(np.ceil(edges - 0.5)) / (k + 1)
    low, high = binom.interval(level, n, share)
    return QTable({"rank": (edges[1:] + edges[:-1]) / 2 / (k + 1), "count": count, "low": low, "high": high})


def pit(estimate, truth, name, rng=0):
    """
    Probability integral transform: the share of the posterior below the truth.

    Parameters
    ----------
    estimate : `~clustercnn.estimate.ClusterEstimate`
        Posterior draws of n sources.
    truth : `~astropy.units.Quantity`
        Of one parameter, shape (n,).
    name : str
        The parameter, or ``"visibility"``.
    rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
        Breaks the ties between ranks.

    Returns
    -------
    values : `~numpy.ndarray`
        In 0..1, shape (n,); uniform for a calibrated posterior. How uniform so many ought to be tells `rank_histogram`, of the same ranks.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.calibration import pit
    >>> from clustercnn.estimate import ClusterEstimate
    >>> from clustercnn.parameters import ParameterSpace
    >>> space = ParameterSpace.paper()
    >>> rng = np.random.default_rng(1)
    >>> prior = ClusterEstimate(space.from_unit(rng.random((2000, 100, 4))), space)
    >>> print(f"{pit(prior, space.sample(2000, rng)['age'], 'age').mean():.1f}")
    0.5
    """
    draws = _draws(estimate, name)
    ranks = sbc_ranks(draws, _coordinate(estimate, truth, name))
    return (ranks + np.random.default_rng(rng).random(len(ranks))) / (draws.shape[1] + 1)


def tarp(estimate, truth, levels=None, rng=0):
    """
    Joint coverage of all parameters, by distances to random points (tests of accuracy with random points).

    Parameters
    ----------
    estimate : `~clustercnn.estimate.ClusterEstimate`
        Posterior draws of n sources.
    truth : `~astropy.table.QTable` or mapping
        A Quantity of length n per parameter.
    levels : float or array_like, optional
        Credibilities. Default: 0.05, 0.1 ... 0.95.
    rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
        Source of the random points.

    Returns
    -------
    table : `~astropy.table.QTable`
        One row per level: ``level``, ``coverage`` (the share of sources whose truth lies nearer to their random point than that share of the
        draws), ``error`` (binomial, one sigma, at the nominal level), ``deviation`` = (coverage - level) / error.

    Notes
    -----
    Distances are Euclidean in the unit cube of the space; the points are drawn from the prior. Coverage above the level in the middle
    and below it at the ends, or the reverse, tells of posteriors that are too wide or too narrow; all above or all below, of a bias.

    References
    ----------
    Lemos et al. 2023, https://arxiv.org/abs/2302.03026

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.calibration import tarp
    >>> from clustercnn.estimate import ClusterEstimate
    >>> from clustercnn.parameters import ParameterSpace
    >>> space = ParameterSpace.paper()
    >>> rng = np.random.default_rng(1)
    >>> table = tarp(ClusterEstimate(space.from_unit(rng.random((500, 100, 4))), space), space.sample(500, rng=rng))
    >>> bool(np.all(np.abs(table["deviation"]) < 4))
    True
    """
    levels = np.arange(1, 20) / 20 if levels is None else np.atleast_1d(np.asarray(levels, dtype=float))
    if levels.ndim != 1 or not np.all((levels > 0) & (levels < 1)):
        raise ValueError(f"levels must lie between 0 and 1, not {levels}")
    rng = np.random.default_rng(rng)
    unit, true = (estimate.space.to_unit(values) for values in (estimate.draws, _coordinates(estimate, truth)))
    points = rng.random(true.shape)
    of_draws = np.linalg.norm(unit - points[:, None], axis=-1)
    nearer = (of_draws < np.linalg.norm(true - points, axis=-1)[:, None]).sum(axis=1)
    share = (nearer + rng.random(len(nearer))) / (unit.shape[1] + 1)
    found = (share[:, None] < levels).mean(axis=0)
    error = np.sqrt(levels * (1 - levels) / len(share))
    return QTable({"level": levels, "coverage": found, "error": error, "deviation": (found - levels) / error})


def _coordinates(estimate, truth):
    """True coordinates (n, d)."""
    if not hasattr(truth, "keys"):
        raise TypeError(f"truth must be a table or a mapping such as {{'age': [8, 90] * u.Myr, ...}}, not {type(truth).__name__}")
    if missing := [name for name in estimate.space.names if name not in truth.keys()]:
        raise ValueError(f"truth must hold all parameters of the estimate; it lacks {missing}")
    return np.stack([_coordinate(estimate, truth[name], name) for name in estimate.space.names], axis=-1)


def _draws(estimate, name):
    """Draws (n, k) of one parameter along its coordinate, or of the visibility."""
    if name == "visibility" and estimate.visibility_draws is not None:
        if np.isnan(estimate.visibility_draws).any():
            raise ValueError("estimate must know the visibility of all its sources: leave out those without an answer")
        return estimate.visibility_draws
    if name not in estimate.space.names:
        raise ValueError(f"name must be one of {estimate.space.names}, or 'visibility' where the estimate knows it, not {name!r}")
    return estimate.draws[:, :, estimate.space.names.index(name)]


def _coordinate(estimate, truth, name):
    """True coordinates of one parameter, or true visibilities, (n,)."""
    _check_known(truth)
    if name == "visibility":
        coordinate = as_quantity(u.Quantity(truth), u.one, name).value
        coordinate = np.where(coordinate > 0, coordinate, np.nan)
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            coordinate = np.asarray(estimate.space[name].to_coordinate(truth))
    if coordinate.shape != (len(estimate),):
        raise ValueError(f"truth must hold {len(estimate)} values per parameter, not {coordinate.shape} of {name}")
    if (lost := ~np.isfinite(coordinate)).any():
        first = truth[np.flatnonzero(lost)[0]]
        raise ValueError(f"truth must be positive where a parameter is logarithmic, or a visibility, but {name} holds {first}")
    return coordinate


def _check_known(truth):
    if not np.size(truth):
        raise ValueError("truth must hold at least one source")
    if np.any(getattr(truth, "mask", False)) or not np.isfinite(truth).all():
        raise ValueError("truth must be finite and not masked: leave out the sources of which it is not known")


def coverage(estimate, truth, levels=(0.68, 0.95)):
    """
    How often equal-tailed intervals hold the truth.

    Parameters
    ----------
    estimate : `~clustercnn.estimate.ClusterEstimate`
        Posterior draws of n sources.
    truth : `~astropy.table.QTable` or mapping
        A Quantity of length n per parameter. Where it holds a ``visibility`` and the estimate does, too, that is looked at as well.
    levels : float or sequence of float
        Probabilities in (0, 1), of the intervals of `ClusterEstimate.interval <clustercnn.estimate.ClusterEstimate.interval>`.

    Returns
    -------
    table : `~astropy.table.QTable`
        One row per parameter and level: ``parameter``, ``level``, ``coverage`` (a fraction), ``error`` (binomial, one
        sigma, at the nominal level) and ``deviation`` = (coverage - level) / error.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.calibration import coverage
    >>> from clustercnn.estimate import ClusterEstimate
    >>> from clustercnn.parameters import ParameterSpace
    >>> space = ParameterSpace.paper()
    >>> rng = np.random.default_rng(1)
    >>> draws = space.from_unit(rng.random((500, 100, 4)))  # the prior is a calibrated posterior
    >>> table = coverage(ClusterEstimate(draws, space), space.sample(500, rng=rng))
    >>> bool(np.all(np.abs(table["deviation"]) < 4))
    True
    """
    true = dict(zip(estimate.space.names, _coordinates(estimate, truth).T, strict=True))
    if estimate.visibility_draws is not None and "visibility" in truth.keys():
        true["visibility"] = _coordinate(estimate, truth["visibility"], "visibility")
    k, levels = estimate.draws.shape[1], np.atleast_1d(levels)
    for level in levels:
        _check_level(level, "levels")
        if level > (most := (k - 1) / (k + 1)) + 1e-9:
            raise ValueError(f"levels must be at most {most:.3g}, which is as far as the intervals of {k} draws reach, not {level}")
    rows = []
    for name, coordinate in true.items():
        draws = _draws(estimate, name)
        for level in levels:
            lower, upper = np.quantile(draws, (0.5 - level / 2, 0.5 + level / 2), axis=1, method="weibull")
            inside = float(np.mean((coordinate >= lower) & (coordinate <= upper)))
            error = np.sqrt(level * (1 - level) / len(estimate))
            rows.append((name, float(level), inside, error, (inside - level) / error))
    return QTable(rows=rows, names=("parameter", "level", "coverage", "error", "deviation"))


def auc(score, label):
    """
    Area under the receiver operating characteristic: the chance that a positive scores above a negative, ties counting half.

    Parameters
    ----------
    score : array_like
        Shape (n,), higher for positives.
    label : array_like
        Shape (n,), true for positives. Both kinds must occur.

    Returns
    -------
    area : float

    Examples
    --------
    >>> from clustercnn.calibration import auc
    >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    _check_unmasked(score, "score")
    score, label = np.asarray(score, dtype=float), _labels(label)
    if score.ndim != 1 or score.shape != label.shape:
        raise ValueError(f"score and label must be one-dimensional and alike, not of shape {score.shape} and {label.shape}")
    if label.all() or not label.any():
        raise ValueError("label must hold positives and negatives")
    if np.isnan(score).any():
        raise ValueError("score must not be NaN")
    rank = rankdata(score)
    positives = int(label.sum())
    return float((rank[label].sum() - positives * (positives + 1) / 2) / (positives * (label.size - positives)))


def reliability(p, label, bins=10):
    """
    Does a probability mean what it says?

    Parameters
    ----------
    p : array_like
        Predicted probabilities in 0..1, shape (n,).
    label : array_like
        Shape (n,), true for positives, drawn at the prior odds that ``p`` assumes.
    bins : int
        Number of equal bins in p.

    Returns
    -------
    table : `~astropy.table.QTable`
        One row per bin that is not empty: ``p`` (mean prediction), ``fraction`` (of positives), ``error`` (binomial) and
        ``n``.

    Examples
    --------
    >>> from clustercnn.calibration import reliability
    >>> reliability([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1], bins=2)["fraction"].tolist()
    [0.0, 1.0]
    """
    _check_unmasked(p, "p")
    p, label = np.asarray(p, dtype=float), _labels(label)
    if p.shape != label.shape or p.ndim != 1:
        raise ValueError(f"p and label must be one-dimensional and alike, not of shape {p.shape} and {label.shape}")
    if not (fine := (p >= 0) & (p <= 1)).all():
        raise ValueError(f"p must lie between 0 and 1, not {p[~fine][0]}")
    if not len(p) or not bins >= 1 or bins % 1:
        raise ValueError(f"there must be at least one value of p and a whole number of bins, not {len(p)} and {bins}")
    cell = np.minimum((p * bins).astype(int), bins - 1)
    rows = []
    for i in np.unique(cell):
        here = cell == i
        n = int(here.sum())
        mean = p[here].mean()
        rows.append((mean, label[here].mean(), np.sqrt(max(mean * (1 - mean), 1e-12) / n), n))
    return QTable(rows=rows, names=("p", "fraction", "error", "n"))


def _check_unmasked(values, name):
    if np.any(getattr(values, "mask", False)):
        raise ValueError(f"{name} must not be masked: leave out the sources of which it is not known")


def _check_level(level, name="level"):
    if not 0 < level < 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {level}")


def _labels(label):
    _check_unmasked(label, "label")
    label = np.asarray(label)
    if not np.isin(label, [0, 1]).all():
        raise ValueError("label must be true or false, 1 or 0")
    return label.astype(bool)


def calibration_error(p, label, bins=10, n=400, level=0.95, rng=0):
    """
    Expected calibration error of a probability, and what chance alone would make of it.

    Parameters
    ----------
    p, label, bins
        As in `reliability`.
    n : int
        How many times labels are drawn at random from ``p``, for the limit.
    level : float
        Probability of the limit.
    rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
        Source of these labels.

    Returns
    -------
    error : float
        Mean of ``|fraction - p|`` over the bins, weighted by how much they hold.
    limit : float
        Which a probability that means what it says exceeds with the probability ``1 - level`` only, for so many labels.

    References
    ----------
    Naeini et al. 2015, AAAI 29, 2901; Brocker & Smith 2007, Weather and Forecasting 22, 651.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.calibration import calibration_error
    >>> p = np.full(1000, 0.7)
    >>> error, limit = calibration_error(p, np.arange(1000) < 500)
    >>> print(f"{error:.1f} {error > limit}")
    0.2 True
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    _check_level(level)
    error = _calibration_error(p, label, bins)
    p = np.asarray(p, dtype=float)
    rng = np.random.default_rng(rng)
    chance = [_calibration_error(p, rng.random(len(p)) < p, bins) for _ in range(n)]
    return error, float(np.quantile(chance, level))


def _calibration_error(p, label, bins):
    table = reliability(p, label, bins)
    return float((np.abs(table["fraction"] - table["p"]) * table["n"]).sum() / table["n"].sum())
