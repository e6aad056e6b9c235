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


ENDLESS = [EFFProfile(gamma=gamma, truncation=np.inf) for gamma in (2.2, 2.6, 3.5, 20)] + [PlummerProfile(truncation=np.inf)]


@pytest.mark.parametrize("profile", ENDLESS, ids=repr)
def test_without_truncation_the_half_light_radius_is_the_published_one(profile):
    # the profile: Elson, Fall & Freeman 1987, ApJ 323, 54; r_h = a sqrt(0.5^(1 / (1 - eta)) - 1) with eta = gamma / 2: Ryon et al.
    # 2015, MNRAS 452, 525, of clusters in M83; for Plummer a itself
    gamma = profile.gamma
    assert 1 / profile.scale == pytest.approx(np.sqrt(2 ** (2 / (gamma - 2)) - 1), rel=1e-12)
    assert profile.core_radius / profile.scale == pytest.approx(np.sqrt(2 ** (2 / gamma) - 1), rel=1e-12)
    # and the limit of ever wider truncations
    wide = EFFProfile(gamma=gamma, truncation=1e30)
    assert wide.scale == pytest.approx(profile.scale, rel=1e-5)
    assert profile.enclosed([0, 1, np.inf]) == pytest.approx([0, 0.5, 1])
    q = np.array([0, 0.1, 0.5, 0.9, 0.999])
    np.testing.assert_allclose(profile.enclosed(profile.radius(q)), q, atol=1e-12)
    assert profile.radius(1.0) == np.inf and profile.surface_density(np.inf) == 0
    x, y = profile.sample(40_000, rng=1)
    assert abs(np.mean(np.hypot(x, y) < 1) - 0.5) < 0.01
    k = np.geomspace(1e-3, 1, 6)
    assert profile.transform(0.0) == 1
    if gamma > 2.5:  # flatter ones have not yet ended there
        np.testing.assert_allclose(profile.transform(k), EFFProfile(gamma=gamma, truncation=1e3).transform(k), atol=0.03)


def test_endless_transforms_are_known():
    k = np.geomspace(1e-3, 1, 12).reshape(3, 4)
    z = 2 * np.pi * k
    np.testing.assert_allclose(PlummerProfile(truncation=np.inf).transform(k), z * k1(z), atol=1e-12)
    profile = EFFProfile(gamma=3, truncation=np.inf)
    np.testing.assert_allclose(profile.transform(k), np.exp(-z * profile.scale), atol=1e-12)


def test_density_at_the_core_radius_is_half_the_central_one(profile):
    assert profile.surface_density(profile.core_radius) == pytest.approx(profile.surface_density(0) / 2)


def test_core_radii_of_the_formulae():
    # r_c = 0.766 a for gamma = 3; King's r_c is his scale for high concentrations
    assert EFFProfile(gamma=3).core_radius / EFFProfile(gamma=3).scale == pytest.approx(0.7664, abs=1e-4)
    king = KingProfile(concentration=3.5)
    assert king.core_radius / king.scale == pytest.approx(1, abs=1e-3)


@given(
    profile=st.one_of(
        st.builds(EFFProfile, st.floats(2.1, 50), st.sampled_from([8.0, 50.0, np.inf])),
        st.builds(PlummerProfile, st.floats(1.5, 100)),
        st.builds(KingProfile, st.floats(0.05, 4)),
    ),
    q=st.floats(0, 0.999),
)
def test_radius_and_enclosed_are_inverse_for_any_profile(profile, q):
    r = profile.radius(q)
    assert profile.enclosed(r) == pytest.approx(q, abs=1e-9)
    assert profile.enclosed(1) == pytest.approx(0.5, abs=1e-9)
    assert 0 < profile.core_radius < np.inf


def test_radii_have_no_unit():
    assert EFFProfile().enclosed(1 * u.arcmin / (60 * u.arcsec)) == pytest.approx(0.5)
    with pytest.raises(u.UnitsError, match="divide by the half-light radius"):
        EFFProfile().enclosed(0.1 * u.arcsec)


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
    for truncation in (1, np.nan, (2, 3)):
        with pytest.raises(ValueError, match="truncation"):
            EFFProfile(truncation=truncation)
    with pytest.raises(ValueError, match=r"gamma must lie in \(2.000, 100\)"):
        EFFProfile(gamma=2, truncation=np.inf)
    with pytest.raises(ValueError, match="too flat"):
        EFFProfile(gamma=2.001, truncation=np.inf).enclosed(1)
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


MODELS = [EFF2D(gamma=2.6), Plummer2D(), King2D(concentration=1.2)]


