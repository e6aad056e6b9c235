# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Noise: means and variances as counted by hand.
"""

import numpy as np
import pytest
from astropy import units as u

from clustercnn.instruments import Instrument
from clustercnn.simulation import Detector

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
TWO_BANDS = Instrument(
    "test", ("F438W", "F814W"), pixel_scale=0.04 * u.arcsec / u.pix, exposure={"F438W": 100 * u.s, "F814W": 10 * u.min},
    read_noise=3 * u.electron, n_exposures=4, sky={"F438W": 0.1 * u.electron / u.s, "F814W": 0 * u.electron / u.s},
)


def test_numbers_of_an_instrument():
    detector = Detector.from_instrument(TWO_BANDS)
    np.testing.assert_allclose(detector.exposure, [100, 600])
    np.testing.assert_allclose(detector.sky, [0.1, 0])
    np.testing.assert_allclose(detector.read_variance, [36, 36])


def test_variance_by_hand():
    variance = Detector.from_instrument(TWO_BANDS).variance(np.full((2, 1, 1), 0.5))
    # (rate + sky) t photons and 4 reads of 3 electrons, over t^2
    np.testing.assert_allclose(variance[:, 0, 0], [(0.6 * 100 + 36) / 100**2, (0.5 * 600 + 36) / 600**2])


@pytest.mark.parametrize("rate", [0.0, 0.01, 3.0])
@pytest.mark.parametrize("instrument", [M83, TWO_BANDS], ids=["M83", "two bands"])
def test_mean_and_variance_of_exposures(instrument, rate):
    detector, n = Detector.from_instrument(instrument), 300 * 300
    rates = np.full((len(instrument.bands), 300, 300), rate)
    image = detector.expose(rates, np.random.default_rng(1))
    expected = detector.variance(rates)[:, 0, 0]
    assert image.shape == rates.shape
    assert np.all(np.abs(image.mean(axis=(1, 2)) - rate) < 4 * np.sqrt(expected / n))  # the sky is subtracted
    # kurtosis of few photons widens the error of the variance
    error = np.sqrt((2 + 1 / (detector.exposure * (rate + detector.sky) + 1e-9).clip(0.5)) / n)
    assert np.all(np.abs(image.var(axis=(1, 2)) / expected - 1) < 4 * error)


def test_pixels_are_independent():
    image = Detector.from_instrument(M83).expose(np.full((3, 200, 200), 0.1), np.random.default_rng(2))
    image = (image - image.mean(axis=(1, 2), keepdims=True)) / image.std(axis=(1, 2), keepdims=True)
    correlations = [
        (image[:, 1:] * image[:, :-1]).mean(axis=(1, 2)), (image[:, :, 1:] * image[:, :, :-1]).mean(axis=(1, 2)),
        (image * np.roll(image, 1, axis=0)).mean(axis=(1, 2)),
    ]
    assert np.abs(correlations).max() < 4 / 200


def test_photons_come_in_whole_numbers():
    silent = Instrument("no read noise", "F814W", pixel_scale=0.04 * u.arcsec / u.pix, exposure=50 * u.s)
    electrons = 50 * Detector.from_instrument(silent).expose(np.full((1, 20, 20), 0.1), np.random.default_rng(3))
    np.testing.assert_allclose(electrons, np.rint(electrons), atol=1e-12)
    assert np.all(Detector.from_instrument(silent).expose(np.zeros((1, 5, 5)), np.random.default_rng(3)) == 0)


@pytest.mark.parametrize("share", [0.05, 0.12])
def test_correlated_noise(share):
    """Drizzling passes noise on to the neighbours: smoother pixels, the same noise in large apertures."""
    detector, rates = Detector.from_instrument(M83), np.full((3, 400, 400), 0.05)
    rates[:, 200, 200] += 50.0  # light itself is not smoothed
    noise = detector.expose(rates, np.random.default_rng(5), share) - rates
    assert np.abs(noise[:, 200, 200]).max() < 1
    noise = noise[:, :, :190] / np.sqrt(detector.variance(rates))[:, :, :190]
    one_axis = 2 * share**2 + (1 - 2 * share) ** 2
    np.testing.assert_allclose(noise.var(axis=(1, 2)), one_axis**2, rtol=0.03)
    neighbours = 2 * share * (1 - 2 * share) / one_axis
    for a, b in [(noise[:, 1:], noise[:, :-1]), (noise[:, :, 1:], noise[:, :, :-1])]:
        np.testing.assert_allclose((a * b).mean(axis=(1, 2)) / one_axis**2, neighbours, atol=0.02)
    sums = noise.reshape(3, 20, 20, 10, 19).sum(axis=(2, 4))
    assert sums.var(axis=(1, 2)).mean() / 380 == pytest.approx(1, abs=0.2)


def test_correlated_noise_is_the_same_up_to_the_edges():
    """Edges and corners of stamps are as noisy as their middles."""
    detector, rates = Detector.from_instrument(M83), np.full((3, 24, 24), 0.05)
    noise = np.array([detector.expose(rates, seed, 0.2) for seed in range(1500)]) - rates
    variance = noise.var(axis=0) / detector.variance(rates)
    expected = (2 * 0.2**2 + 0.6**2) ** 2
    for part in (variance[:, 0], variance[:, -1], variance[:, :, 0], variance[:, :, -1]):
        np.testing.assert_allclose(part.mean(axis=1), expected, rtol=0.04)
    np.testing.assert_allclose(variance[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=1), expected, rtol=0.08)


def test_rounding_below_zero_does_no_harm():
    detector = Detector.from_instrument(TWO_BANDS)
    rates = np.full((2, 4, 4), -1e-9)
    assert np.all(np.isfinite(detector.expose(rates, np.random.default_rng(4))))
    np.testing.assert_allclose(detector.variance(rates), detector.variance(0 * rates), rtol=1e-6)


def test_noise_follows_the_generator():
    detector, rates = Detector.from_instrument(M83), np.ones((3, 8, 8))
    images = [detector.expose(rates, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(images[0], images[1])
    assert np.all(images[0] != images[2])


def test_nan_is_named():
    detector, rates = Detector.from_instrument(M83), np.zeros((3, 8, 8))
    rates[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="rate must be finite, but holds 1 NaN or infinite pixels"):
        detector.expose(rates, np.random.default_rng(1))


def test_photons_and_read_noise_are_independent():
    """Without photons the read noise stays as it is, and the photons without read noise; the two are uncorrelated."""
    rates = np.full((1, 200, 200), 0.2)
    both, photons, reads = (
        Detector(np.array([100.0]), np.array([sky]), np.array([variance])) for sky, variance in ((0.1, 9.0), (0.1, 0.0), (0.0, 9.0))
    )
    noise = both.expose(rates, 5) - rates
    of_photons = photons.expose(rates, 5) - rates
    of_reads = reads.expose(0 * rates, 5)
    np.testing.assert_allclose(noise, of_photons + of_reads, atol=1e-12)
    assert abs(np.corrcoef(of_photons.ravel(), of_reads.ravel())[0, 1]) < 4 / 200
