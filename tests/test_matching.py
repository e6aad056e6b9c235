# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Matching one to one, in pixels and on the sky.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.utils.masked import Masked
from hypothesis import given
from hypothesis import strategies as st

from clustercnn.matching import match_positions


def test_closest_pair_wins_and_each_object_matches_once():
    first = [(0, 0), (1.0, 0), (100, 100)]
    second = [(0.9, 0), (1.4, 0), (50, 50)]
    pairs = match_positions(first, second, 2 * u.pix)
    assert pairs["first"].tolist() == [0, 1]
    assert pairs["second"].tolist() == [1, 0]
    assert pairs["separation"].to_value(u.pix) == pytest.approx([1.4, 0.1])


@given(seed=st.integers(0, 1000), n=st.integers(0, 30), m=st.integers(0, 30))
def test_pairs_are_one_to_one_symmetric_and_within_tolerance(seed, n, m):
    rng = np.random.default_rng(seed)
    first, second = rng.uniform(0, 10, (n, 2)), rng.uniform(0, 10, (m, 2))
    pairs, swapped = match_positions(first, second, 1 * u.pix), match_positions(second, first, 1 * u.pix)
    assert len(set(pairs["first"])) == len(set(pairs["second"])) == len(pairs)
    assert set(zip(pairs["first"], pairs["second"], strict=True)) == set(
        zip(swapped["second"], swapped["first"], strict=True)
    )
    assert np.all(pairs["separation"] <= 1 * u.pix)
    # nothing within reach is left over on both sides
    left = np.setdiff1d(np.arange(n), pairs["first"]), np.setdiff1d(np.arange(m), pairs["second"])
    distances = np.hypot(*(first[left[0], None] - second[None, left[1]]).transpose(2, 0, 1))
    assert not np.any(distances < 1)


def test_a_catalogue_matches_itself_also_at_zero_tolerance():
    xy = np.random.default_rng(0).uniform(0, 100, (50, 2))
    pairs = match_positions(xy, xy[::-1], 0 * u.pix)
    np.testing.assert_array_equal(pairs["second"], 49 - pairs["first"])


def test_tables_with_centroids():
    table = QTable({"x_centroid": [1.0, 5.0], "y_centroid": [2.0, 6.0]})
    old = QTable({"xcentroid": [5.1, 30], "ycentroid": [6.0, 30]})
    pairs = match_positions(table, old, 1 * u.pix)
    assert (pairs["first"].tolist(), pairs["second"].tolist()) == ([1], [0])


def test_sky_in_any_frame_and_across_the_meridian():
    first = SkyCoord([359.99999, 10, 20] * u.deg, [0, 89.9999, -30] * u.deg)
    second = SkyCoord([20, 0.00001, 190] * u.deg, [-30.00001, 0, 89.9999] * u.deg).galactic
    pairs = match_positions(first, second, 1 * u.arcsec)
    assert pairs["second"].tolist() == [1, 2, 0]
    assert pairs["separation"].unit == u.arcsec
    assert pairs["separation"][0].value == pytest.approx(0.072, abs=1e-3)
    assert len(match_positions(first[0], second, 1 * u.arcsec)) == 1


def test_nothing_matches_is_an_empty_table():
    for second in (np.zeros((0, 2)), [], [(50, 50)]):
        pairs = match_positions([(0, 0)], second, 1 * u.pix)
        assert len(pairs) == 0 and pairs.colnames == ["first", "second", "separation"]
        assert pairs["separation"].unit == u.pix


def test_errors():
    sky = SkyCoord([1] * u.deg, [2] * u.deg)
    with pytest.raises(TypeError, match="tolerance must be a Quantity"):
        match_positions([(0, 0)], [(0, 0)], 1.0)
    with pytest.raises(u.UnitsError, match="tolerance"):
        match_positions([(0, 0)], [(0, 0)], 1 * u.arcsec)
    with pytest.raises(TypeError, match="both"):
        match_positions(sky, [(0, 0)], 1 * u.arcsec)
    for tolerance in (-1 * u.pix, np.nan * u.pix, [1, 2] * u.pix):
        with pytest.raises(ValueError, match="tolerance"):
            match_positions([(0, 0)], [(0, 0)], tolerance)
    lost = SkyCoord(Masked([1, 3] * u.deg, mask=[False, True]), [2, 4] * u.deg)
    for unknown in (lost, SkyCoord([1, np.nan] * u.deg, [2, np.nan] * u.deg)):
        with pytest.raises(ValueError, match="finite and not masked"):
            match_positions(sky, unknown, 1 * u.arcsec)
    with pytest.raises(ValueError, match="x_centroid"):
        match_positions(QTable({"x": [1]}), [(0, 0)], 1 * u.pix)
