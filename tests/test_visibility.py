# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The signal-to-noise label against sums done by hand.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy import units as u

from clustercnn.instruments import Instrument
from clustercnn.simulation import Detector, Visibility
from clustercnn.simulation.visibility import APERTURE_RADIUS, aperture_weights

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
DETECTOR = Detector.from_instrument(M83)
SHAPE = (64, 64)


def flat(rate, shape=SHAPE):
    """One stamp of three bands of constant rates."""
    return torch.tensor(rate, dtype=torch.float32)[None, :, None, None].expand(1, 3, *shape).clone()


def point(rate, place=(31, 32), shape=SHAPE):
    """One stamp of three bands with light in one pixel."""
    stamp = torch.zeros(1, 3, *shape)
    stamp[0, :, place[0], place[1]] = torch.tensor(rate, dtype=torch.float32)
    return stamp


@pytest.mark.parametrize("place", [(20, 20), (20.5, 19.5), (17.3, 22.9)])
@pytest.mark.parametrize("radius", [1.0, 4.0, 7.5])
def test_area_of_a_circle(place, radius):
    weights = aperture_weights((40, 41), *place, radius)
    assert weights.shape == (40, 41) and weights.min() == 0 and weights.max() <= 1
    assert weights.sum() == pytest.approx(np.pi * radius**2, rel=0.01)
    y, x = np.indices(weights.shape)
    assert np.average(x, weights=weights) == pytest.approx(place[0], abs=0.03)
    assert np.average(y, weights=weights) == pytest.approx(place[1], abs=0.03)
    distance = np.hypot(x - place[0], y - place[1])
    assert np.all(weights[distance < radius - 0.71] == 1) and np.all(weights[distance > radius + 0.71] == 0)


def test_half_of_a_circle_at_the_edge():
    assert aperture_weights((20, 20), -0.5, 9.5, 4).sum() == pytest.approx(8 * np.pi, rel=0.01)


def test_point_on_a_flat_background():
    """Photons of cluster, background and sky, and read noise, in a circle of 4 pixels: nothing else."""
    signal, behind = np.array([1.5, 0.2, 4.0]), np.array([0.003, 0.01, 0.05])
    exposure, area = DETECTOR.exposure, aperture_weights(SHAPE, 31.5, 31.5, 4.0).sum()
    assert area == pytest.approx(np.pi * 16, rel=0.01)
    variance = signal * exposure + area * ((behind + DETECTOR.sky) * exposure + DETECTOR.read_variance)
    expected = np.sqrt(np.sum((signal * exposure) ** 2 / variance))
    visibility = Visibility(DETECTOR, SHAPE)(point(signal), flat(behind))
    assert visibility.shape == (1,) and visibility.item() == pytest.approx(expected, rel=1e-4)


def test_crowding_counts_as_noise():
    """One bright pixel in one of n circles: the variance of their sums is its square over n."""
    signal, star, n_circles = np.array([1.5, 0.2, 4.0]), np.array([30.0, 10.0, 20.0]), 64
    exposure, area = DETECTOR.exposure, aperture_weights(SHAPE, 31.5, 31.5, 4.0).sum()
    variance = signal * exposure + area * (DETECTOR.sky * exposure + DETECTOR.read_variance) + (star * exposure) ** 2 / n_circles
    expected = np.sqrt(np.sum((signal * exposure) ** 2 / variance))
    visibility = Visibility(DETECTOR, SHAPE)(point(signal), point(star, (11, 51)))
    assert visibility.item() == pytest.approx(expected, rel=1e-4)


def test_only_light_in_the_circle_counts():
    visibility = Visibility(DETECTOR, SHAPE)
    inside = visibility(point([1.0, 1, 1]), flat([0.01] * 3))
    for place, factor in [((31, 34), 1), ((31, 36), 0), ((5, 5), 0)]:
        assert visibility(point([1.0, 1, 1], place), flat([0.01] * 3)).item() == pytest.approx(factor * inside.item())


def test_bands_add_in_quadrature():
    visibility, behind = Visibility(DETECTOR, SHAPE), flat([0.01] * 3)
    alone = [visibility(point(np.eye(3)[i] * 2), behind).item() for i in range(3)]
    assert visibility(point([2.0, 2, 2]), behind).item() == pytest.approx(np.hypot.reduce(alone), rel=1e-5)


def test_limits():
    """Photon noise of the cluster makes it grow as the square root, the background's as the flux itself."""
    visibility, behind = Visibility(DETECTOR, SHAPE), flat([0.01] * 3)
    rates = [1e-3, 2e-3, 1e5, 2e5]
    faint, faint_2, bright, bright_2 = (visibility(point([rate] * 3), behind).item() for rate in rates)
    assert faint_2 / faint == pytest.approx(2, rel=0.05)
    assert bright_2 / bright == pytest.approx(2**0.5, rel=1e-3)
    assert visibility(torch.zeros(1, 3, *SHAPE), behind).item() == 0
    assert visibility(point([1.0] * 3), flat([1.0] * 3)) < visibility(point([1.0] * 3), behind)


def test_depth_is_exposure():
    """Twice the exposure of one band is another detector."""
    visibility, factor = Visibility(DETECTOR, SHAPE), np.array([2.0, 1.0, 0.3])
    cluster, behind = point([0.5] * 3), flat([0.01] * 3)
    scaled = Visibility(replace(DETECTOR, exposure=DETECTOR.exposure * factor), SHAPE)(cluster, behind)
    torch.testing.assert_close(visibility(cluster, behind, torch.tensor(factor[None]).float()), scaled)
    assert scaled != visibility(cluster, behind)


def test_stamps_of_a_batch_are_apart():
    visibility = Visibility(DETECTOR, (40, 33))
    clusters = torch.cat([point([rate] * 3, (19, 16), (40, 33)) for rate in (0.1, 0.0, 5.0)])
    fields = torch.rand(3, 3, 40, 33, generator=torch.Generator().manual_seed(1))
    together = visibility(clusters, fields)
    alone = torch.cat([visibility(clusters[i : i + 1], fields[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


def test_radius_is_the_models():
    assert APERTURE_RADIUS == 4.0  # stored in every model
    wide = Visibility(DETECTOR, SHAPE, radius=6.0)
    assert wide(point([1.0] * 3, (31, 36)), flat([0.01] * 3)) > 0
    assert APERTURE_RADIUS * u.pix * M83.pixel_scale == 0.16 * u.arcsec


def test_stamps_must_hold_a_background():
    with pytest.raises(ValueError, match=r"shape must be at least 16 x 8 pixels.*not \(12, 12\)"):
        Visibility(DETECTOR, (12, 12))
