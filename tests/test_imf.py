# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tests of clustercnn.stellar.imf
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        (lambda: Chabrier(lower=2.0), ValueError, "enclose 1 Msun"),
        (lambda: get_imf("kroupa").sample_mass(-1.0), ValueError, "total is -1.0"),
        (lambda: get_imf("kroupa").sample_mass(1.0, stop="soon"), ValueError, "'nearest', 'before' or 'after'"),
    ],
)
def test_errors(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_repr_evaluates_back():
    for name in NAMES:
        imf = get_imf(name)
        assert eval(repr(imf)).mean_mass == imf.mean_mass
        assert get_imf(imf) is imf
