# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Is a posterior honest? Coverage and ranks of the truth, and the quality of a class probability."""

import numpy as np
from astropy.table import QTable

__all__ = ["auc", "coverage", "reliability", "sbc_ranks"]


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
    draws, truth = np.asarray(draws), np.asarray(truth)
    if draws.ndim < 2 or draws[:, 0].shape != truth.shape:
        raise ValueError(f"draws must have shape (n, k, ...) where truth has (n, ...), not {draws.shape} and {truth.shape}")
    return (draws < truth[:, None]).sum(axis=1)


def coverage(estimate, truth, levels=(0.68, 0.95)):
    """
    How often equal-tailed intervals hold the truth.

    Parameters
    ----------
    estimate : `~clustercnn.estimate.ClusterEstimate`
        Posterior draws of n sources.
    truth : `~astropy.table.QTable` or mapping
        A Quantity of length n per parameter.
    levels : sequence of float
        Probabilities in (0, 1).

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
    space = estimate.space
    coordinates = space.to_coordinates(truth)
    if coordinates.shape != (len(estimate), len(space)):
        raise ValueError(f"truth must hold {len(estimate)} values per parameter, not {coordinates.shape[:-1]}")
    rows = []
    for i, name in enumerate(space.names):
        for level in levels:
            if not 0 < level < 1:
                raise ValueError(f"levels must lie between 0 and 1, not {level}")
            lower, upper = np.quantile(estimate.draws[:, :, i], [0.5 - level / 2, 0.5 + level / 2], axis=1)
            inside = float(np.mean((coordinates[:, i] >= lower) & (coordinates[:, i] <= upper)))
            error = np.sqrt(level * (1 - level) / len(estimate))
            rows.append((name, level, inside, error, (inside - level) / error))
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
    score, label = np.asarray(score, dtype=float), np.asarray(label).astype(bool)
    if score.ndim != 1 or score.shape != label.shape:
        raise ValueError(f"score and label must be one-dimensional and alike, not of shape {score.shape} and {label.shape}")
    if label.all() or not label.any():
        raise ValueError("label must hold positives and negatives")
    _, place, number = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(number) - 0.5 * (number - 1))[place]  # mid-ranks, from 1
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
    p, label = np.asarray(p, dtype=float), np.asarray(label).astype(bool)
    if p.shape != label.shape or p.ndim != 1:
        raise ValueError(f"p and label must be one-dimensional and alike, not of shape {p.shape} and {label.shape}")
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("p must lie between 0 and 1")
    cell = np.minimum((p * bins).astype(int), bins - 1)
    rows = []
    for i in np.unique(cell):
        here = cell == i
        n = int(here.sum())
        mean = p[here].mean()
        rows.append((mean, label[here].mean(), np.sqrt(max(mean * (1 - mean), 1e-12) / n), n))
    return QTable(rows=rows, names=("p", "fraction", "error", "n"))
