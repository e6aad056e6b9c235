# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Posterior predictive checks: a cluster of the posterior passes, something else does not.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.utils.masked import Masked
from scipy.stats import kstest

from clustercnn.checks import _distances, _scaled, _shifted, posterior_predictive
from clustercnn.estimate import ClusterEstimate
from clustercnn.instruments import Instrument
from clustercnn.parameters import ParameterSpace
from clustercnn.simulation import BackgroundFields, MockStream
from clustercnn.stellar import band_extinction

UNIT = u.electron / u.s
M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
SPACE = ParameterSpace.paper()
DISTANCE = 4.5 * u.Mpc


@pytest.fixture(name="batch", scope="module")
def fixture_batch():
    """Mock clusters on an empty sky, as arrays."""
    empty = BackgroundFields([np.zeros((3, 64, 64))])
    stream = MockStream(SPACE, M83, background=empty, rng=8, positive_fraction=1.0)
    return {name: values.numpy() for name, values in stream.batch(0, 32).items()}


def near_truth(coordinates):
    """A narrow posterior around true coordinates (n, 4)."""
    noise = np.random.default_rng(1).normal(0, 0.03, (len(coordinates), 100, 4))
    return ClusterEstimate(SPACE.from_unit(np.clip(SPACE.to_unit(coordinates)[:, None] + noise, 0, 1)), SPACE)


def test_the_truth_passes(batch):
    estimate = near_truth(batch["parameters"])
    values = [
        posterior_predictive(estimate, i, batch["pixels"][i] * UNIT, M83, distance=DISTANCE, n=60, rng=i).p_value for i in range(6)
    ]
    assert np.median(values) > 0.1


def test_p_values_are_even_where_the_posterior_is_the_prior(batch):
    """Then observed and simulated stamps are drawn alike, whatever their heavy tails: the p-value is uniform."""
    draws = SPACE.from_unit(np.random.default_rng(3).random((1, 500, 4)))
    prior = ClusterEstimate(draws, SPACE)
    values = [posterior_predictive(prior, 0, pixels * UNIT, M83, distance=DISTANCE, n=24, rng=i).p_value
              for i, pixels in enumerate(batch["pixels"])]
    assert kstest(values, "uniform").pvalue > 1e-3


def test_something_else_fails(batch):
    estimate = near_truth(batch["parameters"])
    bright = int(np.argmax(batch["visibility"]))
    stamp = batch["pixels"][bright] * UNIT
    good = posterior_predictive(estimate, bright, stamp, M83, distance=DISTANCE, n=60, rng=1)
    # all bands as bright as the brightest: no stars have such colours
    wrong = np.repeat(stamp.max(axis=0)[None], 3, axis=0) * 3
    bad = posterior_predictive(estimate, bright, wrong, M83, distance=DISTANCE, n=60, rng=1)
    assert bad.p_value < 0.05 < good.p_value
    assert bad.chi_square > good.chi_square
    assert good.model.shape == good.residual.shape == stamp.shape and good.model.unit == UNIT


@pytest.mark.parametrize("share", [0.0, 0.2, 5.0])
def test_sources_of_another_brightness_fail(share):
    """Clusters that can be seen, on a sky with noise: a share of their light, or none of it, is no source of the same posterior."""
    noise = np.random.default_rng(4).normal(0, 0.01, (40, 3, 64, 64))
    stream = MockStream(SPACE, M83, background=BackgroundFields([np.zeros((3, 64, 64))]), rng=8, positive_fraction=1.0)
    mocks = {name: values.numpy() for name, values in stream.batch(0, 40).items()}
    estimate = near_truth(mocks["parameters"])
    seen = np.flatnonzero(mocks["visibility"] > 10)[:12]
    right, wrong = (np.array([posterior_predictive(estimate, i, (factor * mocks["pixels"][i] + noise[i]) * UNIT, M83, distance=DISTANCE, n=40,
                                                   rng=i).p_value for i in seen]) for factor in (1.0, share))
    assert np.mean(wrong <= 0.05) > 0.8 and np.mean(right <= 0.05) < 0.2, (right, wrong)


def test_the_light_of_the_source_is_no_sky(batch):
    """A source ten times as bright does not brighten the sky that is put behind the simulated ones."""
    estimate = near_truth(batch["parameters"])
    bright = int(np.argmax(batch["visibility"]))
    light = posterior_predictive(estimate, bright, batch["pixels"][bright] * UNIT, M83, distance=DISTANCE, n=60, rng=1).model.value
    result = posterior_predictive(estimate, bright, 10 * light * UNIT, M83, distance=DISTANCE, n=60, rng=1)
    assert np.abs(result.model.value - light).sum() < 0.3 * light.sum()
    near = np.hypot(*(np.indices((64, 64)) - 31.5)) < 12
    near = np.broadcast_to(near, light.shape)
    np.testing.assert_allclose(_scaled(light, 3 * light + 5, near), 3 * light)
    assert not _scaled(light, -light, near).any()  # a hole has no light


