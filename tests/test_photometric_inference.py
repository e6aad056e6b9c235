# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Stochastic aperture photometry: it measures what it should, and its posteriors hold the truth.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from small_stream import make_stream

from clustercnn.calibration import coverage
from clustercnn.images import MultiBandImage
from clustercnn.instruments import Instrument
from clustercnn.parameters import ParameterSpace
from clustercnn.photometric_inference import RADII, StochasticPhotometry, _measure, _weights
from clustercnn.simulation import BackgroundFields, MockStream

UNIT = u.electron / u.s
M83 = Instrument.from_name("HST/WFC3/UVIS/M83")


@pytest.fixture(name="stream", scope="module")
def fixture_stream():
    """Clusters alone, on an empty sky."""
    empty = BackgroundFields([np.zeros((3, 64, 64))])
    return MockStream(ParameterSpace.paper(), M83, background=empty, rng=4, positive_fraction=1.0)


@pytest.fixture(name="peer", scope="module")
def fixture_peer(stream):
    return StochasticPhotometry(stream, samples=2048, effective=50)


def test_fluxes_of_a_flat_source():
    y, x = np.mgrid[:64, :64]
    disc = (np.hypot(x - 31.5, y - 31.5) < 15).astype(float)
    fluxes, errors = _measure(np.stack([disc + 7, 3 * disc])[None])
    areas = np.pi * np.diff([0, *np.square(RADII)])
    np.testing.assert_allclose(fluxes[0], [*areas, *(3 * areas)], rtol=1e-6)
    assert (errors > 0).all()
    _, errors = _measure(np.random.default_rng(1).normal(5, 0.3, (50, 1, 64, 64)))
    np.testing.assert_allclose(errors.mean(axis=0), 0.3 * np.sqrt(areas), rtol=0.02)


def test_weights_widen_until_enough_have_a_say():
    distance = np.linspace(0, 1e4, 1000)
    weights, number, widening = _weights(distance, 50)
    assert widening > 1
    assert number == pytest.approx(50, rel=0.05)
    assert weights.sum() == pytest.approx(1)
    # no wider than it must be
    assert _weights(np.zeros(100), 50)[1] == pytest.approx(100)


def test_posteriors_hold_the_truth(stream, peer):
    batch = stream.batch(2**20, 256)
    truth = peer.space.from_coordinates(batch["parameters"].numpy())
    estimate = peer.predict(batch["pixels"].numpy() * UNIT, rng=1)
    assert len(estimate) == 256 and estimate.p_cluster is None
    assert (estimate.effective_sample_size >= 49).all()
    table = coverage(estimate, truth, levels=(0.68,))
    # a kernel can only widen a posterior
    assert (table["coverage"] > 0.6).all()
    error = np.log10((estimate.mass / truth["mass"]).value)
    prior = np.log10((np.median(truth["mass"]) / truth["mass"]).value)
    assert np.median(np.abs(error)) < 0.7 * np.median(np.abs(prior))


def test_same_seed_same_draws(stream, peer):
    stamps = stream.batch(0, 4)["pixels"].numpy() * UNIT
    np.testing.assert_array_equal(peer.predict(stamps, rng=3).draws, peer.predict(stamps, rng=3).draws)


def test_images_and_stamps_agree(stream, peer):
    stamp = stream.batch(0, 1)["pixels"].numpy()
    images = MultiBandImage({band: plane * UNIT for band, plane in zip(M83.bands, stamp[0])})
    at_center = peer.predict(images, [(31.5, 31.5)], rng=3)
    np.testing.assert_array_equal(at_center.draws, peer.predict(stamp * UNIT, rng=3).draws)


def test_bands_in_another_order(stream, peer):
    stamp = stream.batch(0, 1)["pixels"].numpy()[0]
    planes = {band: plane * UNIT for band, plane in zip(M83.bands, stamp)} | {"F555W": np.full((64, 64), np.nan) * UNIT}
    ordered, turned = ({band: planes[band] for band in bands} for bands in (M83.bands, (*M83.bands[::-1], "F555W")))
    ages = [peer.predict(MultiBandImage(images), [(31.5, 31.5)]).draws for images in (ordered, turned)]
    np.testing.assert_array_equal(*ages)
    del turned["F438W"]
    with pytest.raises(ValueError, match=r"images lack the bands \['F438W'\]; the library needs"):
        peer.predict(MultiBandImage(turned), [(31.5, 31.5)])


