# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Stamps of real mosaics: whole, unmasked, away from known sources, every place alike, and the file stays on disk.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS

from clustercnn.images import MultiBandImage
from clustercnn.instruments import Instrument
from clustercnn.parameters import ParameterSpace
from clustercnn.simulation import BackgroundFields, MockStream, MosaicBackground
from clustercnn.simulation.mosaic_background import WholePlaces

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
RATE = u.electron / u.s


def stamp_of(background, shape, rng):
    """One stamp as an array."""
    return background.stamps(1, shape, rng)[0].numpy()


def make_wcs(scale=0.04):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 204.25, -29.87
    wcs.wcs.crpix = 10, 12
    wcs.wcs.cdelt = -scale / 3600, scale / 3600
    return wcs


def numbered(ny=30, nx=37, masks=(None, None, None), **keywords):
    """Three bands with a different number in every pixel, 1 at the first."""
    pixels = 1 + np.arange(3 * ny * nx, dtype=float).reshape(3, ny, nx)
    return MultiBandImage({
        band: CCDData(plane, unit=RATE, mask=mask, **keywords) for band, plane, mask in zip(M83.bands, pixels, masks, strict=True)
    })


def whole_by_hand(bad, ny, nx):
    """All first pixels (y0, x0) of whole rectangles."""
    return {(y, x) for y in range(bad.shape[0] - ny + 1) for x in range(bad.shape[1] - nx + 1) if not bad[y : y + ny, x : x + nx].any()}


def drawn(places, shape, n, seed=1):
    rng = np.random.default_rng(seed)
    return [places.draw(shape, rng)[::-1] for _ in range(n)]


@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (1, 1), (30, 3), (3, 37)])
@pytest.mark.parametrize("block", [40, 4_000_000])
def test_places_are_those_counted_by_hand(monkeypatch, shape, block):
    """In blocks of one row or all at once; each place is drawn, each with the same probability."""
    monkeypatch.setattr("clustercnn.simulation.mosaic_background.BLOCK", block)
    bad = np.random.default_rng(2).random((30, 37)) < 0.008
    images = numbered(masks=(bad, None, None))
    places, expected = WholePlaces(images), whole_by_hand(bad, *shape)
    assert places.number(shape) == len(expected)
    if expected:
        counts = dict.fromkeys(expected, 0)
        for place in drawn(places, shape, 20 * len(expected)):
            counts[place] += 1
        chi_squared = np.sum((np.array(list(counts.values())) - 20.0) ** 2) / 20
        assert chi_squared < len(expected) + 5 * np.sqrt(2 * len(expected)) + 5


def test_any_band_may_be_bad():
    """Masked, NaN, infinite; 0 counts only in all bands."""
    masks = [np.zeros((30, 37), dtype=bool) for _ in range(3)]
    masks[0][2, 3] = True
    images, bad = numbered(masks=masks), np.zeros((30, 37), dtype=bool)
    images["F438W"].data[20, 30], images["F814W"].data[10, 15] = np.nan, np.inf
    for band in M83.bands:
        images[band].data[5, 5:9] = 0.0
    images["F336W"].data[25, 10] = 0.0
    for y, x in [(2, 3), (20, 30), (10, 15), *((5, x) for x in range(5, 9))]:
        bad[y, x] = True
    assert WholePlaces(images).number((6, 6)) == len(whole_by_hand(bad, 6, 6))


@pytest.mark.parametrize("shape", [(5, 5), (4, 7)])
def test_stamps_are_turned_and_mirrored_pieces(shape):
    """Each is one of the eight images of a rectangle, and all eight come."""
    background, rng, orientations = MosaicBackground(numbered()), np.random.default_rng(1), set()
    for _ in range(300):
        stamp = stamp_of(background, shape, rng)
        assert stamp.shape == (3, *shape) and stamp.dtype == np.float32
        np.testing.assert_array_equal(stamp[1] - stamp[0], 30 * 37)  # bands stay together
        row, column = np.divmod(stamp[0].astype(int) - 1, 37)
        orientations.add((row[0, 0] < row[-1, -1], column[0, 0] < column[-1, -1], row[0, 0] == row[0, -1]))
        assert {np.ptp(row) + 1, np.ptp(column) + 1} == set(shape)
        assert len(np.unique(stamp[0])) == shape[0] * shape[1]
    assert len(orientations) == 8


def test_never_nan():
    rng = np.random.default_rng(0)
    images = numbered(masks=[rng.random((30, 37)) < 0.02 for _ in range(3)])
    images["F814W"].data[rng.random((30, 37)) < 0.02] = np.nan
    background = MosaicBackground(images)
    assert 0 < background.number_of_places((6, 6)) < 200
    assert all(np.isfinite(stamp_of(background, (6, 6), rng)).all() for _ in range(200))


