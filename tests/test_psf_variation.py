# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Sharper and wider PSFs: what a power of the transfer function does, what the stream makes of it, and what is told of a PSF of one's own.
"""

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.modeling.models import Gaussian2D
from astropy.utils.exceptions import AstropyUserWarning
from small_stream import M83, make_stream

from clustercnn.psf import as_psf, hst_psf
from clustercnn.psf_powers import FREQUENCIES, NODES, hats, psf_powers, radial_transfer
from clustercnn.simulation import BackgroundFields, MosaicBackground, Renderer
from clustercnn.stamps import log_psf_powers, psf_covered

X, Y = 11.3, 12.6


def gaussian(sigma):
    """A Gaussian that the pixel is in already, so that its transfer function is one, too."""
    return as_psf(Gaussian2D(x_stddev=sigma, y_stddev=sigma), pixel_integrated=True, radius=8 * sigma)


def star(psf, power=None):
    """A stamp of one star, sharper or wider by the same power at all nodes."""
    powers = None if power is None else torch.full((1, 1, len(NODES)), float(np.log(power)))
    x, y, flux, stamp = (torch.tensor([value]) for value in (X, Y, 1.0, 0))
    return Renderer([psf], (24, 24))(x, y, flux[None], stamp, 1, powers=powers)[0, 0].numpy()


@pytest.mark.parametrize("power", [0.5, 0.8, 1.7])
def test_a_power_of_a_gaussian_is_another(power):
    """Up to the amplitudes below 1e-4, which become as much as 1e-2 at a power of 0.5 and are left out."""
    sigma = 1.3
    expected = star(gaussian(sigma * power**0.5))
    np.testing.assert_allclose(star(gaussian(sigma), power), expected, atol=3e-3 * expected.max())


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_a_power_keeps_flux_and_place(power):
    """Of the built-in PSF, whose pixel is included."""
    y, x = np.indices((24, 24))
    plain, varied = star(hst_psf("F438W")), star(hst_psf("F438W"), power)
    assert 0.8 < varied.sum() < 1.0 and (varied.sum() > plain.sum()) == (power < 1)  # less of it, or more, lies beyond the stamp
    assert (varied.max() > plain.max()) == (power < 1)
    core = np.hypot(x - X, y - Y) < 4
    for axis, place in ((x, X), (y, Y)):
        assert abs(np.average(axis, weights=varied * core) - place) < 0.05


def test_stamps_that_are_not_varied_stay_bit_for_bit():
    renderer = Renderer([hst_psf("F438W"), hst_psf("F814W")], (24, 24))
    powers = torch.zeros(3, 2, len(NODES))
    powers[1] = torch.tensor([[0.2, -0.3, 0.1], [-0.6, -0.5, -0.4]])
    stars = torch.tensor([X] * 3), torch.tensor([Y] * 3), torch.ones(2, 3), torch.arange(3), 3
    plain, varied = renderer(*stars), renderer(*stars, powers=powers)
    assert torch.equal(plain[0], varied[0]) and torch.equal(plain[2], varied[2])
    assert abs(plain[1] - varied[1]).amax((1, 2)).min() > 1e-3
    alone = renderer(*(values[..., 1:2] for values in stars[:3]), torch.zeros(1, dtype=torch.int64), 1, powers=powers[1:2])
    np.testing.assert_allclose(alone[0].numpy(), varied[1].numpy(), atol=1e-6)


def test_powers_that_were_put_in_are_found_again():
    """Of PSFs whose transfer functions are known: Gaussians, and the built-in one to a power of its own at each node."""
    transfer = radial_transfer(gaussian(1.2))
    np.testing.assert_allclose(psf_powers(gaussian(1.2), transfer), 0, atol=1e-6)
    np.testing.assert_allclose(psf_powers(gaussian(1.5), transfer), 2 * np.log(1.5 / 1.2), atol=0.01)
    told, transfer = np.array([0.2, -0.5, 0.3]), radial_transfer(hst_psf("F336W"))

    class Varied:
        def otf(self, fy, fx):
            frequency = np.hypot(fy, fx)
            return np.abs(hst_psf("F336W").otf(fy, fx)) ** np.tensordot(np.exp(told), np.array(hats(frequency)), 1)

    np.testing.assert_allclose(psf_powers(Varied(), transfer), told, atol=0.01)


def test_hats_add_up():
    frequency = np.linspace(0, 1.5, 301)
    weights = np.array(hats(frequency))
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    assert weights.min() >= 0
    np.testing.assert_allclose(np.array(hats(np.array(NODES))), np.eye(len(NODES)), atol=1e-12)
    np.testing.assert_allclose(torch.stack(hats(torch.from_numpy(frequency))).numpy(), weights)
    assert FREQUENCIES.max() <= 0.5


def test_half_of_the_stamps_are_varied():
    field = BackgroundFields([np.random.default_rng(0).gamma(2.0, 0.01, (3, 60, 70))])
    stream = make_stream(psf_scatter=0.6, background=field)
    batch, plain = stream.batch(0, 320), make_stream(background=field).batch(0, 320)
    varied = batch["psf"].flatten(1).any(1)
    assert batch["psf"].shape == (320, 3, len(NODES)) and not plain["psf"].any()
    assert abs(varied.float().mean() - 0.5) < 4 * 0.5 / 320**0.5
    powers = batch["psf"][varied]
    assert 0.6 < powers.abs().max() <= 0.8 and powers.abs().max() < psf_covered(stream.contract)
    assert abs(powers.mean()) < 4 * 0.37 / (3 * len(powers)) ** 0.5
    # each band by itself, and its nodes alike
    assert abs(np.corrcoef(powers[:, 0, 1], powers[:, 2, 1])[0, 1]) < 0.3 < np.corrcoef(powers[:, 0, 0], powers[:, 0, 2])[0, 1]
    assert torch.equal(batch["parameters"].nan_to_num(), plain["parameters"].nan_to_num())
    again = stream.batch(41, 7)
    assert all(torch.equal(again[name].nan_to_num(), values[41:48].nan_to_num()) for name, values in batch.items())
    assert stream.contract["psf_scatter"] == 0.6 and make_stream(background=field).contract["psf_scatter"] == 0
    np.testing.assert_allclose(stream.contract["psf_transfer"]["F438W"], radial_transfer(stream.psf["F438W"]), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*has neither sky nor read noise")
def test_the_field_behind_is_varied_too():
    """Smooth light stays what it is; stars become sharper where the power is below 1, and keep their light."""
    deep = type(M83)(M83.name, M83.bands, pixel_scale=M83.pixel_scale, exposure=1e8 * u.s, zero_points={b: M83.zero_point(b) for b in M83.bands})
    settings = {"instrument": deep, "positive_fraction": 0.0, "negatives": {"field": 1.0}, "psf_scatter": 0.6, "psf": None}
    smooth = make_stream(background=BackgroundFields([np.full((3, 60, 60), 0.5)]), **settings).batch(0, 32)
    np.testing.assert_allclose(smooth["pixels"].numpy(), 0.5, rtol=2e-3)
    psfs = [hst_psf(band) for band in M83.bands]
    field = Renderer(psfs, (56, 56))(torch.tensor([27.6]), torch.tensor([27.4]), torch.ones(3, 1), torch.zeros(1, dtype=torch.int64), 1)[0]
    batch = make_stream(background=BackgroundFields([field.numpy()]), **settings).batch(0, 64)  # it fits in one place only
    peak, power = batch["pixels"].amax((2, 3)) / batch["pixels"][~batch["psf"].flatten(1).any(1)][0].amax((1, 2)), batch["psf"][..., 1]
    assert ((peak > 1) == (power < 0))[power.abs() > 0.05].all()
    assert np.corrcoef(peak.log().ravel(), power.ravel())[0, 1] < -0.9


def test_what_cannot_be_varied():
    with pytest.raises(ValueError, match=r"psf_scatter must lie in 0..1, not 1.5"):
        make_stream(psf_scatter=1.5)
    mosaic = MosaicBackground({band: np.zeros((120, 130)) * u.electron / u.s for band in M83.bands})
    with pytest.raises(ValueError, match="psf_scatter must be 0 before a background that holds its noise"):
        make_stream(background=mosaic, psf_scatter=0.3)


def test_streams_with_another_scatter():
    """As if they had been made with it; the stream that they come from stays what it is."""
    field = BackgroundFields([np.random.default_rng(0).gamma(2.0, 0.01, (3, 60, 70))])
    plain, scattered = make_stream(background=field), make_stream(psf_scatter=0.6, background=field)
    for stream, other, scatter in ((plain, scattered, 0.6), (scattered, plain, 0.0)):
        changed = stream.with_psf_scatter(scatter)
        assert changed.contract == other.contract and changed.contract != stream.contract
        for name, values in other.batch(0, 24).items():
            assert torch.equal(values.nan_to_num(-1.0), changed.batch(0, 24)[name].nan_to_num(-1.0))
    with pytest.raises(ValueError, match=r"psf_scatter must lie in 0..1, not 1.5"):
        plain.with_psf_scatter(1.5)
    narrow = make_stream(background=BackgroundFields([np.ones((3, 60, 55))]), shape=(24, 24))
    with pytest.raises(ValueError, match="psf_scatter must be 0 before fields of less than 56 pixels, not 55"):
        narrow.with_psf_scatter(0.3)
    noisy = make_stream(background=MosaicBackground({band: np.zeros((120, 130)) * u.electron / u.s for band in M83.bands}))
    assert noisy.with_psf_scatter(0.0).contract == noisy.contract
    with pytest.raises(ValueError, match="psf_scatter must be 0 before a background that holds its noise"):
        noisy.with_psf_scatter(0.3)


CONTRACT = {"bands": ["B", "V"], "psf_scatter": 0.3,
            "psf_transfer": {band: radial_transfer(as_psf(Gaussian2D(x_stddev=1.2, y_stddev=1.2))).tolist() for band in "BV"}}


def test_what_is_told_of_a_psf():
    """Wider is above 0, sharper below; a band that is not told is as in training."""
    own, wide, sharp = (as_psf(Gaussian2D(x_stddev=sigma, y_stddev=sigma)) for sigma in (1.2, 1.35, 1.1))
    np.testing.assert_allclose(log_psf_powers({"B": own, "V": own}, CONTRACT), 0, atol=1e-6)
    powers = log_psf_powers({"V": wide, "other": sharp}, CONTRACT)
    assert not powers[0].any() and (powers[1] > 0.1).all()
    assert (log_psf_powers({"B": sharp}, CONTRACT)[0] < 0).all()
    with pytest.warns(AstropyUserWarning, match="the PSF of V is 2 times as wide as that which the network was made for"):
        log_psf_powers({"V": as_psf(Gaussian2D(x_stddev=2.4, y_stddev=2.4))}, CONTRACT)


@pytest.mark.parametrize(("psf", "contract", "error", "message"), [
    (3, CONTRACT, TypeError, r"psf must be a dict of band -> PSF, such as \{'B': as_psf\(kernel\), ...\}, not 3"),
    ({"B": np.ones((3, 3))}, CONTRACT, TypeError, "psf must be a dict of band -> PSF"),
    ({"I": gaussian(1)}, CONTRACT, ValueError, r"psf must have an entry for bands of the network, \('B', 'V'\).* it has \('I',\)"),
    ({"B": gaussian(1)}, {"bands": ["B"]}, ValueError, "does not say for which PSF it was made"),
])
def test_what_is_no_psf(psf, contract, error, message):
    with pytest.raises(error, match=message):
        log_psf_powers(psf, contract)
