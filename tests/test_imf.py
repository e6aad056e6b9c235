# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tests of clustercnn.stellar.imf
"""

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clustercnn.stellar import BrokenPowerLaw, Chabrier, get_imf

NAMES = ["kroupa", "salpeter", "chabrier"]
MASSES = np.geomspace(0.08, 120, 100_001)


@pytest.mark.parametrize("name", NAMES)
def test_integrals_agree_with_quadrature(name):
    imf = get_imf(name)
    pdf = imf.pdf(MASSES)
    assert np.trapezoid(pdf, MASSES) == pytest.approx(1, rel=1e-6)
    assert np.trapezoid(pdf * MASSES, MASSES) == pytest.approx(imf.mean_mass, rel=1e-6)
    high = MASSES >= 8
    assert imf.number_fraction(8, 120) == pytest.approx(np.trapezoid(pdf[high], MASSES[high]), rel=1e-3)
    assert imf.mass_fraction(8, 120) == pytest.approx(
        np.trapezoid((pdf * MASSES)[high], MASSES[high]) / imf.mean_mass, rel=1e-3
    )


@pytest.mark.parametrize("name", NAMES)
def test_ppf_inverts_cdf(name):
    imf = get_imf(name)
    q = np.linspace(0, 1, 1001)
    mass = imf.ppf(q)
    assert np.allclose(imf.cdf(mass), q, atol=1e-12)
    assert mass[0] == pytest.approx(imf.lower) and mass[-1] == pytest.approx(imf.upper)
    assert imf.pdf(0.01) == imf.pdf(200) == 0
    assert imf.cdf(0.01) == 0 and imf.cdf(200) == pytest.approx(1)


def test_kroupa_numbers():
    # by hand: integrals of m^-1.3 and 0.5 m^-2.3 over 0.08-0.5-120 Msun
    low, high = (0.08**-0.3 - 0.5**-0.3) / 0.3, 0.5 * (0.5**-1.3 - 120**-1.3) / 1.3
    kroupa = get_imf("kroupa")
    assert kroupa.number_fraction(0.08, 0.5) == pytest.approx(low / (low + high), rel=1e-12)
    assert kroupa.mean_mass == pytest.approx(0.57947, abs=1e-5)


def test_published_fractions():
    # Kroupa (2002, Science, 295, 82): brown dwarfs, M dwarfs, K dwarfs, intermediate and massive stars
    kroupa = BrokenPowerLaw([0.01, 0.08, 0.5, 120], [0.3, 1.3, 2.3])
    edges = np.array([0.01, 0.08, 0.5, 1, 8, 120])
    assert np.allclose(100 * kroupa.number_fraction(edges[:-1], edges[1:]), [37.2, 47.8, 8.9, 5.7, 0.4], atol=0.06)
    assert np.allclose(100 * kroupa.mass_fraction(edges[:-1], edges[1:]), [4.1, 26.6, 16.1, 32.4, 20.8], atol=0.1)
    assert kroupa.mean_mass == pytest.approx(0.38, abs=0.005)
    # Madau & Dickinson (2014, ARA&A, 52, 415): core-collapse supernovae (8 to 40 Msun) per Msun, Salpeter 0.1-100
    salpeter = BrokenPowerLaw([0.1, 100], [2.35])
    assert salpeter.number_fraction(8, 40) / salpeter.mean_mass == pytest.approx(0.0068, abs=5e-5)
    # ... and their factors from Salpeter to Chabrier and Kroupa, in rates of star formation at equal light of massive stars
    for imf, factor in ((Chabrier(0.1, 100), 0.63), (BrokenPowerLaw([0.1, 0.5, 100], [1.3, 2.3]), 0.67)):
        ratio = salpeter.number_fraction(8, 100) / salpeter.mean_mass / (imf.number_fraction(8, 100) / imf.mean_mass)
        assert ratio == pytest.approx(factor, abs=0.03)


def test_chabrier_is_the_published_one():
    # Chabrier (2003, PASP, 115, 763), Table 1: m dN/dm = 0.158 exp(...) / ln 10 below 1 Msun, 0.0443 m^-1.3 / ln 10 above
    chabrier = Chabrier(lower=0.05)
    assert chabrier.pdf(0.079) * 0.079 / chabrier.pdf(1.0) == pytest.approx(0.158 / 0.0443, rel=0.01)
    assert chabrier.pdf(10.0) / chabrier.pdf(1.0) == pytest.approx(10**-2.3)


breaks = st.lists(st.floats(-2, 2.2), min_size=2, max_size=5, unique_by=lambda x: round(x, 1)).map(lambda x: 10 ** np.sort(x))


@given(breaks, st.lists(st.floats(-2, 4), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_any_broken_power_law(breaks, exponents, q, place):
    imf = BrokenPowerLaw(breaks, exponents[: len(breaks) - 1])
    mass = imf.ppf(q)
    assert imf.lower <= mass <= imf.upper
    assert imf.cdf(mass) == pytest.approx(q, abs=1e-9)
    assert imf.lower <= imf.mean_mass <= imf.upper
    somewhere = imf.lower + place * (imf.upper - imf.lower)
    assert imf.ppf(imf.cdf(somewhere)) == pytest.approx(somewhere, rel=1e-5) or imf.pdf(somewhere) * somewhere < 1e-8
    assert imf.number_fraction(imf.lower, somewhere) + imf.number_fraction(somewhere, imf.upper) == pytest.approx(1)
    assert imf.mass_fraction(imf.lower, somewhere) <= imf.number_fraction(imf.lower, somewhere) + 1e-9
    grid = np.geomspace(imf.lower, imf.upper, 20001)
    inside = (grid[1:] + grid[:-1]) / 2
    assert np.sum(imf.pdf(inside) * np.diff(grid)) == pytest.approx(1, rel=2e-3)


def test_chabrier_is_continuous_at_one_solar_mass():
    chabrier = Chabrier()
    assert chabrier.pdf(1 - 1e-9) == pytest.approx(chabrier.pdf(1 + 1e-9), rel=1e-6)


def test_exponents_one_and_two_are_no_poles():
    for exponent in (1.0, 2.0):
        imf = BrokenPowerLaw([0.1, 10], [exponent])
        mass = np.geomspace(0.1, 10, 100_001)
        assert np.trapezoid(imf.pdf(mass), mass) == pytest.approx(1, rel=1e-6)
        assert np.trapezoid(imf.pdf(mass) * mass, mass) == pytest.approx(imf.mean_mass, rel=1e-6)
        assert np.allclose(imf.cdf(imf.ppf([0.2, 0.7])), [0.2, 0.7])


@pytest.mark.parametrize("name", NAMES)
def test_drawn_stars_follow_the_function(name):
    imf = get_imf(name)
    mass = np.sort(imf.sample_number(100_000, rng=3))
    steps = np.arange(len(mass)) / len(mass)
    assert np.abs(imf.cdf(mass) - steps).max() < 1.95 / np.sqrt(len(mass))  # Kolmogorov-Smirnov, 0.1 %


@given(st.floats(0.1, 3000), st.integers(0, 1000))
def test_a_requested_mass_is_met_to_within_one_star(total, seed):
    imf = get_imf("kroupa")
    nearest, before, after = (imf.sample_mass(total, seed, stop=stop) for stop in ("nearest", "before", "after"))
    assert before.sum() <= total <= after.sum()
    assert len(after) == len(before) + 1 and np.array_equal(after[:-1], before)
    assert abs(nearest.sum() - total) <= after[-1] / 2 + 1e-9 or len(nearest) == 1
    assert len(nearest) >= 1


@given(st.floats(1, 1e4), st.integers(0, 1000))
def test_sorted_sampling(total, seed):
    imf = get_imf("kroupa")
    masses = imf.sample_mass(total, seed, stop="sorted")
    assert len(masses) >= 1 and (np.diff(masses) >= 0).all()
    # the heaviest star was judged by whether the sum is nearer with it
    assert masses.sum() > total - imf.upper / 2 or len(masses) == 1


def test_sorted_sampling_makes_lighter_heaviest_stars():
    # Weidner & Kroupa (2006): below random sampling in poor clusters
    imf = get_imf("kroupa")
    heaviest = {
        stop: np.mean([imf.sample_mass(200.0, seed, stop=stop).max() for seed in range(1500)]) for stop in ("nearest", "sorted")
    }
    assert heaviest["sorted"] < 0.8 * heaviest["nearest"]


def test_no_binaries_are_the_stars_alone():
    imf = get_imf("kroupa")
    primary, companion = imf.sample_systems(800.0, 4)
    assert not companion.any() and np.array_equal(primary, imf.sample_mass(800.0, 4))


@pytest.mark.parametrize("stop", ["nearest", "before", "after", "sorted"])
def test_binaries_weigh_with_their_companions(stop):
    imf = get_imf("kroupa")
    primary, companion = imf.sample_systems(3e4, 1, stop, binary_fraction=0.4, mass_ratio=0.2)
    assert primary.sum() + companion.sum() == pytest.approx(3e4, abs=240 if stop != "sorted" else 1500)
    double = companion > 0
    assert np.mean(double) == pytest.approx(0.4, abs=4 * np.sqrt(0.24 / len(double)))
    assert (companion <= primary).all() and companion[double].min() >= imf.lower
    free = double & (primary > 0.4)  # no companion below 0.2 x 0.4 Msun is needed
    assert stats.kstest((companion / primary)[free], stats.uniform(0.2, 0.8).cdf).pvalue > 1e-3
    assert stats.kstest(primary[: len(primary) // 2] if stop != "sorted" else primary, imf.cdf).pvalue > 1e-3


def test_mass_ratios_from_a_distribution():
    twins = stats.beta(20, 1)
    primary, companion = get_imf("salpeter").sample_systems(5e3, 1, binary_fraction=1.0, mass_ratio=twins)
    heavy = primary > 1
    assert np.mean((companion / primary)[heavy]) == pytest.approx(20 / 21, abs=0.01)
    again = get_imf("salpeter").sample_systems(5e3, 1, binary_fraction=1.0, mass_ratio=twins)
    assert np.array_equal(again, [primary, companion])


def test_randomness_comes_from_rng_alone():
    imf = get_imf("kroupa")
    assert np.array_equal(imf.sample_mass(500.0, 1), imf.sample_mass(500.0, np.random.default_rng(1)))
    assert not np.array_equal(imf.sample_number(5, 1), imf.sample_number(5, 2))


def test_mean_light_is_not_biased_by_stopping():
    rng = np.random.default_rng(0)
    imf = get_imf("kroupa")
    heavy = [np.sum(imf.sample_mass(300.0, rng) > 8) for _ in range(4000)]
    expected = 300 / imf.mean_mass * imf.number_fraction(8, 120)
    assert np.mean(heavy) == pytest.approx(expected, abs=4 * np.std(heavy) / np.sqrt(4000) + 0.03)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: get_imf("miller"), ValueError, "'miller', but must be one of .*kroupa"),
        (lambda: get_imf(2.35), TypeError, "not float"),
        (lambda: BrokenPowerLaw([0.1, 1], [1, 2]), ValueError, "one value more"),
        (lambda: BrokenPowerLaw([1, 0.1], [1]), ValueError, "ascending"),
        (lambda: BrokenPowerLaw([0.1, 1], [np.nan]), ValueError, "mean mass of nan"),
        (lambda: BrokenPowerLaw([0.1, np.inf], [1.5]), ValueError, "mean mass of inf"),
        (lambda: get_imf("kroupa").ppf([0.5, 1.1]), ValueError, "q must be a fraction"),
        (lambda: get_imf("chabrier").ppf(-0.1), ValueError, "q must be a fraction"),
        (lambda: get_imf("salpeter").ppf(np.nan), ValueError, "q must be a fraction"),
        (lambda: get_imf("salpeter").cdf(1 * u.pc), u.UnitsError, "'pc' .* 'solMass'"),
        (lambda: Chabrier(lower=2.0), ValueError, "enclose 1 Msun"),
        (lambda: get_imf("kroupa").sample_mass(-1.0), ValueError, "total is -1.0"),
        (lambda: get_imf("kroupa").sample_systems(9.0, binary_fraction=1.1), ValueError, "binary_fraction must lie in 0 to 1"),
        (lambda: get_imf("kroupa").sample_systems(9.0, 1, binary_fraction=1, mass_ratio=-0.1), ValueError, "mass_ratio must lie in"),
        (lambda: get_imf("kroupa").sample_systems(9.0, 1, "sorted", mass_ratio="flat"), TypeError, "distribution, not str"),
        (lambda: get_imf("kroupa").sample_systems(9.0, 1, binary_fraction=1, mass_ratio=stats.norm(5)), ValueError, "within 0 to 1"),
        (lambda: get_imf("kroupa").sample_mass(1.0, stop="soon"), ValueError, "'nearest', 'before', 'after' or 'sorted'"),
    ],
)
def test_errors(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize("name", NAMES)
@given(st.floats(0.1, 100), st.sampled_from([u.Msun, u.kg, u.Mjup]))
def test_masses_in_any_unit(name, mass, unit):
    imf, quantity = get_imf(name), (mass * u.Msun).to(unit)
    for function in (imf.pdf, imf.cdf, imf.cumulative_mass):
        assert function(quantity) == pytest.approx(function(mass), rel=1e-9)
    assert imf.number_fraction(0.5 * u.Msun, quantity) == pytest.approx(imf.number_fraction(0.5, mass), abs=1e-9)
    assert np.array_equal(imf.sample_mass(100 * u.Msun, rng=1), imf.sample_mass(100.0, rng=1))


def test_repr_evaluates_back():
    for name in NAMES:
        imf = get_imf(name)
        assert eval(repr(imf)).mean_mass == imf.mean_mass
        assert get_imf(imf) is imf


def test_limits_with_units():
    breaks = [0.08, 0.5, 120]
    assert BrokenPowerLaw((breaks * u.Msun).to(u.Mjup), [1.3, 2.3]).mean_mass == pytest.approx(BrokenPowerLaw(breaks, [1.3, 2.3]).mean_mass)
    assert Chabrier(0.1 * u.Msun, 100 * u.Msun).mean_mass == Chabrier(0.1, 100).mean_mass
    with pytest.raises(ValueError, match="total is .* must be one number"):
        get_imf("kroupa").sample_mass([100.0, 200.0])
