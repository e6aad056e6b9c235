# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tables of stars: their light against the isochrones' integrals, their draws against stars drawn one by one.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning
from scipy.stats import ks_2samp

from clustercnn.instruments import Instrument
from clustercnn.simulation.population import StarTables
from clustercnn.stellar import IsochroneGrid, get_imf

PASSBANDS = Instrument.from_name("HST/WFC3/UVIS/M83").passbands
GRID, KROUPA = IsochroneGrid.default(), get_imf("kroupa")


@pytest.fixture(name="tables", scope="module")
def fixture_tables():
    """Tables of the shipped grid; read only."""
    return StarTables(PASSBANDS)


def exact_light(log_age, mass, n, rng):
    """Light of n clusters whose stars are all drawn, shape (n, n_bands)."""
    knots, magnitudes = GRID.magnitudes(log_age, 0.0, PASSBANDS)
    light = np.empty((n, len(PASSBANDS)))
    for i in range(n):
        stars = KROUPA.sample_mass(mass, rng)
        stars = stars[stars <= knots[-1]]
        light[i] = [np.sum(10 ** (-0.4 * np.interp(stars, knots, band))) for band in magnitudes.T]
    return light


def drawn_light(tables, log_age, mass, n, rng, n_bright=800):
    """Light of n clusters by the tables, shape (n, n_bands), and their numbers of stars drawn one by one."""
    age = tables.nearest_age(log_age)
    draws = [tables.draw(age, mass, n_bright, rng) for _ in range(n)]
    light = np.array([stars.luminosity.sum(axis=0) + stars.other(rng) for stars in draws])
    return light, np.array([len(stars.luminosity) for stars in draws])


def expected_light(log_age, mass):
    """Mean and variance of the light of clusters of one mass, as sums over the isochrone."""
    knots, magnitudes = GRID.magnitudes(log_age, 0.0, PASSBANDS)
    stars = np.union1d(np.geomspace(knots[0], knots[-1], 500_001), knots)
    light = np.stack([10 ** (-0.4 * np.interp(stars, knots, band)) for band in magnitudes.T])
    number = KROUPA.pdf(stars) * np.gradient(stars) * mass / KROUPA.mean_mass
    mean = light @ number
    # Stars arrive at random, but the mass is fixed: more of it in one star, living or dead, leaves less for the others.
    dead = np.linspace(knots[-1], KROUPA.upper, 100_001)
    square = np.trapezoid(KROUPA.pdf(dead) * dead**2, dead) * mass / KROUPA.mean_mass
    variance = (light - mean[:, None] / mass * stars) ** 2 @ number + (mean / mass) ** 2 * square
    return mean, variance


def standard_score(sample, mean, variance=None):
    """Deviation of the sample's mean in standard errors, of a known variance if there is one."""
    variance = sample.var(axis=0, ddof=1) if variance is None else variance
    return (sample.mean(axis=0) - mean) / np.sqrt(variance / len(sample))


def test_mean_light_is_that_of_the_isochrones(tables):
    difference = []
    for age, log_age in enumerate(tables.log_ages):
        ssp = GRID.ssp_magnitudes(10**log_age * u.yr, 0.0, "kroupa", PASSBANDS).to_value(u.mag)
        difference.append(-2.5 * np.log10(tables.mean_luminosity(age)) - ssp)
    difference = np.abs(difference)
    assert difference[:, :2].max() < 0.002  # mag
    # Few knots span the tip of the giant branch between 1.5 and 10 Gyr, and it shines in the red.
    assert difference[:, 2].max() < 0.006
    assert np.median(difference, axis=0).max() < 0.0005
    usual = [tables.nearest_age(log_age) for log_age in (6.6, 7.0, 7.5, 8.0, 8.5, 9.0, 9.5, 10.0)]
    assert difference[usual].max() < 0.002


@pytest.mark.parametrize("log_age", [6.6, 7.0, 8.0, 9.5])
def test_draws_are_like_stars_drawn_one_by_one(tables, log_age):
    """The light of 400 clusters of 3000 Msun each way: mean, scatter and all of the distribution."""
    exact = exact_light(log_age, 3000.0, 400, np.random.default_rng(1))
    drawn, _ = drawn_light(tables, log_age, 3000.0, 400, np.random.default_rng(2))
    expected = expected_light(log_age, 3000.0)
    assert np.abs(standard_score(exact, *expected)).max() < 4
    assert np.abs(standard_score(drawn, *expected)).max() < 4
    for band in range(len(PASSBANDS)):
        assert ks_2samp(exact[:, band], drawn[:, band]).pvalue > 1e-3
        # of the logarithm, since a few supergiants decide about the variance of the light
        spread = np.std(np.log10([exact[:, band], drawn[:, band]]), axis=1)
        assert spread[1] / spread[0] == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("n_bright", [300, 2000])