def test_stamps_of_the_librarys_shape():
    stream = make_stream(positive_fraction=1.0)
    peer = StochasticPhotometry(stream, samples=128, effective=10)
    assert peer.contract == stream.contract
    stamps = stream.batch(0, 2)["pixels"].numpy()
    images = MultiBandImage.from_arrays(M83.bands, stamps[1], UNIT)
    expected = peer.predict(stamps * UNIT, rng=3, draws=20)
    assert len(expected) == 2 and len(peer.predict(stamps[:0] * UNIT)) == 0
    np.testing.assert_array_equal(peer.predict(images, [(11.5, 11.5)], rng=3, draws=20).draws,
                                  peer.predict(stamps[1:] * UNIT, rng=3, draws=20).draws)


def test_zero_points_and_units(stream, peer):
    stamp = stream.batch(0, 1)["pixels"].numpy()
    fainter = M83.to_dict()
    fainter["zero_points"] = {band: value + 0.3 for band, value in fainter["zero_points"].items()}
    exposure = np.array([M83.exposure(band).value for band in M83.bands])[:, None, None]
    images = MultiBandImage.from_arrays(M83.bands, stamp[0] * exposure * 10**0.12, u.electron)
    same = peer.predict(images, [(31.5, 31.5)], rng=3, instrument=Instrument.from_dict(fainter))
    assert u.allclose(same.mass, peer.predict(stamp * UNIT, rng=3).mass, rtol=1e-3)


@pytest.mark.parametrize("how", ["stamps", "masked", "edge"])
def test_bad_pixels_are_refused(peer, how):
    """Rather than taken for zeros."""
    stamps = np.ones((3, 3, 64, 64))
    images, positions = stamps * UNIT, None
    if how == "stamps":
        images[2] = np.nan
    else:
        data = CCDData(np.ones((100, 100)), unit=UNIT, mask=np.zeros((100, 100), dtype=bool))
        data.mask[90, 50] = how == "masked"
        images = MultiBandImage(dict.fromkeys(M83.bands, data))
        positions = [(40, 40), (50, 45), (60, 60) if how == "masked" else (5, 5)]
    with pytest.raises(ValueError, match="stamp 2 holds NaN, masked or missing pixels: leave the source out, or give stamps"):
        peer.predict(images, positions)


def test_errors(stream, peer):
    with pytest.raises(TypeError, match="images must be a MultiBandImage, .* or a Quantity of stamps such as .*, not a ndarray"):
        peer.predict(np.zeros((1, 3, 64, 64)))
    with pytest.raises(u.UnitsError):
        peer.predict(np.zeros((1, 3, 64, 64)) * u.m)
    for shape in ((1, 2, 64, 64), (1, 3, 32, 32), (3, 64, 64)):
        with pytest.raises(ValueError, match=r"images must have shape \(n, 3, 64, 64\) for bands"):
            peer.predict(np.zeros(shape) * UNIT)
    with pytest.raises(ValueError, match="pixel scale is 0.08 arcsec per pixel, but the library was made for 0.04"):
        peer.predict(np.zeros((1, 3, 64, 64)) * UNIT, pixel_scale=0.08 * u.arcsec / u.pix)
    with pytest.raises(ValueError, match="effective must be at most the number of clusters in the library, 32, not 400"):
        StochasticPhotometry(stream, samples=32)
    with pytest.raises(ValueError, match="samples and effective must be at least 1, not 32 and nan"):
        StochasticPhotometry(stream, samples=32, effective=np.nan)
    none = MockStream(ParameterSpace.paper(), M83, background=BackgroundFields([np.zeros((3, 64, 64))]), rng=1, positive_fraction=0.0)
    with pytest.raises(ValueError, match="clusters in the library, 0, not 400; draw more samples, or from a stream with more clusters"):
        StochasticPhotometry(none, samples=32)
