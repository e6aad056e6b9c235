# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Profiles against closed forms: half-light radii, transforms, samples, and the models to fit.
"""

import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.modeling.fitting import TRFLSQFitter
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import j0, k1

from clustercnn.profiles import (
    EFF2D,
    EFFProfile,
    King2D,
    KingProfile,
    Plummer2D,
    PlummerProfile,
    elliptical,
    get_profile,
)

PROFILES = [
    EFFProfile(),
    EFFProfile(gamma=1.75),
    EFFProfile(gamma=2),
    EFFProfile(gamma=3.5),
    EFFProfile(gamma=2.2, truncation=20),
    PlummerProfile(),
    KingProfile(),
    KingProfile(concentration=0.3),
]


@pytest.fixture(params=PROFILES, ids=repr, name="profile")
def fixture_profile(request):
    return request.param


def test_half_of_the_light_lies_within_one(profile):
    assert profile.enclosed(1) == pytest.approx(0.5, abs=1e-12)
    assert profile.enclosed([0, profile.truncation, 1e3]) == pytest.approx([0, 1, 1])


def test_surface_density_integrates_to_enclosed(profile):
    # in ln r, so that cusps are resolved
    log_r = np.linspace(np.log(1e-7), np.log(profile.truncation), 100_001)
    r = np.exp(log_r)
    integrand = 2 * np.pi * r**2 * profile.surface_density(r)
    light = np.concatenate([[0], np.cumsum((integrand[1:] + integrand[:-1]) / 2 * np.diff(log_r))])
    np.testing.assert_allclose(light, profile.enclosed(r), atol=2e-6)
    assert profile.surface_density(profile.truncation * 1.0001) == 0


def test_radius_inverts_enclosed(profile):
    q = np.linspace(0, 1, 201)
    np.testing.assert_allclose(profile.enclosed(profile.radius(q)), q, atol=1e-12)
    with pytest.raises(ValueError, match="fraction"):
        profile.radius([0.5, 1.1])


@given(gamma=st.floats(1.7, 10), q=st.floats(0, 1))
def test_eff_inverse_is_analytic_for_any_slope(gamma, q):
    profile = EFFProfile(gamma=gamma)
    assert profile.enclosed(1) == pytest.approx(0.5, abs=1e-9)
    assert profile.enclosed(profile.radius(q)) == pytest.approx(q, abs=1e-9)


def test_slope_of_two_is_the_limit():
    r = np.linspace(0, 8, 50)
    np.testing.assert_allclose(EFFProfile(gamma=2).enclosed(r), EFFProfile(gamma=2 + 1e-9).enclosed(r), atol=1e-8)


def test_plummer_is_eff_of_slope_four():
    r = np.linspace(0, 8, 50)
    np.testing.assert_allclose(PlummerProfile().surface_density(r), EFFProfile(gamma=4).surface_density(r), rtol=1e-10)


def test_samples_have_the_half_light_radius(profile):
    n = 40_000
    x, y = profile.sample(n, rng=1)
    inside = np.mean(np.hypot(x, y) < 1)
    assert abs(inside - 0.5) < 4 * 0.5 / np.sqrt(n)
    assert np.hypot(x, y).max() <= profile.truncation
    assert abs(np.mean(np.arctan2(y, x))) < 4 * np.pi / np.sqrt(3 * n)
    np.testing.assert_array_equal(profile.sample(5, rng=3), profile.sample(5, rng=np.random.default_rng(3)))


def test_transform_agrees_with_the_sum_over_quantiles(profile):
    r = profile.radius((np.arange(200_000) + 0.5) / 200_000)
    k = np.array([0, 0.03, 0.2, 0.7])
    expected = [np.mean(j0(2 * np.pi * value * r)) for value in k]
    np.testing.assert_allclose(profile.transform(k), expected, atol=3e-7)
    assert profile.transform(0.0) == pytest.approx(1, abs=1e-12)
    # a frequency's value does not depend on which others are asked for
    assert profile.transform(k)[1] == pytest.approx(profile.transform(np.append(k, 10))[1], abs=1e-8)


def test_transform_of_plummer_is_known():
    profile = PlummerProfile(truncation=3000)
    k = np.geomspace(1e-3, 1, 12).reshape(3, 4)
    z = 2 * np.pi * k * profile.scale
    np.testing.assert_allclose(profile.transform(k), z * k1(z), atol=1e-6)


def test_transform_of_eff_is_known():
    # (1 + s^2)^-3/2 has the transform exp(-2 pi k a); its truncated tail holds a/T of the light
    profile = EFFProfile(gamma=3, truncation=3000)
    k = np.geomspace(0.01, 1, 5)
    np.testing.assert_allclose(profile.transform(k), np.exp(-2 * np.pi * k * profile.scale), atol=5e-4)


def test_elliptical_keeps_area_and_turns_counter_clockwise():
    x, y = EFFProfile().sample(20_000, rng=0)
    xe, ye = elliptical(x, y, ellipticity=0.5, position_angle=np.deg2rad(30))
    major, minor = elliptical(1.0, 0.0, 0.5, np.deg2rad(30)), elliptical(0.0, 1.0, 0.5, np.deg2rad(30))
    assert np.hypot(*minor) / np.hypot(*major) == pytest.approx(0.5)
    assert np.hypot(*minor) * np.hypot(*major) == pytest.approx(1)
    assert np.rad2deg(np.arctan2(major[1], major[0])) == pytest.approx(30)
    near = np.hypot(x, y) < 3
    covariance = np.cov(xe[near], ye[near])
    angle = np.rad2deg(0.5 * np.arctan2(2 * covariance[0, 1], covariance[0, 0] - covariance[1, 1]))
    assert angle == pytest.approx(30, abs=2)
    with pytest.raises(ValueError, match="ellipticity"):
        elliptical(x, y, 1.0, 0.0)


def test_get_profile_by_name_and_its_errors():
    assert get_profile("eff", gamma=3) == EFFProfile(gamma=3)
    assert get_profile("king", concentration=1) == KingProfile(concentration=1)
    assert get_profile("plummer") == PlummerProfile()
    assert get_profile(PlummerProfile()) == PlummerProfile()
    with pytest.raises(ValueError, match="one of"):
        get_profile("sersic")
    with pytest.raises(ValueError, match="gamma"):
        EFFProfile(gamma=1.6)
    with pytest.raises(ValueError, match="gamma"):
        EFFProfile(gamma=np.nan)
    for truncation in (1, np.inf, np.nan):
        with pytest.raises(ValueError, match="truncation"):
            EFFProfile(truncation=truncation)
    with pytest.raises(ValueError, match="concentration"):
        KingProfile(concentration=0)


def test_profiles_are_values(profile):
    copy = pickle.loads(pickle.dumps(profile))
    assert copy == profile and hash(copy) == hash(profile)
    assert eval(repr(profile)) == profile


@pytest.mark.parametrize(
    "model", [EFF2D(gamma=3.0), Plummer2D(), King2D(concentration=1.0)], ids=lambda m: m.__class__.__name__
)
def test_models_hold_their_flux(model):
    model.flux, model.half_light_radius, model.ellipticity, model.theta = 100, 6, 0.4, 0.7
    y, x = np.mgrid[-90:91, -90:91] + 0.0
    image = model(x, y)
    assert image.sum() == pytest.approx(100, rel=2e-3)
    along = model(4 * np.cos(0.7), 4 * np.sin(0.7))
    assert along > model(-4 * np.sin(0.7), 4 * np.cos(0.7))


def test_eff2d_fits_itself_with_units():
    truth = EFF2D(
        flux=4 * u.ct,
        x_0=9.5 * u.pix,
        y_0=9 * u.pix,
        half_light_radius=2 * u.pix,
        ellipticity=0.2,
        theta=10 * u.deg,
        gamma=2.6,
    )
    y, x = np.mgrid[:20, :20] * u.pix
    image = truth(x, y)
    assert image.unit == u.ct / u.pix**2
    start = truth.copy()
    start.x_0, start.gamma = 9.7 * u.pix, 3
    fitted = TRFLSQFitter()(start, x, y, image)
    assert fitted.x_0.value == pytest.approx(9.5, abs=1e-4)
    assert fitted.gamma.value == pytest.approx(2.6, abs=1e-3)
    assert fitted.half_light_radius.unit == u.pix