def test_known_sources_are_avoided():
    """In pixels or on the sky; no stamp has its middle nearer."""
    images = numbered(wcs=make_wcs())
    sources = np.array([(10.2, 12.7), (30.0, 5.0), (-3.0, 20.0)])
    sky = make_wcs().pixel_to_world(*sources.T)
    by_pixel, by_sky = (MosaicBackground(images, avoid=avoid, avoid_radius=5.93 * u.pix) for avoid in (sources, sky))
    y, x = np.mgrid[:26, :31]  # first pixels of 5 x 7
    distance = np.hypot(*(np.stack([x + 3, y + 2])[:, None] - sources.T[:, :, None, None]))
    expected = (distance.min(axis=0) >= 5.93).sum()
    for background in (by_pixel, by_sky):
        assert background.number_of_places((5, 7)) == expected < 26 * 31
        rng = np.random.default_rng(1)
        for _ in range(100):
            number = stamp_of(background, (5, 5), rng)[0, 2, 2] - 1
            assert np.hypot(*(sources - (number % 37, number // 37)).T).min() >= 5.92
    assert MosaicBackground(images).number_of_places((5, 7)) == 26 * 31


def test_stamps_come_in_rates():
    """From any unit that the instrument can turn, in the order of its bands."""
    exposure = [M83.exposure(band).value for band in M83.bands]
    rates = np.random.default_rng(1).random((3, 20, 20)) + 0.1
    expected = stamp_of(MosaicBackground(dict(zip(M83.bands, rates * RATE, strict=True))), (20, 20), np.random.default_rng(3))
    counts = {
        band: rate * time / M83.gain(band).value * u.adu for band, rate, time in reversed(list(zip(M83.bands, rates, exposure, strict=True)))
    }
    counts["F999W"] = counts["F336W"]
    background = MosaicBackground(counts, instrument=M83)
    assert background.n_bands == 3 and background.noisy and not BackgroundFields.noisy
    np.testing.assert_allclose(stamp_of(background, (20, 20), np.random.default_rng(3)), expected, rtol=1e-5)
    assert BackgroundFields([expected]).n_bands == 3
    with pytest.raises(ValueError, match="pass instrument="):
        MosaicBackground(counts)


def test_files_stay_on_disk(tmp_path):
    """What a stamp does not need is not read again: nothing of the mosaic is kept but bits."""
    paths, rng = {}, np.random.default_rng(5)
    pixels = rng.normal(0.1, 0.01, (3, 300, 400)).astype(np.float32)
    for band, plane in zip(M83.bands, pixels, strict=True):
        paths[band] = str(tmp_path / f"{band}.fits")
        CCDData(plane, unit=RATE, wcs=make_wcs()).write(paths[band])
    background = MosaicBackground(paths, instrument=M83)
    in_memory = MosaicBackground(dict(zip(M83.bands, pixels * RATE, strict=True)))
    for seed in range(5):
        np.testing.assert_array_equal(*(stamp_of(b, (64, 64), np.random.default_rng(seed)) for b in (background, in_memory)))
    assert background.images["F438W"].data.dtype == ">f4"  # the file's
    assert "MosaicBackground of <MultiBandImage F336W" in repr(background)


def test_no_place():
    images = numbered()
    images["F438W"].data[::4] = np.nan
    background, rng = MosaicBackground(images), np.random.default_rng(1)
    assert background.number_of_places((3, 5)) == 7 * 33
    with pytest.raises(ValueError, match=r"shape \(5, 5\) finds no whole and unmasked place in the mosaic of shape \(30, 37\)"):
        stamp_of(background, (5, 5), rng)
    with pytest.raises(ValueError, match=r"must fit into the mosaic, \(30, 37\), but is \(31, 5\)"):
        background.number_of_places((31, 5))
    lonely = MosaicBackground(numbered(), avoid=[(18, 15)], avoid_radius=90 * u.pix)
    with pytest.raises(ValueError, match="no whole and unmasked place that keeps 90 pixels from the sources to avoid"):
        stamp_of(lonely, (5, 5), rng)


@pytest.mark.parametrize(("keywords", "error", "message"), [
    ({"avoid_radius": 8}, TypeError, "avoid_radius must be a Quantity"),
    ({"avoid_radius": 8 * u.arcsec}, u.UnitsError, "avoid_radius must have a unit"),
    ({"avoid_radius": -8 * u.pix}, ValueError, "avoid_radius must be one number, 0 pixels or more"),
    ({"avoid": make_wcs().pixel_to_world([3], [4])}, ValueError, "no WCS"),
])
def test_broken_settings(keywords, error, message):
    with pytest.raises(error, match=message):
        MosaicBackground(numbered(), **keywords)


def test_mosaics_must_be_the_instruments():
    with pytest.raises(ValueError, match=r"images must have the bands .* but lack \['F438W', 'F814W'\]"):
        MosaicBackground({"F336W": np.ones((9, 9)) * RATE}, instrument=M83)
    with pytest.raises(ValueError, match="images have 0.05 arcsec / pix, but the instrument 0.04 arcsec / pix"):
        MosaicBackground(numbered(wcs=make_wcs(0.05)), instrument=M83)


def test_a_stream_takes_the_bands_of_its_instrument_alone():
    planes = {band: np.full((80, 80), value) * RATE for band, value in zip(M83.bands, (1.0, 2.0, 3.0))}
    turned = MultiBandImage({band: planes[band] for band in reversed(M83.bands)})
    keywords = {"positive_fraction": 0, "negatives": {"field": 1}, "rng": 1}
    with pytest.raises(ValueError, match="background must have the bands .'F336W', 'F438W', 'F814W'. of the instrument, in this order"):
        MockStream(ParameterSpace.paper(), M83, background=MosaicBackground(turned), **keywords)
    stream = MockStream(ParameterSpace.paper(), M83, background=MosaicBackground(turned, instrument=M83), **keywords)
    np.testing.assert_allclose(stream.batch(0, 1)["pixels"].mean((2, 3))[0], [1.0, 2.0, 3.0], rtol=1e-6)
    fainter = Instrument.from_name(M83.name, zero_points=dict.fromkeys(M83.bands, 20 * u.mag))
    with pytest.raises(ValueError, match="background is of the mosaic through .* zero points must be the same"):
        MockStream(ParameterSpace.paper(), fainter, background=MosaicBackground(turned, instrument=M83), distance=4.5 * u.Mpc, **keywords)
    coarse = MultiBandImage({band: CCDData(np.ones((80, 80)), unit=RATE, wcs=make_wcs(0.08)) for band in M83.bands})
    with pytest.raises(ValueError, match="images have 0.08"):
        MockStream(ParameterSpace.paper(), M83, background=MosaicBackground(coarse), **keywords)
