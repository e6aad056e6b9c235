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
from clustercnn.simulation.scenes import BRIGHT_STARS
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
    stars = tables.draw(np.full(n, tables.nearest_age(log_age)), np.full(n, mass), n_bright, rng)
    light, population = stars.other.copy(), stars.population.numpy()
    np.add.at(light, population, stars.luminosity.numpy().astype(float))
    return light, np.bincount(population, minlength=n)


def expected_light(log_age, mass):
    """Mean, variance and fourth cumulant of the light of clusters of one mass, as sums over the isochrone."""
    knots, magnitudes = GRID.magnitudes(log_age, 0.0, PASSBANDS)
    stars = np.union1d(np.geomspace(knots[0], knots[-1], 500_001), knots)
    light = np.stack([10 ** (-0.4 * np.interp(stars, knots, band)) for band in magnitudes.T])
    number = KROUPA.pdf(stars) * np.gradient(stars) * mass / KROUPA.mean_mass
    mean = light @ number
    # Stars arrive at random, but the mass is fixed: more of it in one star, living or dead, leaves less for the others.
    dead = np.linspace(knots[-1], KROUPA.upper, 100_001)
    dead_number = np.gradient(dead) * KROUPA.pdf(dead) * mass / KROUPA.mean_mass
    variance, fourth = (
        (light - mean[:, None] / mass * stars) ** power @ number + (mean / mass) ** power * (dead**power @ dead_number)
        for power in (2, 4)
    )
    return mean, variance, fourth


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
    """The light of 2000 clusters of 3000 Msun each way: mean, variance and all of the distribution."""
    n = 2000
    exact = exact_light(log_age, 3000.0, n, np.random.default_rng(1))
    drawn, _ = drawn_light(tables, log_age, 3000.0, n, np.random.default_rng(2))
    mean, variance, fourth = expected_light(log_age, 3000.0)
    for light in (exact, drawn):
        assert np.abs(standard_score(light, mean, variance)).max() < 4
        # Few supergiants decide about the variance: its error comes from the fourth cumulant.
        assert np.abs((light.var(axis=0, ddof=1) - variance) / np.sqrt((fourth + 2 * variance**2) / n)).max() < 4
    for band in range(len(PASSBANDS)):
        assert ks_2samp(exact[:, band], drawn[:, band]).pvalue > 1e-3
        # Of the logarithm, since a few supergiants decide about the variance of the light.
        spread = np.std(np.log10([exact[:, band], drawn[:, band]]), axis=1)
        assert spread[1] / spread[0] == pytest.approx(1, abs=0.2)
        # The spread of the middle two thirds, which no single star decides; its error is 3 % for each of both.
        low, high = np.log10(np.percentile([exact[:, band], drawn[:, band]], [16, 84], axis=1))
        assert (high - low)[1] / (high - low)[0] == pytest.approx(1, abs=0.15)


def test_the_last_star_of_small_clusters(tables):
    """It is kept as often as where all stars are drawn: heavy ones shine most, and without them 100 Msun would lose a sixth."""
    n = 20_000
    exact, (drawn, _) = exact_light(6.6, 100.0, n, np.random.default_rng(1)), drawn_light(tables, 6.6, 100.0, n, np.random.default_rng(2))
    error = np.sqrt((exact.var(axis=0) + drawn.var(axis=0)) / n)
    assert np.all(np.abs(exact.mean(axis=0) - drawn.mean(axis=0)) < 4 * error)
    np.testing.assert_allclose(drawn.std(axis=0) / exact.std(axis=0), 1, atol=0.1)


@pytest.mark.parametrize("n_bright", [300, 2000])
def test_mean_and_variance_of_the_light(tables, n_bright):
    """However many stars are drawn one by one."""
    rng = np.random.default_rng(3)
    drawn = np.concatenate([drawn_light(tables, 8.0, 20_000.0, 2000, rng, n_bright)[0] for _ in range(8)])
    mean, variance, fourth = expected_light(8.0, 20_000.0)
    assert np.abs(standard_score(drawn, mean, variance)).max() < 4
    assert drawn.var(axis=0) / variance == pytest.approx(np.ones(3), abs=0.15)
    assert np.abs((drawn.var(axis=0, ddof=1) - variance) / np.sqrt((fourth + 2 * variance**2) / len(drawn))).max() < 4


def test_number_of_bright_stars(tables):
    """Its scatter is what the fixed mass leaves of chance: in some clusters a few heavy stars have used it up."""
    for mass, n_bright in [(3000.0, 800), (3e5, 800), (1e4, 100)]:
        _, number = drawn_light(tables, 7.5, mass, 400, np.random.default_rng(4), n_bright)
        assert abs(standard_score(number, n_bright)) < 4
        assert 0.7 < number.var() / n_bright < 3


def test_all_stars_of_a_small_cluster_are_drawn(tables):
    age = tables.nearest_age(8.0)
    stars = tables.draw(np.full(300, age), np.full(300, 100.0), 800, np.random.default_rng(0))
    number = np.bincount(stars.population.numpy(), minlength=300)
    knots = GRID.knots(8.0, 0.0)
    expected = 100.0 * KROUPA.cdf(knots.initial_mass[-1]) / KROUPA.mean_mass
    assert abs(standard_score(number, expected)) < 4
    assert np.all(stars.other == 0)