def test_dust_dims_by_its_law():
    """On a sky without light the model is the light of the clusters alone, the same ones for each law."""
    estimate = ClusterEstimate(np.array([[[1.3, 1.0, 5.3, -1.0]] * 20]), SPACE)  # coordinates: log Myr, mag, log Msun, log arcsec
    dark = np.zeros((3, 64, 64)) * UNIT
    foreign, own = (posterior_predictive(estimate, 0, dark, M83, distance=DISTANCE, extinction_law=law, n=20, rng=1).model.value.sum(axis=(1, 2))
                    for law in ("G03_SMCBar", "F99"))
    steps = band_extinction(M83.passbands, law="G03_SMCBar") - band_extinction(M83.passbands)
    np.testing.assert_allclose(foreign / own, 10 ** (-0.4 * steps), rtol=2e-3)


def test_bad_pixels_do_not_count(batch):
    estimate = near_truth(batch["parameters"])
    pixels = batch["pixels"][0].copy()
    pixels[1, 30:33, 30:33] = np.nan
    result = posterior_predictive(estimate, 0, pixels * UNIT, M83, distance=DISTANCE, n=20, rng=1)
    assert np.isfinite(result.chi_square)
    # a masked value is like NaN
    filled = np.where(np.isnan(pixels), 1e6, pixels)
    masked = posterior_predictive(estimate, 0, Masked(filled * UNIT, mask=np.isnan(pixels)), M83, distance=DISTANCE, n=20, rng=1)
    assert (masked.chi_square, masked.p_value) == (result.chi_square, result.p_value)


def test_of_a_band_that_is_missing_nothing_counts(batch):
    estimate = near_truth(batch["parameters"])
    pixels = batch["pixels"][0].copy()
    pixels[2] = np.nan
    result = posterior_predictive(estimate, 0, pixels * UNIT, M83, distance=DISTANCE, n=20, rng=1)
    assert 0 < result.p_value <= 1 and np.isnan(result.residual[2]).all() and np.isfinite(result.residual[:2]).all()


def test_distances_are_from_the_others():
    """Each stamp against mean and variance of the rest, as written out."""
    pixels = np.random.default_rng(1).standard_normal((12, 7)) ** 3
    for i, found in enumerate(_distances(pixels)):
        others = np.delete(pixels, i, axis=0)
        assert found == pytest.approx(np.sum((pixels[i] - others.mean(0)) ** 2 / others.var(0, ddof=1)))


def test_shifted_sky_stays_clear_of_the_source():
    sky = np.zeros((1, 64, 64))
    row, column = np.indices((64, 64))
    near = np.hypot(row - 31.5, column - 31.5) < 12
    sky[0, near] = 1000.0
    known = np.broadcast_to(~near, sky.shape)
    sky[0, 0, 0] = 7.0  # marks where the corner goes
    shifted = _shifted(sky, known, 24, 50, np.random.default_rng(2))
    assert shifted.shape == (50, 1, 64, 64) and shifted.max() == 7
    sky[0] = np.where(near, 5.0, np.random.default_rng(3).random((64, 64)))
    assert _shifted(sky, np.ones_like(sky, dtype=bool), 24, 50, np.random.default_rng(2))[:, 0, near].max() < 1


def test_errors(batch):
    estimate = near_truth(batch["parameters"][:1])
    pixels = batch["pixels"][0]
    with pytest.raises(TypeError, match="stamp must be a Quantity such as"):
        posterior_predictive(estimate, 0, pixels, M83, distance=DISTANCE)
    for wrong in (pixels[:2], pixels[:, :7]):
        with pytest.raises(ValueError, match=r"stamp must have shape \(3, ny, nx\)"):
            posterior_predictive(estimate, 0, wrong * UNIT, M83, distance=DISTANCE)
    with pytest.raises(u.UnitsError, match="stamp must have a unit that converts to 'electron / s', not 'Jy'"):
        posterior_predictive(estimate, 0, pixels * u.Jy, M83, distance=DISTANCE)
    with pytest.raises(ValueError, match="good pixels within 12 pixels of the source and beyond"):
        posterior_predictive(estimate, 0, pixels * np.nan * UNIT, M83, distance=DISTANCE)
    with pytest.raises(TypeError, match="distance must be a Quantity"):
        posterior_predictive(estimate, 0, pixels * UNIT, M83, distance=4.5)
    with pytest.raises(ValueError, match="psf must have an entry for each band"):
        posterior_predictive(estimate, 0, pixels * UNIT, M83, distance=DISTANCE, psf={})
    with pytest.raises(ValueError, match="distance must be one positive number"):
        posterior_predictive(estimate, 0, pixels * UNIT, M83, distance=[4.5] * u.Mpc)
    with pytest.raises(ValueError, match=r"position must be pixels \(x, y\) of the source in the stamp, not 3"):
        posterior_predictive(estimate, 0, pixels * UNIT, M83, distance=DISTANCE, position=3)
    for i in (1, [0], 0.5):
        with pytest.raises(IndexError, match="i must be the number of one of the 1 sources of the estimate"):
            posterior_predictive(estimate, i, pixels * UNIT, M83, distance=DISTANCE)
    for n in (1, 20.5, np.nan):
        with pytest.raises(ValueError, match=f"n must be a whole number of at least 10, not {n}"):
            posterior_predictive(estimate, 0, pixels * UNIT, M83, distance=DISTANCE, n=n)


def test_the_name_of_an_instrument_is_none():
    with pytest.raises(TypeError, match="instrument must be an Instrument, such as .*, not 'HST/WFC3/UVIS/M83'"):
        posterior_predictive(None, 0, np.zeros((3, 64, 64)) * UNIT, "HST/WFC3/UVIS/M83", distance=DISTANCE)
