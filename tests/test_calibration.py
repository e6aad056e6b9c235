# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The measures of honesty pass what is honest and catch what is not."""

import numpy as np
import pytest

from clustercnn.calibration import auc, coverage, reliability, sbc_ranks
from clustercnn.estimate import ClusterEstimate
from clustercnn.parameters import ParameterSpace

SPACE = ParameterSpace.paper()


def posterior(stretch=1.0, n=1500, k=200):
    """Exact posteriors of a Gaussian measurement (or ones too wide by a factor), with their truths."""
    rng = np.random.default_rng(7)
    unit = rng.uniform(0.3, 0.7, (n, 4))
    measured = unit + 0.02 * rng.standard_normal((n, 4))
    draws = measured[:, None] + 0.02 * stretch * rng.standard_normal((n, k, 4))
    return ClusterEstimate(SPACE.from_unit(draws), SPACE), SPACE.from_coordinates(SPACE.from_unit(unit))


def test_coverage():
    honest = coverage(*posterior())
    assert len(honest) == 8 and set(honest["parameter"]) == set(SPACE.names)
    assert np.all(np.abs(honest["deviation"]) < 3.5)
    assert honest["error"][0] == pytest.approx((0.68 * 0.32 / 1500) ** 0.5)
    assert np.all(coverage(*posterior(0.5))["deviation"] < -8)
    assert np.all(coverage(*posterior(2.0))["deviation"] > 4)


def test_coverage_errors():
    estimate, truth = posterior(n=10)
    with pytest.raises(ValueError, match="levels must lie"):
        coverage(estimate, truth, levels=[68])
    with pytest.raises(ValueError, match="truth must hold 10 values"):
        coverage(estimate, {name: value[:5] for name, value in truth.items()})


def test_sbc_ranks_are_uniform():
    estimate, truth = posterior()
    ranks = sbc_ranks(estimate.draws, SPACE.to_coordinates(truth))
    assert ranks.shape == (1500, 4) and ranks.min() >= 0 and ranks.max() <= 200
    counts = np.histogram(ranks, bins=10, range=(0, 200))[0]
    assert np.sum((counts - 600) ** 2 / 600) < 35  # chi squared of 9 degrees of freedom
    with pytest.raises(ValueError, match="draws must have shape"):
        sbc_ranks(estimate.draws, np.zeros(3))


def test_auc():
    rng = np.random.default_rng(1)
    label = rng.random(400) < 0.3
    score = np.round(rng.normal(label, 1.0), 1)  # with ties
    pairs = score[label][:, None] - score[~label]
    assert auc(score, label) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    assert auc([1, 2, 3], [0, 0, 1]) == 1 and auc([1, 1], [0, 1]) == 0.5
    with pytest.raises(ValueError, match="positives and negatives"):
        auc([1, 2], [1, 1])
    with pytest.raises(ValueError, match="one-dimensional"):
        auc([1, 2], [1])


def test_reliability():
    rng = np.random.default_rng(2)
    p = rng.random(20_000)
    table = reliability(p, rng.random(20_000) < p)
    assert len(table) == 10 and table["n"].sum() == 20_000
    assert np.all(np.abs(table["fraction"] - table["p"]) < 4 * table["error"])
    skewed = reliability(p, rng.random(20_000) < p**2)
    assert np.any(np.abs(skewed["fraction"] - skewed["p"]) > 10 * skewed["error"])
    with pytest.raises(ValueError, match="between 0 and 1"):
        reliability([2.0], [1])
