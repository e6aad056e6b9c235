# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The measures of honesty pass what is honest and catch what is not."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, Table
from scipy.stats import kstest

from clustercnn.calibration import auc, calibration_error, coverage, pit, rank_histogram, reliability, sbc_ranks, tarp
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


@pytest.mark.parametrize("k", [39, 199])
def test_coverage_is_that_of_any_number_of_draws(k):
    """Few draws make intervals that are uncertain, but hold the truth as often as they say."""
    table = coverage(*posterior(n=10_000, k=k))
    assert np.abs(table["deviation"]).max() < 3.5


def test_unknown_truths_are_no_misses():
    """They are refused, NaN and masked ones alike."""
    estimate, truth = posterior(n=10)
    for unknown in (np.nan * u.Msun, np.ma.masked):
        table = QTable(truth, masked=True)
        table["mass"][3] = unknown
        for ask in (coverage, tarp, lambda estimate, table: pit(estimate, table["mass"], "mass")):
            with pytest.raises(ValueError, match="truth must be finite and not masked"):
                ask(estimate, table)
    with pytest.raises(ValueError, match=r"it lacks \['half_light_radius'\]"):
        coverage(estimate, {name: truth[name] for name in estimate.space.names[:3]})
    for ask in (coverage, tarp):
        with pytest.raises(ValueError, match="at least one source"):
            ask(estimate[:0], {name: values[:0] for name, values in truth.items()})


@pytest.mark.parametrize("stretch", [1.0, 1.5])
def test_visibility_is_looked_at_where_both_know_it(stretch):
    """Lognormal measurements of it, and draws as wide as their errors or wider."""
    estimate, truth = posterior(n=3000)
    rng = np.random.default_rng(8)
    true = 10 ** rng.uniform(0, 2, 3000)
    measured = true * np.exp(0.1 * rng.standard_normal(3000))
    draws = measured[:, None] * np.exp(0.1 * stretch * rng.standard_normal((3000, 200)))
    known = ClusterEstimate(estimate.draws, SPACE, visibility=draws)
    assert "visibility" not in coverage(estimate, truth | {"visibility": true})["parameter"]
    assert "visibility" not in coverage(known, truth)["parameter"]
    table = coverage(known, truth | {"visibility": true})
    deviation = table["deviation"][table["parameter"] == "visibility"]
    p = kstest(pit(known, true * u.one, "visibility"), "uniform").pvalue
    assert np.all(np.abs(deviation) < 3.5) and p > 1e-3 if stretch == 1 else np.all(deviation > 6) and p < 1e-6
    assert table[:8]["coverage"].tolist() == coverage(estimate, truth)["coverage"].tolist()
    with pytest.raises(ValueError, match="'visibility' where the estimate knows it, not 'visibility'"):
        pit(estimate, true, "visibility")
    with pytest.raises(ValueError, match="truth must be positive where .* a visibility, but visibility holds -1.0"):
        coverage(known, truth | {"visibility": np.where(true > 50, -1.0, true)})
    draws[4] = np.nan
    with pytest.raises(ValueError, match="leave out those without an answer"):
        coverage(ClusterEstimate(estimate.draws, SPACE, visibility=draws), truth | {"visibility": true})


@pytest.mark.parametrize("k", [5, 20, 38])
def test_few_draws_reach_so_far(k):
    """Beyond their outermost draws intervals would be clipped, and hold less than they should."""
    estimate, truth = posterior(n=500, k=k)
    most = (k - 1) / (k + 1)
    with pytest.raises(ValueError, match=f"levels must be at most {most:.3g}, which is as far as the intervals of {k} draws reach, not 0.95"):
        coverage(estimate, truth, [most, 0.95])
    assert np.abs(coverage(estimate, truth, most)["deviation"]).max() < 4


def test_a_truth_that_has_no_logarithm_is_no_miss():
    estimate, truth = posterior(n=10)
    for age in (0, -3):
        truth["age"][2] = age * u.Myr
        for ask in (coverage, tarp, lambda estimate, table: pit(estimate, table["age"], "age")):
            with pytest.raises(ValueError, match=rf"truth must be positive .* but age holds {age:.1f} Myr"):
                ask(estimate, truth)


def test_coverage_errors():
    estimate, truth = posterior(n=10)
    with pytest.raises(ValueError, match="levels must lie"):
        coverage(estimate, truth, levels=[68])
    with pytest.raises(ValueError, match="truth must hold 10 values"):
        coverage(estimate, {name: value[:5] for name, value in truth.items()})
    with pytest.raises(TypeError, match="truth must be a table or a mapping such as .*, not ndarray"):
        coverage(estimate, np.ones((10, 4)))
    for bare in (np.ones(10), np.ones((10, 1)), Table({"age": np.ones(10)})["age"]):  # of many values not all are told
        with pytest.raises(TypeError, match="age must be a Quantity such as") as error:
            coverage(estimate, truth | {"age": bare})
        assert "\n" not in str(error.value) and len(str(error.value)) < 100


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
    with pytest.raises(ValueError, match="score must not be NaN"):
        auc([0.1, np.nan], [0, 1])


