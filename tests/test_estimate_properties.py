# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What holds of any ClusterEstimate, whatever its draws."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from hypothesis import given, settings
from hypothesis import strategies as st

from clustercnn.estimate import ClusterEstimate
from clustercnn.parameters import ParameterSpace

PAPER = ParameterSpace.paper()
LEVELS = st.floats(0.01, 0.99)
FEW = settings(max_examples=30)
PER_SOURCE = "draws", "p_cluster", "visibility_draws", "flags", "typicality", "effective_sample_size"


@st.composite
def estimates(draw, most=5):
    """Any number of sources, draws and parameters; some draws lie at the bounds, some are the same."""
    n, k, d = draw(st.integers(0, most)), draw(st.integers(1, 30)), draw(st.integers(1, 4))
    space = ParameterSpace(draw(st.permutations(PAPER.parameters))[:d])
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    unit = np.clip(rng.normal(draw(st.floats(-0.2, 1.2)), draw(st.sampled_from([0.0, 0.02, 0.3])), (n, k, d)), 0, 1)
    known = {
        "p_cluster": rng.random(n), "visibility": rng.lognormal(2, 1, (n, k)), "flags": rng.integers(0, 2048, n),
        "typicality": np.where(rng.random(n) < 0.3, np.nan, rng.random(n)), "effective_sample_size": k * rng.random(n),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(known))))
    meta = draw(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.floats(allow_nan=False)), max_size=3))
    return ClusterEstimate(space.from_unit(unit), space, meta=meta, **{name: known[name] for name in chosen})


def assert_same(one, two):
    assert one.space == two.space and one.meta == two.meta
    for name in PER_SOURCE:
        first, second = getattr(one, name), getattr(two, name)
        assert (first is None) == (second is None)
        if first is not None:
            np.testing.assert_array_equal(first, second)
            assert first.dtype == second.dtype


@FEW
@given(estimates(), LEVELS)
def test_intervals_contain_medians(estimate, level):
    """Those of equal tails always; the shortest ones where they hold more than half of the draws."""
    names = [*estimate.space.names, *(["visibility"] if estimate.visibility_draws is not None else [])]
    for name in names:
        middle = estimate.quantile(name, 0.5)
        for kind in ("equal-tailed", "highest-density"):
            low, high = estimate.interval(name, level, kind)
            assert np.all(low <= high)
            if kind == "equal-tailed" or level > 0.5:
                assert np.all((low <= middle * (1 + 1e-6)) & (middle <= high * (1 + 1e-6)))


@FEW
@given(estimates(), LEVELS, LEVELS)
def test_wider_intervals_contain_narrower_ones(estimate, one, other):
    narrow, wide = (estimate.interval(estimate.space.names[0], level) for level in sorted((one, other)))
    assert np.all((wide[0] <= narrow[0]) & (narrow[1] <= wide[1]))


@FEW
@given(estimates(), st.integers(0, 2**32), st.sampled_from([None, 1e-100, 1.0, 7e50]))
def test_reweighting_to_the_same_prior_changes_nothing(estimate, seed, constant):
    """Given as the space or as any constant, draws at the bounds included."""
    same = estimate.reweight(estimate.space if constant is None else lambda values: constant, rng=seed)
    np.testing.assert_allclose(same.effective_sample_size, estimate.effective_sample_size, rtol=1e-12)
    flags = estimate.flags | np.where(same.effective_sample_size < 20, 4, 0)
    np.testing.assert_array_equal(same.flags, flags)
    same.effective_sample_size, same.flags = estimate.effective_sample_size, estimate.flags
    assert_same(same, estimate)


def summaries(estimate):
    """All that is said of each source by itself."""
    name, last = estimate.space.names[0], estimate.space.names[-1]
    yield from (estimate.quantile(name, 0.3), estimate.mean(name), estimate.marginal(name, 7)[1], estimate.joint(name, last, (3, 4))[2])
    yield from (*estimate.interval(name, 0.5), *estimate.interval(name, 0.5, "highest-density"))
    yield from (estimate.morphology(name), estimate.at_bound(name), estimate.correlation(name, last), estimate.information_gain())
    yield np.array([len(modes) for modes in estimate.modes(name)], dtype=int)
    yield from (estimate.to_table()[column] for column in estimate.to_table().colnames)
    if estimate.p_cluster is not None:
        yield estimate.p_cluster_at(0.1)


def selections(n):
    """Slices, with steps and from the end; masks; numbers, in any order and more than once."""
    numbers = st.lists(st.integers(-n, n - 1), max_size=2 * n) if n else st.just([])
    masks = st.lists(st.booleans(), min_size=n, max_size=n)
    return st.slices(n) | numbers.map(lambda item: np.array(item, dtype=int)) | masks.map(lambda item: np.array(item, dtype=bool))


@FEW
@given(estimates(), st.data())
def test_selections_commute_with_summaries(estimate, data):
    item = data.draw(selections(len(estimate)))
    for part, whole in zip(summaries(estimate[item]), summaries(estimate), strict=True):
        np.testing.assert_array_equal(part, whole[item])


@FEW
@given(estimates(), st.data())
def test_concatenation_undoes_slicing(estimate, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(estimate)), max_size=3)))
    parts = [estimate[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(estimate)], strict=True)]
    assert_same(ClusterEstimate.concatenate(parts), estimate)


@pytest.fixture(scope="module", name="folder")
def fixture_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("estimates")


@FEW
@given(estimate=estimates())
def test_fits_round_trips_are_exact(folder, estimate):
    path = folder / "a.fits"
    estimate.write(path, overwrite=True)
    assert_same(ClusterEstimate.read(path), estimate)


@pytest.mark.parametrize("note", ["a'/b" + 80 * "x", "a' /b" + 80 * "x", 90 * "'" + "/ &\\"])
def test_long_provenance_with_quotes_and_slashes_survives(folder, note):
    space = ParameterSpace.paper()
    estimate = ClusterEstimate(space.from_unit(np.full((1, 5, 4), 0.5)), space, meta={"note": note})
    estimate.write(folder / "quotes.fits", overwrite=True)
    assert_same(ClusterEstimate.read(folder / "quotes.fits"), estimate)


@FEW
@given(estimate=estimates())
def test_ecsv_round_trips_are_exact(folder, estimate):
    path = folder / "a.ecsv"
    estimate.write(path, overwrite=True)
    table, again = estimate.to_table(), QTable.read(path)
    assert again.colnames == table.colnames and again.meta == table.meta
    for name in table.colnames:
        np.testing.assert_array_equal(u.Quantity(again[name]), u.Quantity(table[name]))
        assert u.Quantity(again[name]).unit == u.Quantity(table[name]).unit