@pytest.mark.parametrize("unit", [u.arcsec, u.pc, None], ids=str)
@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_models_draw_stars_that_follow_them(model, unit):
    one = 1 if unit is None else unit
    model = type(model)(x_0=3 * one, y_0=-2 * one, half_light_radius=0.5 * one, ellipticity=0.4, theta=np.deg2rad(30))
    x, y = model.sample(20_000, rng=1)
    assert getattr(x, "unit", None) == unit
    cos, sin = np.cos(np.deg2rad(30)), np.sin(np.deg2rad(30))
    dx, dy = (x - 3 * one) / (0.5 * one), (y + 2 * one) / (0.5 * one)
    major, minor = dx * cos + dy * sin, dy * cos - dx * sin
    assert abs(np.mean(np.hypot(major * np.sqrt(0.6), minor / np.sqrt(0.6)) < 1) - 0.5) < 0.015
    assert model.profile.enclosed(1) == pytest.approx(0.5)


@given(
    size=st.floats(0.01, 10),
    units=st.sampled_from([(u.arcsec, u.deg), (u.pc, u.kpc), (u.pix, u.pix), (u.arcmin, u.mas)]),
    at=st.floats(0, 5),
)
def test_models_mean_the_same_in_any_unit(size, units, at):
    one, other = units
    model = EFF2D(flux=3 * u.ct, half_light_radius=size * one, ellipticity=0.2)
    same = EFF2D(flux=3 * u.ct, half_light_radius=(size * one).to(other), ellipticity=0.2)
    x, y = at * size * one, 0.3 * size * one
    expected = model(x, y)
    assert model(x.to(other), y.to(other)).to_value(expected.unit) == pytest.approx(expected.value)
    assert same(x, y).to_value(expected.unit) == pytest.approx(expected.value)


@pytest.mark.parametrize("truth", MODELS, ids=lambda m: type(m).__name__)
def test_fits_to_noisy_pixels_recover_the_truth(truth):
    """Counts in pixels of 0.04 arcsec, integrated over each pixel, 10 % noise in the core; parameters have units."""
    truth = type(truth)(
        flux=1e4 * u.ct, x_0=0.03 * u.arcsec, y_0=-0.02 * u.arcsec, half_light_radius=0.3 * u.arcsec, ellipticity=0.3,
        theta=40 * u.deg,
    )
    grid = (np.arange(60 * 4) - 60 * 2 + 0.5) * 0.01
    y, x = np.meshgrid(grid, grid, indexing="ij") * u.arcsec
    fine = truth(x, y)
    pixels = fine.value.reshape(60, 4, 60, 4).mean(axis=(1, 3))
    sigma = 0.05 * pixels.max()
    image = (pixels + np.random.default_rng(5).normal(0, sigma, pixels.shape)) * fine.unit
    y, x = (axis.value.reshape(60, 4, 60, 4).mean(axis=(1, 3)) * u.arcsec for axis in (y, x))
    start = type(truth)(flux=5e3 * u.ct, half_light_radius=0.2 * u.arcsec, ellipticity=0.1, theta=20 * u.deg)
    fitted = TRFLSQFitter()(start, x, y, image)
    assert fitted.half_light_radius.quantity.to_value(u.arcsec) == pytest.approx(0.3, rel=0.1)
    assert fitted.flux.quantity.to_value(u.ct) == pytest.approx(1e4, rel=0.1)
    assert fitted.x_0.quantity.to_value(u.arcsec) == pytest.approx(0.03, abs=0.01)
    assert fitted.y_0.quantity.to_value(u.arcsec) == pytest.approx(-0.02, abs=0.01)
    assert fitted.ellipticity.value == pytest.approx(0.3, abs=0.06)
    assert fitted.theta.quantity.to_value(u.deg) == pytest.approx(40, abs=6)


def test_models_of_a_set_share_their_shape():
    """Half-light radii may differ, gamma and concentration may not: a profile is one."""
    places = {"flux": [1, 2], "x_0": [0, 0], "y_0": [0, 0], "half_light_radius": [1, 3], "ellipticity": [0, 0], "theta": [0, 0]}
    found = EFF2D(**places, gamma=[2.6, 2.6], n_models=2)(0.5, 0.5, model_set_axis=False)
    one = [EFF2D(flux=flux, half_light_radius=size, gamma=2.6)(0.5, 0.5) for flux, size in ((1, 1), (2, 3))]
    np.testing.assert_allclose(found, one)
    for model, name, values in ((EFF2D, "gamma", [2.2, 5.0]), (King2D, "concentration", [0.5, 2.0])):
        with pytest.raises(ValueError, match=f"{name} must be the same for all models of a set"):
            model(**places, **{name: values}, n_models=2)(0.0, 0.0, model_set_axis=False)


def test_a_profile_has_its_parameters():
    with pytest.raises(TypeError, match=r"\['gamma'\] go with the name of a profile"):
        get_profile(EFFProfile(2.6), gamma=4.0)


@pytest.mark.parametrize("angle", [np.nan, [0.0, 1.0]])
def test_one_finite_position_angle(angle):
    with pytest.raises(ValueError, match="position_angle must be one finite angle"):
        elliptical(1.0, 1.0, 0.5, angle)