def test_reliability():
    rng = np.random.default_rng(2)
    p = rng.random(20_000)
    table = reliability(p, rng.random(20_000) < p)
    assert len(table) == 10 and table["n"].sum() == 20_000
    assert np.all(np.abs(table["fraction"] - table["p"]) < 4 * table["error"])
    np.testing.assert_allclose(table["error"], np.sqrt(table["p"] * (1 - table["p"]) / table["n"]))
    skewed = reliability(p, rng.random(20_000) < p**2)
    assert np.any(np.abs(skewed["fraction"] - skewed["p"]) > 10 * skewed["error"])
    with pytest.raises(ValueError, match="p must lie between 0 and 1, not 2.0"):
        reliability([0.5, 2.0], [0, 1])
    with pytest.raises(ValueError, match="label must be true or false"):
        reliability([0.5], [np.nan])
    with pytest.raises(ValueError, match="p and label must be one-dimensional"):
        reliability([0.5], [1, 0])
    for p, bins in ([], 10), ([0.5], 0), ([0.5], 2.5):
        with pytest.raises(ValueError, match="at least one value of p and a whole number of bins"):
            calibration_error(p, np.ones(len(p)), bins)
    with pytest.raises(ValueError, match="n must be at least 1, not 0"):
        calibration_error([0.5], [1], n=0)


def test_rank_histograms():
    """Calibrated ranks keep to the band, wrong ones leave it; bins need not divide the ranks."""
    rng = np.random.default_rng(1)
    for bins, k in [(20, 99), (7, 200), (200, 199), (3, 4)]:
        table = rank_histogram(rng.random((4000, k)), rng.random(4000), bins)
        assert table["count"].sum() == 4000 and np.mean((table["count"] < table["low"]) | (table["count"] > table["high"])) < 0.04
    narrow = rank_histogram(0.5 + 0.5 * (rng.random((4000, 99)) - 0.5), rng.random(4000))
    assert narrow["count"][0] > narrow["high"][0] and narrow["count"][10] < narrow["low"][10]
    for draws, truth, bins, message in [
        (np.zeros((3, 5, 2)), np.zeros((3, 2)), 3, "of one parameter"), (np.zeros((3, 5)), np.zeros(3), 7, "bins must lie between 1 and .* 6, not 7"),
    ]:
        with pytest.raises(ValueError, match=message):
            rank_histogram(draws, truth, bins)


def test_pit_is_uniform_where_posteriors_are_honest():
    estimate, truth = posterior()
    wide, _ = posterior(stretch=2.0)
    for name in estimate.space.names:
        assert kstest(pit(estimate, truth[name], name), "uniform").pvalue > 1e-3
        assert kstest(pit(wide, truth[name], name), "uniform").pvalue < 1e-6


def test_tarp_sees_width_and_bias():
    """Honest posteriors cover, wide ones too much in the upper half, shifted ones not; marginals alone would not show a lost correlation."""
    estimate, truth = posterior()
    table = tarp(estimate, truth)
    assert len(table) == 19 and np.abs(table["deviation"]).max() < 4
    wide, _ = posterior(stretch=3.0)
    assert np.abs(tarp(wide, truth)["deviation"]).max() > 6
    shifted = ClusterEstimate(estimate.draws + np.float32(0.5 * estimate.draws.std(axis=1, keepdims=True)), estimate.space)
    assert np.abs(tarp(shifted, truth)["deviation"]).max() > 4
    np.testing.assert_allclose(tarp(estimate, truth, levels=[0.3, 0.6])["level"], [0.3, 0.6])
    assert len(tarp(estimate, truth, levels=0.5)) == 1
    with pytest.raises(ValueError, match="levels must lie between 0 and 1"):
        tarp(estimate, truth, levels=[0.5, 1.0])
    with pytest.raises(ValueError, match="truth must hold"):
        tarp(estimate, {name: values[:5] for name, values in truth.items()})


def test_tarp_sees_lost_correlations():
    """Truths on a diagonal, posteriors with the same marginals and no diagonal."""
    rng = np.random.default_rng(3)
    space = ParameterSpace.paper()
    true = np.tile(rng.random((3000, 1)), (1, 4))
    draws = rng.random((3000, 200, 4))
    honest = np.tile(rng.random((3000, 200, 1)), (1, 1, 4))
    values = space.from_coordinates(space.from_unit(true))
    assert np.abs(coverage(ClusterEstimate(space.from_unit(draws), space), values)["deviation"]).max() < 4
    assert np.abs(tarp(ClusterEstimate(space.from_unit(draws), space), values)["deviation"]).max() > 6
    assert np.abs(tarp(ClusterEstimate(space.from_unit(honest), space), values)["deviation"]).max() < 4


def test_calibration_error():
    rng = np.random.default_rng(2)
    p = rng.random(5000)
    error, limit = calibration_error(p, rng.random(5000) < p)
    assert 0 < error < limit < 0.03
    error, limit = calibration_error(p, rng.random(5000) < p**2)
    assert error == pytest.approx(1 / 6, abs=0.02) and error > limit
    # of honest probabilities 5 % are beyond the limit, which is neither too tight nor too loose
    _, limit = calibration_error(p[:500], rng.random(500) < p[:500])
    errors = [calibration_error(p[:500], rng.random(500) < p[:500], n=1)[0] for _ in range(1000)]
    assert abs(np.mean(np.array(errors) > limit) - 0.05) < 3.5 * (0.05 * 0.95 * (1 / 1000 + 1 / 400)) ** 0.5
    for level in (0, 1, 2, np.nan):
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            calibration_error(p, p > 0.5, level=level)
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            rank_histogram([[0.5, 1.0]], [0.7], bins=1, level=level)


def test_masked_values_are_no_data():
    masked = np.ma.array([0.9, 0.8, 0.1, 0.99], mask=[0, 0, 0, 1])
    for function in (auc, reliability, calibration_error):
        with pytest.raises(ValueError, match="(score|p) must not be masked"):
            function(masked, [1, 1, 0, 0])
        with pytest.raises(ValueError, match="label must not be masked"):
            function([0.9, 0.8, 0.1, 0.2], np.ma.array([1, 1, 0, 0], mask=[0, 0, 0, 1]))
    with pytest.raises(ValueError, match="draws must not be NaN"):
        sbc_ranks([[1.0, np.nan]], [2.0])