def test_mass_of_the_living(tables):
    """Bright stars down to the last one hold all the mass that is not in dead stars."""
    for age in (0, 30, 70):
        heaviest = GRID.knots(tables.log_ages[age], 0.0).initial_mass[-1]
        assert tables.bright_mass[age, -1] == pytest.approx(KROUPA.mass_fraction(KROUPA.lower, heaviest), abs=1e-4)
        number = KROUPA.number_fraction(KROUPA.lower, heaviest) / KROUPA.mean_mass
        assert tables.number[age, -1] == pytest.approx(number, rel=1e-9)


def test_scatter_of_the_other_stars(tables):
    age, mass, n_bright, n = tables.nearest_age(9.0), 1e5, 200, 3000
    light = tables.draw(np.full(n, age), np.full(n, mass), n_bright, np.random.default_rng(5)).other
    last = tables.entry(age, n_bright / mass)
    assert np.abs(standard_score(light, mass * tables.other_mean[age, last])).max() < 4
    covariance = mass * tables.other_covariance[age, last]
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(np.cov((light / scale).T), covariance / np.outer(scale, scale), atol=0.1)
    assert np.all(light >= 0)


@pytest.mark.parametrize(("mass", "median", "worst"), [
    (1e4, [0.001, 0.001, 0.001], [0.001, 0.001, 0.001]),
    (1e5, [0.04, 0.03, 0.003], [0.47, 0.43, 0.015]),
    (3e5, [0.15, 0.07, 0.006], [0.99, 0.90, 0.18]),
])
def test_limit_of_the_smooth_light(tables, mass, median, worst):
    """What the page on performance says: the share of the variance of the flux that is in stars which are not drawn."""
    age = np.arange(len(tables.log_ages))
    last = tables.entry(age, np.minimum(BRIGHT_STARS / mass, tables.number[:, -1]))
    smooth, drawn = (np.diagonal(tables.other_covariance[age, i], axis1=1, axis2=2) for i in (last, 0 * last))
    share = smooth / drawn
    assert np.all(np.median(share, axis=0) < median) and np.all(share.max(axis=0) < worst)


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


def test_ages_between_the_isochrones(tables):
    """Twice as many steps, the old ones among them; the light in between is that of the interpolated isochrone."""
    fine = StarTables(PASSBANDS, midpoints=True)
    assert len(fine.log_ages) == 141 and fine.reach == tables.reach
    np.testing.assert_array_equal(fine.log_ages[::2], tables.log_ages)
    np.testing.assert_array_equal(fine.luminosity[::2], tables.luminosity)
    assert fine.log_ages[fine.nearest_age(8.02)] == pytest.approx(8.025)
    for age in (25, 61, 99):
        ssp = GRID.ssp_magnitudes(10 ** fine.log_ages[age] * u.yr, 0.0, "kroupa", PASSBANDS).to_value(u.mag)
        np.testing.assert_allclose(-2.5 * np.log10(fine.mean_luminosity(age)), ssp, atol=0.006)


def test_draws_follow_the_generator(tables):
    def light(seed):
        return drawn_light(tables, 8.0, 1e4, 3, np.random.default_rng(seed), 100)[0]

    np.testing.assert_array_equal(light(1), light(1))
    assert np.all(light(1) != light(2))


def test_clusters_of_all_kinds_at_once(tables):
    """Each has its own age and mass; none at all is no cluster."""
    age, mass = np.array([0, 30, 70, 30]), np.array([3e5, 3e3, 5e4, 1e2])
    stars = tables.draw(age, mass, 800, np.random.default_rng(1))
    assert np.all(np.diff(stars.population.numpy()) >= 0) and stars.luminosity.shape == (len(stars.population), 3)
    light = stars.other + [stars.luminosity.numpy()[stars.population.numpy() == i].sum(axis=0) for i in range(4)]
    expected = mass[:, None] * tables.mean_luminosity(age)
    assert np.all(np.abs(np.log10(light[:3] / expected[:3])) < 0.3)
    nothing = tables.draw(np.zeros(0, dtype=int), np.zeros(0), 800, np.random.default_rng(1))
    assert nothing.luminosity.shape == (0, 3) and nothing.other.shape == (0, 3)


def test_another_imf_and_metallicity(tables):
    with pytest.warns(AstropyUserWarning, match=r"between \[M/H\] 0 and 0.176 at log age 6.6 phase 4"):
        rich = StarTables(PASSBANDS[:1], metallicity=0.1, imf="salpeter")
    age = rich.nearest_age(8.0)
    ssp = GRID.ssp_magnitudes(1e8 * u.yr, 0.1, "salpeter", PASSBANDS[:1]).to_value(u.mag)
    assert -2.5 * np.log10(rich.mean_luminosity(age)) == pytest.approx(ssp, abs=0.002)
    assert abs(rich.mean_luminosity(age)[0] / tables.mean_luminosity(age)[0] - 1) > 0.05