def test_mean_and_variance_of_the_light(tables, n_bright):
    """However many stars are drawn one by one."""
    drawn, _ = drawn_light(tables, 8.0, 20_000.0, 1500, np.random.default_rng(3), n_bright)
    mean, variance = expected_light(8.0, 20_000.0)
    assert np.abs(standard_score(drawn, mean, variance)).max() < 4
    assert drawn.var(axis=0) / variance == pytest.approx(np.ones(3), abs=0.15)


def test_number_of_bright_stars(tables):
    """Its scatter is what the fixed mass leaves of chance: in some clusters a few heavy stars have used it up."""
    for mass, n_bright in [(3000.0, 800), (3e5, 800), (1e4, 100)]:
        _, number = drawn_light(tables, 7.5, mass, 400, np.random.default_rng(4), n_bright)
        assert abs(standard_score(number, n_bright)) < 4
        assert 0.7 < number.var() / n_bright < 3


def test_all_stars_of_a_small_cluster_are_drawn(tables):
    age = tables.nearest_age(8.0)
    stars = [tables.draw(age, 100.0, 800, np.random.default_rng(i)) for i in range(300)]
    knots = GRID.knots(8.0, 0.0)
    expected = 100.0 * KROUPA.cdf(knots.initial_mass[-1]) / KROUPA.mean_mass
    assert abs(standard_score(np.array([len(drawn.luminosity) for drawn in stars]), expected)) < 4
    assert all(np.all(drawn.other_mean == 0) and np.all(drawn.other_covariance == 0) for drawn in stars)


def test_mass_of_the_living(tables):
    """Bright stars down to the last one hold all the mass that is not in dead stars."""
    for age in (0, 30, 70):
        heaviest = GRID.knots(tables.log_ages[age], 0.0).initial_mass[-1]
        assert tables.bright_mass[age, -1] == pytest.approx(KROUPA.mass_fraction(KROUPA.lower, heaviest), abs=1e-4)
        number = KROUPA.number_fraction(KROUPA.lower, heaviest) / KROUPA.mean_mass
        assert tables.number[age, -1] == pytest.approx(number, rel=1e-9)


def test_scatter_of_the_other_stars(tables):
    stars = tables.draw(tables.nearest_age(9.0), 1e5, 200, np.random.default_rng(5))
    rng = np.random.default_rng(6)
    light = np.array([stars.other(rng) for _ in range(3000)])
    assert np.abs(standard_score(light, stars.other_mean)).max() < 4
    scale = np.sqrt(np.diag(stars.other_covariance))
    np.testing.assert_allclose(np.cov((light / scale).T), stars.other_covariance / np.outer(scale, scale), atol=0.1)
    assert np.all(light >= 0)


def test_tables_are_ordered(tables):
    assert np.all(np.diff(tables.number, axis=1) > 0)
    assert np.all(np.diff(tables.mass, axis=1) <= 0)
    assert np.all(np.diff(tables.other_mean, axis=1) <= 0)
    age = np.array([0, 20, 70])
    for entry in (0, 17, 5000, 8191):
        np.testing.assert_array_equal(tables.entry(age, tables.number[age, entry]), entry)
    assert tables.entry(3, 0.0) == 0 and tables.entry(3, 1e3) == 8191


def test_nearest_age(tables):
    assert len(tables.log_ages) == 71
    for log_age, nearest in [(6.575, 6.6), (6.62, 6.6), (6.63, 6.65), (8.0, 8.0), (10.125, 10.1)]:
        assert tables.log_ages[tables.nearest_age(log_age)] == pytest.approx(nearest)


def test_draws_follow_the_generator(tables):
    def light(seed):
        return tables.draw(30, 1e4, 100, np.random.default_rng(seed)).luminosity

    np.testing.assert_array_equal(light(1), light(1))
    assert light(1).shape != light(2).shape or np.any(light(1) != light(2))


def test_another_imf_and_metallicity(tables):
    with pytest.warns(AstropyUserWarning, match=r"between \[M/H\] 0 and 0.176 at log age 6.6 phase 4"):
        rich = StarTables(PASSBANDS[:1], metallicity=0.1, imf="salpeter")
    age = rich.nearest_age(8.0)
    ssp = GRID.ssp_magnitudes(1e8 * u.yr, 0.1, "salpeter", PASSBANDS[:1]).to_value(u.mag)
    assert -2.5 * np.log10(rich.mean_luminosity(age)) == pytest.approx(ssp, abs=0.002)
    assert abs(rich.mean_luminosity(age)[0] / tables.mean_luminosity(age)[0] - 1) > 0.05
